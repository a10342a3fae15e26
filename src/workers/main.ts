/** A dispatcher process. */
import { readConfig } from '../config.ts'
import { createHostPolicy } from '../contracts/host.ts'
import { createCore } from '../core.ts'
import { ConfigError } from '../errors.ts'
import { onStop } from '../lifetime.ts'
import { createLogger } from '../logger.ts'
import { createRedis, whenReady } from '../redis/client.ts'
import { createTransports } from '../transports/index.ts'
import { createDispatcher } from './dispatcher.ts'
import { createHealthServer } from './health.ts'
import { createMetrics } from './metrics.ts'

const run = async () => {
  const config = readConfig()
  const log = createLogger('worker', config.logLevel)
  const core = await createCore({ config, log, name: 'worker' })
  const subscriber = createRedis({ url: core.redisUrl, name: 'switchyard-worker-wake', log })
  await whenReady(subscriber, core.redisUrl)
  const metrics = createMetrics()
  const transports = createTransports({ policy: createHostPolicy({ cidrs: config.agentCidrs }) })
  const dispatcher = createDispatcher({ ...core, subscriber, transport: transports.http, concurrency: config.workerConcurrency, drainMs: config.drainMs, log, metrics })
  const health = createHealthServer({ dispatcher, redis: core.redis, metrics })

  const stop = onStop(async (reason) => {
    log.info(`stopping (${reason})`)
    await dispatcher.stop()
    health.close()
    await transports.http.close()
    core.redis.disconnect()
    subscriber.disconnect()
    log.info('stopped')
  })
  health.on('error', (error: NodeJS.ErrnoException) => {
    log.fatal(error.code === 'EADDRINUSE' ? `port ${config.healthPort} is taken: set HEALTH_PORT, or 0 for a free one` : String(error))
    stop('no health port', 1)
  })
  health.listen(config.healthPort, config.host, async () => {
    const { port } = health.address() as { port: number }
    try {
      await dispatcher.start()
      const url = `http://${config.host.includes(':') ? `[${config.host}]` : config.host}:${port}`
      log.info({ url, dispatcher: dispatcher.id, concurrency: config.workerConcurrency }, 'dispatching')
      process.send?.({ ready: true, url })
    } catch (error) {
      log.fatal(String(error))
      stop('could not start', 1)
    }
  })
}

run().catch((error: unknown) => {
  process.stderr.write(`${error instanceof ConfigError ? error.message : error instanceof Error ? error.stack : String(error)}\n`)
  process.exit(1)
})
