/** What becomes of a task, as HTTP: results, failures and refusals. */
import { inspect } from 'node:util'
import type { AbortWhy, Task } from './task.ts'

/** An answer to `POST /task`. `body` is JSON. `fault`: what the agent's owner should hear of it. */
export type Answer = { status: number; headers: Record<string, string>; body: string; fault?: string }

/** The router takes no larger answer. */
const MAX_ANSWER_BYTES = 1024 * 1024
/** The router keeps no more of an error. */
const MAX_ERROR_CHARS = 4000

const cut = (text: string): string => (text.length > MAX_ERROR_CHARS ? `${text.slice(0, MAX_ERROR_CHARS - 1)}…` : text)

/** An answer that is not a result. @param retryAfterSeconds when to come again */
export const refusal = (status: number, error: string, more: object = {}, retryAfterSeconds?: number): Answer => ({
  status,
  headers: retryAfterSeconds === undefined ? {} : { 'Retry-After': String(retryAfterSeconds) },
  body: JSON.stringify({ error: cut(error), ...more }),
})

const failed = (status: number, { taskId }: Task, error: string, more: object = {}): Answer => refusal(status, error, { task_id: taskId, status: 'failed', ...more })

/** In words, whatever was thrown. Never the stack. */
const wordsOf = (thrown: unknown, handler: string): string => {
  try {
    if (thrown instanceof Error) return thrown.message || thrown.name
    if (typeof thrown === 'string' && thrown.trim() !== '') return thrown
    const message = (thrown as { message?: unknown } | null | undefined)?.message
    return typeof message === 'string' && message !== '' ? message : `${handler} threw ${inspect(thrown, { depth: 2, breakLength: Infinity })}`
  } catch {
    return `${handler} threw something that has no words`
  }
}

/** Also of an error from another copy of this module, or of one's own class that says so. */
export const isFinal = (thrown: unknown): boolean => {
  try {
    return typeof thrown === 'object' && thrown !== null && (thrown as { retryable?: unknown }).retryable === false
  } catch {
    return false
  }
}

/** For what the handler threw: 422 when that is final, else 500, and the task is tried again while it has retries. */
export const thrownAnswer = (task: Task, thrown: unknown): Answer => {
  const error = wordsOf(thrown, task.taskType)
  return isFinal(thrown) ? failed(422, task, error, { retryable: false }) : failed(500, task, error)
}

/** JSON.stringify would leave a function out without a word, and take NaN for null. */
const onlyJson = (key: string, value: unknown): unknown => {
  if (typeof value === 'function' || typeof value === 'symbol') throw new TypeError(`${key === '' ? 'it' : `its member ${JSON.stringify(key)}`} is a ${typeof value}`)
  // JSON.stringify would make null of it.
  if (typeof value === 'number' && !Number.isFinite(value)) throw new TypeError(`${key === '' ? 'it' : `its member ${JSON.stringify(key)}`} is ${value}`)
  return value
}

/** Of a result that cannot be one. The next attempt would bring the same. */
const unusable = (task: Task, words: string): Answer => {
  const fault = `what ${task.taskType} returned ${words}`
  return { ...failed(500, task, fault, { retryable: false }), fault }
}
const tooLarge = (task: Task, bytes: number): Answer => unusable(task, `is ${bytes} bytes as JSON; at most 1 MiB is taken`)

/**
 * For what the handler returned: 200, or a failure for good when it is no JSON or too large.
 * @param tookMs how long the handler worked
 */
export const returnedAnswer = (task: Task, result: unknown, tookMs: number): Answer => {
  let body: string
  try {
    body = JSON.stringify({ task_id: task.taskId, status: 'completed', result: result ?? null, execution_time_ms: Math.round(tookMs * 1000) / 1000 }, onlyJson)
  } catch (error) {
    return unusable(task, `is no JSON: ${wordsOf(error, task.taskType).split('\n', 1)[0]}`)
  }
  const bytes = Buffer.byteLength(body)
  return bytes > MAX_ANSWER_BYTES ? tooLarge(task, bytes) : { status: 200, headers: {}, body }
}

/** For a task that was stopped, whatever its handler made of it: half a result must not pass for a whole one. */
export const abortedAnswer = (task: Task, why: AbortWhy): Answer => {
  switch (why) {
    case 'cancelled':
      return failed(500, task, 'cancelled', { retryable: false })
    case 'timeout':
      return failed(500, task, `no result within ${task.timeoutMs / 1000} s`)
    case 'stopped':
      return leftAnswer(task)
    default:
      return failed(500, task, why === 'lost' ? 'the attempt is no longer this agent’s' : 'nobody waited for it any longer')
  }
}

/** For a task that the agent leaves behind: no room, rather than a failure. */
export const leftAnswer = ({ taskId }: Pick<Task, 'taskId'>): Answer => refusal(503, 'the agent is leaving, and could not finish', { task_id: taskId, status: 'failed' }, 1)

/** For a task whose result comes later. */
export const acceptedAnswer = ({ taskId }: Task): Answer => ({ status: 202, headers: {}, body: JSON.stringify({ task_id: taskId, status: 'running' }) })

/** The same outcome as `POST /tasks/{id}/result` takes it, where it may be no larger than an answer. */
export const resultBody = (task: Task, answer: Answer): { body: string; fault?: string } => {
  const body = `{"attempt_id":${JSON.stringify(task.attemptId)},${answer.body.slice(1)}`
  const bytes = Buffer.byteLength(body)
  if (bytes <= MAX_ANSWER_BYTES) return { body }
  const { body: said, fault } = tooLarge(task, bytes)
  return { body: `{"attempt_id":${JSON.stringify(task.attemptId)},${said.slice(1)}`, ...(fault === undefined ? {} : { fault }) }
}

/** What is told in place of a result that the router refuses, as it would again. */
export const refusedResult = (task: Task, why: string): string => resultBody(task, failed(500, task, `the router does not take the result of ${task.taskType}: ${why}`, { retryable: false })).body
