/** Signatures as Standard Webhooks has them (https://www.standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`. */
import { createHmac, randomBytes } from 'node:crypto'

const PREFIX = 'whsec_'
export const SECRET_FORM = 'must be whsec_ and the base64 of 24 to 64 bytes; several apart by spaces'

/** The key of a secret, or null when it is none. */
export const readSecret = (secret: string): Buffer | null => {
  if (!secret.startsWith(PREFIX)) return null
  const text = secret.slice(PREFIX.length)
  const key = Buffer.from(text, 'base64')
  // Buffer.from passes over what is no base64.
  const same = key.toString('base64').replace(/=+$/, '') === text.replace(/=+$/, '')
  return same && key.length >= 24 && key.length <= 64 ? key : null
}

export const newSecret = (): string => PREFIX + randomBytes(32).toString('base64')

/**
 * The headers of a signed message: one signature for each key, so that receivers may change theirs when they like.
 * @param timestamp seconds since 1970
 */
export const signedHeaders = (keys: readonly Buffer[], message: { id: string; timestamp: number; body: Buffer }): Record<string, string> => {
  const { id, timestamp, body } = message
  const signatures = keys.map((key) => `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')}`)
  return { 'webhook-id': id, 'webhook-timestamp': String(timestamp), 'webhook-signature': signatures.join(' ') }
}
