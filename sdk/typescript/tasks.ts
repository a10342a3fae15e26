/** Tasks: submit, read, list, cancel, retry, and wait for an end. */
import { ConnectionFailed, StoreUnavailable, TimedOut } from './errors.ts'
import { pause, type CallOptions, type Http } from './http.ts'
import { createList, type List } from './list.ts'
import type { AttemptResult, Cancelled, NewTask, ResultTaken, Submitted, Task, TaskFilter, TaskPage } from './wire.ts'

export type SubmitOptions = CallOptions & {
  /** Refuse the task (`NoAgent`) when no agent that can do it is alive, instead of letting it wait. */
  requireAgent?: boolean | undefined
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
  /** It is sent again only when it cannot have been taken: no connection was made, or the answer was 429 or 503. */
  submit(task: NewTask, options?: SubmitOptions): Submission
  get(id: string, options?: CallOptions): Promise<Task>
  /** Newest first. */
  list(filter?: TaskFilter, options?: CallOptions): List<Task, TaskPage>
  cancel(id: string, options?: CallOptions): Promise<Cancelled>
  /** Submits an ended task again, as a new one; once. */
  retry(id: string, options?: CallOptions): Submission
  /** Says how an attempt has ended that its agent answered with 202. Said again, it is answered alike; StaleAttempt when it counts no more. */
  result(id: string, result: AttemptResult, options?: CallOptions): Promise<ResultTaken>
  /** Waits for a task's end, whichever that is: look at `status`. Throws TimedOut after `timeoutSeconds`. */
  wait(id: string, options?: WaitOptions): Promise<Task>
}

const FIRST_POLL_MS = 50
const LONGEST_POLL_MS = 1000
const POLL_GROWTH = 1.3
/** A wait goes on while the router is away so long, as when it is started anew. */
const LONGEST_OUTAGE_MS = 30_000

const ENDS = new Set<string>(['completed', 'failed', 'timeout', 'cancelled'])
/** Whether a status is one of the four ends. */
export const isEnd = (status: string): boolean => ENDS.has(status)

const path = (id: string): string => `/tasks/${encodeURIComponent(id)}`

export const createTasks = (http: Http): TasksClient => {
  const get = (id: string, options: CallOptions = {}): Promise<Task> => http.json('GET', path(id), { ...options, again: 'always' })
  const cancel = (id: string, options: CallOptions = {}): Promise<Cancelled> => http.json('DELETE', path(id), { ...options, again: 'always' })

  const watch = createWatch(get)
  const wait = (id: string, options: WaitOptions = {}): Promise<Task> => watch(id, options, false)

  const submission = (answer: Promise<Submitted>): Submission => {
    const handle = answer.then((submitted): TaskHandle => {
      const id = submitted.task_id
      return { id, submitted, wait: (options = {}) => watch(id, options, true), get: (options) => get(id, options), cancel: (options) => cancel(id, options) }
    })
    return Object.assign(handle, { wait: (options?: WaitOptions) => handle.then((h) => h.wait(options)) })
  }

  return {
    submit: (task, { requireAgent, ...options } = {}) => submission(http.json('POST', '/tasks', { ...options, query: { require_agent: requireAgent }, body: task, again: 'untaken' })),
    get,
    list: (filter = {}, options = {}) => createList((cursor) => http.json<TaskPage>('GET', '/tasks', { ...options, query: { ...filter, cursor }, again: 'always' }), (page) => page.tasks),
    cancel,
    retry: (id, options = {}) => submission(http.json('POST', `${path(id)}/retry`, { ...options, again: 'untaken' })),
    result: (id, result, options = {}) => http.json('POST', `${path(id)}/result`, { ...options, body: result, again: 'always' }),
    wait,
  }
}

/** Looks at a task again and again until it has ended; `known` is whether the router has answered before. */
const createWatch =
  (get: TasksClient['get']) =>
  async (id: string, { timeoutSeconds, signal, onChange }: WaitOptions, known: boolean): Promise<Task> => {
    const end = timeoutSeconds === undefined ? Infinity : performance.now() + timeoutSeconds * 1000
    let last: Task | undefined
    let lastText = ''
    let answeredAt = known ? performance.now() : -Infinity
    for (let pollMs = FIRST_POLL_MS; ; pollMs = Math.min(pollMs * POLL_GROWTH, LONGEST_POLL_MS)) {
      try {
        // The last look may come as late as the end of the wait, and is then cut short with it.
        const task = await get(id, { signal, ...(end === Infinity ? {} : { timeoutSeconds: Math.max(end - performance.now(), 1000) / 1000 }) })
        answeredAt = performance.now()
        last = task
        const text = onChange ? JSON.stringify(task) : ''
        if (text !== lastText) onChange?.(task)
        lastText = text
        if (isEnd(task.status)) return task
      } catch (error) {
        const away = error instanceof ConnectionFailed || error instanceof StoreUnavailable || error instanceof TimedOut
        if (!away || signal?.aborted || performance.now() - answeredAt > LONGEST_OUTAGE_MS) throw error
      }
      const leftMs = end - performance.now()
      if (leftMs <= 0) throw new TimedOut(`task ${id} is ${last ? `still ${last.status}` : 'not known to have ended'} after ${timeoutSeconds} s`, last)
      await pause(Math.min(pollMs, leftMs), signal)
    }
  }
