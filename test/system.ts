/**
 * The whole system for one test: real API and worker processes on a real Redis, under a key prefix of their own, and real HTTP agents that
 * keep a ledger of what they were asked to do. `await using system = await startSystem()` ends everything it started.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import { createKeys, type Keys } from '../src/redis/keys.ts'
import { isClusterUrl, openStore, sweepStore } from './store.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** What an agent was asked to do, and when it did it (ms, this process's clock). */
export type Run = { taskId: string; taskType: string; attempt: number; attemptId: string; parameters: any; body: string; headers: IncomingMessage['headers']; startedAt: number; endedAt: number | null }
/** Answers one task: a value is the result; or write to `res` and return undefined. */
export type Handler = (task: any, exchange: { req: IncomingMessage; res: ServerResponse; run: Run }) => unknown
export type AgentOptions = { type?: string; capabilities?: string[]; maxConcurrency?: number; ttlSeconds?: number; handle?: Handler; stop?: (res: ServerResponse) => void; beats?: boolean; id?: string; name?: string; host?: string; status?: string; /** Shown instead of the system's. */ key?: string }
export type Answer = { status: number; headers: Headers; json: any; text: string }

/** Answers 202: the result comes later, if it does. */
export const accepts: Handler = (_task, { res }) => void res.writeHead(202).end()

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
/** Between two looks at what is not yet there: the longer it takes, the longer; as looks take CPU from what they wait for. */
export const pauses = function* (everyMs = 20, mostMs = 3 * everyMs): Generator<number, never> {
  for (let ms = everyMs; ; ms = Math.min(ms * 1.2, mostMs)) yield ms
}
/** `mostMs`: the longest pause; what stays as it is may be looked for seldom. */
type Patience = { timeoutMs?: number; everyMs?: number; mostMs?: number; what?: string }
/** Polls until `look` gives something truthy. The bound is for what hangs, on a machine that is busy: a time that is promised is measured. */
export const until = async <T>(look: () => T | Promise<T>, { timeoutMs = 20_000, everyMs = 20, mostMs = 3 * everyMs, what = 'it' }: Patience = {}): Promise<NonNullable<T>> => {
  const end = Date.now() + timeoutMs
  for (const pause of pauses(everyMs, mostMs)) {
    const seen = await look()
    if (seen) return seen
    if (Date.now() > end) break
    await sleep(pause)
  }
  throw new Error(`${what} did not happen within ${timeoutMs} ms`)
}

/**
 * The least of up to three measures, the first within `bound` if there is one. For promises that are times: a machine that stands still
 * for a moment breaks none, and a promise that is broken is broken each time.
 */
export const atBest = async (bound: number, measure: () => Promise<number>): Promise<number> => {
  let best = await measure()
  for (let i = 1; i < 3 && best >= bound; i++) best = Math.min(best, await measure())
  return best
}
export const median = (numbers: number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!

/** One of our processes. */
export type Proc = { child: ChildProcess; url: string; log: string[]; exited: Promise<number | null>; kill: (signal?: NodeJS.Signals) => Promise<void> }

export const startProcess = async (script: string, env: Record<string, string>, { flags = [], args = [], within = [] }: { flags?: string[]; args?: string[]; within?: readonly string[] } = {}): Promise<Proc> => {
  const [command = process.execPath, ...before] = [...within, process.execPath]
  const child = spawn(command, [...before, ...flags, join(ROOT, script), ...args], { cwd: ROOT, env: { ...process.env, npm_lifecycle_event: '', ...env }, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] })
  const log: string[] = []
  const keep = (chunk: Buffer) => {
    log.push(chunk.toString())
    if (log.length > 5000) log.splice(0, 2500)
  }
  child.stdout!.on('data', keep)
  child.stderr!.on('data', keep)
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)))
  const url = await Promise.race([
    new Promise<string>((resolve) => child.on('message', (m: { ready?: boolean; url?: string }) => m.ready && resolve(m.url!))),
    exited.then((code) => Promise.reject(new Error(`${script} ended with ${code}:\n${log.join('')}`))),
  ])
  const kill = async (signal: NodeJS.Signals = 'SIGTERM') => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    await exited
  }
  return { child, url, log, exited, kill }
}

/** A Redis of the test's own, with an append-only file, that can be killed and started again; on a Unix socket unless it is given a port. */
export type RedisOptions = {
  port?: number
  settings?: Record<string, string>
  /** Of its process; `dir` is its folder, before it is started. */
  env?: (dir: string) => Promise<Record<string, string>>
  /** Before its folder goes. */
  clean?: (dir: string) => Promise<unknown>
}
export const startRedis = async ({ port, settings = {}, env = async () => ({}), clean = async () => {} }: RedisOptions = {}) => {
  const dir = await mkdtemp(join(tmpdir(), 'sy-redis-'))
  const more = await env(dir)
  const socket = join(dir, 'r.sock')
  // Everything is written before it is answered, and never synced: it outlives a killed Redis for sure. With `everysec` a Redis whose disk is
  // slow to sync answers first and writes up to 2 s later.
  const all = { port: String(port ?? 0), unixsocket: socket, appendonly: 'yes', appendfsync: 'no', save: '', 'maxmemory-policy': 'noeviction', dir, ...settings }
  const args = Object.entries(all).flatMap(([name, value]) => [`--${name}`, value])
  let child: ChildProcess
  const start = async () => {
    child = spawn('redis-server', args, { stdio: 'ignore', env: { ...process.env, ...more } })
    const probe = new Redis({ path: socket, retryStrategy: () => 20, maxRetriesPerRequest: null, lazyConnect: false })
    probe.on('error', () => {})
    await until(() => probe.ping().then((p) => p === 'PONG', () => false), { what: 'redis' })
    probe.disconnect()
  }
  const kill = async (signal: NodeJS.Signals = 'SIGKILL') => {
    const gone = new Promise((resolve) => child.once('exit', resolve))
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    else return
    await gone
  }
  await start()
  return {
    url: port === undefined ? `unix://${socket}` : `redis://127.0.0.1:${port}`,
    dir,
    socket,
    pid: () => child.pid!,
    start,
    kill,
    pause: () => child.kill('SIGSTOP'),
    go: () => child.kill('SIGCONT'),
    close: async () => {
      await kill()
      await clean(dir)
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/**
 * An HTTP agent with a ledger; `peak` is how many tasks it had at once at most, counted by itself. One whose deadline has passed does not
 * count: the router has closed its connection, and the agent may hear of that after it has heard of the next.
 */
export const startAgent = async (url: () => string, o: AgentOptions = {}) => {
  const runs: Run[] = []
  /** The attempts that it was told to stop, by `DELETE /task/{task_id}`. */
  const stops: { taskId: string; attemptId: string | undefined }[] = []
  /** What it has in hand, and when that is over for the router: an attempt's id begins with the time at which it was sent. */
  const open = new Map<Run, number>()
  const state = { peak: 0, handle: o.handle ?? ((task: any) => ({ echo: task.parameters })) }
  const server = createServer((req, res) => {
    if (req.method === 'DELETE') {
      stops.push({ taskId: req.url!.replace('/task/', ''), attemptId: req.headers['switchyard-attempt'] as string | undefined })
      if (o.stop) o.stop(res)
      else res.writeHead(404).end()
      return
    }
    const chunks: Buffer[] = []
    req.on('data', (c: Buffer) => chunks.push(c))
    req.on('end', async () => {
      const body = Buffer.concat(chunks).toString()
      const task = JSON.parse(body)
      const run: Run = { taskId: task.task_id, taskType: task.task_type, attempt: task.attempt, attemptId: task.attempt_id, parameters: task.parameters, body, headers: req.headers, startedAt: Date.now(), endedAt: null }
      runs.push(run)
      open.set(run, Number(run.attemptId.split('.')[0]) + task.timeout_seconds * 1000)
      state.peak = Math.max(state.peak, [...open.values()].filter((deadline) => deadline > run.startedAt).length)
      const done = () => {
        if (open.delete(run)) run.endedAt = Date.now()
      }
      res.once('close', done)
      try {
        const result = await state.handle(task, { req, res, run })
        if (result === undefined || res.headersSent || res.destroyed) return
        // The slot is free for the router once it has the answer: count it as ended just before.
        done()
        res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ task_id: task.task_id, status: 'completed', result, execution_time_ms: 1 }))
      } catch (error) {
        done()
        res.writeHead(500, { 'content-type': 'application/json' }).end(JSON.stringify({ task_id: task.task_id, status: 'failed', error: String((error as Error).message) }))
      }
    })
  })
  server.keepAliveTimeout = 60_000
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const body = { name: o.name ?? `agent-${port}`, type: o.type ?? 'test', host: o.host ?? '127.0.0.1', port, capabilities: o.capabilities ?? ['echo'], max_concurrency: o.maxConcurrency ?? 10, ttl_seconds: o.ttlSeconds ?? 60, ...(o.id ? { agent_id: o.id } : {}), ...(o.status ? { status: o.status } : {}) }
  const auth: Record<string, string> = o.key === undefined ? {} : { authorization: `Bearer ${o.key}` }
  const registered = await call('POST', `${url()}/agents/register`, body, auth)
  if (registered.status !== 201 && registered.status !== 200) throw new Error(`could not register: ${registered.text}`)
  const id: string = registered.json.agent_id
  const beat = (more: object = {}) => call('POST', `${url()}/agents/${id}/heartbeat`, more, auth)
  let timer = o.beats === false ? undefined : setInterval(() => void beat().catch(() => {}), ((o.ttlSeconds ?? 60) * 1000) / 3)
  return {
    id,
    port,
    runs,
    stops,
    state,
    beat,
    /** Its nth delivery, once that has come. */
    delivery: (count = 1): Promise<Run> => until(() => (runs.length >= count ? runs[count - 1] : null), { what: `delivery ${count}` }),
    /** How many of its slots are taken, by the router. */
    slots: async (): Promise<number> => (await call('GET', `${url()}/agents/${id}`, undefined, auth)).json.in_flight,
    running: () => open.size,
    peak: () => state.peak,
    register: () => call('POST', `${url()}/agents/register`, { ...body, agent_id: id }, auth),
    stopBeating: () => clearInterval(timer),
    /** As if killed: no more beats, no more connections. */
    die: async () => {
      clearInterval(timer)
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
    listenAgain: () => new Promise<void>((resolve) => server.listen(port, '127.0.0.1', () => resolve())),
    close: async () => {
      clearInterval(timer)
      server.closeAllConnections()
      if (server.listening) await new Promise((resolve) => server.close(resolve))
    },
  }
}
export type TestAgent = Awaited<ReturnType<typeof startAgent>>

/** The key that is shown to an API unless the call says another, by where that is. */
const shown = new Map<string, string>()

/** One HTTP exchange; a string body is sent as it is. */
export const call = async (method: string, url: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> => {
  const res = await fetch(url, {
    method,
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...(shown.has(new URL(url).origin) ? { authorization: `Bearer ${shown.get(new URL(url).origin)}` } : {}), ...headers },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    signal: AbortSignal.timeout(15_000),
  })
  const text = await res.text()
  let json: any
  try {
    json = JSON.parse(text)
  } catch {}
  return { status: res.status, headers: res.headers, json, text }
}

export type SystemOptions = { apis?: number; workers?: number; ownRedis?: boolean; /** Somebody else's, which ends it. */ store?: string; env?: Record<string, string>; /** Set as ADMIN_KEY, and shown with every call. */ key?: string }

/** The store that the tests of a run share; '' in what is no test. */
const sharedUrl = async (): Promise<string> => (process.env['VITEST'] ? (await import('vitest')).inject('redisUrl') : '')

export const startSystem = async ({ apis = 1, workers = 1, ownRedis = false, store, env = {}, key }: SystemOptions = {}) => {
  const shared = store ?? (await sharedUrl())
  const own = !ownRedis ? null : isClusterUrl(shared) ? await (await import('./cluster/cluster.ts')).startClusterAsStore() : await startRedis()
  const redisUrl = own?.url ?? shared
  const prefix = `t${randomBytes(5).toString('hex')}`
  const redis = openStore(redisUrl)
  const keys: Keys = createKeys(prefix)
  const settings = { REDIS_URL: redisUrl, REDIS_PREFIX: prefix, PORT: '0', HEALTH_PORT: '0', HOST: '127.0.0.1', LOG_LEVEL: 'info', ...(key === undefined ? {} : { ADMIN_KEY: key }), ...env }
  const api: Proc[] = []
  const worker: Proc[] = []
  const agents: TestAgent[] = []
  const addApi = async (more: Record<string, string> = {}) => { const p = await startProcess('src/api/main.ts', { ...settings, ...more }); api.push(p); if (key !== undefined) shown.set(p.url, key); return p }
  const addWorker = async (more: Record<string, string> = {}) => { const p = await startProcess('src/workers/main.ts', { ...settings, ...more }); worker.push(p); return p }
  await Promise.all([...Array.from({ length: apis }, () => addApi()), ...Array.from({ length: workers }, () => addWorker())])
  let turn = 0
  /** The APIs in turn. */
  const url = () => api[turn++ % api.length]!.url
  const get = (path: string) => call('GET', url() + path)
  const post = (path: string, body?: unknown, headers?: Record<string, string>) => call('POST', url() + path, body, headers)
  const system = {
    redis, redisUrl, keys, api, worker, agents, ownRedis: own, prefix, url, get, post, addApi, addWorker,
    call: (method: string, path: string, body?: unknown, headers?: Record<string, string>) => call(method, url() + path, body, headers),
    agent: async (o: AgentOptions = {}) => { const a = await startAgent(url, o); agents.push(a); return a },
    /** Submits a task (type `test`, capability `echo` unless said) and gives its id. */
    submit: async (task: Record<string, unknown> = {}): Promise<string> => {
      const answer = await post('/tasks', { task_type: 'echo', ...(task.agent_id ? {} : { agent_type: 'test' }), ...task })
      if (answer.status !== 201) throw new Error(`not taken: ${answer.status} ${answer.text}`)
      return answer.json.task_id
    },
    task: async (id: string) => (await get(`/tasks/${id}`)).json,
    /** Waits for a task's end. */
    ended: (id: string, timeoutMs = 30_000) =>
      until(async () => { const t = (await get(`/tasks/${id}`)).json; return ['completed', 'failed', 'timeout', 'cancelled'].includes(t?.status) ? t : null }, { timeoutMs, mostMs: 250, what: `the end of ${id}` }),
    /** Waits for a task's status. */
    becomes: (id: string, status: string, timeoutMs = 20_000) => until(async () => { const t = (await get(`/tasks/${id}`)).json; return t?.status === status ? t : null }, { timeoutMs, what: `${id} ${status}` }),
    [Symbol.asyncDispose]: async () => {
      await Promise.all(agents.map((a) => a.close()))
      await Promise.all([...api, ...worker].map((p) => p.kill('SIGKILL')))
      if (own) {
        redis.disconnect()
        return own.close()
      }
      if (store === undefined) await sweepStore(redis, `${prefix}:`)
      redis.disconnect()
    },
  }
  return system
}
export type System = Awaited<ReturnType<typeof startSystem>>
