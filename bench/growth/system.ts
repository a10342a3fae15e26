/** A system to be measured at one size: a Redis, an API and workers of its own. Many of them stand side by side; one is measured at a time. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Pool } from 'undici'
import { ALLOCATOR } from '../../src/allocator.ts'
import { answers, freePort, type Processes, type Running } from '../processes.ts'
import { CONCURRENCY, PARAMETERS_BYTES } from '../settings.ts'
import { systems } from '../systems.ts'
import { startStore } from './store.ts'
import type { Values } from './values.ts'

const READY_MS = 30_000
const STALL_MS = 30_000
/** Requests of a load under way at once. */
const CLIENTS = 32
const A_BATCH = 1000

export type AgentSpec = Readonly<{ name: string; type?: string; capabilities: readonly string[]; max_concurrency?: number; status?: string; ttl_seconds?: number }>
export type NewTask = Readonly<{ agent_type: string; task_type: string }>
export type Options = Readonly<{ workers?: number; /** Of a Redis Cluster; 0 and without it: one Redis. */ masters?: number; env?: Readonly<Record<string, string>> }>
export type System = Awaited<ReturnType<Start>>
export type Start = ReturnType<typeof createStart>

const own = (path: string) => fileURLToPath(new URL(path, import.meta.url))
let made = 0
/** Parameters of so many bytes, with a key by which the agent knows it has not seen them. */
const parameters = (bytes: number): string => {
  const key = `k${String(made++ % 1e8).padStart(8, '0')}`
  return `{"key":"${key}","text":"${'x'.repeat(Math.max(0, bytes - '{"key":"k00000000","text":""}'.length))}"}`
}
const taskText = ({ agent_type, task_type }: NewTask, bytes: number): string => `{"agent_type":"${agent_type}","task_type":"${task_type}","parameters":${parameters(bytes)}}`

export const createStart = (file: string, processes: Processes, dir: string) => {
  let agents: Promise<string> | undefined
  /** One process is every agent: it answers all tasks at once. */
  const agentUrl = (): Promise<string> =>
    (agents ??= freePort().then(async (port) => {
      processes.start({ name: 'agent', file: process.execPath, args: [own('../agent.ts')], env: { PORT: String(port) }, ipc: true })
      await answers(`http://127.0.0.1:${port}/clock`, READY_MS)
      return `http://127.0.0.1:${port}`
    }))
  let started = 0
  const ends: (() => unknown)[] = []

  const start = async ({ workers: count = 1, masters = 0, env: more = {} }: Options = {}) => {
    const agent = await agentUrl()
    const folder = join(dir, `system-${started++}`)
    await mkdir(folder)
    const onEnd = (end: () => unknown) => void ends.push(end)
    const { servers, env: store } = await startStore(masters, { processes, file, dir: folder, onEnd })
    const { redis } = servers[0]!
    const apiPort = await freePort()
    const env = { HOST: '127.0.0.1', ...store, DATA_DIR: folder, WORKER_CONCURRENCY: String(CONCURRENCY), MAX_QUEUED_TASKS: '10000000', RETENTION_COMPLETED_COUNT: '10000000', RETENTION_COMPLETED_SECONDS: '86400', ...ALLOCATOR, LOG_LEVEL: 'warn', ...more }
    const api = processes.start({ name: 'api', file: process.execPath, args: [own('../../src/api/main.ts')], env: { ...env, PORT: String(apiPort) } })
    const url = `http://127.0.0.1:${apiPort}`
    const workers: Running[] = []
    const workerUrls: string[] = []
    for (let i = 0; i < count; i++) {
      const port = await freePort()
      workers.push(processes.start({ name: `worker-${i + 1}`, file: process.execPath, args: [own('../../src/workers/main.ts')], env: { ...env, HEALTH_PORT: String(port) } }))
      workerUrls.push(`http://127.0.0.1:${port}`)
    }
    await Promise.all([answers(`${url}/health/live`, READY_MS), ...workerUrls.map((worker) => answers(`${worker}/metrics`, READY_MS))])
    const pool = new Pool(url, { connections: CLIENTS, pipelining: 1 })
    onEnd(() => pool.destroy())

    const send = async (method: 'GET' | 'POST', path: string, body?: string): Promise<string> => {
      const res = await pool.request({ method, path, ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body }) })
      const text = await res.body.text()
      if (res.statusCode >= 300) throw new Error(`${method} ${path} answered ${res.statusCode}: ${text.slice(0, 500)}`)
      return text
    }
    const call = async (method: 'GET' | 'POST', path: string, body?: object): Promise<any> => JSON.parse(await send(method, path, body && JSON.stringify(body)))
    /** Several at a time. */
    const each = async <T>(items: Iterable<T>, work: (item: T) => Promise<unknown>, atOnce = CLIENTS): Promise<void> => {
      const left = items[Symbol.iterator]()
      await Promise.all(Array.from({ length: atOnce }, async () => { for (let next = left.next(); !next.done; next = left.next()) await work(next.value) }))
    }
    const { hostname, port: agentPort } = new URL(agent)
    const register = async ({ type = 'bench', ...spec }: AgentSpec): Promise<string> =>
      (await call('POST', '/agents/register', { max_concurrency: CONCURRENCY, ttl_seconds: 3600, ...spec, type, host: hostname, port: Number(agentPort) })).agent_id
    const one = (task: NewTask, bytes = PARAMETERS_BYTES) => send('POST', '/tasks', taskText(task, bytes))
    /** Fills queues, a thousand in a request. */
    const fill = async (tasks: readonly NewTask[], bytes = PARAMETERS_BYTES): Promise<void> => {
      const parts = Array.from({ length: Math.ceil(tasks.length / A_BATCH) }, (_, i) => tasks.slice(i * A_BATCH, (i + 1) * A_BATCH))
      await each(parts, async (part) => {
        const answer = await send('POST', '/tasks/batch', `{"tasks":[${part.map((task) => taskText(task, bytes)).join(',')}]}`)
        if (!answer.startsWith(`{"accepted":${part.length},`)) throw new Error(`a batch was not taken: ${answer.slice(0, 500)}`)
      }, 4)
    }
    const text = async (at: string, method: 'GET' | 'POST' = 'GET') => (await fetch(at, { method })).text()
    const received = async () => Number(await text(`${agent}/count`))
    const forgetReceived = () => text(`${agent}/reset`, 'POST')
    const completed = async () => (await Promise.all(workerUrls.map(async (worker) => systems.ours.completed.read(await text(`${worker}/metrics`))))).reduce((a, b) => a + b, 0)
    const reach = async (what: string, goal: number, value: () => Promise<number>, everyMs: number): Promise<number> => {
      let last = -1
      let moved = performance.now()
      for (;;) {
        const n = await value()
        if (n >= goal) return n
        if (n !== last) [last, moved] = [n, performance.now()]
        else if (performance.now() - moved > STALL_MS) throw new Error(`${what} stands at ${n} of ${goal} for ${STALL_MS / 1000} s`)
        await sleep(everyMs)
      }
    }

    /** CPU seconds of each role while something is done, and how long that took; the workers together. */
    const cpuOf = async (work: () => Promise<unknown>): Promise<{ seconds: number; cpu: Values }> => {
      const sum = (all: readonly Running[]) => all.reduce<number | null>((n, p) => { const used = p.cpuSeconds(); return n === null || used === null ? null : n + used }, 0)
      const read = () => ({ api: sum([api]), worker: sum(workers), redis: sum(servers.map((server) => server.running)) })
      const [before, began] = [read(), performance.now()]
      await work()
      const [after, seconds] = [read(), (performance.now() - began) / 1000]
      const cpu = Object.fromEntries((['api', 'worker', 'redis'] as const).map((role) => [role, after[role] === null || before[role] === null ? null : after[role] - before[role]]))
      return { seconds, cpu }
    }
    /** Submits tasks one by one, as fast as they are answered, and waits until all have completed. */
    const perform = async (tasks: readonly NewTask[], bytes = PARAMETERS_BYTES): Promise<Values> => {
      const before = await completed()
      const { seconds, cpu } = await cpuOf(async () => {
        await each(tasks, (task) => one(task, bytes))
        await reach('completed tasks', before + tasks.length, completed, 20)
      })
      return { rate: tasks.length / seconds, ...perTask(cpu, tasks.length) }
    }
    const info = async (section: string, field: string): Promise<number> => Number(new RegExp(`^${field}:(\\d+)`, 'm').exec(await redis.info(section))?.[1])
    return { store, redisUrl: store['REDIS_URL']!, url, redis, servers, api, workers, call, send, each, register, one, fill, received, forgetReceived, completed, reach, cpuOf, perform, info, onEnd }
  }
  /** Lets go of what was connected; the processes are for their owner to end. */
  return Object.assign(start, { end: async () => { await Promise.all(ends.splice(0).map((end) => end())) } })
}

/** CPU µs per task by role, and in all. */
export const perTask = (cpu: Values, tasks: number): Values => {
  const micros = Object.fromEntries(Object.entries(cpu).map(([role, s]) => [role, s === null ? null : (s / tasks) * 1e6]))
  const all = Object.values(micros)
  return { ...micros, total: all.some((n) => n === null) ? null : all.reduce<number>((a, b) => a + b!, 0) }
}
/** Per cent of a core by role, and in all. */
export const ofACore = (cpu: Values, seconds: number): Values => Object.fromEntries(Object.entries(perTask(cpu, 1)).map(([role, micros]) => [role, micros === null ? null : micros / 1e4 / seconds]))
