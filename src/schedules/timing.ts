/** When a schedule's runs are due. Worked out from Redis's time, by whoever asks: the same answer in each process. */
import { parseCron, type Cron } from '../contracts/cron.ts'
import type { NewSchedule } from '../contracts/schedule.ts'
import type { Timing } from '../queues/repeat.ts'

export type { Timing }

export const timingOf = (s: NewSchedule): Timing => (s.cron === undefined ? { kind: 'every', everyMs: Math.round(s.every_seconds! * 1000) } : { kind: 'cron', cron: s.cron, tz: s.tz ?? 'UTC' })

/** One field of the record: the same text is the same timing. */
export const writeTiming = (t: Timing): string => (t.kind === 'cron' ? `cron\t${t.tz}\t${t.cron}` : `every\t${t.everyMs}`)
export const readTiming = (text: string): Timing => {
  const [kind, first, ...rest] = text.split('\t')
  return kind === 'cron' ? { kind, tz: first!, cron: rest.join('\t') } : { kind: 'every', everyMs: Number(first) }
}

/** When it is due first; null when never. */
export const firstDue = (t: Timing, nowMs: number): number | null => (t.kind === 'every' ? nowMs + t.everyMs : parseCron(t.cron, t.tz).next(nowMs))

/** Of a cron, runs missed in one outage that are counted: each costs some 20 µs. */
const MAX_COUNTED = 1_000

/** What is to be done about what has come due. */
export type Plan = {
  /** The run to make now; null when it is too late for the latest one, too. */
  due: number | null
  missed: number
  /** When the last of those missed was due. */
  lastMissed: number | null
  /** null: never again. */
  next: number | null
}

/**
 * Of all that has come due the latest is made up for, if it is not too late; the others are missed.
 * @param due the first that is due, not after `nowMs`
 */
export const planOf = (t: Timing, due: number, nowMs: number, catchUpMs: number): Plan => {
  const { before, latest, next } = t.kind === 'every' ? evenly(t.everyMs, due, nowMs) : byCron(t.cron, t.tz, due, nowMs)
  if (nowMs - latest <= catchUpMs) return { due: latest, missed: before.count, lastMissed: before.last, next }
  return { due: null, missed: before.count + 1, lastMissed: latest, next }
}

type Elapsed = { before: { count: number; last: number | null }; latest: number; next: number | null }

const evenly = (everyMs: number, due: number, nowMs: number): Elapsed => {
  const count = Math.floor((nowMs - due) / everyMs)
  const latest = due + count * everyMs
  return { before: { count, last: count === 0 ? null : latest - everyMs }, latest, next: latest + everyMs }
}

const byCron = (cron: string, tz: string, due: number, nowMs: number): Elapsed => {
  const times = parseCron(cron, tz)
  const before: Elapsed['before'] = { count: 0, last: null }
  let latest = due
  for (;;) {
    const next = times.next(latest)
    if (next === null || next > nowMs) return { before, latest, next }
    before.last = latest
    latest = next
    if (before.count < MAX_COUNTED) before.count++
    else [before.last, latest] = lastTwo(times, next, nowMs)
  }
}

/** The last two times up to now, of more than one would go through: looked for in the last minute, then in ever longer spans. */
const lastTwo = (times: Cron, known: number, nowMs: number): [number, number] => {
  for (let spanMs = 60_000; nowMs - spanMs > known; spanMs *= 2) {
    let last = known
    let next = times.next(nowMs - spanMs - 1)
    for (let found = 0; next !== null && next <= nowMs; found++) {
      const after = times.next(next)
      if (found > 0 && (after === null || after > nowMs)) return [last, next]
      last = next
      next = after
    }
  }
  return [known, known]
}
