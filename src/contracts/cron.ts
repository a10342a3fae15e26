/**
 * Times by cron, in a time zone. cron-parser reads the expression and gives the times as the clock on the wall shows them, as if in UTC;
 * which instants these are is decided here. Left to itself it passes over a whole day where the clock goes forward at midnight (Cairo,
 * Santiago), and over a time in a gap of half an hour.
 *
 * A time that the clock passes over comes as much later as it jumps: 02:30 is then 03:30. One that it shows twice comes once, the first
 * time; unless every hour is meant: then it is every hour that passes, be there 23 or 25.
 */
import { CronExpressionParser, type CronExpression } from 'cron-parser'

export const MAX_CRON = 200
const HOUR_MS = 3_600_000
/** No clock is set by more at once. */
const LARGEST_CHANGE_MS = 3 * HOUR_MS
/** UTC is not further than that from any clock, and no clock is set twice within twice as long. */
const DAY_MS = 24 * HOUR_MS
/** Of a clock, looked at for the next time: some fifty years. */
const MAX_CHANGES = 100
/** Times that are looked at for the next one; more than in two hours. */
const MAX_TIMES = 10_000

/** What is allowed, for people. */
export const CRON_FORM = 'must be a cron expression: minute, hour, day of month, month, day of week, and perhaps the second before them, such as 0 9 * * MON-FRI'
export const ZONE_FORM = 'must be a time zone of the IANA database, such as Europe/Berlin'

export const isTimeZone = (zone: string): boolean => {
  if (!/^[A-Za-z][A-Za-z0-9_+/-]{0,63}$/.test(zone)) return false // else offsets would do, which know no summer
  try {
    clockOf(zone)
    return true
  } catch {
    return false
  }
}

type Clock = Intl.DateTimeFormat
const clocks = new Map<string, Clock>()
/** @throws RangeError when there is no such zone */
const clockOf = (zone: string): Clock => {
  let clock = clocks.get(zone)
  if (!clock) {
    clock = new Intl.DateTimeFormat('en-US', { timeZone: zone, calendar: 'iso8601', numberingSystem: 'latn', hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric' })
    clocks.set(zone, clock) // at most some hundred zones, by some case of their letters
    if (clocks.size > 1000) clocks.delete(clocks.keys().next().value!)
  }
  return clock
}

/** How far the zone's clock is ahead of UTC at an instant, in ms. */
const offsetAt = (clock: Clock, at: number): number => {
  const seconds = Math.floor(at / 1000) * 1000
  const p: Record<string, number> = {}
  for (const { type, value } of clock.formatToParts(seconds)) p[type] = Number(value)
  return Date.UTC(p.year!, p.month! - 1, p.day!, p.hour, p.minute, p.second) - seconds
}

/** When the clock is set, within a span at whose ends its offsets differ: the first instant with another offset than at its beginning. */
const changeBetween = (clock: Clock, from: number, to: number): number => {
  const before = offsetAt(clock, from)
  let low = from
  let high = to
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (offsetAt(clock, middle) === before) low = middle
    else high = middle
  }
  return high
}

/** The instant at which the clock shows a time: the first of two; of none, as much later as the clock jumps. */
const instantOf = (clock: Clock, wall: number): number => {
  const before = offsetAt(clock, wall - DAY_MS)
  const after = offsetAt(clock, wall + DAY_MS)
  const early = wall - before
  const late = wall - after
  // Both are right where nothing changes. Before the change the old offset is right, behind it the new one.
  if (offsetAt(clock, early) === before) return early
  return offsetAt(clock, late) === after ? late : early
}

export type Cron = {
  /** The first time after an instant; null when there is none any more. */
  next(afterMs: number): number | null
}

/**
 * @param zone an IANA time zone
 * @throws Error when the expression is none, with words that are no more than a hint
 */
export const parseCron = (expression: string, zone: string): Cron => {
  const text = expression.trim()
  const named = text.startsWith('@')
  const fields = text.split(/ +/).length
  if (!/^[ -~]+$/.test(text) || text.length > MAX_CRON || (named ? fields !== 1 : fields < 5 || fields > 6)) throw new Error('too long, or not of five or six fields')
  if (!named && /H/i.test(text.replace(/[A-Za-z]{3}/g, ''))) throw new Error('H is not known') // it would be another time in each process
  const parsed = CronExpressionParser.parse(text, { tz: 'UTC' })
  if (isOfNoDay(parsed)) return { next: () => null }
  const clock = clockOf(zone)
  const everyHour = parsed.fields.hour.values.length === 24
  return { next: (afterMs) => (everyHour ? nextOfEachHour(parsed, clock, afterMs) : nextOfSomeHours(parsed, clock, afterMs)) }
}

const LONGEST = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
/** Such as the 31st of April. Years of days would be looked at for it, which takes a third of a second. */
const isOfNoDay = ({ fields: { month, dayOfMonth, dayOfWeek } }: CronExpression): boolean =>
  dayOfWeek.isWildcard && month.values.every((m) => dayOfMonth.values.every((day) => typeof day === 'number' && day > LONGEST[m - 1]!))

/** The next time that the clock may show after one, as if in UTC; null when there is none. */
const nextOnWall = (parsed: CronExpression, after: number): number | null => {
  try {
    parsed.reset(new Date(after))
    return parsed.next().getTime()
  } catch {
    return null // it looks some years ahead
  }
}

/** Time goes on evenly, from change to change of the clock. */
const nextOfEachHour = (parsed: CronExpression, clock: Clock, after: number): number | null => {
  for (let from = after, changes = 0; changes < MAX_CHANGES; changes++) {
    const offset = offsetAt(clock, from)
    const wall = nextOnWall(parsed, from + offset)
    if (wall === null) return null
    const at = wall - offset
    if (offsetAt(clock, at) === offset) return at
    // The clock is set before that. What it shows then may be a time of ours, so it is looked at from the instant before.
    const change = changeBetween(clock, from, at)
    const shown = nextOnWall(parsed, change + offsetAt(clock, change) - 1)
    if (shown === change + offsetAt(clock, change)) return change
    from = change
  }
  return null
}

/** Times shown twice come once. Near a change they may come in another order than the clock shows them. */
const nextOfSomeHours = (parsed: CronExpression, clock: Clock, after: number): number | null => {
  const offset = offsetAt(clock, after)
  const back = Math.max(0, offset - offsetAt(clock, after - LARGEST_CHANGE_MS))
  let best: number | null = null
  // Those that the clock would have shown before now may have been put off until later.
  let wall = nextOnWall(parsed, after + offset - back)
  for (let n = 0; wall !== null && n < MAX_TIMES; n++) {
    const at = instantOf(clock, wall)
    if (at > after && (best === null || at < best)) best = at
    // Behind one that comes when the clock shows it, none comes sooner.
    if (best !== null && at > after && at + offsetAt(clock, at) === wall) return best
    wall = nextOnWall(parsed, wall)
  }
  return best
}
