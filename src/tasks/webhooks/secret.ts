/** What webhooks are signed with: the secrets that were set, or one that the first process makes and all share through Redis. */
import { newSecret, readSecret } from '../../contracts/signature.ts'
import type { Redis } from '../../redis/client.ts'
import type { Keys } from '../../redis/keys.ts'

/** Should Redis lose it, processes agree on another one within this time. */
const ASK_AGAIN_MS = 60_000

export type SecretDeps = { redis: Redis; keys: Keys; configured: readonly string[] }

export const createSecrets = ({ redis, keys, configured }: SecretDeps) => {
  let known: readonly string[] = configured
  let askedAt = -Infinity

  /** The secrets, the one to be used first in front. */
  const list = async (): Promise<readonly string[]> => {
    if (configured.length > 0 || performance.now() - askedAt < ASK_AGAIN_MS) return known
    await redis.set(keys.webhookSecret, known[0] ?? newSecret(), 'NX')
    known = [(await redis.get(keys.webhookSecret))!]
    askedAt = performance.now()
    return known
  }

  return { list, keys: async (): Promise<Buffer[]> => (await list()).map((secret) => readSecret(secret)!) }
}
