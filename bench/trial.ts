/** One trial: one system on a Redis of its own, both started afresh, warmed up, loaded, paced, and ended. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { CONCURRENCY, REDIS_SETTINGS, WARM_UP_TASKS } from './settings.ts'
import { systems, type SystemName, type Urls } from './systems.ts'
import { answers, freePort, type Processes, type Running } from './processes.ts'
import type { Job, Outcome, Paced, Phase, Throughput } from './load.ts'

const READY_MS = 20_000
const PAUSE_MS = 500
/** Slower than this is a failure, so that every run ends. */
const SLOWEST_TASKS_PER_SECOND = 100

export type Settings = Readonly<{ redis: string; tasks: number; rate: number; seconds: number }>
/** CPU µs per task of each process over the throughput phase; null where it cannot be read. */
export type Cpu = Readonly<Record<'api' | 'worker' | 'redis' | 'agent' | 'load', number | null>>
export type Trial = Readonly<{ system: SystemName; throughput: Throughput; paced: Paced; cpuMicros: Cpu }>

const own = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const local = (port: number) => `http://127.0.0.1:${port}`

/** Sends the load process one phase and awaits its outcome. */
const runPhase = <T extends Throughput | Paced>(load: Running, phase: Phase, withinMs: number): Promise<T> =>
  new Promise<T>((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`${phase.kind} took longer than ${withinMs / 1000} s`)), withinMs)
    load.child.once('message', (outcome: Outcome) => {
      clearTimeout(late)
      if ('error' in outcome) reject(new Error(`${phase.kind}: ${outcome.error}`))
      else resolve(outcome.ok as T)
    })
    load.child.send(phase)
  })

export const runThroughput = (load: Running, tasks: number): Promise<Throughput> =>
  runPhase<Throughput>(load, { kind: 'throughput', tasks }, 30_000 + (tasks / SLOWEST_TASKS_PER_SECOND) * 1000)

export const startRedis = async (processes: Processes, file: string, dir: string, port: number): Promise<Running> => {
  const redis = processes.start({ name: 'redis', file, args: ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, '--loglevel', 'warning', ...REDIS_SETTINGS] })
  await sleep(200) // the others wait for it by connecting; this only spares them a first refusal
  return redis
}

export const cpuPerTask = async <N extends string, T>(running: Record<N, Running>, tasks: number, work: () => Promise<T>): Promise<[T, Record<N, number | null>]> => {
  const read = () => Object.entries<Running>(running).map(([name, process]) => [name, process.cpuSeconds()] as const)
  const before = new Map(read())
  const result = await work()
  const used = read().map(([name, after]) => [name, after === null ? null : ((after - before.get(name)!) / tasks) * 1e6])
  return [result, Object.fromEntries(used) as Record<N, number | null>]
}

/** Starts a system with all that a trial needs, and waits until it answers. */
export const createStart =
  (file: string, processes: Processes) =>
  async (name: SystemName, dir: string, more: Record<string, string> = {}) => {
    const system = systems[name]
    const [redisPort, apiPort, workerPort, agentPort] = [await freePort(), await freePort(), await freePort(), await freePort()]
    const urls: Urls = { redis: `redis://127.0.0.1:${redisPort}`, api: local(apiPort), worker: local(workerPort), agent: local(agentPort) }
    const env = { HOST: '127.0.0.1', REDIS_URL: urls.redis, DATA_DIR: dir, WORKER_CONCURRENCY: String(CONCURRENCY), ...system.env(urls), ...more }
    const node = (name: string, script: string, env: Record<string, string>, args: string[] = [], ipc = true) =>
      processes.start({ name, file: process.execPath, args: [script, ...args], env, ipc })

    const redis = await startRedis(processes, file, dir, redisPort)
    const agent = node('agent', own('./agent.ts'), { PORT: String(agentPort) })
    const api = node('api', system.api, { ...env, PORT: String(apiPort) }, [], system.ipc)
    const worker = node('worker', system.worker, { ...env, HEALTH_PORT: String(workerPort) }, [], system.ipc)
    await Promise.all([answers(`${urls.agent}/clock`, READY_MS), answers(urls.api + system.apiReady, READY_MS), answers(urls.worker + system.completedPath, READY_MS)])
    await system.prepare(urls)
    const load = node('load', own('./load.ts'), {}, [JSON.stringify({ system: name, urls } satisfies Job)])
    return { urls, running: { redis, agent, api, worker, load } }
  }

export const createTrial = (settings: Settings, processes: Processes) => {
  const startAll = createStart(settings.redis, processes)

  const measure = async (name: SystemName, dir: string): Promise<Trial> => {
    const { running } = await startAll(name, dir)
    const submit = (tasks: number) => runThroughput(running.load, tasks)
    await submit(WARM_UP_TASKS)
    await sleep(PAUSE_MS)
    const [throughput, cpuMicros] = await cpuPerTask(running, settings.tasks, () => submit(settings.tasks))
    await sleep(PAUSE_MS)
    const { rate, seconds } = settings
    const paced = await runPhase<Paced>(running.load, { kind: 'paced', rate, seconds }, 30_000 + seconds * 2000)
    return { system: name, throughput, paced, cpuMicros }
  }

  return async (name: SystemName): Promise<Trial> => {
    const dir = await mkdtemp(join(tmpdir(), 'switchyard-bench-'))
    try {
      return await Promise.race([measure(name, dir), processes.failed])
    } finally {
      await processes.stop()
      await rm(dir, { recursive: true, force: true })
    }
  }
}
