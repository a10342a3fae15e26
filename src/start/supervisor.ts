/**
 * `npm start`: Redis first, then the API and the worker, each restarted when it dies; and everything ended in the opposite order.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { ConfigError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import type { Embedded } from '../redis/embedded.ts'

/** A child says this by IPC: where it serves, once it does; or why it will not. */
export type Said = { ready: true; url: string } | { refused: string }

export type Script = { name: string; path: string }

export type Deps = {
  scripts: readonly Script[]
  log: Logger
  /** Starts or adopts the embedded Redis; absent when REDIS_URL names another. */
  startRedis?: (signal: AbortSignal) => Promise<Embedded>
  /** What the children get; REDIS_URL is added when the embedded Redis runs. */
  env: NodeJS.ProcessEnv
  /** How long children drain; they are killed 10 s after that. */
  drainMs: number
  /** Once, when all are up: each child's url by name, and where Redis is. */
  onReady: (urls: ReadonlyMap<string, string>, redisUrl: string | undefined) => void
  /** Each child, as it is started. */
  onChild?: (child: ChildProcess) => void
  /** The whole cannot go on, because a child refuses to start. */
  onFailure: (error: Error) => void
}

export type Supervisor = {
  /** Resolves when Redis runs and the children have been started, not when they are ready. */
  start(): Promise<void>
  /** Ends the children, then Redis; resolves when none of them runs. */
  stop(): Promise<void>
  /** Kills what is still draining. */
  hasten(): void
}

const FIRST_BACKOFF_MS = 1000
const LONGEST_BACKOFF_MS = 10_000
/** A child that lived this long was well: its next restart begins with the shortest pause again. */
const WELL_MS = 30_000
const KILL_AFTER_DRAIN_MS = 10_000

export const createSupervisor = ({ scripts, log, startRedis, env, drainMs, onReady, onChild, onFailure }: Deps): Supervisor => {
  const stopping = new AbortController()
  const running = new Map<string, ChildProcess>()
  const urls = new Map<string, string>()
  let announced = false
  let redis: Embedded | undefined
  let starting: Promise<void> | undefined
  let stopped: Promise<void> | undefined

  const announce = (): void => {
    if (announced || urls.size < scripts.length) return
    announced = true
    onReady(urls, redis?.url)
  }

  const startChild = (script: Script, backoffMs: number): void => {
    if (stopping.signal.aborted) return
    const startedAt = performance.now()
    const child = spawn(process.execPath, [script.path], {
      stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
      env: redis ? { ...env, REDIS_URL: redis.url } : env,
    })
    running.set(script.name, child)
    onChild?.(child)
    let refusal: string | undefined
    child.on('message', (message: Said) => {
      if ('refused' in message) return void (refusal = message.refused)
      if (announced) log.info({ url: message.url }, `${script.name} is up again`)
      urls.set(script.name, message.url)
      announce()
    })
    child.once('error', (error) => log.error({ err: error }, `${script.name} could not be started`))
    const ended = (code: number | null, signal: NodeJS.Signals | null): void => {
      if (stopping.signal.aborted) return
      const how = signal ?? `code ${code}`
      // What refuses to start, for a port in use or a faulty setting, would refuse for ever; it has said why. A crash is another matter.
      if (!urls.has(script.name) && signal === null) return onFailure(new ConfigError(`${script.name} did not start: ${refusal ?? `it ended with ${how}; see what it said above`}`))
      const pauseMs = performance.now() - startedAt > WELL_MS ? FIRST_BACKOFF_MS : backoffMs
      log.warn({ signal, code }, `${script.name} died (${how}); starting it again in ${pauseMs / 1000} s`)
      later(() => startChild(script, Math.min(pauseMs * 2, LONGEST_BACKOFF_MS)), pauseMs)
    }
    // 'close' comes after a failed spawn as well, and 'exit' does not. What the child said last may still be on its way then.
    child.once('close', (code, signal) => {
      running.delete(script.name)
      if (child.connected) child.once('disconnect', () => ended(code, signal))
      else ended(code, signal)
    })
  }

  const later = (act: () => void, ms: number): void => {
    const timer = setTimeout(act, ms)
    stopping.signal.addEventListener('abort', () => clearTimeout(timer), { once: true })
  }

  /** Keeps the embedded Redis running: it was started by us, so nobody else would start it again. */
  const keepRedis = async (start: (signal: AbortSignal) => Promise<Embedded>): Promise<void> => {
    redis = await start(stopping.signal)
    void redis.gone.then(() => restartRedis(start, FIRST_BACKOFF_MS))
  }

  const restartRedis = (start: (signal: AbortSignal) => Promise<Embedded>, pauseMs: number): void => {
    if (stopping.signal.aborted) return
    log.error(`Redis ended unexpectedly; starting it again in ${pauseMs / 1000} s`)
    later(() => {
      starting = keepRedis(start).catch((error: unknown) => {
        if (stopping.signal.aborted) return
        log.error({ err: error }, 'Redis could not be started again')
        restartRedis(start, Math.min(pauseMs * 2, LONGEST_BACKOFF_MS))
      })
    }, pauseMs)
  }

  const begin = async (): Promise<void> => {
    if (startRedis) await keepRedis(startRedis)
    for (const script of scripts) startChild(script, FIRST_BACKOFF_MS)
  }

  const end = async (): Promise<void> => {
    stopping.abort()
    // A Redis that was just being started must be ended as well; what went wrong with it is the starter's to report.
    await starting?.catch(() => {})
    await Promise.all([...running.values()].map((child) => endChild(child, drainMs + KILL_AFTER_DRAIN_MS)))
    await redis?.stop()
  }

  return {
    start: () =>
      (starting = begin().catch((error: unknown) => {
        if (!stopping.signal.aborted) throw error
      })),
    stop: () => (stopped ??= end()),
    hasten: () => running.forEach((child) => child.kill('SIGKILL')),
  }
}

const endChild = (child: ChildProcess, killAfterMs: number): Promise<void> =>
  new Promise((done) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), killAfterMs)
    child.once('close', () => {
      clearTimeout(timer)
      done()
    })
    child.kill('SIGTERM')
  })
