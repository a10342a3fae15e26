/** The keys there are: made, listed, rotated and revoked. They stand in Redis as records with a digest, under one hash; who changes it gives it another version. */
import { randomUUID } from 'node:crypto'
import type { Key, KeyMade, NewKey, Role, Rotation } from '../contracts/key.ts'
import { iso } from '../contracts/time.ts'
import { InvalidRequest, NotFound, TooManyKeys } from '../errors.ts'
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'
import { digestOf, newKey, newKeyId } from './secret.ts'

/** Of an installation, those that have expired included: each API process has them all in memory. */
export const MAX_KEYS = 1_000

/** As it stands in Redis, as JSON; but for `expiresMs`, which a rotation may set, it never changes. */
export type KeyRecord = { name: string; roles: readonly Role[]; digest: string; createdMs: number; expiresMs: number | null; requestsPerSecond: number | null }

const KEY_FIELD = 'key:'
const USED_FIELD = 'used:'

/** The keys in the hash, by id. */
export const readRecords = (fields: Record<string, string>): Map<string, KeyRecord> =>
  new Map(Object.entries(fields).flatMap(([field, text]): [string, KeyRecord][] => (field.startsWith(KEY_FIELD) ? [[field.slice(KEY_FIELD.length), JSON.parse(text) as KeyRecord]] : [])))

const isOver = ({ expiresMs }: KeyRecord, now: number): boolean => expiresMs !== null && expiresMs <= now

const view = (id: string, record: KeyRecord, used: string | undefined, now: number): Key => ({
  key_id: id,
  name: record.name,
  roles: [...record.roles],
  requests_per_second: record.requestsPerSecond,
  created_at: iso(record.createdMs),
  expires_at: record.expiresMs === null ? null : iso(record.expiresMs),
  expired: isOver(record, now),
  last_used_at: used === undefined ? null : iso(Number(used)),
})

export type Keyring = ReturnType<typeof createKeyring>

export const createKeyring = ({ redis, keys }: { redis: Redis; keys: Keys }) => {
  const script = (file: string) => loadScript(redis, new URL(file, import.meta.url))
  const scripts = { make: script('./make.lua'), revoke: script('./revoke.lua') }
  const base = keys.base('')

  const time = async (): Promise<number> => {
    const [seconds, micros] = await redis.time()
    return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
  }
  const inMs = (now: number, seconds: number | undefined): number | null => (seconds === undefined ? null : now + Math.ceil(seconds * 1000))

  /** @throws TooManyKeys */
  const make = async (now: number, of: Omit<KeyRecord, 'digest' | 'createdMs'>, other?: { id: string; was: string; becomes: string }): Promise<KeyMade | null> => {
    const id = newKeyId()
    const key = newKey(id)
    const record: KeyRecord = { ...of, digest: digestOf(key).toString('base64url'), createdMs: now }
    const verdict = await scripts.make(base, randomUUID(), id, JSON.stringify(record), MAX_KEYS, other?.id ?? '', other?.was ?? '', other?.becomes ?? '')
    if (verdict === 'full') throw new TooManyKeys(MAX_KEYS)
    return verdict === 'made' ? { ...view(id, record, undefined, now), key } : null
  }

  return {
    /**
     * The key, told only now.
     * @param hasAdmin whether there is an admin beside the keys: without one the first key must be one, or nobody could make another
     * @throws InvalidRequest, TooManyKeys
     */
    create: async ({ name, roles, expires_in_seconds, requests_per_second }: NewKey, hasAdmin: boolean): Promise<KeyMade> => {
      const now = await time()
      if (!hasAdmin && !roles.includes('admin')) {
        const records = [...readRecords(await redis.hgetall(keys.access)).values()]
        if (!records.some((record) => record.roles.includes('admin') && !isOver(record, now))) throw new InvalidRequest([{ pointer: '/roles', detail: 'must hold admin while no key has that role: nobody could make another one' }])
      }
      return (await make(now, { name, roles: [...new Set(roles)], expiresMs: inMs(now, expires_in_seconds), requestsPerSecond: requests_per_second ?? null }))!
    },

    /** The oldest first. */
    list: async (): Promise<Key[]> => {
      const [now, fields] = await Promise.all([time(), redis.hgetall(keys.access)])
      const all = [...readRecords(fields)].sort(([, a], [, b]) => a.createdMs - b.createdMs)
      return all.map(([id, record]) => view(id, record, fields[USED_FIELD + id], now))
    },

    /**
     * A second key of the same name and roles; the first one goes on beside it for a while.
     * @throws NotFound, TooManyKeys
     */
    rotate: async (id: string, { expires_in_seconds, old_expires_in_seconds }: Rotation): Promise<KeyMade> => {
      for (;;) {
        const [now, was] = await Promise.all([time(), redis.hget(keys.access, KEY_FIELD + id)])
        if (was === null) throw new NotFound(`there is no key ${id}; GET /keys lists those there are`)
        const old = JSON.parse(was) as KeyRecord
        const becomes: KeyRecord = { ...old, expiresMs: Math.min(old.expiresMs ?? Infinity, now + Math.ceil(old_expires_in_seconds * 1000)) }
        const made = await make(now, { name: old.name, roles: old.roles, expiresMs: inMs(now, expires_in_seconds), requestsPerSecond: old.requestsPerSecond }, { id, was, becomes: JSON.stringify(becomes) })
        if (made) return made
        // It was rotated or revoked in the same moment: what it is now decides.
      }
    },

    /** @returns whether it was there */
    revoke: async (id: string): Promise<boolean> => (await scripts.revoke(base, randomUUID(), id)) === 1,
  }
}
