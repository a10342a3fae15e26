/**
 * When a failed attempt is tried again. The dispatcher asks `retryDelayMs`, tells the record, and hands the same delay to BullMQ inside
 * the error (`RetryLater`), so both agree.
 */
import type { MinimalJob } from 'bullmq'

/** No retry waits longer than this, whatever the task or the agent asks. */
export const MAX_RETRY_DELAY_MS = 300_000

/** What a failed attempt's job fails with: why, and when it may go again. */
export class RetryLater extends Error {
  readonly delayMs: number
  constructor(message: string, delayMs: number) {
    super(message)
    this.delayMs = delayMs
  }
}

/** A number, or up to a tenth more: those who are all told to come back at the same time do not. */
const aLittleMore = (ms: number): number => ms * (1 + Math.random() / 10)

/**
 * Exponential: between half and all of `retryDelayMs · 2^retries`. Fixed: within a tenth of `retryDelayMs`. An agent's Retry-After is the least.
 * Capped at 5 minutes, before the chance is thrown in: those at the cap do not come back together either.
 *
 * Half of the delay is kept, where "full jitter" would begin at 0: a task has few retries, and each that comes at once, at an agent that has
 * just failed it, is one lost. That many failures together do not become as many retries together is seen to by the budget (tasks/budget.lua).
 * @param retries how often the task has been retried before
 */
export const retryDelayMs = (o: { backoff: string; retryDelayMs: number; retries: number; retryAfterMs?: number | undefined }): number => {
  const full = Math.min(o.backoff === 'fixed' ? o.retryDelayMs : o.retryDelayMs * 2 ** Math.min(o.retries, 20), MAX_RETRY_DELAY_MS)
  const jittered = o.backoff === 'fixed' ? full * (0.9 + Math.random() * 0.1) : full * (0.5 + Math.random() * 0.5)
  return Math.round(Math.min(Math.max(jittered, aLittleMore(o.retryAfterMs ?? 0), 1), MAX_RETRY_DELAY_MS))
}

/** How long an agent rests that asked for it: up to a tenth longer, as others may have been told the same by what they all wait for. */
export const restMs = (askedMs: number): number => Math.round(aLittleMore(askedMs))

/** An agent without room costs a task nothing, and it keeps its place in the line; but not without end. */
const DECLINES_IN_PLACE = 3
const MAX_DECLINE_MS = 30_000

/**
 * A task that is declined (429, 503) again and again, and has no other agent to go to, steps aside: for a second and then for twice as
 * long each time, up to 30 s. At the head of its queue it would keep everything behind it from ever going.
 * @param declined how often it was sent before without that being an attempt
 */
export const declineDelayMs = (declined: number): number =>
  declined < DECLINES_IN_PLACE ? 0 : Math.min(1000 * 2 ** Math.min(declined - DECLINES_IN_PLACE, 10), MAX_DECLINE_MS)

/** BullMQ's `backoffStrategy`. A job that failed without a delay of ours (nothing does) would wait a second. */
export const backoffStrategy = (_made: number, _type?: string, error?: Error, _job?: MinimalJob): number => (error instanceof RetryLater ? error.delayMs : 1000)
