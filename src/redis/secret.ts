/** What we sign with: the secrets that were set, or one that the first process makes and all share through Redis. */
import { deriveKey, newSecret, readSecret, writeSecret } from '../contracts/signature.ts'
import type { Redis } from './client.ts'
import { DEFAULT_NAMESPACE, type Keys } from './keys.ts'

/** Should Redis lose it, processes agree on another one within this time. */
const ASK_AGAIN_MS = 60_000

/** @param deps.key where the one that was made is kept */
export type SecretDeps = { redis: Redis; key: string; configured: readonly string[] }

export const createSecrets = ({ redis, key, configured }: SecretDeps) => {
  let known: readonly string[] = configured
  let askedAt = -Infinity

  /** The secrets, the one to be used first in front. */
  const list = async (): Promise<readonly string[]> => {
    if (configured.length > 0 || performance.now() - askedAt < ASK_AGAIN_MS) return known
    let found = await redis.get(key) // a Redis that is full, or lacks its replica, still answers that
    if (found === null) {
      await redis.set(key, known[0] ?? newSecret(), 'NX')
      found = (await redis.get(key))!
    }
    known = [found]
    askedAt = performance.now()
    return known
  }

  return { list, keys: async (): Promise<Buffer[]> => (await list()).map((secret) => readSecret(secret)!) }
}

/**
 * What the webhooks of a namespace are signed with, of what was set. Each but the default one has secrets of its own, derived from those: who may check the webhooks
 * of one could otherwise make those of all.
 */
export const webhookSecretsOf = (namespace: string, configured: readonly string[]): readonly string[] =>
  namespace === DEFAULT_NAMESPACE ? configured : configured.map((secret) => writeSecret(deriveKey(readSecret(secret)!, `switchyard webhooks ${namespace}`)))

export const createWebhookSecrets = ({ redis, keys, configured }: { redis: Redis; keys: Keys; configured: readonly string[] }) =>
  createSecrets({ redis, key: keys.webhookSecret, configured: webhookSecretsOf(keys.namespace, configured) })
