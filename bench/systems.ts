/** The two systems under test: how each is started, and where it says how many tasks it has completed. */
import { fileURLToPath } from 'node:url'
import { ALLOCATOR } from '../src/allocator.ts'
import { CONCURRENCY } from './settings.ts'

export type SystemName = 'thin' | 'ours'
export const SYSTEM_NAMES: readonly SystemName[] = ['thin', 'ours']

export type Urls = Readonly<{ api: string; worker: string; agent: string; redis: string }>

type System = Readonly<{
  api: string
  worker: string
  /** Whether its processes are the bench's own, ending when the channel to bench/main.ts does. */
  ipc: boolean
  env: (urls: Urls) => Record<string, string>
  /** Run once when both processes answer, before any task. */
  prepare: (urls: Urls) => Promise<void>
  /** Answers 200 when the process listens. */
  apiReady: string
  /** Route of the worker whose body holds the count, and how to read it. Asked only once the agent has received everything. */
  completedPath: string
  readCompleted: (body: string) => number
}>

const root = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url))

const registerAgent = async (urls: Urls): Promise<void> => {
  const { hostname, port } = new URL(urls.agent)
  const agent = { name: 'bench', type: 'bench', host: hostname, port: Number(port), capabilities: ['echo'], max_concurrency: CONCURRENCY, ttl_seconds: 3600 }
  const res = await fetch(`${urls.api}/agents/register`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(agent) })
  if (res.status !== 201) throw new Error(`registering the agent answered ${res.status}: ${await res.text()}`)
}

/** The sum over every label set of the counter that has outcome="completed". */
const completedOf = (metrics: string): number => {
  let sum = 0
  for (const [, value] of metrics.matchAll(/^switchyard_worker_attempts_total\{[^}]*outcome="completed"[^}]*\} (\S+)/gm)) sum += Number(value)
  return sum
}

export const systems: Readonly<Record<SystemName, System>> = {
  thin: {
    api: root('bench/thin/api.ts'),
    worker: root('bench/thin/worker.ts'),
    ipc: true,
    env: (urls) => ({ AGENT_URL: urls.agent }),
    prepare: async () => {},
    apiReady: '/health/ready',
    completedPath: '/done',
    readCompleted: Number,
  },
  ours: {
    api: root('src/api/main.ts'),
    worker: root('src/workers/main.ts'),
    ipc: false,
    env: () => ({ ...ALLOCATOR, LOG_LEVEL: 'warn' }),
    prepare: registerAgent,
    apiReady: '/health/live',
    completedPath: '/metrics',
    readCompleted: completedOf,
  },
}
