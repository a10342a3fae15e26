/** Requests signed by Standard Webhooks, as the router will sign them (docs/protocol.md, S1). */
import { randomUUID } from 'node:crypto'
import { sign } from '../../../sdk/typescript/signature.ts'

/** @param ageSeconds how old the request pretends to be */
export const signed = (key: Buffer, body: Buffer, ageSeconds = 0): Record<string, string> => {
  const id = `msg_${randomUUID()}`
  const timestamp = String(Math.floor(Date.now() / 1000) - ageSeconds)
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': sign([key], { id, timestamp, body }) }
}
