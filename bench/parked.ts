/**
 * `npm run bench -- --parked 10000`: what tasks cost that are parked at their agents (answered 202), to the dispatcher's memory and to the other tasks
 * of the same queue. One system; each round is a throughput run without parked tasks and one with them, so that both meet the same weather.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'undici'
import type { Processes } from './processes.ts'
import { median } from './median.ts'
import { CLIENTS, WARM_UP_TASKS } from './settings.ts'
import { cpuPerTask, createStart, runThroughput, type Cpu } from './trial.ts'

export type ParkedOptions = Readonly<{ redis: string; rounds: number; tasks: number; parked: number }>
type Measured = Readonly<{ tasksPerSecond: number; residentMiB: number | null; cpuMicros: Cpu }>
type Round = Readonly<{ free: Measured; parked: Measured }>

/** The most that an agent may say it takes. */
const SLOTS = 1000
const PAUSE_MS = 500
const WITHIN_MS = 120_000

export const runParked = async (o: ParkedOptions, processes: Processes, say: (line: string) => void): Promise<string> => {
  const dir = await mkdtemp(join(tmpdir(), 'switchyard-bench-'))
  try {
    return await Promise.race([measureAll(o, processes, dir, say), processes.failed])
  } finally {
    await processes.stop()
    await rm(dir, { recursive: true, force: true })
  }
}

const measureAll = async (o: ParkedOptions, processes: Processes, dir: string, say: (line: string) => void): Promise<string> => {
  const { urls, running } = await createStart(o.redis, processes)('ours', dir, { MAX_TASK_TIMEOUT_SECONDS: '3600' })
  const api = new Pool(urls.api, { connections: CLIENTS, pipelining: 1 })
  const call = async (method: 'GET' | 'POST', path: string, body?: object): Promise<any> => {
    const res = await api.request({ method, path, ...(body ? { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) } : {}) })
    const text = await res.body.text()
    if (res.statusCode >= 300) throw new Error(`${method} ${path} answered ${res.statusCode}: ${text}`)
    return JSON.parse(text)
  }
  const each = async <T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> => {
    const left = items.values()
    await Promise.all(Array.from({ length: CLIENTS }, async () => { for (const item of left) await work(item) }))
  }

  // Agents that hold the parked tasks, where the other agent is: of the same queue, and in turn with it either draining or not.
  const { hostname, port } = new URL(urls.agent)
  const [other] = (await call('GET', '/agents?type=bench')).agents.map((a: { id: string }) => a.id) as [string]
  const holders: string[] = []
  for (let i = 0; i < Math.ceil(o.parked / SLOTS); i++) {
    holders.push((await call('POST', '/agents/register', { name: `holder-${i}`, type: 'bench', host: hostname, port: Number(port), capabilities: ['echo'], max_concurrency: SLOTS, ttl_seconds: 3600, status: 'draining' })).agent_id)
  }
  const turn = async (parks: boolean): Promise<void> => {
    await call('POST', `/agents/${other}/heartbeat`, { status: parks ? 'draining' : 'healthy' })
    for (const id of holders) await call('POST', `/agents/${id}/heartbeat`, { status: parks ? 'healthy' : 'draining' })
  }
  const inFlight = async (): Promise<number> => (await call('GET', '/agents?type=bench&limit=200')).agents.reduce((sum: number, a: { in_flight: number }) => sum + a.in_flight, 0)
  const becomes = async (count: number, what: string): Promise<void> => {
    const end = performance.now() + WITHIN_MS
    while ((await inFlight()) !== count) {
      if (performance.now() > end) throw new Error(`${what}: ${await inFlight()} of ${count} after ${WITHIN_MS / 1000} s`)
      await sleep(50)
    }
  }
  const park = async (): Promise<void> => {
    await turn(true)
    await each(Array.from({ length: o.parked }), () => call('POST', '/tasks', { task_type: 'echo', agent_type: 'bench', timeout_seconds: 3600, parameters: { hold: 1 } }))
    await becomes(o.parked, 'parked')
    await turn(false)
  }
  const end = async (): Promise<void> => {
    const held = (await (await fetch(`${urls.agent}/held`)).json()) as [string, string][]
    if (held.length !== o.parked) throw new Error(`the agent holds ${held.length} tasks, not ${o.parked}`)
    await each(held, ([id, attempt_id]) => call('POST', `/tasks/${id}/result`, { attempt_id, status: 'completed', result: 1 }))
    await becomes(0, 'ended')
  }
  const measure = async (): Promise<Measured> => {
    await sleep(PAUSE_MS)
    const [{ tasksPerSecond, repeated }, cpuMicros] = await cpuPerTask(running, o.tasks, () => runThroughput(running.load, o.tasks))
    if (repeated > 0) throw new Error(`the agent got ${repeated} tasks twice`)
    await sleep(PAUSE_MS)
    return { tasksPerSecond, cpuMicros, residentMiB: running.worker.residentMiB() }
  }

  // All that is to be compiled, and the memory that the work itself takes, is there before anything counts.
  await runThroughput(running.load, WARM_UP_TASKS)
  await park()
  await end()
  const rounds: Round[] = []
  for (let n = 1; n <= o.rounds; n++) {
    // Each round begins as the one before has ended: what only grows with time weighs on both alike.
    const first = n % 2 === 1 ? await measure() : undefined
    if (first) await park()
    const parked = await measure()
    if (!first) await end()
    const free = first ?? (await measure())
    rounds.push({ free, parked })
    say(`round ${n}/${o.rounds}  ${free.tasksPerSecond.toFixed(0).padStart(5)} tasks/s, with ${o.parked} parked ${parked.tasksPerSecond.toFixed(0).padStart(5)}   ${(parked.tasksPerSecond / free.tasksPerSecond).toFixed(2)}`)
  }
  if (o.rounds % 2 === 1) await end()
  await api.destroy()
  return format(o.parked, rounds)
}

const format = (parked: number, rounds: readonly Round[]): string => {
  const of = (pick: (m: Measured) => number | null | undefined): [free: string, parked: string, difference: number] => {
    const all = (which: keyof Round) => rounds.flatMap((r) => pick(r[which]) ?? [])
    if (all('free').length === 0) return ['–', '–', NaN]
    const [free, with_] = [median(all('free')), median(all('parked'))]
    return [free.toFixed(0), with_.toFixed(0), with_ - free]
  }
  const line = (what: string, [free, with_]: readonly [string, string, number], more = '') => `${what.padEnd(34)}${free.padStart(8)}${with_.padStart(12)}   ${more}`
  const ratios = rounds.map((r) => r.parked.tasksPerSecond / r.free.tasksPerSecond)
  const memory = of((m) => m.residentMiB)
  return [
    line('medians', ['none', `${parked}`, 0]),
    line('tasks/s', of((m) => m.tasksPerSecond), `× ${median(ratios).toFixed(2)}   round by round ${ratios.map((r) => r.toFixed(2)).join(' ')}`),
    line('dispatcher, resident MiB', memory, `${memory[2] >= 0 ? '+' : ''}${memory[2].toFixed(1)}`),
    ...(['redis', 'api', 'worker'] as const).map((name) => line(`CPU µs a task, ${name}`, of((m) => m.cpuMicros[name]))),
  ].join('\n')
}
