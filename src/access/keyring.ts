/** The keys there are: made, listed, rotated and revoked. They stand in Redis as records with a digest, under one hash; who changes it gives it another version. */
import { randomUUID } from 'node:crypto'
import type { Key, KeyMade, NewKey, Role, Rotation } from '../contracts/key.ts'
import { iso } from '../contracts/time.ts'
import { Forbidden, InvalidRequest, NotFound, TooManyKeys, TooManyKeysOfNamespace, TooManyNamespaces, type Fault } from '../errors.ts'
import type { Redis } from '../redis/client.ts'
import { DEFAULT_NAMESPACE, type Keys } from '../redis/keys.ts'
import { timeAt } from '../redis/nodes.ts'
import { loadScript } from '../redis/scripts.ts'
import { MAX_NAMESPACES } from './namespaces.ts'
import { digestOf, newKey, newKeyId } from './secret.ts'

/** Of an installation, those that have expired included: each API process has them all in memory. */
export const MAX_KEYS = 1_000
/** Of one namespace but the default: its own admin may make so many, and leave others room for theirs. */
export const MAX_KEYS_OF_NAMESPACE = 100

/**
 * As it stands in Redis, as JSON; but for `expiresMs`, which a rotation may set, it never changes. The scripts look for its member `"namespace":"acme"`; one
 * that was made before there were namespaces has none.
 */
export type KeyRecord = { name: string; namespace?: string; roles: readonly Role[]; digest: string; createdMs: number; expiresMs: number | null; requestsPerSecond: number | null }

const KEY_FIELD = 'key:'
const USED_FIELD = 'used:'

/** The keys in the hash, by id. */
export const readRecords = (fields: Record<string, string>): Map<string, KeyRecord> =>
  new Map(Object.entries(fields).flatMap(([field, text]): [string, KeyRecord][] => (field.startsWith(KEY_FIELD) ? [[field.slice(KEY_FIELD.length), JSON.parse(text) as KeyRecord]] : [])))

export const namespaceOf = ({ namespace }: KeyRecord): string => namespace ?? DEFAULT_NAMESPACE

/** Whose admin may look after this key: its own namespace's, and that of the default one, who is the operator. */
const isOf = (record: KeyRecord, by: string): boolean => by === DEFAULT_NAMESPACE || by === namespaceOf(record)

const isOver = ({ expiresMs }: KeyRecord, now: number): boolean => expiresMs !== null && expiresMs <= now

const view = (id: string, record: KeyRecord, used: string | undefined, now: number): Key => ({
  key_id: id,
  name: record.name,
  roles: [...record.roles],
  namespace: namespaceOf(record),
  requests_per_second: record.requestsPerSecond,
  created_at: iso(record.createdMs),
  expires_at: record.expiresMs === null ? null : iso(record.expiresMs),
  expired: isOver(record, now),
  last_used_at: used === undefined ? null : iso(Number(used)),
})

/** Why a key may not be the first one. */
const nobodyElse = (roles: readonly Role[], namespace: string): Fault[] => [
  ...(roles.includes('admin') ? [] : [{ pointer: '/roles', detail: 'must hold admin while no key has that role: nobody could make another one' }]),
  ...(namespace === DEFAULT_NAMESPACE ? [] : [{ pointer: '/namespace', detail: 'must be left out while there is no admin of all namespaces: nobody could make keys for the others' }]),
]

export type Keyring = ReturnType<typeof createKeyring>

export const createKeyring = ({ redis, keys }: { redis: Redis; keys: Keys }) => {
  const script = (file: string) => loadScript(redis, new URL(file, import.meta.url))
  const scripts = { make: script('./make.lua'), revoke: script('./revoke.lua') }
  const base = keys.base('')

  const time = (): Promise<number> => timeAt(redis, base)
  const inMs = (now: number, seconds: number | undefined): number | null => (seconds === undefined ? null : now + Math.ceil(seconds * 1000))

  /** @throws TooManyKeys, TooManyKeysOfNamespace, TooManyNamespaces */
  const make = async (now: number, of: Omit<KeyRecord, 'digest' | 'createdMs' | 'namespace'> & { namespace: string }, other?: { id: string; was: string; becomes: string }): Promise<KeyMade | null> => {
    const id = newKeyId()
    const key = newKey(id)
    const record: KeyRecord = { ...of, digest: digestOf(key).toString('base64url'), createdMs: now }
    const named = of.namespace === DEFAULT_NAMESPACE ? '' : of.namespace
    const verdict = await scripts.make(base, randomUUID(), id, JSON.stringify(record), MAX_KEYS, other?.id ?? '', other?.was ?? '', other?.becomes ?? '', named, MAX_NAMESPACES, MAX_KEYS_OF_NAMESPACE)
    if (verdict === 'full') throw new TooManyKeys(MAX_KEYS)
    if (verdict === 'namespace_full') throw new TooManyKeysOfNamespace(named, MAX_KEYS_OF_NAMESPACE)
    if (verdict === 'namespaces') throw new TooManyNamespaces(MAX_NAMESPACES)
    return verdict === 'made' ? { ...view(id, record, undefined, now), key } : null
  }

  return {
    /**
     * The key, told only now.
     * @param by the namespace of whoever asks for it
     * @param hasAdmin whether there is an operator beside the keys: without one the first key must be that, or nobody could make another
     * @throws Forbidden, InvalidRequest, TooManyKeys, TooManyKeysOfNamespace, TooManyNamespaces
     */
    create: async (asked: NewKey, by: string, hasAdmin: boolean): Promise<KeyMade> => {
      const { name, roles, namespace = by, expires_in_seconds, requests_per_second } = asked
      if (by !== DEFAULT_NAMESPACE && namespace !== by) throw new Forbidden(`this key is of namespace ${by}, and makes keys of no other`)
      const now = await time()
      if (by === DEFAULT_NAMESPACE && !hasAdmin && !(roles.includes('admin') && namespace === DEFAULT_NAMESPACE)) {
        const records = [...readRecords(await redis.hgetall(keys.access)).values()]
        if (!records.some((record) => record.roles.includes('admin') && namespaceOf(record) === DEFAULT_NAMESPACE && !isOver(record, now))) throw new InvalidRequest(nobodyElse(roles, namespace))
      }
      return (await make(now, { name, namespace, roles: [...new Set(roles)], expiresMs: inMs(now, expires_in_seconds), requestsPerSecond: requests_per_second ?? null }))!
    },

    /**
     * The oldest first.
     * @param by the namespace of whoever asks
     */
    list: async (by: string): Promise<Key[]> => {
      const [now, fields] = await Promise.all([time(), redis.hgetall(keys.access)])
      const all = [...readRecords(fields)].filter(([, record]) => isOf(record, by)).sort(([, a], [, b]) => a.createdMs - b.createdMs)
      return all.map(([id, record]) => view(id, record, fields[USED_FIELD + id], now))
    },

    /**
     * A second key of the same name, roles and namespace; the first one goes on beside it for a while.
     * @param by the namespace of whoever asks
     * @throws NotFound, TooManyKeys, TooManyKeysOfNamespace
     */
    rotate: async (id: string, { expires_in_seconds, old_expires_in_seconds }: Rotation, by: string): Promise<KeyMade> => {
      for (;;) {
        const [now, was] = await Promise.all([time(), redis.hget(keys.access, KEY_FIELD + id)])
        const old = was === null ? null : (JSON.parse(was) as KeyRecord)
        if (was === null || old === null || !isOf(old, by)) throw new NotFound(`there is no key ${id}; GET /keys lists those there are`)
        const becomes: KeyRecord = { ...old, expiresMs: Math.min(old.expiresMs ?? Infinity, now + Math.ceil(old_expires_in_seconds * 1000)) }
        const made = await make(now, { name: old.name, namespace: namespaceOf(old), roles: old.roles, expiresMs: inMs(now, expires_in_seconds), requestsPerSecond: old.requestsPerSecond }, { id, was, becomes: JSON.stringify(becomes) })
        if (made) return made
        // It was rotated or revoked in the same moment: what it is now decides.
      }
    },

    /**
     * @param by the namespace of whoever asks
     * @returns whether it was there
     */
    revoke: async (id: string, by: string): Promise<boolean> => {
      // A key's namespace never changes, so it may be read before.
      const record = by === DEFAULT_NAMESPACE ? null : await redis.hget(keys.access, KEY_FIELD + id)
      if (by !== DEFAULT_NAMESPACE && (record === null || !isOf(JSON.parse(record) as KeyRecord, by))) return false
      return (await scripts.revoke(base, randomUUID(), id)) === 1
    },
  }
}
