/** An API process. */
import { createServer } from 'node:http'
import { readConfig } from '../config.ts'
import { createHostPolicy, type HostPort } from '../contracts/host.ts'
import { createCore } from '../core.ts'
import { ConfigError } from '../errors.ts'
import { onStop } from '../lifetime.ts'
import { createLogger } from '../logger.ts'
import { createApp } from './app.ts'
import { MAX_HEADER_BYTES, refuseUnreadable } from './problem.ts'

/** Requests under way get so long to end when we stop. */
const LAST_REQUESTS_MS = 5_000

/** Where our Redis listens, which is no agent either; a Unix socket is nowhere. */
const redisAt = (url: string): HostPort[] => {
  if (url.startsWith('unix:')) return []
  const { hostname, port } = new URL(url)
  return [{ host: hostname, port: Number(port || 6379) }]
}

const run = async () => {
  const config = readConfig()
  const log = createLogger('api', config.logLevel)
  /** What is to be ended, the last first; grows as the parts come up. */
  const ends: (() => unknown)[] = []
  const stop = onStop(
    async (reason) => {
      log.info(`stopping (${reason})`)
      for (const end of ends.reverse()) await end()
      log.info('stopped')
    },
    { deadlineMs: LAST_REQUESTS_MS + 5_000 },
  )
  try {
    const core = await createCore({ config, log, name: 'api' })
    ends.push(() => core.redis.disconnect(), () => core.stats.stop())
    // Back after an outage, agents' silence is our own: settle that before anyone asks who is alive.
    core.redis.on('ready', () => {
      void core.types.list().then((types) => Promise.all(types.map((type) => core.registry.sweep(type)))).catch(() => {})
    })
    const server = createServer({ maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: 65_000 })
    server.on('clientError', refuseUnreadable)
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => reject(error.code === 'EADDRINUSE' ? new ConfigError(`Port ${config.port} is taken: set PORT to another one, or to 0 for a free one.`) : error))
      server.listen(config.port, config.host, resolve)
    })
    ends.push(
      () =>
        new Promise<void>((resolve) => {
          // A kept-alive connection whose request ends now is idle only then.
          const idle = setInterval(() => server.closeIdleConnections(), 50)
          const last = setTimeout(() => server.closeAllConnections(), LAST_REQUESTS_MS)
          server.close(() => {
            clearInterval(idle)
            clearTimeout(last)
            resolve()
          })
        }),
    )
    const { port } = server.address() as { port: number }
    // The port may have been chosen just now. Nobody is served before the turn in which it became known ends.
    const policy = createHostPolicy({ cidrs: config.agentCidrs, own: [{ host: config.host, port }, ...redisAt(core.redisUrl)] })
    server.on('request', createApp({ core, config, policy, log }))
    const url = `http://${config.host.includes(':') ? `[${config.host}]` : config.host}:${port}`
    log.info({ url }, 'listening')
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
