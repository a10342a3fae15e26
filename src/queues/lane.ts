/**
 * One queue as a dispatcher sees it: take a job, settle it, perhaps take the next in the same call. BullMQ's Worker without its loop
 * (a slot decides when to fetch, see workers/dispatcher.ts), used as its manual "fetch and move" pattern describes:
 * https://docs.bullmq.io/patterns/manually-fetching-jobs
 *
 * `token` is the lock's: whoever holds it may settle the job. The next job fetched by a settling call is locked with the same token.
 */
import { Job, UnrecoverableError, Worker, type RedisQueueBackend, type WorkerOptions } from 'bullmq'
import { isEnd, type TaskStatus } from '../contracts/task.ts'
import { RetryLater } from './backoff.ts'
import { LOCK_MS, type JobData, type TaskJob } from './job.ts'

/** Completed jobs that a dispatcher keeps for the Board, of each queue. */
const KEPT_PER_SECOND = 10

/** BullMQ keeps the stack of each failure; ours would only tell where this file is. */
const withoutStack = <E extends Error>(error: E): E => {
  delete error.stack
  return error
}

/** Renews locks, for so long; the ids of those that are no longer held by their token. */
export type Renew = (queue: string, ms: number, idsAndTokens: string[]) => Promise<string[]>

export class Lane extends Worker<JobData> {
  readonly #renew: Renew
  constructor(name: string, options: WorkerOptions, backend: () => RedisQueueBackend, renew: Renew) {
    super(name, null, options, backend)
    this.#renew = renew
  }

  /** The next job by BullMQ's order, locked; undefined when none can go. */
  async take(token: string): Promise<TaskJob | undefined> {
    return (await this.getNextJob(token, { block: false })) as TaskJob | undefined
  }

  /** Behind a `take` that found nothing: in how many ms the first of the delayed jobs is due; null when there is none. */
  nextDelayedMs(): number | null {
    // A private member, which BullMQ's own loop waits by.
    const { blockUntil } = this as unknown as { blockUntil?: number }
    return blockUntil ? Math.max(0, blockUntil - Date.now()) : null
  }

  /** The job of a task, if there is one. */
  async find(id: string): Promise<TaskJob | undefined> {
    return (await Job.fromId(this, id)) as TaskJob | undefined
  }

  /**
   * Does with the job what the record has come to behind an attempt.
   * @param to.status of the record; '' when there is none
   * @param to.waitMs until the task may go again, if it may
   */
  async settle(job: TaskJob, token: string, to: { status: TaskStatus | ''; error: string; waitMs: number }, fetchNext: boolean): Promise<TaskJob | undefined> {
    if (to.status === 'completed') return this.complete(job, token, fetchNext)
    if (to.status === '' || isEnd(to.status)) return this.fail(job, to.status === 'cancelled' || to.error === '' ? to.status || 'no record' : to.error, token, fetchNext)
    if (to.status === 'retrying') return this.retry(job, to.error, to.waitMs, token, fetchNext)
    if (to.waitMs > 0) await this.defer(job, to.waitMs, token)
    else await this.putBack(job, token)
    return fetchNext ? this.take(token) : undefined
  }

  /** The task has ended well. `fetchNext`: and the next job, if there is one. The record keeps what came of it; the job may go. */
  async complete(job: TaskJob, token: string, fetchNext: boolean): Promise<TaskJob | undefined> {
    if (!this.#keeps()) job.opts.removeOnComplete = true
    return this.#next(await job.moveToCompleted(null as never, token, fetchNext), token)
  }

  /** The task has ended otherwise. */
  async fail(job: TaskJob, why: string, token: string, fetchNext: boolean): Promise<TaskJob | undefined> {
    return this.#next(await job.moveToFailed(withoutStack(new UnrecoverableError(why)), token, fetchNext), token)
  }

  /**
   * The attempt failed and goes again after `delayMs`. The record has already allowed it; should BullMQ count differently
   * (it can only have counted more), the record wins.
   */
  async retry(job: TaskJob, why: string, delayMs: number, token: string, fetchNext: boolean): Promise<TaskJob | undefined> {
    if (job.attemptsMade + 1 < (job.opts.attempts ?? 1)) {
      job.opts.backoff = { type: 'switchyard' } // names backoffStrategy; no job needs to carry it
      return this.#next(await job.moveToFailed(withoutStack(new RetryLater(why, delayMs)), token, fetchNext), token)
    }
    await this.defer(job, delayMs, token)
    return fetchNext ? this.take(token) : undefined
  }

  /** Not yet: the job waits so long, and no attempt is counted. */
  async defer(job: TaskJob, delayMs: number, token: string): Promise<void> {
    await job.moveToDelayed(Date.now() + delayMs, token)
  }

  /** Back to the front of its priority, no attempt counted. */
  async putBack(job: TaskJob, token: string): Promise<void> {
    await job.moveToWait(token)
  }

  /** Renews locks; returns the ids of jobs that are no longer ours. */
  async renew(jobs: { id: string; token: string }[]): Promise<string[]> {
    return this.#renew(this.name, LOCK_MS, jobs.flatMap((j) => [j.id, j.token]))
  }

  /** Keeping a job for the Board makes the dearest of BullMQ's scripts dearer: under load only some are. */
  #keeps(): boolean {
    const second = Math.floor(performance.now() / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#kept = 0
    }
    return this.#kept++ < KEPT_PER_SECOND
  }
  #second = 0
  #kept = 0

  async #next(reply: unknown, token: string): Promise<TaskJob | undefined> {
    if (!Array.isArray(reply)) return undefined
    return (await this.nextJobFromJobData(reply[0], reply[1], token)) as TaskJob | undefined
  }
}
