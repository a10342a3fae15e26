/**
 * What agents know us by: a secret for each, from which what is sent to it is signed. It is derived and never stored: HMAC-SHA256, by a secret of
 * the whole installation, over who the agent is and a salt in its record. The salt is made anew with each record and each rotation, so a secret
 * that was left behind never comes back, and Redis alone tells none of them where the installation's was set (SIGNING_SECRET).
 *
 * Two may count at a time, of salts as of the installation's; each is signed with. An agent hears at each beat which one is due (`signing_secret_id`).
 */
import { createSecretKey, hash, randomBytes, type KeyObject } from 'node:crypto'
import { deriveKey, readSecret, writeSecret } from '../contracts/signature.ts'
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { createSecrets } from '../redis/secret.ts'

const LOOK_AGAIN_MS = 60_000
/** One that was made counts so long beside one that was set since: agents come by the new one with their next beat. */
const MADE_COUNTS_MS = 24 * 3_600_000
/** Agents whose keys are kept at hand; and, as each beat is told it, whose secret's id is. */
const MAX_KEPT = 10_000
const MAX_IDS = 100_000

export type Signing = ReturnType<typeof createSigning>
/** The secret, for the agent alone; its id is for anybody: by it the agent knows whether it has the right one. */
export type AgentSecret = { secret: string; id: string }

export const newSalt = (): string => randomBytes(16).toString('base64url')

export const createSigning = ({ redis, keys, configured }: { redis: Redis; keys: Keys; configured: readonly string[] }) => {
  const secrets = createSecrets({ redis, key: keys.signingSecret, configured })
  let masters: KeyObject[] = []
  let lookedAt = -Infinity
  /** By agent and salts. */
  const kept = new Map<string, readonly KeyObject[]>()
  const ids = new Map<string, string>()

  /** One that was made before another was set: agents have secrets of it still. */
  const made = async (): Promise<string[]> => {
    const secret = configured.length > 0 ? await redis.get(keys.signingSecret) : null
    if (secret === null || readSecret(secret) === null) return []
    if ((await redis.pttl(keys.signingSecret)) === -1) await redis.pexpire(keys.signingSecret, MADE_COUNTS_MS)
    return [secret]
  }

  /** Asks Redis, which may have lost it or got another. */
  const load = async (): Promise<void> => {
    lookedAt = performance.now()
    const found = [...(await secrets.list()), ...(await made())].map((secret) => createSecretKey(readSecret(secret)!))
    if (found.length === masters.length && found.every((one, i) => one.equals(masters[i]!))) return
    masters = found
    kept.clear()
    ids.clear()
  }
  /** As known: whoever signs does not wait. */
  const known = (): readonly KeyObject[] => {
    if (performance.now() - lookedAt > LOOK_AGAIN_MS) load().catch(() => {})
    return masters
  }

  const derive = (master: KeyObject, agentId: string, salt: string): Buffer => deriveKey(master, `switchyard agent ${keys.namespace} ${agentId} ${salt}`)

  /** The one that the agent is to have; null when it has none. */
  const secret = (agentId: string, salts: string): AgentSecret | null => {
    const [master] = known()
    if (salts === '' || !master) return null
    const text = writeSecret(derive(master, agentId, salts.split(' ', 1)[0]!))
    return { secret: text, id: hash('sha256', text).slice(0, 16) }
  }

  return {
    /** To be awaited once, before anything else is asked. */
    load,

    /**
     * What a request to the agent is signed with, the newest first.
     * @param salts as its record has them; '' for one that registered before there were any: to it nothing is signed
     */
    keys: (agentId: string, salts: string): readonly KeyObject[] => {
      const all = known()
      if (salts === '') return []
      const name = `${agentId} ${salts}`
      const before = kept.get(name)
      if (before) return before
      if (kept.size >= MAX_KEPT) kept.clear()
      const derived = salts.split(' ').flatMap((salt) => all.map((master) => createSecretKey(derive(master, agentId, salt))))
      kept.set(name, derived)
      return derived
    },

    /** The secret, for its agent alone. */
    secret,
    /** Its id, for anybody; told at each beat. */
    secretId: (agentId: string, salts: string): string | null => {
      known()
      const name = `${agentId} ${salts}`
      const before = ids.get(name)
      if (before !== undefined) return before
      const id = secret(agentId, salts)?.id ?? null
      if (ids.size >= MAX_IDS) ids.clear()
      if (id !== null) ids.set(name, id)
      return id
    },
  }
}
