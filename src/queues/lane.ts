/**
 * One queue as a dispatcher sees it: take a job, settle it. BullMQ's Worker without its loop (a slot decides when to fetch, see workers/dispatcher.ts), used as its
 * manual "fetch and move" pattern describes: https://docs.bullmq.io/patterns/manually-fetching-jobs
 *
 * What nearly every job goes through is done without it: put in line with its record, taken with its slot and done with its attempt, by jobs.lua. Here is the rest.
 * `token` is the lock's: whoever holds it may settle the job.
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

/** What a lane does by scripts of ours. */
export type LaneScripts = {
  /** The id of the next job, locked; null when none can go. */
  take: (queue: string, token: string) => Promise<string | null>
  /** Renews locks, for so long; the ids of those that are no longer held by their token. */
  renew: (queue: string, ms: number, idsAndTokens: string[]) => Promise<string[]>
}

export class Lane extends Worker<JobData> {
  readonly #scripts: LaneScripts
  constructor(name: string, options: WorkerOptions, backend: () => RedisQueueBackend, scripts: LaneScripts) {
    super(name, null, options, backend)
    this.#scripts = scripts
  }

  /** The next job by BullMQ's order, locked, by its id; null when none can go. */
  take(token: string): Promise<string | null> {
    return this.#scripts.take(this.name, token)
  }

  /** The same by BullMQ's own script, which also puts those in line whose time has come, and makes the next one of a job scheduler. */
  async takeWhole(token: string): Promise<TaskJob | undefined> {
    return (await this.getNextJob(token, { block: false })) as TaskJob | undefined
  }

  /** Behind a `takeWhole` that found nothing: in how many ms the first of the delayed jobs is due; null when there is none. */
  nextDelayedMs(): number | null {
    // A private member, which BullMQ's own loop waits by.
    const { blockUntil } = this as unknown as { blockUntil?: number }
    return blockUntil ? Math.max(0, blockUntil - Date.now()) : null
  }

  /**
   * Does with a task's job what the record has come to behind an attempt; nothing when it is not there any more.
   * @param to.status of the record; '' when there is none
   * @param to.waitMs until the task may go again, if it may
   */
  async settle(id: string, token: string, to: { status: TaskStatus | ''; error: string; waitMs: number }): Promise<void> {
    const job = await this.#find(id)
    if (!job) return
    if (to.status === 'completed') await this.complete(job, token)
    else if (to.status === '' || isEnd(to.status)) await job.moveToFailed(withoutStack(new UnrecoverableError(to.status === 'cancelled' || to.error === '' ? to.status || 'no record' : to.error)), token, false)
    else if (to.status === 'retrying') await this.#retry(job, to.error, to.waitMs, token)
    else if (to.waitMs > 0) await this.#defer(job, to.waitMs, token)
    else await job.moveToWait(token)
  }

  /** The task has ended well. The record keeps what came of it; the job may go. */
  async complete(job: TaskJob, token: string): Promise<void> {
    if (!this.keeps()) job.opts.removeOnComplete = true
    await job.moveToCompleted(null as never, token, false)
  }

  /** Not yet: the job waits so long, and no attempt is counted. */
  async defer(id: string, delayMs: number, token: string): Promise<void> {
    const job = await this.#find(id)
    if (job) await this.#defer(job, delayMs, token)
  }

  /** Back to the front of its priority, no attempt counted. */
  async putBack(id: string, token: string): Promise<void> {
    await (await this.#find(id))?.moveToWait(token)
  }

  /** Renews locks; returns the ids of jobs that are no longer ours. */
  async renew(jobs: { id: string; token: string }[]): Promise<string[]> {
    return this.#scripts.renew(this.name, LOCK_MS, jobs.flatMap((j) => [j.id, j.token]))
  }

  /** Whether one more job that is done is kept for the Board. It makes it dearer: under load only some are. */
  keeps(): boolean {
    const second = Math.floor(performance.now() / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#kept = 0
    }
    return this.#kept++ < KEPT_PER_SECOND
  }
  #second = 0
  #kept = 0

  async #find(id: string): Promise<TaskJob | undefined> {
    return (await Job.fromId(this, id)) as TaskJob | undefined
  }

  /**
   * The attempt failed and goes again after `delayMs`. The record has already allowed it; should BullMQ count differently
   * (it can only have counted more), the record wins.
   */
  async #retry(job: TaskJob, why: string, delayMs: number, token: string): Promise<void> {
    if (job.attemptsMade + 1 >= (job.opts.attempts ?? 1)) return this.#defer(job, delayMs, token)
    job.opts.backoff = { type: 'switchyard' } // names backoffStrategy; no job needs to carry it
    await job.moveToFailed(withoutStack(new RetryLater(why, delayMs)), token, false)
  }

  async #defer(job: TaskJob, delayMs: number, token: string): Promise<void> {
    await job.moveToDelayed(Date.now() + delayMs, token)
  }
}
