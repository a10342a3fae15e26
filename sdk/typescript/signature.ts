/** Signatures of HTTP messages, as Standard Webhooks has them (https://www.standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`. */
import { createHmac, timingSafeEqual, type KeyObject } from 'node:crypto'

/** How far a message's time may be from ours, s. */
export const TOLERANCE_SECONDS = 300
/** A message may be signed with the old secret and the new one; nobody needs more than a few. */
const MAX_SIGNATURES = 16
const PREFIX = 'whsec_'

/**
 * The key of a secret: `whsec_` and base64 of 24 to 64 bytes.
 * @throws TypeError when it is not that; the message does not hold it
 */
export const readSecret = (secret: string): Buffer => {
  if (!secret.startsWith(PREFIX)) throw new TypeError('a secret must begin with whsec_')
  const text = secret.slice(PREFIX.length)
  const key = Buffer.from(text, 'base64')
  // Buffer.from passes over what is no base64.
  if (key.toString('base64').replace(/=+$/, '') !== text.replace(/=+$/, '')) throw new TypeError('a secret must be whsec_ and base64')
  if (key.length < 24 || key.length > 64) throw new TypeError(`a secret must be whsec_ and 24 to 64 bytes as base64, not ${key.length}`)
  return key
}

/** What is signed. `timestamp` in whole seconds, as it stands in the header; `body` as it goes over the wire. */
export type Message = { id: string; timestamp: string; body: Buffer | string }

const digest = (key: Buffer | KeyObject, { id, timestamp, body }: Message): Buffer => createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest()

/** @returns the value of `webhook-signature`, one signature for each key */
export const sign = (keys: readonly Buffer[], message: Message): string => keys.map((key) => `v1,${digest(key, message).toString('base64')}`).join(' ')

export type Headers = Record<string, string | string[] | undefined>

/**
 * Whether a message was signed with one of the keys within the last five minutes. Compares in constant time.
 * @param options.nowSeconds the time, s since 1970
 * @param options.toleranceSeconds how far the message's may be from it, if not five minutes
 * @returns null when it is right, else what is wrong
 */
export const verify = (keys: readonly (Buffer | KeyObject)[], headers: Headers, body: Buffer, { nowSeconds = Date.now() / 1000, toleranceSeconds = TOLERANCE_SECONDS }: { nowSeconds?: number | undefined; toleranceSeconds?: number } = {}): string | null => {
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures } = headers
  if (typeof id !== 'string' || typeof timestamp !== 'string' || typeof signatures !== 'string' || id === '') return 'webhook-id, webhook-timestamp and webhook-signature are required'
  if (!/^\d{1,12}$/.test(timestamp)) return 'webhook-timestamp must be seconds since 1970'
  if (Math.abs(nowSeconds - Number(timestamp)) > toleranceSeconds) return `webhook-timestamp is more than ${toleranceSeconds < 120 ? `${toleranceSeconds} s` : `${Math.round(toleranceSeconds / 60)} minutes`} off`
  const given = signatures.split(' ').slice(0, MAX_SIGNATURES).flatMap((one) => (one.startsWith('v1,') ? [Buffer.from(one.slice(3), 'base64')] : []))
  const right = keys.map((key) => digest(key, { id, timestamp, body })).some((wanted) => given.some((one) => one.length === wanted.length && timingSafeEqual(one, wanted)))
  return right ? null : 'webhook-signature does not fit'
}
