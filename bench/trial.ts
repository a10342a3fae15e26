/** One trial: one system on a Redis of its own, both started afresh, warmed up, loaded, paced, and ended. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Job, Outcome, Paced, Phase, Result, Throughput } from './load.ts'
import { answers, freePort, type Processes, type Running } from './processes.ts'
import { REDIS_SETTINGS, WARM_UP_TASKS } from './settings.ts'
import type { Part, SystemName, Urls } from './system.ts'
import { systems } from './systems.ts'
import type { Waited } from './waited.ts'

const READY_MS = 30_000
const PAUSE_MS = 500
/** Slower than this is a failure, so that every run ends. */
const SLOWEST_TASKS_PER_SECOND = 40

export type Settings = Readonly<{ redis: string; tasks: number; rate: number; seconds: number; wait: boolean }>
/** CPU µs per task of each part that the system has over the throughput phase, with the processes that it has started; null where it cannot be read. */
export type Cpu = Readonly<Partial<Record<Part, number | null>>>
export type Trial = Readonly<{ system: SystemName; throughput: Throughput; paced: Paced; /** Null unless asked for, and of a system that has no way to wait. */ waited: Waited | null; cpuMicros: Cpu }>

const own = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const local = (port: number) => `http://127.0.0.1:${port}`

/** Sends the load process one phase and awaits its outcome. */
const runPhase = <T extends Result>(load: Running, phase: Phase, withinMs: number): Promise<T> =>
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

export const cpuPerTask = async <N extends string, T>(running: Readonly<Partial<Record<N, Running>>>, tasks: number, work: () => Promise<T>): Promise<[T, Record<N, number | null>]> => {
  const read = () => (Object.entries(running) as [string, Running][]).map(([name, process]) => [name, process.cpuSeconds()] as const)
  const before = new Map(read())
  const result = await work()
  const used = read().map(([name, after]) => [name, after === null ? null : ((after - before.get(name)!) / tasks) * 1e6])
  return [result, Object.fromEntries(used) as Record<N, number | null>]
}

const freeUrls = async (): Promise<Urls> => {
  const names = ['api', 'worker', 'agent', 'redis', 'admin', 'service', 'node'] as const
  const urls: Record<string, string> = {}
  for (const name of names) urls[name] = local(await freePort())
  return { ...(urls as Urls), redis: urls['redis']!.replace('http:', 'redis:') }
}

/** Starts a system with all that a trial needs, and waits until it answers. */
export const createStart =
  (file: string, processes: Processes) =>
  async (name: SystemName, dir: string, more: Record<string, string> = {}) => {
    const system = systems[name]
    const urls = await freeUrls()
    const running: Partial<Record<Part, Running>> = {}
    if (system.redis) running.redis = await startRedis(processes, file, dir, Number(new URL(urls.redis).port))
    running.agent = processes.start({ name: 'agent', file: process.execPath, args: [own('./agent.ts')], env: { PORT: new URL(urls.agent).port }, ipc: true })
    for (const command of system.processes({ urls, dir })) running[command.name] = processes.start({ ...command, env: { ...command.env, ...more } })
    await Promise.all([`${urls.agent}/clock`, ...system.ready(urls)].map((url) => answers(url, READY_MS)))
    await system.prepare(urls)
    const load = processes.start({ name: 'load', file: process.execPath, args: [own('./load.ts'), JSON.stringify({ system: name, urls } satisfies Job)], ipc: true })
    return { urls, running: { ...running, load } as typeof running & Readonly<Record<'worker' | 'load', Running>> }
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
    const atPace = <T extends Paced | Waited>(kind: 'paced' | 'waited') => runPhase<T>(running.load, { kind, rate, seconds }, 30_000 + seconds * 2000)
    const paced = await atPace<Paced>('paced')
    const waited = settings.wait && systems[name].wait ? await atPace<Waited>('waited') : null
    return { system: name, throughput, paced, waited, cpuMicros }
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
