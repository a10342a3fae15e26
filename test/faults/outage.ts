/** Times without a Redis that takes what it is told: made, watched, and ended. For rows. */
import { sleep, until } from '../system.ts'
import { mono } from './clock.ts'
import type { Trial } from './row.ts'

/** P12: work goes on so soon once Redis is back. Measured at an agent, on a machine that runs everything. */
export const GOES_ON_MS = 3_000
/** Lines that one of our processes may log in a second meanwhile. */
const LINES_A_SECOND = 5
/** What it had under way when it began is over by then, and said. */
const SETTLED_MS = 3_000

type Act = (trial: Trial) => unknown

/** How many calls were answered 503 since then: the proof that it was away. */
export const refused = ({ load }: Trial, since: number): number => load.calls.filter((c) => c.at >= since && c.status === 503).length

export const goesOnInTime = async (trial: Trial, withinMs = GOES_ON_MS): Promise<void> => {
  const took = await trial.goesOn()
  trial.recovered(took)
  if (took > withinMs) trial.violate(`P12: work went on ${Math.round(took)} ms after Redis was back`)
}

/** Every dispatcher sends something again in time; there is enough for all of them. */
export const goesOnEverywhere = async (trial: Trial, withinMs = GOES_ON_MS): Promise<void> => {
  const since = mono()
  await Promise.all(trial.fleet.dispatchers.map(async (d) => {
    const first = () => d.logged(since).find((line) => line.msg === 'sent')
    await until(() => first() !== undefined, { timeoutMs: 30_000, everyMs: 100, what: `work at ${d.name}` }).catch(() => {})
    const took = (first()?.at ?? Infinity) - since
    trial.recovered(took)
    if (took > withinMs) trial.violate(`P12: ${d.name} went on ${Math.round(took)} ms after Redis was back`)
  }))
}

/** Nobody fills the disk with complaints. */
export const logsLittle = ({ fleet, violate }: Trial, from: number, to: number): void => {
  const seconds = (to - from - SETTLED_MS) / 1000
  if (seconds < 1) return
  for (const m of fleet.members) {
    if (m.role === 'host') continue
    // What tasks come to is told as ever, where something can be done.
    const lines = m.logged(from + SETTLED_MS, to).filter((line) => line.level !== 'info' || line.task === undefined)
    if (lines.length / seconds > LINES_A_SECOND) violate(`${m.name} logged ${(lines.length / seconds).toFixed(1)} lines a second meanwhile, as ${lines.at(-1)!.msg}`)
  }
}

/** Gone for so long. */
export const outage = async (trial: Trial, ms: number, kill: Act, heal: Act): Promise<{ from: number; to: number }> =>
  trial.broken(async () => {
    const from = mono()
    trial.injected()
    await kill(trial)
    await sleep(ms)
    if (refused(trial, from) > 0) trial.bit()
    const to = mono()
    logsLittle(trial, from, to)
    await heal(trial)
    return { from, to }
  })
