/** The frame of the processes that serve, API and worker: settings, log, Redis, the role's own parts, and the end of them all. */
import type { Server } from 'node:http'
import { Server as NetServer, type ListenOptions } from 'node:net'
import module from 'node:module'
import { readConfig, type Config } from './config.ts'
import { createCore, type Core } from './core.ts'
import { ConfigError } from './errors.ts'
import { onStop } from './lifetime.ts'
import { createLogger, type Logger } from './logger.ts'

export type Frame = {
  config: Config
  log: Logger
  core: Core
  /** What ends a part that has just come up, when the process is to end; the last one first. */
  onEnd: (end: () => unknown) => void
  /** The process cannot go on: it ends as if told to, with 1, and `why` is the last it says. */
  giveUp: (why: string) => void
}

export type Role = {
  name: 'api' | 'worker'
  /** Brings the role's own parts up, and says where it serves. */
  start: (frame: Frame) => Promise<string>
  /** How long all the ends together may take. */
  endsWithinMs: (config: Config) => number
}

/** A process of one role. Its exit code is 0 when it was asked to stop, 1 when it could not start or go on; the reason is then the last it says. */
export const createProcess = ({ name, start, endsWithinMs }: Role): { run: () => Promise<void> } => {
  const runWith = async (config: Config): Promise<void> => {
    const log = createLogger(name, config.logLevel)
    // A fault of ours ends the process, as ever; but Node would show the error whole, and Redis's carry their command, payload and all.
    process.once('uncaughtException', (error: unknown) => {
      log.fatal({ error: error instanceof Error ? error.stack : String(error) }, 'this should not have happened')
      process.exit(1)
    })
    const ends: (() => unknown)[] = []
    const onEnd = (end: () => unknown): void => void ends.push(end)
    const stop = onStop(
      async (reason) => {
        log.info(`stopping (${reason})`)
        for (const end of ends.reverse()) await end()
        log.info('stopped')
      },
      { deadlineMs: endsWithinMs(config) },
    )
    try {
      const core = await createCore({ config, log, name })
      onEnd(core.end)
      const url = await start({ config, log, core, onEnd, giveUp: (why) => stop('cannot go on', 1, () => log.fatal(why)) })
      // Where what is compiled is kept (NODE_COMPILE_CACHE), that is done now: a process that is killed would not come to it, and who follows it is waited for.
      module.flushCompileCache()
      process.send?.({ ready: true, url })
    } catch (error) {
      const why = error instanceof ConfigError ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error)
      process.send?.({ refused: why })
      stop('could not start', 1, () => log.fatal(why))
    }
  }

  return {
    run: async () => {
      try {
        await runWith(readConfig())
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error
        process.stderr.write(`${error.message}\n`)
        process.exitCode = 1
      }
    },
  }
}

/**
 * Connections that wait to be accepted; the system may allow fewer (`net.core.somaxconn`). Beyond it Linux drops what comes, and the client's system tries again
 * after 1, 3, 7 s: a fleet that comes back at once is more than Node's 511.
 */
export const BACKLOG = 4_096

/**
 * Listens, and says where.
 * @param at.setting which setting the port comes from
 * @param at.shared so that further sockets of ours can listen at the same port; nobody else's does, or it is taken
 * @throws ConfigError when the settings name a place where nobody can listen
 */
export const listen = async (server: Server, { host, port, setting, shared = false }: { host: string; port: number; setting: string; shared?: boolean }): Promise<string> => {
  const begin = (one: NetServer, options: ListenOptions): Promise<number> =>
    new Promise((resolve, reject) => {
      one.once('error', (error: NodeJS.ErrnoException) => {
        const why = WHY_NOT[error.code ?? '']?.(host, port, setting)
        reject(why === undefined ? error : new ConfigError(why))
      })
      one.listen({ host, backlog: BACKLOG, ...options }, () => resolve((one.address() as { port: number }).port))
    })
  let free = port
  if (shared) {
    // Of two that are willing to share each would take part of the other's clients: that nobody is there shows when one listens who is not.
    const alone = new NetServer()
    free = await begin(alone, { port })
    await new Promise((resolve) => alone.close(resolve))
  }
  const at = await begin(server, { port: free, reusePort: shared })
  return `http://${host.includes(':') ? `[${host}]` : host}:${at}`
}

const noSuchHost = (host: string): string => `HOST ${host} is no address of this machine: set HOST to one, such as 127.0.0.1, or to 0.0.0.0 for all of them.`
const WHY_NOT: Record<string, (host: string, port: number, setting: string) => string> = {
  EADDRINUSE: (_host, port, setting) => `Port ${port} is taken: set ${setting} to another one, or to 0 for a free one.`,
  EACCES: (_host, port, setting) => `Port ${port} may not be listened on: set ${setting} to another one, above 1023, or to 0 for a free one.`,
  EADDRNOTAVAIL: noSuchHost,
  ENOTFOUND: noSuchHost,
  EAI_AGAIN: noSuchHost,
}
