/** What an agent's HTTP answer comes to: statuses, bodies and their faults as outcomes. */
import { isUtf8 } from 'node:buffer'
import { isObject } from '../contracts/members.ts'
import { bounded, MAX_ERROR_CHARS, MAX_RESULT_DEPTH, oneLine } from '../contracts/words.ts'
import { maxDepth, rawMember } from '../contracts/raw.ts'
import type { Outcome } from './transport.ts'

const MAX_SNIPPET_CHARS = 200
const DEFAULT_REST_MS = 1_000
const MIN_REST_MS = 50
const MAX_REST_MS = 300_000

export type Headers = Record<string, string | string[] | undefined>
export type Answer = { statusCode: number; headers: Headers; body: Buffer }

/** The body as a JSON object, or what is wrong with it. */
type Read = { object: Record<string, unknown>; text: string } | { fault: string; text: string }

const snippet = (text: string): string => oneLine(text, MAX_SNIPPET_CHARS)

const readBody = ({ headers, body }: Answer): Read => {
  const coding = first(headers['content-encoding'])
  if (coding !== undefined && coding.toLowerCase() !== 'identity') return { fault: `its body is compressed (${snippet(coding)}), which was not asked for`, text: '' }
  if (body.length === 0) return { fault: 'it has no body', text: '' }
  if (!isUtf8(body)) return { fault: 'its body is not UTF-8', text: body.toString('latin1', 0, 1_000) }
  const text = body.toString()
  if (text.length > 2 * MAX_RESULT_DEPTH && maxDepth(text) > MAX_RESULT_DEPTH) return { fault: `its body is nested deeper than ${MAX_RESULT_DEPTH} levels`, text }
  try {
    const object: unknown = JSON.parse(text)
    if (isObject(object)) return { object, text }
    return { fault: 'its body is JSON but no object', text }
  } catch {
    return { fault: 'its body is not JSON', text }
  }
}

const first = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value[0] : value)

/** The agent's own words where it gave any: `error`, or what problem+json and common frameworks say instead. */
const words = (read: Read): string | null => {
  if (!('object' in read)) return null
  for (const said of [read.object.error, read.object.detail, read.object.message]) {
    if (typeof said === 'string' && said.trim() !== '') return bounded(said, MAX_ERROR_CHARS)
    if (typeof said === 'object' && said !== null) return bounded(JSON.stringify(said), MAX_ERROR_CHARS)
  }
  return null
}

const errorOf = (answer: Answer, read: Read): string => {
  const shown = snippet(read.text)
  return words(read) ?? (shown === '' ? `the agent answered ${answer.statusCode} and did not say why` : `the agent answered ${answer.statusCode}: ${shown}`)
}

/** For a 2xx that is no proper answer. */
const unusable = (statusCode: number, fault: string, text: string): Outcome => {
  const shown = snippet(text)
  return { kind: 'failed', statusCode, error: `the agent answered ${statusCode}, but ${fault}${shown === '' ? '' : `: ${shown}`}` }
}

const HTTP_DATE = /^(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? /i
const httpDate = (text: string | undefined): number => {
  if (text === undefined || !HTTP_DATE.test(text)) return NaN
  return Date.parse(/GMT$/i.test(text) ? text : `${text} GMT`) // the oldest of the three forms leaves the zone out
}

/**
 * `Retry-After` as milliseconds from now, within 0.05 to 300 s: seconds or an HTTP-date.
 * A date is held against the answer's own `Date`, so a clock that differs from ours does no harm.
 * @returns undefined when it is absent or unreadable
 */
export const retryAfterMs = (headers: Headers): number | undefined => {
  const text = first(headers['retry-after'])?.trim()
  if (text === undefined) return undefined
  const date = httpDate(text)
  const now = httpDate(first(headers.date)?.trim())
  const ms = /^\d+(?:\.\d+)?$/.test(text) ? Number(text) * 1000 : date - (Number.isNaN(now) ? Date.now() : now)
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, MIN_REST_MS), MAX_REST_MS)
}

/** A `task_id` of null counts as absent: serialisers write it for a field that was left out. */
const foreign = (read: Read, taskId: string): boolean => 'object' in read && read.object.task_id !== undefined && read.object.task_id !== null && read.object.task_id !== taskId

const foreignAnswer = (statusCode: number, read: Read): Outcome => {
  const given = 'object' in read ? JSON.stringify(read.object.task_id) : ''
  return { kind: 'failed', statusCode, error: `the agent answered ${statusCode} for another task: ${snippet(given)}` }
}

const readSuccess = (answer: Answer, read: Read): Outcome => {
  const { statusCode } = answer
  if (!('object' in read)) return unusable(statusCode, read.fault, read.text)
  const { status, execution_time_ms: took, retryable } = read.object
  if (status === 'completed') {
    const executionTimeMs = typeof took === 'number' && Number.isFinite(took) && took >= 0 ? took : null
    return { kind: 'completed', result: rawMember(read.text, 'result') ?? 'null', statusCode, executionTimeMs }
  }
  if (status !== 'failed') return unusable(statusCode, 'its status is neither completed nor failed', read.text)
  const error = words(read) ?? 'the agent said that it failed, and not why'
  return retryable === false ? { kind: 'rejected', error, statusCode } : { kind: 'failed', error, statusCode, retryAfterMs: retryAfterMs(answer.headers) }
}

/**
 * The outcome of a whole answer.
 * @param taskId an answer that names another task is a failed attempt
 */
export const readAnswer = (answer: Answer, taskId: string): Outcome => {
  const { statusCode, headers } = answer
  const read = readBody(answer)
  if (statusCode >= 200 && statusCode < 300) {
    if (foreign(read, taskId)) return foreignAnswer(statusCode, read)
    return statusCode === 202 ? { kind: 'accepted', statusCode } : readSuccess(answer, read)
  }
  const retryable = 'object' in read ? read.object.retryable : undefined
  const redirect = statusCode >= 300 && statusCode < 400
  const error = redirect ? `the agent answered ${statusCode}: redirects are never followed` : errorOf(answer, read)
  if (retryable === false) return { kind: 'rejected', error, statusCode }
  if (statusCode === 429 || statusCode === 503) return { kind: 'no_room', error, statusCode, retryAfterMs: retryAfterMs(headers) ?? DEFAULT_REST_MS }
  const final = statusCode >= 400 && statusCode < 500 && statusCode !== 408 && statusCode !== 425 && retryable !== true
  if (final) return foreign(read, taskId) ? foreignAnswer(statusCode, read) : { kind: 'rejected', error, statusCode }
  return { kind: 'failed', error, statusCode, retryAfterMs: retryAfterMs(headers) }
}
