/** Times by cron in time zones, whose clocks are set twice a year, some at midnight and some by half an hour. */
import { describe, expect, test } from 'vitest'
import { parseCron } from '../src/contracts/cron.ts'

const at = (time: string): number => Date.parse(time)
const iso = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString().slice(0, 19))

describe('a cron’s times', () => {
  const times = (cron: string, tz: string, from: string, count: number): (string | null)[] => {
    const { next } = parseCron(cron, tz)
    const found: (string | null)[] = []
    for (let t: number | null = at(from); t !== null && found.length < count; ) found.push(iso((t = next(t))))
    return found
  }

  test.each([
    ['are those of its zone, in winter and in summer', '0 9 * * MON-FRI', 'America/New_York', '2026-03-05T20:00:00Z', ['2026-03-06T14:00:00', '2026-03-09T13:00:00']],
    ['come later by as much as the clock jumps over them', '30 2 * * *', 'Europe/Berlin', '2026-03-28T12:00:00Z', ['2026-03-29T01:30:00', '2026-03-30T00:30:00']],
    ['come once where the clock jumps onto others of them', '*/30 1-3 * * *', 'Europe/Berlin', '2026-03-28T12:00:00Z', ['2026-03-29T00:00:00', '2026-03-29T00:30:00', '2026-03-29T01:00:00', '2026-03-29T01:30:00', '2026-03-29T23:00:00']],
    ['come once when the clock shows them twice', '30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z', ['2026-10-25T00:30:00', '2026-10-26T01:30:00']],
    ['go on evenly when every hour is meant', '*/30 * * * *', 'Europe/Berlin', '2026-10-25T00:00:00Z', ['2026-10-25T00:30:00', '2026-10-25T01:00:00', '2026-10-25T01:30:00', '2026-10-25T02:00:00']],
    ['have no day left out where the clock jumps at midnight', '0 0 * * *', 'Africa/Cairo', '2026-04-22T12:00:00Z', ['2026-04-22T22:00:00', '2026-04-23T22:00:00', '2026-04-24T21:00:00']],
    ['nor where it jumps by half an hour', '15 2 * * *', 'Australia/Lord_Howe', '2026-10-02T12:00:00Z', ['2026-10-02T15:45:00', '2026-10-03T15:45:00', '2026-10-04T15:15:00']],
    ['are of either day when both are given', '0 0 13 * FRI', 'UTC', '2026-02-01T00:00:00Z', ['2026-02-06T00:00:00', '2026-02-13T00:00:00', '2026-02-20T00:00:00']],
    ['may be years apart', '0 0 29 2 *', 'UTC', '2026-01-01T00:00:00Z', ['2028-02-29T00:00:00', '2032-02-29T00:00:00']],
    ['may have seconds', '*/20 0 12 * * *', 'UTC', '2026-01-01T12:00:10Z', ['2026-01-01T12:00:20', '2026-01-01T12:00:40', '2026-01-02T12:00:00']],
    ['may never come', '0 0 31 4,6 *', 'UTC', '2026-01-01T00:00:00Z', [null]],
  ])('%s', (_, cron, tz, from, expected) => {
    expect(times(cron, tz, from, expected.length)).toEqual(expected)
  })

  test.each([
    ['Europe/Berlin', '45 1 * * *'], ['America/Santiago', '30 0 * * *'], ['Asia/Beirut', '0 0 * * *'], ['America/Havana', '30 0 * * *'], ['Pacific/Chatham', '0 3 * * *'], ['Australia/Lord_Howe', '45 1 * * *'],
  ])('%s: a year of %s has as many of them on each day', (tz, cron) => {
    const day = new Intl.DateTimeFormat('en-CA', { timeZone: tz, dateStyle: 'short' })
    const days = new Map<string, number>()
    const { next } = parseCron(cron, tz)
    for (let t = next(at('2026-01-02T00:00:00Z'))!; t < at('2026-12-30T00:00:00Z'); t = next(t)!) days.set(day.format(t), (days.get(day.format(t)) ?? 0) + 1)
    const counts = [...days.values()].slice(1, -1)
    expect([days.size > 355, new Set(counts).size]).toEqual([true, 1])
  })
})
