/** Tasks: submit, read, list, cancel, retry, and wait for an end. */
import { randomUUID } from 'node:crypto'
import { ConnectionFailed, Overloaded, StoreUnavailable, TimedOut, TooManyWatchers } from './errors.ts'
import { watchEvents, type Gap, type WatchOptions } from './events.ts'
import type { Explanation } from './explain.ts'
import { pause, type CallOptions, type Http } from './http.ts'
import { createList, type List } from './list.ts'
import type { AttemptResult, BatchTask, BatchTaken, Cancelled, NewTask, ProgressReport, ProgressTaken, Redelivery, ResultTaken, Submitted, Task, TaskEvent, TaskFilter, TaskPage } from './wire.ts'

export type SubmitOptions = CallOptions & {
  /** Refuse the task (`NoAgent`) when no agent that can do it is alive, instead of letting it wait. */
  requireAgent?: boolean | undefined
  /**
   * Under one key an agent type takes one task within a day, however often it is submitted: each repeat is answered as the first was. Another
   * task under it is refused (`IdempotencyKeyReused`). 1 to 255 visible characters. Unless given, each submit has one of its own.
   */
  idempotencyKey?: string | undefined
}

export type BatchOptions = CallOptions & {
  /** Refuse each task (`no-agent`) for which no agent is alive, instead of letting it wait. */
  requireAgent?: boolean | undefined
}

export type GetOptions = CallOptions & {
  /** Answered when the task ends, or after so many seconds, 60 at most. */
  waitSeconds?: number | undefined
}

export type WaitOptions = {
  /** How long to wait for the end; without it as long as it takes. */
  timeoutSeconds?: number | undefined
  /** Ends the waiting (the task goes on), which then throws the signal's reason. */
  signal?: AbortSignal | undefined
  /** Called with the task when it is first seen, and whenever it has changed since it was last looked at. */
  onChange?: ((task: Task) => void) | undefined
}

/** A task that was submitted. */
export type TaskHandle = {
  readonly id: string
  /** What the submit was answered. */
  readonly submitted: Submitted
  /** Waits for its end, whichever that is: look at `status`. Throws TimedOut after `timeoutSeconds`. */
  wait(options?: WaitOptions): Promise<Task>
  get(options?: CallOptions): Promise<Task>
  cancel(options?: CallOptions): Promise<Cancelled>
}

/** A handle to come, which may be waited on at once. */
export type Submission = Promise<TaskHandle> & {
  wait(options?: WaitOptions): Promise<Task>
}

export type TasksClient = {
  /** It may be sent again when its answer is lost: it carries a key under which it is taken once. */
  submit(task: NewTask, options?: SubmitOptions): Submission
  /** Up to 1,000 tasks in one request, at a fraction of what they cost one by one. Each is taken or refused by itself: look at each answer. */
  submitBatch(tasks: readonly BatchTask[], options?: BatchOptions): Promise<BatchTaken>
  get(id: string, options?: GetOptions): Promise<Task>
  /**
   * What happens to a task, from its submit to its end, as it happens; broken connections are made again, without a gap or a repeat.
   * Leaving the loop ends the watching.
   */
  events(id: string, options?: WatchOptions): AsyncGenerator<TaskEvent | Gap, void>
  /** Why it waits, or where it is, and which agents it may go to. */
  explain(id: string, options?: CallOptions): Promise<Explanation>
  /** Newest first. */
  list(filter?: TaskFilter, options?: CallOptions): List<Task, TaskPage>
  cancel(id: string, options?: CallOptions): Promise<Cancelled>
  /** Submits an ended task again, as a new one; once. */
  retry(id: string, options?: CallOptions): Submission
  /** Has the webhook of an ended task sent again, at once. */
  redeliver(id: string, options?: CallOptions): Promise<Redelivery>
  /** Says how an attempt has ended that its agent answered with 202. Said again, it is answered alike; StaleAttempt when it counts no more. */
  result(id: string, result: AttemptResult, options?: CallOptions): Promise<ResultTaken>
  /** Says how far an attempt is that is under way, and gives it more time if asked to: `deadline_at` is what counts. StaleAttempt when it is over. */
  progress(id: string, report: ProgressReport, options?: CallOptions): Promise<ProgressTaken>
  /** Waits for a task's end, whichever that is: look at `status`. Throws TimedOut after `timeoutSeconds`. */
  wait(id: string, options?: WaitOptions): Promise<Task>
}

/** The router answers when the task ends, or after so long; then it is asked again. */
const ASK_SECONDS = 30
/** For the answer behind that. */
const GRACE_SECONDS = 10
const PAUSE_MS = 500
/** A key of our own is of use for as long as a call may last; this is for clocks that differ, and for answers under way. */
const KEY_LONGER_SECONDS = 60
const LONGEST_KEY_SECONDS = 86_400
/** A wait goes on while the router is away so long, as when it is started anew. */
const LONGEST_OUTAGE_MS = 30_000

const ENDS = new Set<string>(['completed', 'failed', 'timeout', 'cancelled'])
/** Whether a status is one of the four ends. */
export const isEnd = (status: string): boolean => ENDS.has(status)

const path = (id: string): string => `/tasks/${encodeURIComponent(id)}`

export const createTasks = (http: Http): TasksClient => {
  const get = (id: string, { waitSeconds, ...options }: GetOptions = {}): Promise<Task> =>
    http.json('GET', path(id), { ...(waitSeconds === undefined ? {} : { timeoutSeconds: waitSeconds + GRACE_SECONDS, query: { wait: waitSeconds.toFixed(3) } }), ...options, again: 'always', holds: 'status' })
  const events = (id: string, options: WatchOptions = {}) => watchEvents(http, `${path(id)}/events`, {}, options, (event) => isEnd(event.type.slice('task.'.length)))
  const cancel = (id: string, options: CallOptions = {}): Promise<Cancelled> => http.json('DELETE', path(id), { ...options, again: 'always', holds: 'status' })

  /** A key that only this call knows need not be kept for a day. */
  const keptFor = ({ timeoutSeconds = http.timeoutSeconds }: CallOptions): Record<string, string> => ({ 'idempotency-key-seconds': String(Math.min(Math.ceil(timeoutSeconds) + KEY_LONGER_SECONDS, LONGEST_KEY_SECONDS)) })
  const send = async (task: NewTask, { requireAgent, idempotencyKey, ...options }: SubmitOptions): Promise<Submitted> => {
    // What fetch says of such a header is not plain.
    if (idempotencyKey !== undefined && !/^[!-~]{1,255}$/.test(idempotencyKey)) throw new TypeError('the idempotency key must be 1 to 255 visible ASCII characters')
    const headers = idempotencyKey === undefined ? { 'idempotency-key': randomUUID(), ...keptFor(options) } : { 'idempotency-key': idempotencyKey }
    return http.json('POST', '/tasks', { ...options, query: { require_agent: requireAgent }, headers, body: task, again: 'always', holds: 'task_id' })
  }
  const submitBatch: TasksClient['submitBatch'] = (tasks, { requireAgent, ...options } = {}) => {
    const headers = tasks.some((task) => task.idempotency_key !== undefined) ? {} : keptFor(options)
    const body = { tasks: tasks.map((task) => (task.idempotency_key === undefined ? { ...task, idempotency_key: randomUUID() } : task)) }
    return http.json('POST', '/tasks/batch', { ...options, query: { require_agent: requireAgent }, headers, body, again: 'always', holds: 'accepted' })
  }

  const watch = createWatch(get, events)
  const wait = (id: string, options: WaitOptions = {}): Promise<Task> => watch(id, options, false)

  const submission = (answer: Promise<Submitted>): Submission => {
    const handle = answer.then((submitted): TaskHandle => {
      const id = submitted.task_id
      return { id, submitted, wait: (options = {}) => watch(id, options, true), get: (options) => get(id, options), cancel: (options) => cancel(id, options) }
    })
    return Object.assign(handle, { wait: (options?: WaitOptions) => handle.then((h) => h.wait(options)) })
  }

  return {
    submit: (task, options = {}) => submission(send(task, options)),
    submitBatch,
    get,
    events,
    explain: (id, options = {}) => http.json('GET', `${path(id)}/explain`, { ...options, again: 'always', holds: 'reason' }),
    list: (filter = {}, options = {}) => createList((cursor) => http.json<TaskPage>('GET', '/tasks', { ...options, query: { ...filter, cursor }, again: 'always', holds: 'tasks' }), (page) => page.tasks),
    cancel,
    retry: (id, options = {}) => submission(http.json('POST', `${path(id)}/retry`, { ...options, again: 'untaken', holds: 'task_id' })),
    // Said twice it is sent once, or twice under the same id.
    redeliver: (id, options = {}) => http.json('POST', `${path(id)}/webhooks/redeliver`, { ...options, again: 'always', holds: 'webhook' }),
    result: (id, result, options = {}) => http.json('POST', `${path(id)}/result`, { ...options, body: result, again: 'always', holds: 'task_id' }),
    progress: (id, report, options = {}) => http.json('POST', `${path(id)}/progress`, { ...options, body: report, again: 'always', holds: 'deadline_at' }),
    wait,
  }
}

/** `known`: the router has answered before. */
const createWatch =
  (get: TasksClient['get'], events: TasksClient['events']) =>
  async (id: string, { timeoutSeconds, signal, onChange }: WaitOptions, known: boolean): Promise<Task> => {
    const end = timeoutSeconds === undefined ? Infinity : performance.now() + timeoutSeconds * 1000
    const leftMs = () => Math.max(0, end - performance.now())
    let last: Task | undefined
    let lastText = ''
    let answeredAt = known ? performance.now() : -Infinity

    /** Asks, as often as it takes, `waitSeconds` at a time. */
    const look = async (waitSeconds: () => number): Promise<Task> => {
      for (;;) {
        signal?.throwIfAborted()
        try {
          const wait = waitSeconds()
          // The last answer may come as late as the end of the wait, and a little later: it must not be too short to be answered.
          const timeoutSeconds = Math.min(wait > 0 ? wait + GRACE_SECONDS : Infinity, Math.max(leftMs() / 1000, 1) + (wait > 0 ? 1 : 0))
          const task = await get(id, { signal, ...(wait > 0 ? { waitSeconds: wait } : {}), ...(timeoutSeconds === Infinity ? {} : { timeoutSeconds }) })
          answeredAt = performance.now()
          last = task
          return task
        } catch (error) {
          const away = error instanceof ConnectionFailed || error instanceof StoreUnavailable || error instanceof TooManyWatchers || error instanceof Overloaded || error instanceof TimedOut
          if (!away || signal?.aborted || performance.now() - answeredAt > LONGEST_OUTAGE_MS) throw error
          if (leftMs() === 0) throw late()
          await pause(Math.min(PAUSE_MS, leftMs()), signal)
        }
      }
    }
    const late = () => new TimedOut(`task ${id} is ${last ? `still ${last.status}` : 'not known to have ended'} after ${timeoutSeconds} s`, last)

    if (!onChange) {
      for (;;) {
        const task = await look(() => Math.min(ASK_SECONDS, leftMs() / 1000))
        if (isEnd(task.status)) return task
        if (leftMs() === 0) throw late()
      }
    }

    const tell = (task: Task): boolean => {
      const text = JSON.stringify(task)
      if (text !== lastText) onChange(task)
      lastText = text
      return isEnd(task.status)
    }
    const first = await look(() => 0)
    if (tell(first)) return first
    const over = end === Infinity ? undefined : AbortSignal.timeout(Math.min(Math.ceil(leftMs()), 2 ** 31 - 1))
    try {
      const both = over && signal ? AbortSignal.any([over, signal]) : (over ?? signal)
      for await (const _ of events(id, { signal: both })) {
        const task = await look(() => 0)
        if (tell(task)) return task
      }
      return await look(() => ASK_SECONDS)
    } catch (error) {
      signal?.throwIfAborted()
      if (over?.aborted) throw late()
      throw error
    }
  }
