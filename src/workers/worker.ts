/** What a dispatcher process is made of, in the order in which it comes up. */
import { createGuard } from '../access/guard.ts'
import { createVisitorCheck } from '../access/visitor.ts'
import { createHostPolicy, isLoopback } from '../contracts/host.ts'
import { listen, type Role } from '../process.ts'
import { DEFAULT_NAMESPACE } from '../redis/keys.ts'
import { createWebhookSecrets } from '../redis/secret.ts'
import { createSubscriber } from '../redis/subscriber.ts'
import { createTransports } from '../transports/index.ts'
import { createWebhookSender } from '../transports/webhook.ts'
import { createDispatcher } from './dispatcher.ts'
import { createDispatchers, type Served } from './dispatchers.ts'
import { createHealthServer } from './health.ts'
import { createMetrics } from './metrics.ts'
import { createPlaces } from './places.ts'
import { createWebhookDeliverer, WEBHOOK_PLACES } from './webhooks.ts'

export const worker: Role = {
  name: 'worker',
  endsWithinMs: (config) => config.drainMs + 15_000,
  start: async ({ config, log, core, onEnd, giveUp }) => {
    const subscriber = await createSubscriber(core.redis, { url: core.redisUrl, tls: config.redisTls, name: 'switchyard-worker-wake', log })
    onEnd(() => subscriber.disconnect())

    const metrics = createMetrics()
    // A name may have come to mean our Redis since its agent registered.
    const own = () => [{ host: config.host, port: config.healthPort }, ...core.redisAt()]
    const transports = createTransports({ policy: createHostPolicy({ cidrs: config.agentCidrs, own, loopback: isLoopback(config.host) }) })
    onEnd(() => transports.http.close())
    const sender = createWebhookSender({ policy: core.callbacks, system: config.webhookCidrs.length > 0 })
    onEnd(() => sender.close())
    const places = createPlaces(config.workerConcurrency)
    const webhookPlaces = createPlaces(WEBHOOK_PLACES)

    const serve = async (namespace: string): Promise<Served> => {
      const parts = await core.of(namespace)
      const logOfIts = namespace === DEFAULT_NAMESPACE ? log : log.child({ namespace })
      const secrets = createWebhookSecrets({ redis: parts.redis, keys: parts.keys, configured: config.webhookSecrets })
      const deliverer = createWebhookDeliverer({ webhooks: parts.webhooks, sender, keys: secrets.keys, places: webhookPlaces, log: logOfIts })
      const dispatcher = createDispatcher({ ...parts, deliverer, subscriber, transport: transports.http, places, drainMs: config.drainMs, log: logOfIts, metrics, giveUp })
      await dispatcher.start()
      const stop = async (): Promise<void> => {
        await dispatcher.stop()
        await deliverer.stop() // what ended while it drained is told
        await core.letGo(namespace)
      }
      return { dispatcher, stop }
    }
    const dispatchers = createDispatchers({ namespaces: core.namespaces, subscriber, keys: core.keys, log, serve })
    const loopback = isLoopback(config.host)
    const guard = createGuard({ redis: core.redis, keys: core.keys, adminKey: config.adminKey, closed: !loopback && !config.insecureOpen, log })
    await guard.start()
    onEnd(guard.stop)
    const health = createHealthServer({ dispatchers, places, redis: core.redis, metrics, guard, checkVisitor: createVisitorCheck({ host: config.host, loopback, allowed: config.allowedHosts }) })
    const url = await listen(health, { host: config.host, port: config.healthPort, setting: 'HEALTH_PORT' })
    onEnd(() => health.close())
    onEnd(() => dispatchers.stop())
    await dispatchers.start()
    log.info({ url, concurrency: config.workerConcurrency }, 'ready')
    return url
  },
}
