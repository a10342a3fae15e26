/** A task as a handler sees it, what a handler may throw, and how a task is read from the wire. */
import { randomUUID } from 'node:crypto'
import type { Logger } from './log.ts'

/** A task's parameters: a JSON object, as the client sent it. */
export type Parameters = Record<string, unknown>

/** Why a task is to stop: see `TaskAborted`. */
export type AbortWhy = 'cancelled' | 'timeout' | 'disconnected' | 'lost' | 'stopped'

/** What a handler is told beside the parameters. */
export type TaskContext = {
  /** The same for each attempt at a task: the key by which to do a thing once. */
  readonly taskId: string
  /** The capability it came for. */
  readonly taskType: string
  /** Counts deliveries, from 1. */
  readonly attempt: number
  /** Another one for each delivery. */
  readonly attemptId: string
  /** How long the attempt may take from its arrival, ms, as it was sent. */
  readonly timeoutMs: number
  /** When that time is over, by this machine's clock. Moves when `progress` was granted more. */
  readonly deadline: Date
  /** What the client sent along. */
  readonly metadata: Readonly<Record<string, unknown>>
  /** Aborts when nobody waits for the result any longer; its `reason` is a `TaskAborted`. Give it to `fetch`, timers and the like. */
  readonly signal: AbortSignal
  /** The agent's logger; each line says the task and the attempt. */
  readonly logger: Logger
  /** The client's W3C trace context, if it sent one. */
  readonly traceparent: string | undefined
  /**
   * For work of minutes: says at once that the task is taken (202), so that no connection need stay open. Nothing else changes: what the handler returns or
   * throws is told to the router when it is there, again and again until that has heard it. Without a router that it could tell, it does nothing.
   */
  later(): void
  /**
   * Tells the router how far it is, also while the connection is open. Call it as often as you like: a report goes out each second at most, the newest then;
   * one that asks for more time goes at once. Never rejects, and need not be awaited.
   * @returns false when the router did not take it: it is away, or the attempt is over, and then `signal` has aborted
   */
  progress(report: Progress): Promise<boolean>
}

/** How far a task is. What is left out stays as it was said before. */
export type Progress = {
  /** 0 to 100. */
  percent?: number | undefined
  /** For people; to 1,000 characters. */
  message?: string | undefined
  /** Any JSON, to 10 KiB. */
  data?: unknown
  /** Asks that the attempt may take so long from now, s; `deadline` then says how long it may. The router's MAX_TASK_TIMEOUT_SECONDS bounds the whole. */
  extendSeconds?: number | undefined
}

/**
 * Does one task. What it returns, or resolves to, is the result: any JSON value to 1 MiB (`undefined` is null). What it throws makes the
 * attempt fail; the task is then tried again while it has retries, but for a `NonRetryableError`.
 */
// As a method, so that one may write `(parameters: { account: string }) => …` where one has reason to trust the client.
export type Handler = { do(parameters: Parameters, context: TaskContext): unknown }['do']

/** Thrown by a handler when another attempt would fare no better: the task fails for good, with this message. */
export class NonRetryableError extends Error {
  override readonly name = 'NonRetryableError'
  readonly retryable = false
}

const REASONS: Record<AbortWhy, string> = {
  cancelled: 'the task was cancelled',
  timeout: 'the task has had its time',
  disconnected: 'the connection that waited for the task was closed',
  lost: 'the attempt is no longer this agent’s',
  stopped: 'the agent is leaving',
}

/**
 * The reason of `signal`, so what `signal.throwIfAborted()` throws and an aborted `fetch` rejects with. `why`: `cancelled` nobody wants it any more,
 * `timeout` its time is over, `disconnected` the connection closed, `lost` the router gave it to another, `stopped` this agent leaves.
 */
export class TaskAborted extends Error {
  /** As the platform's own are called: what repeats failed calls lets these be. */
  override readonly name = 'AbortError'
  readonly why: AbortWhy
  constructor(why: AbortWhy) {
    super(REASONS[why])
    this.why = why
  }
}

/** A task off the wire. Durations in ms. */
export type Task = { taskId: string; taskType: string; parameters: Parameters; timeoutMs: number; metadata: Parameters; attempt: number; attemptId: string; /** Whoever sent it gave it its attempt id. */ named: boolean }

/** The router's own, for a task that does not say. */
const DEFAULT_TIMEOUT_SECONDS = 30
/** The most that a heartbeat may list. */
const MAX_ATTEMPT_ID_CHARS = 128
/** Beyond this timers fire at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1

/** Throws for bytes that are no UTF-8, which would else become other characters, and the task another task. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)
const isText = (value: unknown, max: number): value is string => typeof value === 'string' && value !== '' && value.length <= max

/**
 * Reads the body of `POST /task`. `task_id`, `task_type` and `parameters` must be there, the rest may be left out.
 * @returns the task, or in `fault` what is wrong with it
 */
export const readTask = (body: Buffer): Task | { fault: string } => {
  let task: unknown
  try {
    task = JSON.parse(utf8.decode(body))
  } catch {
    return { fault: 'the body is no JSON in UTF-8; send a task as a JSON object' }
  }
  if (!isObject(task)) return { fault: 'the body must be a JSON object' }
  const { task_id, task_type, parameters, timeout_seconds = DEFAULT_TIMEOUT_SECONDS, metadata = {}, attempt = 1, attempt_id = randomUUID() } = task
  if (!isText(task_id, 1024)) return { fault: 'task_id must be a string that is not empty' }
  if (!isText(task_type, 1024)) return { fault: 'task_type must be a string that is not empty' }
  if (!isObject(parameters)) return { fault: 'parameters must be an object' }
  if (typeof timeout_seconds !== 'number' || timeout_seconds <= 0) return { fault: 'timeout_seconds must be a number above 0' }
  if (!isObject(metadata)) return { fault: 'metadata must be an object' }
  if (!Number.isSafeInteger(attempt)) return { fault: 'attempt must be a whole number' }
  if (!isText(attempt_id, MAX_ATTEMPT_ID_CHARS)) return { fault: `attempt_id must be a string of 1 to ${MAX_ATTEMPT_ID_CHARS} characters` }
  const timeoutMs = Math.min(Math.ceil(timeout_seconds * 1000), MAX_TIMER_MS)
  return { taskId: task_id, taskType: task_type, parameters, timeoutMs, metadata, attempt: attempt as number, attemptId: attempt_id, named: task['attempt_id'] !== undefined }
}
