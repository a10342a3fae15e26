/** A Redis that is killed, frozen, or takes nothing. */
import { sleep, until } from '../../system.ts'
import { mono } from '../clock.ts'
import type { Row, Trial } from '../row.ts'

/** P12: work goes on so soon once Redis is back. Measured at an agent, on a machine that runs everything. */
const GOES_ON_MS = 3_000

/** How many calls were answered 503 while it was away: the proof that it was. */
const refused = ({ load }: Trial, since: number): number => load.calls.filter((c) => c.at >= since && c.status === 503).length

const goesOnInTime = async (trial: Trial): Promise<void> => {
  const took = await trial.goesOn()
  trial.recovered(took)
  if (took > GOES_ON_MS) trial.violate(`P12: work went on ${Math.round(took)} ms after Redis was back`)
}

/** Gone for so long. */
const outage = (seconds: number, kill: (trial: Trial) => Promise<unknown> | unknown, heal: (trial: Trial) => Promise<unknown> | unknown) => async (trial: Trial): Promise<void> => {
  await trial.broken(async () => {
    const at = mono()
    trial.injected()
    await kill(trial)
    await sleep(seconds * 1000)
    if (refused(trial, at) > 0) trial.bit()
    await heal(trial)
  })
  await goesOnInTime(trial)
}
const killedFor = (seconds: number) => outage(seconds, ({ fleet }) => fleet.store.kill(), ({ fleet }) => fleet.store.start())

export const redisRows: readonly Row[] = [
  {
    name: 'redis-killed',
    fault: 'Redis killed (kill -9) in mid-work, and started again',
    promises: 'P1–P3, P11–P13',
    mixes: true,
    lateEnds: true,
    run: async (trial) => {
      for (let i = 0; i < trial.times(3); i++) {
        await killedFor(trial.random.between(0.2, 3))(trial)
        await sleep(2000)
      }
    },
  },
  {
    name: 'redis-frozen',
    fault: 'Redis frozen (SIGSTOP) for 15 s, longer than all locks',
    promises: 'P1–P3, P11–P13',
    mixes: true,
    lateEnds: true,
    run: outage(15, ({ fleet }) => fleet.store.pause(), ({ fleet }) => fleet.store.go()),
  },
  {
    name: 'store-errs',
    fault: 'Redis refuses all writes just when agents have answered, 0.3 s at a time',
    promises: 'P1, P3, P4',
    mixes: true,
    lateEnds: true,
    run: async (trial) => {
      const { fleet, random } = trial
      for (let i = 0; i < trial.times(10); i++) {
        // While something is under way, so that its end falls into it.
        await until(() => fleet.ledger.open().length > 2, { timeoutMs: 15_000, what: 'work at agents' })
        await trial.broken(async () => {
          trial.injected()
          const at = mono()
          await fleet.redis.config('SET', 'min-replicas-to-write', '1')
          await until(() => fleet.ledger.ends(at).length > 0, { timeoutMs: 10_000, everyMs: 2, what: 'an end while nothing can be written' })
          trial.bit()
          await sleep(random.between(0, 300))
          await fleet.redis.config('SET', 'min-replicas-to-write', '0')
        })
        trial.recovered(await trial.goesOn())
        await sleep(random.between(200, 600))
      }
    },
    check: ({ fleet, records, windows, violate }) => {
      // What an agent has done it has done: nobody does it again.
      const again = new Map<string, number>()
      for (const s of fleet.ledger.starts()) again.set(s.task, (again.get(s.task) ?? 0) + 1)
      const wasted = fleet.ledger.ends().filter((e) => e.why === 'answered' && windows.some((w) => e.at >= w.from && e.at <= w.to) && (records.get(e.task)?.result as { attempt_id?: string } | null)?.attempt_id !== e.attempt && records.get(e.task)?.status !== 'cancelled')
      if (wasted.length > 0) violate(`${wasted.length} tasks were done, and done again: ${wasted.slice(0, 5).map((e) => e.task).join(', ')}`)
    },
  },
]
