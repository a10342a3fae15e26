/** One attempt at a task: its handler's run, what becomes of it, and how that is said: as the answer to the delivery, or later. */
import { abortedAnswer, acceptedAnswer, isFinal, returnedAnswer, thrownAnswer, type Answer } from './answer.ts'
import { withFields, type Logger } from './log.ts'
import { createProgress } from './progress.ts'
import { MAX_TIMER_MS, TaskAborted, type AbortWhy, type Handler, type Progress, type Task, type TaskContext } from './task.ts'
import type { Telling } from './telling.ts'

/** An attempt under way. */
export type Attempt = {
  /** Never rejects. Comes when the handler ends, or says that the result comes later; sooner when the agent leaves, and a little after the time is over. */
  readonly answer: Promise<Answer>
  /** One more waits for the answer. @returns to be called when it no longer does; with the last of them the attempt is stopped */
  attach(): () => void
}
/** The same, for whoever keeps it. */
export type Running = Attempt & {
  readonly taskId: string
  readonly attemptId: string
  readonly stopping: boolean
  abort(why: AbortWhy): void
  /** Says what becomes of it, unless that was said: what its handler makes of it goes nowhere. Resolves when it is said. */
  give(answer: Answer): Promise<unknown>
}

/** A handler that takes longer to stop is worth a line. */
const SLOW_STOP_MS = 1000
/** The router hangs up when the time is over, and its clock began a little before ours. */
const NEARLY_OVER_MS = 500
/** It is for the router to say that a task has timed out: who has not hung up so long after it is answered. */
const TIMEOUT_ANSWER_MS = 500
/** A result is still told so long after its time: the router may have been away, and have ended nothing meanwhile. */
const TOLD_LATE_MS = 30_000

export type AttemptDeps = {
  task: Task
  handler: Handler
  traceparent: string | undefined
  logger: Logger
  /** Null: there is no router that it could tell. */
  telling: Telling | null
  /** After how long its result comes later by itself, ms. */
  laterAfterMs: number | undefined
  /** Called once: the handler has ended, and what is to be told is told. @param stopped it was told to stop, or nobody wanted its result */
  onEnded: (stopped: boolean) => void
}

/** Begins. */
export const createAttempt = ({ task, handler, traceparent, logger, telling, laterAfterMs, onEnded }: AttemptDeps): Running => {
  const controller = new AbortController()
  const nobodyWants = new AbortController()
  const hurry = new AbortController()
  const log = withFields(logger, { task_id: task.taskId, attempt: task.attempt })
  const began = performance.now()
  const { promise: answer, resolve } = Promise.withResolvers<Answer>()
  let waiting = 0
  let why: AbortWhy | undefined
  let isLater = false
  let isOver = false
  /** What became of it is known, and said or being said. */
  let isGiven = false
  let told: Promise<unknown> | undefined

  const give = async (its: Answer): Promise<unknown> => {
    if (isGiven) return told
    isGiven = true
    if (its.fault !== undefined) log.error(its.fault)
    if (!isLater) return resolve(its)
    // Of what was stopped the router knows, mostly because it said so; of what this agent leaves behind it hears by beats that no longer list it.
    if (why === undefined) told = telling!.result(task, its, { until: () => deadlineAt + TOLD_LATE_MS, signal: nobodyWants.signal, hurry: hurry.signal, logger: log })
    return told
  }
  const abort = (its: AbortWhy): void => {
    if (its === 'stopped') hurry.abort()
    else if (isGiven) nobodyWants.abort()
    if (why !== undefined || isOver) return
    why = its
    log.info(`stopping ${task.taskType}: ${its}`)
    controller.abort(new TaskAborted(its))
  }

  let timer: NodeJS.Timeout | undefined
  let deadlineAt = 0
  let deadline = new Date(0)
  const setDeadline = (at: number): void => {
    deadlineAt = at
    const leftMs = Math.max(at - performance.now(), 0)
    deadline = new Date(Date.now() + leftMs)
    clearTimeout(timer)
    timer = setTimeout(() => {
      abort('timeout')
      setTimeout(() => void give(abortedAnswer(task, 'timeout')), TIMEOUT_ANSWER_MS)
    }, Math.min(leftMs, MAX_TIMER_MS))
  }

  const attach = (): (() => void) => {
    waiting += 1
    let attached = true
    return () => {
      if (attached) waiting -= 1
      attached = false
      if (waiting > 0 || isGiven || isLater) return
      const left = deadlineAt - performance.now()
      abort(left < Math.min(NEARLY_OVER_MS, task.timeoutMs / 10) ? 'timeout' : 'disconnected')
    }
  }

  const later = (): void => {
    if (isLater || isGiven || isOver || why !== undefined) return
    if (telling === null || !task.named) return log.debug(`the result of ${task.taskType} cannot come later: ${telling === null ? 'the agent is told of no router' : 'it came without an attempt_id'}`)
    isLater = true
    resolve(acceptedAnswer(task))
  }

  /** A deadline of the router's clock, and what it was by ours: of a later one only the difference counts, so the clocks may differ. */
  let known: { theirs: number; ours: number } | undefined
  const readDeadline = (theirs: number, extendSeconds: number | undefined): void => {
    if (Number.isNaN(theirs) || why !== undefined || isOver) return
    known ??= { theirs, ours: Math.max(deadlineAt, extendSeconds === undefined ? 0 : performance.now() + extendSeconds * 1000) }
    const ours = known.ours + theirs - known.theirs
    if (ours > deadlineAt) setDeadline(ours)
  }
  const tellProgress = async (report: Progress): Promise<boolean> => {
    const { heard, deadlineAt: at, cancelRequested } = await telling!.progress(task, report, controller.signal, log)
    // The handler may have ended meanwhile, and its attempt with it.
    if (isOver || why !== undefined) return false
    if (heard === 'over') abort('lost')
    else if (cancelRequested) abort('cancelled')
    else if (heard === 'taken') readDeadline(at, report.extendSeconds)
    return heard === 'taken' && !cancelRequested
  }
  const progress = createProgress(tellProgress)

  const context: TaskContext = {
    taskId: task.taskId,
    taskType: task.taskType,
    attempt: task.attempt,
    attemptId: task.attemptId,
    timeoutMs: task.timeoutMs,
    get deadline() {
      return deadline
    },
    metadata: task.metadata,
    signal: controller.signal,
    logger: log,
    traceparent,
    later,
    progress: async (report) => telling !== null && task.named && why === undefined && progress.report(report),
  }

  const work = async (): Promise<void> => {
    try {
      const result: unknown = await handler(task.parameters, context)
      if (why === undefined) void give(returnedAnswer(task, result, performance.now() - began))
    } catch (error) {
      if (why === undefined) void give(thrownAnswer(task, error))
      log[why !== undefined ? 'debug' : isFinal(error) ? 'warn' : 'error'](`${task.taskType} failed`, { error })
    }
    isOver = true
    clearTimeout(timer)
    clearTimeout(laterTimer)
    progress.close()
    if (why !== undefined && why !== 'timeout') void give(abortedAnswer(task, why))
    const tookMs = Math.round(performance.now() - began)
    log.debug(`${task.taskType} ended`, { took_ms: tookMs })
    const lateMs = Math.round(performance.now() - deadlineAt)
    if (why === 'timeout' && lateMs > SLOW_STOP_MS) log.warn(`${task.taskType} worked on for ${lateMs} ms after its time was over; let it obey its signal`)
    const wanted = told === undefined || (await told) !== 'over'
    onEnded(why !== undefined || !wanted)
  }

  setDeadline(began + task.timeoutMs)
  const laterTimer = laterAfterMs === undefined ? undefined : setTimeout(later, Math.min(laterAfterMs, MAX_TIMER_MS))
  log.debug(`${task.taskType} begins`)
  // Not before whoever keeps it has it.
  queueMicrotask(() => void work())
  return { taskId: task.taskId, attemptId: task.attemptId, answer, attach, abort, give, get stopping() { return why !== undefined } } // prettier-ignore
}
