/** `npm start`: everything on one machine, until Ctrl-C. */
import { fileURLToPath } from 'node:url'
import { ALLOCATOR } from '../allocator.ts'
import { readConfig, type Config } from '../config.ts'
import { ConfigError } from '../errors.ts'
import { onStop } from '../lifetime.ts'
import { createLogger, type Logger } from '../logger.ts'
import { startEmbedded } from '../redis/embedded.ts'
import { createSupervisor } from './supervisor.ts'
import { placesOf } from './table.ts'

/** Beside this file: TypeScript in the repository, JavaScript where it is installed. */
const script = (path: string): string => fileURLToPath(new URL(`${path}${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url))

const run = async (config: Config, log: Logger): Promise<void> => {
  const supervisor = createSupervisor({
    scripts: [
      { name: 'api', path: script('../api/main') },
      { name: 'worker', path: script('../workers/main') },
    ],
    log,
    ...(config.redisUrl ? {} : { startRedis: (signal: AbortSignal) => startEmbedded({ dataDir: config.dataDir, log, signal }) }),
    env: { ...ALLOCATOR, ...process.env },
    drainMs: Math.max(config.drainMs, config.leaveMs),
    onReady: (urls, redisUrl) => {
      const places = placesOf(urls, redisUrl ?? config.redisUrl)
      if (process.stdout.isTTY) process.stdout.write(places.table)
      else log.info(places.fields, 'Switchyard is up')
    },
    onFailure: (error) => fail(error),
  })
  const stop = onStop(
    async (reason) => {
      log.info(`stopping (${reason})`)
      await supervisor.stop()
      log.info('stopped')
    },
    {
      hasten: () => {
        log.warn('not waiting for running tasks any longer; they will be sent again')
        supervisor.hasten()
      },
    },
  )
  const fail = (error: unknown): void => {
    stop('a part did not start', 1, () => {
      if (error instanceof ConfigError) log.fatal(error.message)
      else log.fatal({ err: error }, 'could not start')
    })
  }
  await supervisor.start().catch(fail)
}

try {
  const config = readConfig()
  await run(config, createLogger('start', config.logLevel))
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 1
}
