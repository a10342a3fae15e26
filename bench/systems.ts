/** The systems under test: the two that are always there, and the peers. */
import { fileURLToPath } from 'node:url'
import { ALLOCATOR } from '../src/allocator.ts'
import { celery } from './peers/celery.ts'
import { restate } from './peers/restate.ts'
import { CONCURRENCY } from './settings.ts'
import type { Place, System, SystemName, Urls } from './system.ts'

const root = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url))
const portOf = (url: string) => new URL(url).port

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

const isCompleted = (body: string): boolean => {
  const task = JSON.parse(body) as { status: string; result: { ok?: boolean } | null }
  return task.status === 'completed' && task.result?.ok === true
}

/** An API process and a worker of Node on one Redis. */
const onNode = (api: string, worker: string, ipc: boolean, more: (urls: Urls) => Record<string, string>) => ({
  redis: true,
  processes: ({ urls, dir }: Place) => {
    const env = { HOST: '127.0.0.1', REDIS_URL: urls.redis, DATA_DIR: dir, WORKER_CONCURRENCY: String(CONCURRENCY), ...more(urls) }
    return [
      { name: 'api', file: process.execPath, args: [root(api)], env: { ...env, PORT: portOf(urls.api) }, ipc },
      { name: 'worker', file: process.execPath, args: [root(worker)], env: { ...env, HEALTH_PORT: portOf(urls.worker) }, ipc },
    ] as const
  },
  submit: { path: '/tasks', status: 201, id: 'task_id' },
  readBack: { path: (id: string) => `/tasks/${id}`, isRight: isCompleted },
  settings: `worker concurrency ${CONCURRENCY}`,
})

export const systems: Readonly<Record<SystemName, System>> = {
  thin: {
    ...onNode('bench/thin/api.ts', 'bench/thin/worker.ts', true, (urls) => ({ AGENT_URL: urls.agent })),
    ready: (urls) => [`${urls.api}/health/ready`, `${urls.worker}/done`],
    prepare: async () => {},
    completed: { from: 'worker', path: '/done', read: Number },
    wait: null,
  },
  ours: {
    ...onNode('src/api/main.ts', 'src/workers/main.ts', false, () => ({ ...ALLOCATOR, LOG_LEVEL: 'warn' })),
    ready: (urls) => [`${urls.api}/health/live`, `${urls.worker}/metrics`],
    prepare: registerAgent,
    completed: { from: 'worker', path: '/metrics', read: completedOf },
    wait: (id) => `/tasks/${id}?wait=30`,
  },
  restate,
  celery,
}
