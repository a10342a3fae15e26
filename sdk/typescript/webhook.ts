/** For who receives webhooks: whether one comes from the router, and what it tells. */
import { readSecret, verify } from './signature.ts'
import type { WebhookEvent } from './wire.ts'

/** What came is not from who has the secret, or is too old. Answer it 401 and do nothing. */
export class WebhookVerificationError extends Error {
  override name = 'WebhookVerificationError'
}

/** A request's headers, as `fetch` or as Node has them. */
export type WebhookHeaders = { get(name: string): string | null } | Readonly<Record<string, string | readonly string[] | undefined>>

const NAMES = ['webhook-id', 'webhook-timestamp', 'webhook-signature'] as const

const valueOf = (headers: WebhookHeaders, name: string): string | undefined => {
  if (typeof headers.get === 'function') return (headers as Headers).get(name) ?? undefined
  const found = Object.entries(headers as Record<string, string | undefined>).find(([key, value]) => value !== undefined && key.toLowerCase() === name)
  return typeof found?.[1] === 'string' ? found[1] : undefined
}

/**
 * Checks a webhook's signature and time (five minutes), as Standard Webhooks has it, and reads it. The same one may come more than once,
 * under the same `webhook-id`.
 * @param secret `whsec_…`; several while one takes the place of another
 * @param body as it came, before anything has read it as JSON
 * @param nowSeconds the time, s since 1970, if it is not to be this machine's
 * @throws WebhookVerificationError; TypeError when a secret is none
 */
export const verifyWebhook = (secret: string | readonly string[], headers: WebhookHeaders, body: string | Uint8Array, nowSeconds?: number): WebhookEvent => {
  const secrets = typeof secret === 'string' ? secret.split(/\s+/).filter(Boolean) : secret
  if (secrets.length === 0) throw new TypeError('the secret is empty')
  const bytes = typeof body === 'string' ? Buffer.from(body) : Buffer.from(body.buffer, body.byteOffset, body.byteLength)
  const fault = verify(secrets.map(readSecret), Object.fromEntries(NAMES.map((name) => [name, valueOf(headers, name)])), bytes, { nowSeconds })
  if (fault !== null) throw new WebhookVerificationError(fault)
  return JSON.parse(bytes.toString()) as WebhookEvent
}
