/** What the agent works on: each attempt holds a place from its arrival until its handler has ended and its result is told, whoever still waits for it. */
import { leftAnswer, refusal, type Answer } from './answer.ts'
import { createAttempt, type Attempt, type Running } from './attempt.ts'
import type { Call } from './router.ts'
import type { Settings } from './settings.ts'
import type { AbortWhy, Task } from './task.ts'
import { createTelling } from './telling.ts'

const RETRY_FULL_SECONDS = 1
const RETRY_LEAVING_SECONDS = 5
/** How long handlers may take to stop before their tasks are sent elsewhere. */
const STOP_MS = 500

/**
 * @param hooks.isLeaving while true, nothing new is taken
 * @param hooks.onStopped called when a handler has ended that was told to stop
 */
export const createAttempts = (settings: Settings, call: Call, { isLeaving, onStopped }: { isLeaving: () => boolean; onStopped: () => void }) => {
  const { name, capabilities, maxConcurrency, logger, laterAfterMs } = settings
  const telling = settings.register ? createTelling(settings, call) : null
  const running = new Map<string, Running>()
  let whenIdle: (() => void)[] = []
  /** Whatever still runs is no longer this agent's. */
  let isLeft = false

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
    if (same && !same.stopping) {
      logger.debug(`${task.taskType} came again, and joins the attempt that runs`, { ...its, attempt_id: task.attemptId })
      return same
    }
    if (same) return refusal(503, 'this attempt is being stopped', its, RETRY_FULL_SECONDS)
    if (isLeaving()) return refusal(503, `${name} is leaving`, its, RETRY_LEAVING_SECONDS)
    if (running.size >= maxConcurrency) return refusal(429, `${name} has all the ${maxConcurrency} tasks it can do at once`, its, RETRY_FULL_SECONDS)
    const onEnded = (stopped: boolean): void => {
      ended(task.attemptId)
      if (stopped) onStopped()
    }
    const attempt = createAttempt({ task, handler, traceparent, logger, telling, laterAfterMs, onEnded })
    running.set(task.attemptId, attempt)
    return attempt
  }

  /** Stops what runs of a task, or one attempt at it. @returns whether there was anything */
  const cancelTask = (taskId: string, attemptId?: string): boolean => {
    const its = [...running.values()].filter((attempt) => attempt.taskId === taskId && (attemptId === undefined || attempt.attemptId === attemptId))
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

  /** Stops everything, and answers what does not stop so that it is done elsewhere. What is still to be told is tried once more. */
  const stopAll = async (): Promise<void> => {
    for (const attempt of running.values()) attempt.abort('stopped')
    if (await idle(STOP_MS)) return
    await Promise.all([...running].map(async ([attemptId, attempt]) => {
      if (attempt.stopping) logger.warn('left while a handler was still at work: it does not obey its signal', { task_id: attempt.taskId, attempt_id: attemptId })
      await attempt.give(leftAnswer(attempt))
    }))
    isLeft = true
  }

  return {
    take,
    cancelTask,
    abort: (attemptId: string, why: AbortWhy): void => running.get(attemptId)?.abort(why),
    /** What beats are to list: what is not among them is over, and goes elsewhere at no cost to its task. */
    ids: (): string[] => (isLeft ? [] : [...running.keys()]),
    count: (): number => running.size,
    idle,
    stopAll,
  }
}
export type Attempts = ReturnType<typeof createAttempts>
