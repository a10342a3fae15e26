/** Real processes for tests: started, listened to, and ended with the test whatever it did. */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isAlive } from '../src/redis/process.ts'
import { pauses, sleep } from './system.ts'

/** The repository. */
export const ROOT = fileURLToPath(new URL('..', import.meta.url))
const { npm_lifecycle_event: _, FORCE_COLOR: __, REDIS_URL: ___, LOG_LEVEL: ____, SWITCHYARD_URL: _____, SWITCHYARD_API_KEY: ______, AGENT_NAME: _______, ...others } = process.env
/** The environment without what npm, vitest or a person may have set and our processes would obey. */
export const clean = others

export const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url))

/** Asks until the answer is neither false, null nor undefined, nor an error. */
export const until = async <T>(what: string, ask: () => T | Promise<T>, withinMs = 20_000): Promise<NonNullable<T>> => {
  const deadline = Date.now() + withinMs
  let last: unknown
  for (const pause of pauses()) {
    if (Date.now() >= deadline) break
    try {
      const answer = await ask()
      if (answer !== false && answer !== null && answer !== undefined) return answer
    } catch (error) {
      last = error
    }
    await sleep(pause)
  }
  throw new Error(`not within ${withinMs} ms: ${what}`, { cause: last })
}

export const dead = (...pids: number[]): Promise<unknown> => until(`${pids.join(', ')} have ended`, () => !pids.some(isAlive))

/** A folder that goes with the test. */
export const tempFolder = async (prefix = 'sy-'): Promise<AsyncDisposable & { path: string }> => {
  const path = await mkdtemp(join(tmpdir(), prefix))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

export type Running = AsyncDisposable & {
  pid: number
  child: ChildProcess
  /** Its output so far. */
  output: () => string
  /** Its exit code, or the signal that ended it. By then all that it said has been read. */
  ended: Promise<number | NodeJS.Signals | null>
}

/** A process in a group of its own, as a shell gives to a job; the whole group is killed at the end of the test. */
export const run = (command: string, args: string[], options: SpawnOptions = {}): Running => {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, ...options })
  let text = ''
  child.stdout?.on('data', (chunk) => (text += chunk))
  child.stderr?.on('data', (chunk) => (text += chunk))
  const ended = new Promise<number | NodeJS.Signals | null>((done) => {
    child.once('close', (code, signal) => done(code ?? signal))
    // What it leaves behind may hold its output open.
    child.once('exit', (code, signal) => setTimeout(() => done(code ?? signal), 200))
  })
  const pid = child.pid ?? 0
  return {
    pid,
    child,
    output: () => text,
    ended,
    [Symbol.asyncDispose]: async () => {
      try {
        process.kill(-pid, 'SIGKILL')
      } catch {
        // All of it has ended.
      }
    },
  }
}
