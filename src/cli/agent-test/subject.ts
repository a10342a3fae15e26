/** The agent under test: where it is, what is known of it, and how it is spoken to. */
import { randomUUID } from 'node:crypto'
import type { Agent } from 'node:http'
import { exchange, member, type Exchange } from './exchange.ts'
import type { AgentProcess } from './launch.ts'
import type { Router, Said } from './router.ts'
import { seconds, shown } from './shown.ts'
import { deliveryId, signed, stopId } from './sign.ts'
import { awaited } from './waiting.ts'

export type Task = { type: string; parameters: Record<string, unknown> }
/** A task and how long it takes, ms. */
export type SlowTask = Task & { ms: number; /** It is answered 202. */ later: boolean }

/** What is known of an agent; the same for each process of it. */
export type Known = {
  task: Task
  /** A task of about so many ms; null when there is none. */
  slow: ((ms: number) => SlowTask) | null
  /** Why there is none. */
  slowMissing?: string
  /** A task of about so many ms that is answered 202, if any is. */
  later: (ms: number) => Task & { ms: number }
  limit: number | null
  /** What it is sent is signed with this: given, or told by the kit's router. */
  key: Buffer | null
  /** Whoever runs the kit says that it verifies. */
  verifies: boolean
  timeoutMs: number
}

export type Delivery = { task?: Task; taskId?: string; attemptId?: string; attempt?: number; signal?: AbortSignal | undefined; timeoutMs?: number; agent?: Agent; /** False: a 202 is what came. */ follow?: boolean }
export type Delivered = Exchange & { taskId: string; attemptId: string; /** It was answered 202; where the kit has a router, the rest is what that was told. */ later: boolean }

export type Subject = Known & {
  url: string
  /** Where it was started by the kit, and the router that it was told of. */
  process: AgentProcess | null
  router: Router | null
  pid: number | null
  /** What another start of it registered. */
  otherStart: Said | null
  signal: AbortSignal
  /** POST /task with a whole task in the way of the router. Behind a 202 it waits for the result, where that comes to the kit. */
  deliver: (delivery?: Delivery) => Promise<Delivered>
  /** POST /task with any bytes, signed where there is a secret. */
  post: (body: Buffer | readonly Buffer[] | undefined, what: string, headers?: Record<string, string>) => Promise<Exchange>
  ask: (method: string, path: string, headers?: Record<string, string>, timeoutMs?: number) => Promise<Exchange>
  /** How many tasks it says it works on; null when it does not say. */
  running: () => Promise<number | null>
}

/** For what should be answered at once. */
export const QUICK_MS = 5000

export const taskBody = (task: Task, ids: { taskId: string; attemptId: string; attempt: number }, timeoutMs: number): Record<string, unknown> => ({
  task_id: ids.taskId, task_type: task.type, parameters: task.parameters, timeout_seconds: timeoutMs / 1000, priority: 5, metadata: {}, attempt: ids.attempt, attempt_id: ids.attemptId,
})
export const newTaskId = (): string => `agent-test.${randomUUID()}`
export const newAttemptId = (): string => `${Date.now()}.${randomUUID()}`

/** What the agent tells behind its 202, as if it had answered that. */
const followed = async (x: Delivered, router: Router, timeoutMs: number, stop: AbortSignal): Promise<Delivered> => {
  const told = await awaited(() => router.results.find((one) => one.attemptId === x.attemptId && one.at >= x.startedAt && one.status < 300), timeoutMs - (x.endedAt - x.startedAt), () => stop.aborted)
  if (told) return { ...x, status: 200, headers: { 'content-type': 'application/json' }, json: told.body, body: Buffer.from(JSON.stringify(told.body)), endedAt: told.at }
  return { ...x, status: null, error: stop.aborted ? 'we hung up' : `202, and no POST /tasks/{id}/result within ${seconds(timeoutMs)}`, endedAt: performance.now() }
}

export type At = { url: string; process?: AgentProcess; router?: Router; pid?: number | null; otherStart?: Said | null }

export const createSubject = (known: Known, at: At & { signal: AbortSignal }): Subject => {
  const { url, signal } = at
  const headersOf = (id: string, body: Buffer): Record<string, string> => (known.key ? signed(known.key, id, body) : {})
  /** A DELETE of a task is signed for what it is to stop. */
  const stopping = (path: string, headers: Record<string, string>): Record<string, string> => headersOf(stopId(headers['Switchyard-Attempt'] ?? decodeURIComponent(path.slice('/task/'.length))), Buffer.alloc(0))
  /** A header that is to be empty is left out. */
  const filled = (headers: Record<string, string>) => Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== ''))
  const ask: Subject['ask'] = (method, path, headers = {}, timeoutMs = QUICK_MS) => exchange({ method, url: url + path, headers: filled({ ...(method === 'DELETE' ? stopping(path, headers) : {}), ...headers }), timeoutMs, signal })
  return {
    ...known,
    url,
    process: at.process ?? null,
    router: at.router ?? null,
    pid: at.pid ?? null,
    otherStart: at.otherStart ?? null,
    signal,
    ask,
    deliver: async ({ task = known.task, taskId = newTaskId(), attemptId = newAttemptId(), attempt = 1, signal: hangUp, timeoutMs = known.timeoutMs, agent, follow = true } = {}) => {
      const text = JSON.stringify(taskBody(task, { taskId, attemptId, attempt }, timeoutMs))
      const body = Buffer.from(text)
      const headers = { 'content-type': 'application/json', 'accept-encoding': 'identity', 'idempotency-key': taskId, 'switchyard-attempt': String(attempt), ...headersOf(deliveryId(attemptId), body) }
      const stop = hangUp ? AbortSignal.any([hangUp, signal]) : signal
      at.router?.attempts.set(attemptId, taskId)
      const x = await exchange({ method: 'POST', url: `${url}/task`, headers, body, timeoutMs, signal: stop, ...(agent ? { agent } : {}) })
      const delivered = { ...x, sent: `POST /task ${shown(text, 100)}`, taskId, attemptId, later: x.status === 202 }
      return delivered.later && follow && at.router ? await followed(delivered, at.router, timeoutMs, stop) : delivered
    },
    post: async (body, what, headers = { 'content-type': 'application/json' }) => {
      const whole = body === undefined ? Buffer.alloc(0) : Buffer.isBuffer(body) ? body : Buffer.concat(body)
      const sent = filled({ ...headersOf(deliveryId(newAttemptId()), whole), ...headers })
      const x = await exchange({ method: 'POST', url: `${url}/task`, headers: sent, ...(body === undefined ? {} : { body }), timeoutMs: QUICK_MS, signal })
      return { ...x, sent: `POST /task with ${what}` }
    },
    running: async () => {
      const count = member((await ask('GET', '/health', {}, 1000)).json, 'running')
      return typeof count === 'number' ? count : null
    },
  }
}
