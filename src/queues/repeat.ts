/** When a job scheduler's next job is due: BullMQ asks, and the answer is the same as the schedule's record's. */
import type { RepeatOptions } from 'bullmq'
import { parseCron } from '../contracts/cron.ts'

export type Timing = { kind: 'cron'; cron: string; tz: string } | { kind: 'every'; everyMs: number }

/** As a pattern: BullMQ's own `every` begins at once, and reckons from the clock of whichever process adds the next job. */
const EVERY = /^every (\d+) ms from (\d+)$/

/** @param nextMs when the next run is due */
export const repeatOf = (timing: Timing, nextMs: number): RepeatOptions => (timing.kind === 'cron' ? { pattern: timing.cron, tz: timing.tz } : { pattern: `every ${timing.everyMs} ms from ${nextMs}` })

/** BullMQ's `repeatStrategy`. Its own passes over days on which a clock is set at midnight. */
export const repeatStrategy = (afterMs: number, { pattern, tz }: RepeatOptions): number | undefined => {
  const every = EVERY.exec(pattern!)
  if (!every) return parseCron(pattern!, tz ?? 'UTC').next(afterMs) ?? undefined
  const [everyMs, fromMs] = [Number(every[1]), Number(every[2])]
  return afterMs < fromMs ? fromMs : fromMs + (Math.floor((afterMs - fromMs) / everyMs) + 1) * everyMs
}
