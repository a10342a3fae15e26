/** When runs of schedules are due, and what becomes of those for which nobody was there. */
import { describe, expect, test } from 'vitest'
import { repeatOf, repeatStrategy } from '../src/queues/repeat.ts'
import { planOf, type Timing } from '../src/schedules/timing.ts'

const at = (time: string): number => Date.parse(time)
const iso = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString().slice(0, 19))
const HOUR = 3_600_000

describe('what has come due', () => {
  const daily: Timing = { kind: 'cron', cron: '0 2 * * *', tz: 'UTC' }
  const plan = (t: Timing, due: string, now: string, catchUpMs: number) => {
    const p = planOf(t, at(due), at(now), catchUpMs)
    return [iso(p.due), p.missed, iso(p.lastMissed), iso(p.next)]
  }
  test('is run; of several the latest, and not when it is too late', () => {
    expect(plan(daily, '2026-01-01T02:00:00Z', '2026-01-01T02:00:00Z', HOUR)).toEqual(['2026-01-01T02:00:00', 0, null, '2026-01-02T02:00:00'])
    expect(plan(daily, '2026-01-01T02:00:00Z', '2026-01-03T02:30:00Z', HOUR)).toEqual(['2026-01-03T02:00:00', 2, '2026-01-02T02:00:00', '2026-01-04T02:00:00'])
    expect(plan(daily, '2026-01-01T02:00:00Z', '2026-01-03T03:00:01Z', HOUR)).toEqual([null, 3, '2026-01-03T02:00:00', '2026-01-04T02:00:00'])
    expect(plan({ kind: 'every', everyMs: 1500 }, '2026-01-01T00:00:00Z', '2026-01-01T00:00:10Z', HOUR)).toEqual(['2026-01-01T00:00:09', 6, '2026-01-01T00:00:07', '2026-01-01T00:00:10'])
  })
  test('is counted up to a thousand, however long it was, and quickly', () => {
    const began = performance.now()
    expect(plan({ kind: 'cron', cron: '* * * * * *', tz: 'Europe/Berlin' }, '2025-01-01T00:00:00Z', '2026-06-01T00:00:00Z', HOUR)).toEqual(['2026-06-01T00:00:00', 1000, '2026-05-31T23:59:59', '2026-06-01T00:00:01'])
    expect(plan({ kind: 'cron', cron: '* 3 * * *', tz: 'UTC' }, '2025-01-01T03:00:00Z', '2026-06-01T10:00:00Z', HOUR)).toEqual([null, 1001, '2026-06-01T03:59:00', '2026-06-02T03:00:00'])
    expect(performance.now() - began).toBeLessThan(5_000)
  })
  test('comes by BullMQ at the same times', () => {
    for (const timing of [daily, { kind: 'cron', cron: '0 0 * * *', tz: 'Africa/Cairo' }, { kind: 'every', everyMs: 7000 }] satisfies Timing[]) {
      let due = at('2026-04-20T00:00:00Z')
      const repeat = repeatOf(timing, due)
      for (let i = 0; i < 10; i++) {
        const { next } = planOf(timing, due, due, HOUR)
        expect(repeatStrategy(due, repeat)).toBe(next)
        due = next!
      }
    }
    expect(repeatStrategy(5, repeatOf({ kind: 'every', everyMs: 7000 }, 100))).toBe(100)
  })
})
