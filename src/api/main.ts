/** An API process. */
import { createServer } from 'node:http'
import { readConfig } from '../config.ts'
import { createHostPolicy } from '../contracts/host.ts'
import { createCore } from '../core.ts'
import { ConfigError } from '../errors.ts'
import { onStop } from '../lifetime.ts'
import { createLogger } from '../logger.ts'
import { createApp } from './app.ts'

const run = async () => {
  const config = readConfig()
  const log = createLogger('api', config.logLevel)
  const core = await createCore({ config, log, name: 'api' })
  // Back after an outage, agents' silence is our own: settle that before anyone asks who is alive.
  core.redis.on('ready', () => {
    void core.types.list().then((types) => Promise.all(types.map((type) => core.registry.sweep(type)))).catch(() => {})
  })
  const policy = createHostPolicy({ cidrs: config.agentCidrs, own: [{ host: config.host, port: config.port }] })
  const server = createServer({ maxHeaderSize: 16 * 1024, keepAliveTimeout: 65_000 }, createApp({ core, config, policy, log }))

  const stop = onStop(async (reason) => {
    log.info(`stopping (${reason})`)
    await new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeIdleConnections()
      setTimeout(() => server.closeAllConnections(), 5000).unref()
    })
    core.redis.disconnect()
    log.info('stopped')
  })
  server.on('error', (error: NodeJS.ErrnoException) => {
    log.fatal(error.code === 'EADDRINUSE' ? `port ${config.port} is taken: set PORT, or 0 for a free one` : String(error))
    stop('no port', 1)
  })
  server.listen(config.port, config.host, () => {
    const { port } = server.address() as { port: number }
    const url = `http://${config.host.includes(':') ? `[${config.host}]` : config.host}:${port}`
    log.info({ url }, 'listening')
    process.send?.({ ready: true, url })
  })
}

run().catch((error: unknown) => {
  process.stderr.write(`${error instanceof ConfigError ? error.message : error instanceof Error ? error.stack : String(error)}\n`)
  process.exit(1)
})
