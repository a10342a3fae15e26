/**
 * Who may come in, as an API process knows it without asking Redis: the keys are in memory, read again whenever they are said to have changed and looked after
 * once a second, should nobody have said so. While Redis is away those known last are what counts.
 */
import { randomBytes } from 'node:crypto'
import type { Role } from '../contracts/key.ts'
import type { Logger } from '../logger.ts'
import type { Redis } from '../redis/client.ts'
import { DEFAULT_NAMESPACE, type Keys } from '../redis/keys.ts'
import type { Subscriber } from '../redis/subscriber.ts'
import { fieldsOf, loadScript } from '../redis/scripts.ts'
import { namespaceOf, readRecords } from './keyring.ts'
import { digestOf, idIn, isSame } from './secret.ts'
import { ADMIN_ID, createSessions, SESSION_MS } from './session.ts'
import { createTokens, type AgentLife } from './token.ts'

/** A key that was revoked is out everywhere within twice this. */
const LOOK_MS = 1_000
/** A key that is not known may have been made just now: it is looked for, but by all who come with such a one together, and no more often. */
const LOOK_FOR_UNKNOWN_MS = 250
/** Of one key, how often it is noted that it was used. */
const NOTE_USE_MS = 60_000
const TOKEN_START = 'sya_'

/** Who asks, and about which namespace: to any other there is no way from here. `open`: no keys are in force, so whoever it is. */
export type Caller = { namespace: string } & ({ kind: 'open' } | { kind: 'key'; id: string; roles: readonly Role[]; requestsPerSecond: number | null } | ({ kind: 'agent' } & AgentLife))
export const OPEN: Caller = { kind: 'open', namespace: DEFAULT_NAMESPACE }
const ADMIN: Caller & { kind: 'key' } = { kind: 'key', id: ADMIN_ID, namespace: DEFAULT_NAMESPACE, roles: ['admin'], requestsPerSecond: null }

type Known = { name: string; digest: Buffer; expiresMs: number | null; caller: Caller & { kind: 'key' } }

export type GuardDeps = {
  redis: Redis
  /** A connection that subscribes; others may as well. Without one, what is changed is known a second later. */
  subscriber?: Subscriber
  keys: Keys
  adminKey: string | undefined
  /** Nobody comes in without a key, though there be none. */
  closed: boolean
  log: Logger
}
export type Guard = ReturnType<typeof createGuard>

export const createGuard = ({ redis, subscriber, keys, adminKey, closed, log }: GuardDeps) => {
  const script = loadScript(redis, new URL('./look.lua', import.meta.url))
  const adminDigest = adminKey === undefined ? null : digestOf(adminKey)

  let known = new Map<string, Known>()
  let version = ''
  let secret = randomBytes(32).toString('base64url')
  let tokens = createTokens(secret)
  let sessions = createSessions(secret, keys.namespace)
  /** What Redis's clock said at last, and when we heard it. */
  let clock = { redisMs: 0, heardAt: 0 }
  const now = (): number => clock.redisMs + performance.now() - clock.heardAt

  /** When the use of a key was last noted, and which are to be. */
  const noted = new Map<string, number>()
  let used = new Set<string>()
  const noteUse = (id: string): void => {
    const at = performance.now()
    if (at - (noted.get(id) ?? -Infinity) < NOTE_USE_MS) return
    noted.set(id, at)
    used.add(id)
  }

  const take = (fields: Record<string, string>): void => {
    known = new Map(
      [...readRecords(fields)].map(([id, record]) => {
        const { name, digest, expiresMs, roles, requestsPerSecond } = record
        return [id, { name, digest: Buffer.from(digest, 'base64url'), expiresMs, caller: { kind: 'key', id, namespace: namespaceOf(record), roles, requestsPerSecond } }]
      }),
    )
    for (const id of noted.keys()) if (!known.has(id)) noted.delete(id)
    const theirs = fields['token_secret']
    if (theirs === undefined || theirs === secret) return
    secret = theirs
    tokens = createTokens(secret)
    sessions = createSessions(secret, keys.namespace)
  }

  const watchers = new Set<() => void>()
  const lookOnce = async (): Promise<void> => {
    const telling = used
    used = new Set()
    try {
      const [at, newest, flat] = (await script(keys.base(''), version, secret, ...telling)) as [string, string, string[]?]
      clock = { redisMs: Number(at), heardAt: performance.now() }
      if (flat) take(fieldsOf(flat))
      version = newest
      for (const tell of watchers) tell()
    } catch (error) {
      for (const id of telling) used.add(id)
      throw error
    }
  }

  let looking: Promise<void> | null = null
  let behind: Promise<void> | null = null
  let lookedAt = -Infinity
  const begin = (): Promise<void> => {
    lookedAt = performance.now()
    return (looking = lookOnce().finally(() => (looking = null)))
  }
  /** Knows of all that was changed before it was called. */
  const look = (): Promise<void> => {
    if (!looking) return begin()
    return (behind ??= looking.catch(() => {}).then(() => {
      behind = null
      return begin()
    }))
  }
  const lookQuietly = (): void => void look().catch((error: unknown) => log.debug({ error: String(error) }, 'could not look for keys; those known last count'))

  const subscribe = (): void => {
    void subscriber?.subscribe(keys.accessChannel).catch(() => {}) // then it connects anew, and is ready again
    lookQuietly()
  }
  const heard = (channel: string): void => {
    if (channel === keys.accessChannel) lookQuietly()
  }
  let timer: NodeJS.Timeout | undefined

  const find = (presented: string): Caller | null => {
    const id = idIn(presented)
    const key = id === undefined ? undefined : known.get(id)
    const digest = digestOf(presented)
    if (key && isSame(digest, key.digest)) {
      if (key.expiresMs !== null && key.expiresMs <= now()) return null
      noteUse(key.caller.id)
      return key.caller
    }
    return adminDigest && isSame(digest, adminDigest) ? ADMIN : null
  }

  const digestBy = (id: string): Buffer | null | undefined => (id === ADMIN_ID ? adminDigest : known.get(id)?.digest)

  /** Who shows this; null when nobody we know. Costs some µs, and asks nobody. */
  const whoShows = (presented: string): Caller | null => {
    const life = presented.startsWith(TOKEN_START) ? tokens.read(presented) : null
    return life ? { kind: 'agent', ...life } : find(presented)
  }

  /** For who has shown a key: what its browser shows from now on, and for how long. */
  const sessionFor = ({ id }: Caller & { kind: 'key' }): { session: string; seconds: number } | null => {
    const digest = digestBy(id)
    if (!digest) return null
    const endMs = Math.floor(Math.min(now() + SESSION_MS, known.get(id)?.expiresMs ?? Infinity))
    return { session: sessions.make({ keyId: id, endMs }, digest), seconds: Math.max(0, Math.floor((endMs - now()) / 1000)) }
  }
  /** Who comes in by that. */
  const whoseSession = (presented: string): Caller | null => {
    const session = sessions.read(presented, digestBy)
    if (!session || session.endMs <= now()) return null
    const key = known.get(session.keyId)
    if (!key) return ADMIN
    if (key.expiresMs !== null && key.expiresMs <= now()) return null
    noteUse(session.keyId)
    return key.caller
  }

  return {
    /** Reads the keys, and keeps up with them. @throws when Redis does not answer */
    start: async (): Promise<void> => {
      await look()
      subscriber?.on('message', heard)
      subscriber?.on('ready', subscribe)
      if (subscriber?.status === 'ready') subscribe()
      timer = setInterval(lookQuietly, LOOK_MS)
      timer.unref()
    },
    stop: (): void => {
      clearInterval(timer)
      subscriber?.off('message', heard).off('ready', subscribe)
    },
    look,
    /** Whether keys are needed: one was made, one is set, or the address is one that strangers reach. One that has expired is a key still, until it is revoked. */
    inForce: (): boolean => closed || adminDigest !== null || known.size > 0,
    hasAdminKey: adminDigest !== null,
    hasKeys: (): boolean => known.size > 0,
    whoShows,
    sessionFor,
    whoseSession,
    /** What people know a key by. */
    nameOf: (id: string): string => known.get(id)?.name ?? id,
    /** The same of one that is not known: it may have been made a moment ago, by another process. */
    lookFor: async (presented: string): Promise<Caller | null> => {
      if (idIn(presented) === undefined && !presented.startsWith(TOKEN_START)) return null
      if (looking) await looking.catch(() => {})
      else if (performance.now() - lookedAt > LOOK_FOR_UNKNOWN_MS) await look().catch(() => {})
      return whoShows(presented)
    },
    /** Whether who came in with a key would still be let in. */
    isGood: (caller: Caller): boolean => {
      if (caller.kind !== 'key' || caller === ADMIN) return true
      const key = known.get(caller.id)
      return key !== undefined && (key.expiresMs === null || key.expiresMs > now())
    },
    /** Is told after each look, whatever it found. */
    onLook: (tell: () => void): void => void watchers.add(tell),
    /** What this agent may show from now on. */
    tokenFor: (life: AgentLife): string => tokens.make(life),
  }
}
