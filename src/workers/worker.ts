/** What a dispatcher process is made of, in the order in which it comes up. */
import { createHostPolicy, isLoopback } from '../contracts/host.ts'
import { listen, type Role } from '../process.ts'
import { createRedis, whenReady } from '../redis/client.ts'
import { createSecrets } from '../redis/secret.ts'
import { createTransports } from '../transports/index.ts'
import { createWebhookSender } from '../transports/webhook.ts'
import { createDispatcher } from './dispatcher.ts'
import { createHealthServer } from './health.ts'
import { createMetrics } from './metrics.ts'
import { createWebhookDeliverer } from './webhooks.ts'

export const worker: Role = {
  name: 'worker',
  endsWithinMs: (config) => config.drainMs + 15_000,
  start: async ({ config, log, core, onEnd, giveUp }) => {
    const subscriber = createRedis({ url: core.redisUrl, tls: config.redisTls, name: 'switchyard-worker-wake', log })
    onEnd(() => subscriber.disconnect())
    await whenReady(subscriber, core.redisUrl)

    const metrics = createMetrics()
    // A name may have come to mean our Redis since its agent registered.
    const own = () => [{ host: config.host, port: config.healthPort }, ...core.redisAt()]
    const transports = createTransports({ policy: createHostPolicy({ cidrs: config.agentCidrs, own, loopback: isLoopback(config.host) }) })
    onEnd(() => transports.http.close())
    const secrets = createSecrets({ redis: core.redis, key: core.keys.webhookSecret, configured: config.webhookSecrets })
    const sender = createWebhookSender({ policy: core.callbacks, system: config.webhookCidrs.length > 0 })
    const deliverer = createWebhookDeliverer({ webhooks: core.webhooks, sender, keys: secrets.keys, log })
    onEnd(() => deliverer.stop()) // behind the dispatcher: what ends while it drains is told
    const dispatcher = createDispatcher({ ...core, deliverer, subscriber, transport: transports.http, concurrency: config.workerConcurrency, drainMs: config.drainMs, log, metrics, giveUp })
    const health = createHealthServer({ dispatcher, redis: core.redis, metrics })
    const url = await listen(health, { host: config.host, port: config.healthPort, setting: 'HEALTH_PORT' })
    onEnd(() => health.close())
    onEnd(() => dispatcher.stop())
    await dispatcher.start()
    log.info({ url, dispatcher: dispatcher.id, concurrency: config.workerConcurrency }, 'dispatching')
    return url
  },
}
