/** `--batches`: how fast tasks are taken a thousand in a request, against one by one; in turn, on one API process and one Redis. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { SubmitOutcome, SubmitPhase, Way } from './batch-load.ts'
import { answers, freePort, type Processes, type Running } from './processes.ts'
import { median } from './median.ts'
import { TASKS_A_BATCH } from './settings.ts'
import { cpuPerTask, startRedis } from './trial.ts'

export type BatchSettings = Readonly<{ redis: string; tasks: number; rounds: number }>
export type Taken = Readonly<{ way: Way; tasksPerSecond: number; cpuMicros: Readonly<Record<string, number | null>> }>

const WAYS: readonly Way[] = ['single', 'batch']
const own = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const phase = (load: Running, what: SubmitPhase): Promise<number> =>
  new Promise((resolve, reject) => {
    load.child.once('message', (outcome: SubmitOutcome) => ('error' in outcome ? reject(new Error(outcome.error)) : resolve(outcome.ok.seconds)))
    load.child.send(what)
  })

const measure = async (running: Record<'api' | 'redis' | 'load', Running>, way: Way, tasks: number): Promise<Taken> => {
  const [seconds, cpuMicros] = await cpuPerTask(running, tasks, () => phase(running.load, { way, tasks }))
  return { way, tasksPerSecond: tasks / seconds, cpuMicros }
}

const trial = async ({ redis: file, tasks, rounds }: BatchSettings, processes: Processes, dir: string, seen: (round: number, taken: Taken) => void): Promise<Taken[]> => {
  const [redisPort, apiPort] = [await freePort(), await freePort()]
  const redis = await startRedis(processes, file, dir, redisPort)
  const env = { HOST: '127.0.0.1', PORT: String(apiPort), REDIS_URL: `redis://127.0.0.1:${redisPort}`, DATA_DIR: dir, LOG_LEVEL: 'warn', MAX_QUEUED_TASKS: '10000000' } // nobody performs them
  const api = processes.start({ name: 'api', file: process.execPath, args: [own('../src/api/main.ts')], env })
  const url = `http://127.0.0.1:${apiPort}`
  await answers(`${url}/health/live`, 20_000)
  const load = processes.start({ name: 'load', file: process.execPath, args: [own('./batch-load.ts'), url], ipc: true })
  for (const way of WAYS) await phase(load, { way, tasks })
  const all: Taken[] = []
  for (let round = 1; round <= rounds; round++) {
    for (const way of WAYS) {
      const taken = await measure({ api, redis, load }, way, tasks)
      seen(round, taken)
      all.push(taken)
    }
  }
  return all
}

export const runBatches = async (settings: BatchSettings, processes: Processes, seen: (round: number, taken: Taken) => void): Promise<Taken[]> => {
  const dir = await mkdtemp(join(tmpdir(), 'switchyard-bench-'))
  try {
    return await Promise.race([trial(settings, processes, dir, seen), processes.failed])
  } finally {
    await processes.stop()
    await rm(dir, { recursive: true, force: true })
  }
}

export const createBatchReport = (all: readonly Taken[]) => {
  const of = (way: Way) => all.filter((taken) => taken.way === way)
  const summary = (way: Way) => ({
    tasksPerSecond: median(of(way).map((taken) => taken.tasksPerSecond)),
    cpuMicros: Object.fromEntries(Object.keys(all[0]!.cpuMicros).map((name) => [name, of(way).some((taken) => taken.cpuMicros[name] == null) ? null : median(of(way).map((taken) => taken.cpuMicros[name]!))])),
  })
  const [single, batch] = [summary('single'), summary('batch')]
  const rounds = of('single').map((taken, i) => of('batch')[i]!.tasksPerSecond / taken.tasksPerSecond)
  return { single, batch, ratio: batch.tasksPerSecond / single.tasksPerSecond, roundRatios: { min: Math.min(...rounds), median: median(rounds), max: Math.max(...rounds) }, trials: all }
}

export const formatBatches = ({ single, batch, ratio, roundRatios }: ReturnType<typeof createBatchReport>): string =>
  [
    ['median', 'one by one', `${TASKS_A_BATCH} a request`, 'ratio'],
    ['tasks taken/s', single.tasksPerSecond.toFixed(0), batch.tasksPerSecond.toFixed(0), ratio.toFixed(2)],
    ...Object.keys(single.cpuMicros).map((name) => [`CPU µs a task, ${name}`, ...[single, batch].map((s) => s.cpuMicros[name]?.toFixed(0) ?? 'not available'), '']),
    ['ratio round by round', '', '', `${roundRatios.median.toFixed(2)} (${roundRatios.min.toFixed(2)}–${roundRatios.max.toFixed(2)})`],
  ]
    .map(([title, ...cells]) => `${title!.padEnd(22)}${cells.map((cell) => cell!.padStart(16)).join('')}`.trimEnd())
    .join('\n')
