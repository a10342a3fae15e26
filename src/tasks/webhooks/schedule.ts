/** When a webhook is sent again: the schedule of Standard Webhooks, ten tries over some three days. */

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
/** After the first try, the second, and so on; behind the last of them no other comes. */
export const WAITS_MS: readonly number[] = [5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR]
/** Up to a tenth more, so that what failed together does not come back together. */
const JITTER = 0.1

export const scheduleMs = (): number[] => WAITS_MS.map((ms) => Math.round(ms * (1 + JITTER * Math.random())))
