/** Signatures as Standard Webhooks has them (https://www.standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`. */
import { createHmac, randomBytes, type KeyObject } from 'node:crypto'

const PREFIX = 'whsec_'
/** Who signs often has a KeyObject: of 1 KiB that takes a fifth of the time. */
export type SigningKey = Buffer | KeyObject
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

export const writeSecret = (key: Buffer): string => PREFIX + key.toString('base64')
export const newSecret = (): string => writeSecret(randomBytes(32))
/** A key of its own for who is named so; it tells nothing of the one that it comes from. */
export const deriveKey = (key: SigningKey, name: string): Buffer => createHmac('sha256', key).update(name).digest()

/** What `webhook-id` is on what is sent to an agent. They differ, so that neither passes for the other, and each attempt has its own. */
export const deliveryId = (attemptId: string): string => `task_${attemptId}`
export const stopId = (attemptId: string): string => `stop_${attemptId}`

/**
 * The headers of a signed message: one signature for each key, so that receivers may change theirs when they like.
 * @param timestamp seconds since 1970
 */
export const signedHeaders = (keys: readonly SigningKey[], message: { id: string; timestamp: number; body: Buffer | string }): Record<string, string> => {
  const { id, timestamp, body } = message
  const signatures = keys.map((key) => `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')}`)
  return { 'webhook-id': id, 'webhook-timestamp': String(timestamp), 'webhook-signature': signatures.join(' ') }
}
