/**
 * An agent that keeps every rule of docs/protocol.md, but for the one fault that it is told of: what `agent-test` must find.
 * As a process it takes the fault from FAULT, and registers; by `serve` it is an HTTP server in the caller's process.
 */
import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import module from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Fault } from './faults.ts'

const LIMIT = 2
const MAX_BODY_BYTES = 2 * 1024 * 1024

type Answer = { status: number; json: object; headers?: Record<string, string> }
type Task = { task_id: string; task_type: string; parameters: Record<string, unknown>; attempt_id: string }
/** POSTs to its router; null when that gave no answer. */
type Tell = (path: string, body: object) => Promise<{ status: number } | null>

export const serve = async (fault: Fault, { port = 0, secret, tell }: { port?: number; secret?: string | undefined; tell?: Tell } = {}) => {
  const running = new Map<string, { taskId: string; stop: AbortController; answer: Promise<Answer>; isLater: boolean }>()
  const seen = new Set<string>()
  const state = { draining: false }
  let doing = 0
  let reading: Promise<Buffer | null> = Promise.resolve(null)
  const waiting: (() => void)[] = []

  const die = (): void => {
    server.closeAllConnections()
    server.close()
    if (process.env['FAULT']) process.exit(1)
  }
  const send = (res: ServerResponse, { status, json, headers = {} }: Answer): void => {
    if (res.destroyed) return
    res.writeHead(status, { 'content-type': fault === 'says text/html' && status === 200 ? 'text/html' : 'application/json', ...(fault === 'closes idle connections' ? { connection: 'close' } : {}), ...headers })
    res.end(fault === 'answers text' && status === 200 && 'result' in json ? 'done' : JSON.stringify(json))
  }

  const work = async ({ task_id, task_type, parameters }: Task, signal: AbortSignal): Promise<Answer> => {
    const began = performance.now()
    if (fault === 'answers 500 to every task') return { status: 500, json: { error: 'no' } }
    if (task_type === 'sleep') {
      const cut = await sleep(Number(parameters['seconds']) * 1000, false, { signal }).catch(() => true)
      if (cut) return { status: 200, json: { task_id, status: 'failed', error: 'cancelled' } }
    }
    const json = { task_id: fault === 'answers for another task' ? 'another' : task_id, status: 'completed', result: fault === 'answers 2 MiB' ? 'x'.repeat(2 * 1024 * 1024) : parameters, execution_time_ms: performance.now() - began }
    return { status: fault === 'redirects' ? 302 : 200, json }
  }

  const capabilities = ['echo', 'sleep', ...(tell ? ['later'] : [])]

  /** In four parts, with a report before each. */
  const workLater = async ({ task_id, attempt_id, parameters }: Task, stop: AbortController): Promise<Record<string, unknown>> => {
    for (let part = 0; part < 4 && !stop.signal.aborted; part++) {
      const heard = await tell!(`/tasks/${task_id}/progress`, { attempt_id, percent: fault === 'reports more than all' ? 150 : 25 * part })
      if (heard?.status === 409 && fault !== 'works on when a report is stale') stop.abort()
      await sleep(Number(parameters['seconds']) * 250, null, { signal: stop.signal }).catch(() => {})
    }
    const its = fault === 'tells results of another attempt' ? randomUUID() : attempt_id
    return { attempt_id: its, status: fault === 'tells results in its own way' ? 'done' : 'completed', result: parameters }
  }
  const doLater = async (task: Task): Promise<void> => {
    const stop = new AbortController()
    doing++
    running.set(task.attempt_id, { taskId: task.task_id, stop, answer: Promise.resolve({ status: 202, json: {} }), isLater: true })
    const result = await workLater(task, stop)
    for (let tries = 0; tries < 20 && !stop.signal.aborted && fault !== 'tells no result'; tries++) {
      const { status } = (await tell!(`/tasks/${task.task_id}/result`, result)) ?? { status: 0 }
      if (status === 200 || (status === 409 && fault !== 'tells stale results again')) break
      await sleep(fault === 'tells a result once' ? 20_000 : 300, null, { signal: stop.signal }).catch(() => {})
    }
    running.delete(task.attempt_id)
    doing--
  }

  const doTask = async (task: Task, res: ServerResponse): Promise<void> => {
    const known = capabilities.includes(task.task_type) || fault === 'does any task type'
    if (!known) return send(res, { status: fault === 'answers 503 to unknown types' ? 503 : 422, json: { error: `no capability ${task.task_type}` } })
    if (state.draining && fault !== 'takes tasks while it drains') return send(res, { status: 503, json: { error: 'leaving' }, headers: { 'retry-after': '5' } })
    const same = running.get(task.attempt_id)
    if (same && fault === 'drops a second delivery') return void res.destroy()
    if (same && fault !== 'does a second delivery too') return send(res, await same.answer)
    if (fault === 'does a task only once' && seen.has(task.task_id)) return send(res, { status: 409, json: { error: 'done before' } })
    seen.add(task.task_id)
    if (doing >= LIMIT && fault === 'drops what is over its limit') return void res.destroy()
    if (doing >= LIMIT && fault === 'queues what is over its limit') await new Promise<void>((go) => waiting.push(go))
    else if (doing >= LIMIT && fault !== 'has no limit') return send(res, { status: 429, json: { error: 'full' }, headers: fault === 'declines without Retry-After' ? {} : { 'retry-after': '1' } })
    if (task.task_type === 'later') {
      void doLater(task)
      return send(res, { status: 202, json: {} })
    }
    doing++
    const stop = new AbortController()
    const answer = work(task, stop.signal)
    const key = same ? randomUUID() : task.attempt_id
    running.set(key, { taskId: task.task_id, stop, answer, isLater: false })
    let closed = false
    res.once('close', () => {
      closed = !res.writableEnded
      if (closed && fault === 'dies of a closed connection') return die()
      if (fault !== 'works on without a connection') stop.abort()
    })
    const said = await answer
    running.delete(key)
    if (closed && fault === 'keeps the place of a closed connection') return
    doing--
    waiting.shift()?.()
    send(res, said)
  }

  const trusted = (req: IncomingMessage, body: Buffer, isFor: (id: string) => boolean): boolean => {
    if (secret === undefined || fault === 'takes what is not signed') return true
    const { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': given } = req.headers as Record<string, string | undefined>
    if (!id || !at || !given || (fault !== 'takes old signatures' && !(Math.abs(Date.now() / 1000 - Number(at)) <= 300))) return false
    if (!isFor(id) && fault !== 'takes a signature for anything') return false
    const due = createHmac('sha256', Buffer.from(secret.slice(6), 'base64')).update(`${id}.${at}.`).update(body).digest()
    return given.split(' ').some((one) => {
      const bytes = Buffer.from(one.replace(/^v1,/, ''), 'base64')
      return one.startsWith('v1,') && bytes.length === due.length && timingSafeEqual(bytes, due)
    })
  }

  const bodyOf = async (req: IncomingMessage): Promise<Buffer | null> => {
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of req as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes <= MAX_BODY_BYTES || fault === 'takes a body of any size') chunks.push(chunk)
    }
    return bytes > MAX_BODY_BYTES && fault !== 'takes a body of any size' ? null : Buffer.concat(chunks)
  }

  const post = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const read = fault === 'reads one request at a time' ? (reading = reading.catch(() => null).then(() => bodyOf(req))) : bodyOf(req)
    const body = await read
    if (body === null) {
      if (fault === 'dies of a large body') return die()
      return send(res, { status: 413, json: { error: 'too big' } })
    }
    if (!trusted(req, body, (id) => id.startsWith('task_'))) return send(res, { status: 401, json: { error: 'not signed' } })
    let task: unknown
    try {
      task = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
    } catch {
      if (fault === 'dies of no JSON') return die()
      return send(res, { status: fault === 'answers 500 to no JSON' ? 500 : 400, json: { error: 'no JSON' } })
    }
    if (fault === 'takes an array' && Array.isArray(task)) [task] = task
    const { task_id, task_type, parameters, attempt_id } = (task ?? {}) as Record<string, unknown>
    const whole = [task_id, task_type, attempt_id].every((one) => typeof one === 'string') && typeof parameters === 'object' && parameters !== null && !Array.isArray(parameters)
    if (!whole) return send(res, { status: 422, json: { error: 'no task' } })
    await doTask(task as Task, res)
  }

  const remove = (taskId: string, attemptId: unknown): Answer => {
    const named = (id: string): boolean => attemptId === undefined || fault === 'minds no attempt when cancelling' || id === attemptId
    const found = [...running].filter(([id, one]) => one.taskId === taskId && named(id)).map(([, one]) => one)
    if (fault !== 'goes on when cancelled') for (const { stop } of found) stop.abort()
    const any = found.length > 0 || fault === 'says 200 to cancelling nothing'
    return any ? { status: 200, json: { cancelled: true } } : { status: 404, json: { error: 'nothing of it is running' } }
  }

  const handle = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const path = req.url ?? ''
    if (req.method === 'POST' && path === '/task') return post(req, res)
    if (req.method === 'DELETE' && path.startsWith('/task/')) {
      const [taskId, attemptId] = [path.slice('/task/'.length), req.headers['switchyard-attempt']]
      if (!trusted(req, Buffer.alloc(0), (id) => id === `stop_${attemptId ?? taskId}`)) return send(res, { status: 401, json: { error: 'not signed' } })
      return send(res, remove(taskId, attemptId))
    }
    const status = fault === 'says that it is ok' ? 'ok' : state.draining ? 'draining' : 'healthy'
    if (path === '/health') return send(res, { status: 200, json: { status, running: doing, max_concurrency: LIMIT, capabilities } })
    if (path === '/health/live') return send(res, { status: fault === 'is never live' ? 503 : 200, json: {} })
    if (path === '/health/ready') return send(res, { status: fault === 'is never ready' ? 503 : 200, json: {} })
    send(res, { status: 404, json: { error: 'not served' } })
  }

  const server = createServer((req, res) => void handle(req, res).catch(() => res.destroy()))
  server.keepAliveTimeout = 10_000
  await new Promise<void>((listening, failed) => server.once('error', failed).listen(port, '127.0.0.1', listening))
  return {
    port: (server.address() as { port: number }).port,
    running,
    /** What its beats say of that. */
    listed: (): string[] => [...running].filter(([, one]) => fault !== 'does not say what it answered 202' || !one.isLater).map(([id]) => id),
    capabilities,
    state,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      if (server.listening) await new Promise((done) => server.close(done))
    },
  }
}

// --- as a process --------------------------------------------------------------------------------------------------------

const live = async (fault: Fault, url: string, port: number): Promise<void> => {
  const call = async (path: string, body: object): Promise<{ status: number; json: any }> => {
    const res = await fetch(url + path, { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' }, signal: AbortSignal.timeout(3000) })
    return { status: res.status, json: await res.json() }
  }
  const tell: Tell = (path, body) => call(path, body).catch(() => null)
  const agent = await serve(fault, { port, secret: process.env['AGENT_SECRET'], tell })
  module.flushCompileCache() // it is killed in the end, and started some 80 times
  if (process.env['AGENT_TELLS']) process.stdout.write(`${agent.port}\n`)
  if (fault === 'starts slowly') await sleep(5500)
  let id: string | undefined
  const instance = fault === 'has always the same instance_id' ? 'one' : randomUUID()
  const register = async (): Promise<number> => {
    for (;;) {
      const body = { name: fault === 'has an empty name' ? '' : 'broken', host: '127.0.0.1', port: agent.port, capabilities: agent.capabilities, max_concurrency: LIMIT, instance_id: instance, ...(fault === 'does not say its type' ? {} : { type: 'test' }), ...(id ? { agent_id: fault === 'comes back as another' ? randomUUID() : id } : {}) }
      const said = await call('/agents/register', body).catch(() => null)
      if (said && said.status < 300) {
        id = said.json.agent_id as string
        return said.json.heartbeat_interval_seconds as number
      }
      if (fault === 'gives up when the router is away') process.exit(1)
      await sleep(200)
    }
  }
  process.on('SIGTERM', () => {
    if (fault === 'does not mind SIGTERM') return
    void leave()
  })
  const leave = async (): Promise<void> => {
    agent.state.draining = true
    if (fault !== 'leaves without a word') await call(`/agents/${id}/heartbeat`, { status: 'draining', running: agent.listed() }).catch(() => {})
    if (fault === 'drops its work at SIGTERM') for (const { stop } of agent.running.values()) stop.abort()
    while (agent.running.size > 0) await sleep(20)
    if (fault !== 'stays registered') await call(`/agents/${id}/unregister`, {}).catch(() => {})
    process.exit(fault === 'ends with 3' ? 3 : 0)
  }
  let seconds = await register()
  for (;;) {
    await sleep((fault === 'beats when it likes' && seconds > 0.3 ? 2 : seconds) * 1000)
    if (fault === 'does not beat' || agent.state.draining) continue
    const said = await call(`/agents/${id}/heartbeat`, { status: 'healthy', ...(fault === 'does not say what is running' ? {} : { running: agent.listed() }) }).catch(() => null)
    if (said?.status === 404) {
      if (fault !== 'does not mind being unknown') seconds = await register()
    } else if (said?.status === 200) {
      seconds = said.json.next_interval_seconds as number
      const over = [...(fault === 'does not obey cancel' ? [] : said.json.cancel), ...(fault === 'does not obey lost' ? [] : said.json.lost)]
      for (const attempt of over) agent.running.get(attempt as string)?.stop.abort()
    } else {
      if (fault === 'ends when a beat fails') process.exit(1)
      // Soon; the interval of the last answer is for when it goes well.
      if (fault !== 'waits after a failed beat') seconds = Math.min(seconds, 0.3)
    }
  }
}

if (process.env['FAULT']) await live(process.env['FAULT'] as Fault, process.env['SWITCHYARD_URL'] ?? '', Number(process.env['AGENT_PORT'] ?? 0))
