/** What an agent tells the router of an attempt, beside its answer to the delivery: how far it is, and a result that comes later. */
import { refusedResult, resultBody, type Answer } from './answer.ts'
import { createRest, jitter } from './rest.ts'
import { reasonOf, wordsOf, type Call, type RouterAnswer } from './router.ts'
import type { Logger } from './log.ts'
import type { Settings } from './settings.ts'
import type { Progress, Task } from './task.ts'

/** `taken` it counts, `over` the attempt is no longer the task's current one, `unheard` neither. */
export type Heard = 'taken' | 'over' | 'unheard'
/** Of progress: `deadlineAt` is the attempt's deadline by the router's clock, ms; NaN when it did not say. */
export type ProgressHeard = { heard: Heard; deadlineAt: number; cancelRequested: boolean }

const FIRST_PAUSE_MS = 250
const LONGEST_PAUSE_MS = 5000
/** A result may be 1 MiB, and the way slow. */
const RESULT_MS = 15_000
/** A handler may be waiting for it. */
const PROGRESS_MS = 2000
/** While leaving, a router that does not answer is waited for no longer than this. */
export const LAST_TRY_MS = 2000

/** The same again would be refused again; a key (401, 403) may be mended meanwhile. */
const isRefusal = (status: number): boolean => status >= 400 && status < 500 && ![401, 403, 404, 408, 425, 429].includes(status)
/** Said by the router; a proxy before one that is away may say 404 as well. */
const isOver = ({ status, json }: RouterAnswer): boolean => status === 409 || (status === 404 && typeof json['type'] === 'string')

export type ResultLimits = {
  /** By performance.now(): after that nobody wants it any more. Asked anew each time. */
  until: () => number
  /** The attempt is over: no more tries. */
  signal: AbortSignal
  /** The agent leaves: one more try, at once. */
  hurry: AbortSignal
  logger: Logger
}

/** To be made once for an agent. */
export const createTelling = ({ url }: Pick<Settings, 'url'>, call: Call) => {
  const pathOf = (task: Task, what: string): string => `/tasks/${encodeURIComponent(task.taskId)}/${what}`

  /**
   * Tells how an attempt has ended, until the router has heard it: it may be away, and the result is all there is of the work. Never rejects.
   */
  const result = async (task: Task, answer: Answer, { until, signal, hurry, logger }: ResultLimits): Promise<Heard> => {
    let { body, fault } = resultBody(task, answer)
    if (fault !== undefined) logger.error(fault)
    const rest = createRest()
    for (const cut of [signal, hurry]) cut.addEventListener('abort', rest.cutShort, { once: true })
    let isRefused = false
    for (let tries = 1; !signal.aborted; tries++) {
      const isLast = hurry.aborted || performance.now() >= until()
      let why: string
      let atLeastMs = 0
      try {
        const said = await call(pathOf(task, 'result'), body, { timeoutMs: isLast ? LAST_TRY_MS : RESULT_MS, signal: isLast ? signal : AbortSignal.any([signal, hurry]) })
        if (said.status === 200 && said.json['task_id'] === task.taskId) {
          logger[tries > 1 ? 'info' : 'debug'](`the result of ${task.taskType} is told`)
          return 'taken'
        }
        if (isOver(said)) {
          logger.info(`the result of ${task.taskType} came too late: ${wordsOf(said)}`)
          return 'over'
        }
        why = said.status === 200 ? '200, but not as Switchyard does' : wordsOf(said)
        atLeastMs = said.retryAfterMs
        if (isRefusal(said.status)) {
          logger.error(`${url} does not take the result of ${task.taskType}: ${why}`)
          if (isRefused) return 'unheard'
          isRefused = true
          body = refusedResult(task, why)
          continue
        }
      } catch (error) {
        why = reasonOf(error)
      }
      if (signal.aborted) break
      if (isLast) {
        logger.error(`could not tell the result of ${task.taskType} to ${url} (${why}); the task will time out`)
        return 'unheard'
      }
      if (tries === 1) logger.warn(`could not tell the result of ${task.taskType} to ${url} (${why}); trying on`)
      const pauseMs = Math.max(jitter(Math.min(FIRST_PAUSE_MS * 2 ** Math.min(tries - 1, 10), LONGEST_PAUSE_MS), 0.25), atLeastMs)
      if (!hurry.aborted) await rest.for(Math.min(pauseMs, Math.max(until() - performance.now(), 0)))
    }
    return 'over'
  }

  /** One try. Never rejects. */
  const progress = async (task: Task, { percent, message, data, extendSeconds }: Progress, signal: AbortSignal, logger: Logger): Promise<ProgressHeard> => {
    const not = (heard: Heard): ProgressHeard => ({ heard, deadlineAt: NaN, cancelRequested: false })
    let body: string
    try {
      // What comes of rounding is no reason to be refused.
      body = JSON.stringify({ attempt_id: task.attemptId, percent: percent === undefined ? undefined : Math.min(Math.max(percent, 0), 100), message, data, extend_seconds: extendSeconds })
    } catch (error) {
      logger.warn(`the progress of ${task.taskType} is no JSON`, { error })
      return not('unheard')
    }
    let said: RouterAnswer
    try {
      said = await call(pathOf(task, 'progress'), body, { timeoutMs: PROGRESS_MS, signal })
    } catch (error) {
      if (!signal.aborted) logger.debug(`could not tell the progress of ${task.taskType} (${reasonOf(error)})`)
      return not('unheard')
    }
    const { status, json } = said
    if (status === 409) return not('over')
    if (status !== 200) {
      logger[isRefusal(status) ? 'warn' : 'debug'](`${url} does not take the progress of ${task.taskType}: ${wordsOf(said)}`)
      return not('unheard')
    }
    return { heard: 'taken', deadlineAt: Date.parse(String(json['deadline_at'])), cancelRequested: json['cancel_requested'] === true }
  }

  return { result, progress }
}
export type Telling = ReturnType<typeof createTelling>
