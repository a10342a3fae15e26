/** Signatures of Standard Webhooks, as the router will make them (docs/protocol.md, S1). */
import { createHmac, randomUUID } from 'node:crypto'

/** The key in `whsec_…`; null when it is none. */
export const keyOf = (secret: string): Buffer | null => {
  const base64 = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(secret)?.[1]
  const key = base64 === undefined ? null : Buffer.from(base64, 'base64')
  return key !== null && key.length > 0 ? key : null
}

export const signatureOf = (key: Buffer, id: string, timestamp: number, body: Buffer): string =>
  `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')}`

/** @param ageSeconds how old the request pretends to be */
export const signed = (key: Buffer, body: Buffer, ageSeconds = 0): Record<string, string> => {
  const id = `msg_${randomUUID()}`
  const timestamp = Math.floor(Date.now() / 1000) - ageSeconds
  return { 'webhook-id': id, 'webhook-timestamp': String(timestamp), 'webhook-signature': signatureOf(key, id, timestamp, body) }
}
