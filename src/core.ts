/** What the API and the workers are both made of: one Redis connection and everything that speaks over it. */
import { createKeyring } from './access/keyring.ts'
import type { Config } from './config.ts'
import { createCallbackPolicy } from './contracts/callback.ts'
import { ConfigError } from './errors.ts'
import type { Logger } from './logger.ts'
import { createQueues } from './queues/queues.ts'
import { createSchedulers } from './queues/schedulers.ts'
import { checkRedis } from './redis/checks.ts'
import { watchAddress } from './redis/address.ts'
import { createRedis, whenReady } from './redis/client.ts'
import { joinEmbedded } from './redis/embedded.ts'
import { createKeys } from './redis/keys.ts'
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

export type Core = Awaited<ReturnType<typeof createCore>>

/**
 * Connects, checks the Redis, and puts the parts together. Without REDIS_URL the embedded Redis of the data folder is joined.
 * @throws ConfigError when there is no Redis to use, or one that would lose tasks
 */
export const createCore = async ({ config, log, name }: { config: Config; log: Logger; name: string }) => {
  const redisUrl = config.redisUrl ?? (await joinEmbedded({ dataDir: config.dataDir })).url
  const redis = createRedis({ url: redisUrl, tls: config.redisTls, name: `switchyard-${name}`, log })
  try {
    await whenReady(redis, redisUrl)
    await checkRedis(redis, log, name === 'api' ? config.ack : 'memory')
  } catch (error) {
    redis.disconnect()
    const refusal = error instanceof Error ? refusalOf(error, redisUrl) : null
    throw refusal === null ? error : new ConfigError(refusal)
  }
  const redisAt = watchAddress(redis, redisUrl)
  const keys = createKeys(config.redisPrefix)
  const types = createTypes({ redis, keys })
  const signing = createSigning({ redis, keys, configured: config.signingSecrets })
  await signing.load()
  const registry = createRegistry({ redis, keys, types, signing })
  const queues = createQueues({ redis, keys })
  await queues.ready()
  const stats = createStats({ redis, keys })
  // Where the API listens is known but for a port that was left open.
  const callbacks = createCallbackPolicy({ cidrs: config.webhookCidrs, own: () => [{ host: config.host, port: config.port }, ...redisAt()] })
  const webhooks = createWebhooks({ redis, keys, log })
  const tasks = createTasks({ redis, keys, types, queues, stats, webhooks, retention: config.retention, fault: config.fault, maxAttemptMs: config.maxTaskTimeoutSeconds * 1000, maxQueued: config.admission.maxQueued, log })
  const events = createEvents({ redis, keys })
  const schedulers = createSchedulers({ queues })
  const schedules = createSchedules({ redis, keys, types, registry, tasks, stats, schedulers, maxTimeoutSeconds: config.maxTaskTimeoutSeconds, log })
  const presence = createPresence({ redis, keys })
  const keyring = createKeyring({ redis, keys })
  return { redisUrl, redis, redisAt, keys, types, signing, registry, queues, tasks, callbacks, webhooks, events, stats, schedulers, schedules, presence, keyring }
}
