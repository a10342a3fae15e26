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
  /** What is to be ended, the last first; grows as the parts come up. */
  const ends: (() => unknown)[] = []
  const stop = onStop(
    async (reason) => {
      log.info(`stopping (${reason})`)
      for (const end of ends.reverse()) await end()
      log.info('stopped')
    },
    { deadlineMs: config.drainMs + 15_000 },
  )
  try {
    const core = await createCore({ config, log, name: 'worker' })
    ends.push(() => core.redis.disconnect(), () => core.stats.stop())
    const subscriber = createRedis({ url: core.redisUrl, name: 'switchyard-worker-wake', log })
    ends.push(() => subscriber.disconnect())
    await whenReady(subscriber, core.redisUrl)

    const metrics = createMetrics()
    const transports = createTransports({ policy: createHostPolicy({ cidrs: config.agentCidrs }) })
    ends.push(() => transports.http.close())
    const dispatcher = createDispatcher({ ...core, subscriber, transport: transports.http, concurrency: config.workerConcurrency, drainMs: config.drainMs, log, metrics })
    const health = createHealthServer({ dispatcher, redis: core.redis, metrics })
    await new Promise<void>((resolve, reject) => {
      health.once('error', (error: NodeJS.ErrnoException) => reject(error.code === 'EADDRINUSE' ? new ConfigError(`Port ${config.healthPort} is taken: set HEALTH_PORT to another one, or to 0 for a free one.`) : error))
      health.listen(config.healthPort, config.host, resolve)
    })
    ends.push(() => health.close())
    ends.push(() => dispatcher.stop())
    await dispatcher.start()

    const { port } = health.address() as { port: number }
    const url = `http://${config.host.includes(':') ? `[${config.host}]` : config.host}:${port}`
    log.info({ url, dispatcher: dispatcher.id, concurrency: config.workerConcurrency }, 'dispatching')
    process.send?.({ ready: true, url })
  } catch (error) {
    log.fatal(error instanceof ConfigError ? error.message : String(error))
    stop('could not start', 1)
  }
}

run().catch((error: unknown) => {
  process.stderr.write(`${error instanceof ConfigError ? error.message : String(error)}\n`)
  process.exitCode = 1
})
