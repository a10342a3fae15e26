/**
 * What the API and the workers are both made of: one Redis connection and everything that speaks over it. Each namespace has its own parts, which know the names of
 * no other's keys: what is asked of them can be about nothing else.
 */
import { createKeyring, type Keyring } from './access/keyring.ts'
import { createNamespaces, type Namespaces } from './access/namespaces.ts'
import type { Config } from './config.ts'
import { createCallbackPolicy, type CallbackPolicy } from './contracts/callback.ts'
import { ConfigError } from './errors.ts'
import type { Logger } from './logger.ts'
import { createQueues } from './queues/queues.ts'
import { createSchedulers } from './queues/schedulers.ts'
import { checkRedis } from './redis/checks.ts'
import { watchAddress } from './redis/address.ts'
import { createRedis, whenReady, type Redis } from './redis/client.ts'
import { joinEmbedded } from './redis/embedded.ts'
import { createFullness, type Fullness } from './redis/fullness.ts'
import { createKeys, DEFAULT_NAMESPACE } from './redis/keys.ts'
import { refusalOf } from './redis/refusals.ts'
import { createPresence } from './registry/presence.ts'
import { createRegistry } from './registry/registry.ts'
import { createSigning } from './registry/signing.ts'
import { createTypes } from './registry/types.ts'
import { createSchedules } from './schedules/schedules.ts'
import { createEvents } from './tasks/events.ts'
import { createStats } from './tasks/stats.ts'
import { createTasks } from './tasks/tasks.ts'
import { createWebhooks } from './tasks/webhooks/webhooks.ts'

/** What tasks that are kept for their webhooks alone may take in any case: to keep no dead letters is not to give up webhooks. */
const LEAST_WEBHOOK_BYTES = 16 * 1024 * 1024

type PartsDeps = { redis: Redis; namespace: string; config: Config; callbacks: CallbackPolicy; fullness: Fullness; log: Logger }

/** Everything of one namespace. */
const createParts = async ({ redis, namespace, config, callbacks, fullness, log }: PartsDeps) => {
  const keys = createKeys(config.redisPrefix, namespace)
  const signing = createSigning({ redis, keys, configured: config.signingSecrets })
  const queues = createQueues({ redis, keys })
  // What may fail comes first: it leaves nothing that listens.
  await Promise.all([signing.load(), queues.ready()])
  const types = createTypes({ redis, keys })
  const registry = createRegistry({ redis, keys, types, signing })
  const stats = createStats({ redis, keys })
  const webhooks = createWebhooks({ redis, keys, log, maxBytes: Math.max(config.retention.failedBytes, LEAST_WEBHOOK_BYTES), maxKept: config.retention.webhooksCount })
  const tasks = createTasks({ redis, keys, types, queues, stats, webhooks, retention: config.retention, fullness, fullPercent: config.admission.maxRedisPercent, fault: config.fault, maxAttemptMs: config.maxTaskTimeoutSeconds * 1000, maxQueued: config.admission.maxQueued, log })
  const events = createEvents({ redis, keys })
  const schedulers = createSchedulers({ queues })
  const schedules = createSchedules({ redis, keys, types, registry, tasks, stats, schedulers, maxTimeoutSeconds: config.maxTaskTimeoutSeconds, log })
  const presence = createPresence({ redis, keys })
  /** Writes what is left of counts; nothing keeps these parts any more but who still uses them. */
  const end = async (): Promise<void> => {
    types.end()
    tasks.end()
    await stats.stop()
  }
  return { redis, keys, fullness, types, signing, registry, queues, tasks, callbacks, webhooks, events, stats, schedulers, schedules, presence, end }
}
/** What one namespace is made of. */
export type Parts = Awaited<ReturnType<typeof createParts>>

/** The parts of the default namespace, and those of any other. */
export type Core = Omit<Parts, 'end'> & {
  redisUrl: string
  redisAt: ReturnType<typeof watchAddress>
  keyring: Keyring
  namespaces: Namespaces
  /** The parts of a namespace, made when they are first asked for. @throws when Redis does not answer */
  of: (namespace: string) => Promise<Parts>
  /** Of all namespaces that were asked for. */
  made: () => Promise<Parts[]>
  /** Its parts are not kept any longer; who asks for it again gets new ones. Not of the default one. */
  letGo: (namespace: string) => Promise<void>
  /** Writes what is left of counts, and disconnects. */
  end: () => Promise<void>
}

/**
 * Connects, checks the Redis, and puts the parts together. Without REDIS_URL the embedded Redis of the data folder is joined.
 * @throws ConfigError when there is no Redis to use, or one that would lose tasks
 */
export const createCore = async ({ config, log, name }: { config: Config; log: Logger; name: string }): Promise<Core> => {
  const redisUrl = config.redisUrl ?? (await joinEmbedded({ dataDir: config.dataDir })).url
  const redis = createRedis({ url: redisUrl, cluster: config.redisCluster, tls: config.redisTls, name: `switchyard-${name}`, log })
  try {
    await whenReady(redis, redisUrl)
    await checkRedis(redis, log, name === 'api' ? config.ack : 'memory')
  } catch (error) {
    redis.disconnect()
    const refusal = error instanceof Error ? refusalOf(error, redisUrl) : null
    throw refusal === null ? error : new ConfigError(refusal)
  }
  const redisAt = watchAddress(redis, redisUrl)
  // Where the API listens is known but for a port that was left open.
  const callbacks = createCallbackPolicy({ cidrs: config.webhookCidrs, own: () => [{ host: config.host, port: config.port }, ...redisAt()] })
  const fullness = createFullness(redis)
  const byNamespace = new Map<string, Promise<Parts>>()
  const of = (namespace: string): Promise<Parts> => {
    const known = byNamespace.get(namespace)
    if (known) return known
    const parts = createParts({ redis, namespace, config, callbacks, fullness, log: namespace === DEFAULT_NAMESPACE ? log : log.child({ namespace }) })
    byNamespace.set(namespace, parts)
    parts.catch(() => byNamespace.delete(namespace)) // who asks next tries again
    return parts
  }
  const made = async (): Promise<Parts[]> => (await Promise.allSettled(byNamespace.values())).flatMap((parts) => (parts.status === 'fulfilled' ? [parts.value] : []))
  const letGo = async (namespace: string): Promise<void> => {
    const parts = byNamespace.get(namespace)
    byNamespace.delete(namespace)
    await parts?.then((parts) => parts.end()).catch(() => {})
  }
  const end = async (): Promise<void> => {
    await Promise.all([...byNamespace.keys()].map(letGo))
    redis.disconnect()
  }
  const parts = await of(DEFAULT_NAMESPACE)
  return { ...parts, redisUrl, redisAt, keyring: createKeyring({ redis, keys: parts.keys }), namespaces: createNamespaces({ redis, keys: parts.keys }), of, made, letGo, end }
}
