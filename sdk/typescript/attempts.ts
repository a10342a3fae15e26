/** What the agent works on: each attempt holds a place from its arrival until its handler has ended, whoever still waits for it. */
import { abortedAnswer, isFinal, refusal, returnedAnswer, thrownAnswer, type Answer } from './answer.ts'
import { withFields } from './log.ts'
import type { Settings } from './settings.ts'
import { TaskAborted, type AbortWhy, type Handler, type Task, type TaskContext } from './task.ts'

/** An attempt under way. */
export type Attempt = {
  /** Never rejects. Comes when the handler ends; sooner when the time is over or the agent leaves. */
  readonly answer: Promise<Answer>
  /** One more waits for the answer. @returns to be called when it no longer does; with the last of them the attempt is stopped */
  attach(): () => void
}
type Running = Attempt & { readonly taskId: string; readonly stopping: boolean; abort(why: AbortWhy): void; give(answer: Answer): void }

const RETRY_FULL_SECONDS = 1
const RETRY_LEAVING_SECONDS = 5
/** A handler that takes longer to stop is worth a line. */
const SLOW_STOP_MS = 1000
/** How long handlers may take to stop before their tasks are sent elsewhere. */
const STOP_MS = 500
/** The router hangs up when the time is over, and its clock began a little before ours. */
const NEARLY_OVER_MS = 500

/** @param isLeaving while true, nothing new is taken */
export const createAttempts = ({ name, capabilities, maxConcurrency, logger }: Settings, isLeaving: () => boolean) => {
  const running = new Map<string, Running>()
  let whenIdle: (() => void)[] = []

  const begin = (task: Task, handler: Handler, traceparent: string | undefined): Running => {
    const controller = new AbortController()
    const log = withFields(logger, { task_id: task.taskId, attempt: task.attempt })
    const began = performance.now()
    const { promise: answer, resolve } = Promise.withResolvers<Answer>()
    let answered = false
    let waiting = 0
    let why: AbortWhy | undefined

    const give = (its: Answer): void => {
      answered = true
      resolve(its)
    }
    const abort = (its: AbortWhy): void => {
      if (why !== undefined) return
      why = its
      log.info(`stopping ${task.taskType}: ${its}`)
      controller.abort(new TaskAborted(its))
      if (its === 'timeout') give(abortedAnswer(task, its))
    }
    const timer = setTimeout(() => abort('timeout'), task.timeoutMs)
    const attach = (): (() => void) => {
      waiting += 1
      let attached = true
      return () => {
        if (attached) waiting -= 1
        attached = false
        if (waiting > 0 || answered) return
        const left = task.timeoutMs - (performance.now() - began)
        abort(left < Math.min(NEARLY_OVER_MS, task.timeoutMs / 10) ? 'timeout' : 'disconnected')
      }
    }

    const context: TaskContext = {
      taskId: task.taskId,
      taskType: task.taskType,
      attempt: task.attempt,
      attemptId: task.attemptId,
      timeoutMs: task.timeoutMs,
      deadline: new Date(Date.now() + task.timeoutMs),
      metadata: task.metadata,
      signal: controller.signal,
      logger: log,
      traceparent,
    }
    const work = async (): Promise<void> => {
      try {
        const result: unknown = await handler(task.parameters, context)
        if (why === undefined) give(returnedAnswer(task, result, performance.now() - began))
      } catch (error) {
        if (why === undefined) give(thrownAnswer(task, error))
        log[why !== undefined ? 'debug' : isFinal(error) ? 'warn' : 'error'](`${task.taskType} failed`, { error })
      }
      clearTimeout(timer)
      if (why !== undefined) give(abortedAnswer(task, why))
      ended(task.attemptId)
      const tookMs = Math.round(performance.now() - began)
      log.debug(`${task.taskType} ended`, { took_ms: tookMs })
      if (why === 'timeout' && tookMs - task.timeoutMs > SLOW_STOP_MS) log.warn(`${task.taskType} worked on for ${tookMs - task.timeoutMs} ms after its time was over; let it obey its signal`)
    }

    const attempt: Running = { taskId: task.taskId, answer, attach, abort, give, get stopping() { return why !== undefined } } // prettier-ignore
    running.set(task.attemptId, attempt)
    log.debug(`${task.taskType} begins`)
    void work()
    return attempt
  }

  const ended = (attemptId: string): void => {
    running.delete(attemptId)
    if (running.size > 0) return
    for (const tell of whenIdle) tell()
    whenIdle = []
  }

  /** Begins an attempt, or joins the one that runs under its id. @returns the attempt, or why not */
  const take = (task: Task, traceparent: string | undefined): Attempt | Answer => {
    const its = { task_id: task.taskId }
    const handler = capabilities.get(task.taskType)
    if (!handler) return refusal(422, `${name} has no capability ${task.taskType}`, its)
    const same = running.get(task.attemptId)
    if (same && !same.stopping) return same
    if (same) return refusal(503, 'this attempt is being stopped', its, RETRY_FULL_SECONDS)
    if (isLeaving()) return refusal(503, `${name} is leaving`, its, RETRY_LEAVING_SECONDS)
    if (running.size >= maxConcurrency) return refusal(429, `${name} has all the ${maxConcurrency} tasks it can do at once`, its, RETRY_FULL_SECONDS)
    return begin(task, handler, traceparent)
  }

  /** Stops what runs of a task. @returns whether there was anything */
  const cancelTask = (taskId: string): boolean => {
    const its = [...running.values()].filter((attempt) => attempt.taskId === taskId)
    for (const attempt of its) attempt.abort('cancelled')
    return its.length > 0
  }

  /** Waits until nothing runs. @returns false when that took longer */
  const idle = async (withinMs: number): Promise<boolean> => {
    if (running.size === 0) return true
    const { promise, resolve } = Promise.withResolvers<void>()
    whenIdle.push(resolve)
    const timer = setTimeout(resolve, withinMs)
    await promise
    clearTimeout(timer)
    return running.size === 0
  }

  /** Stops everything, and answers what does not stop so that it is done elsewhere. */
  const stopAll = async (): Promise<void> => {
    for (const attempt of running.values()) attempt.abort('stopped')
    if (await idle(STOP_MS)) return
    for (const [attemptId, attempt] of running) {
      logger.warn('left while a handler was still at work: it does not obey its signal', { task_id: attempt.taskId, attempt_id: attemptId })
      attempt.give(refusal(503, `${name} is leaving, and could not finish`, { task_id: attempt.taskId }, RETRY_FULL_SECONDS))
    }
  }

  return {
    take,
    cancelTask,
    abort: (attemptId: string, why: AbortWhy): void => running.get(attemptId)?.abort(why),
    ids: (): string[] => [...running.keys()],
    count: (): number => running.size,
    idle,
    stopAll,
  }
}
export type Attempts = ReturnType<typeof createAttempts>
