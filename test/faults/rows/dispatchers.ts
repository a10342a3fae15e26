/** Dispatchers that are killed, or stand still. */
import { sleep, until } from '../../system.ts'
import type { Member } from '../fleet.ts'
import type { Row, Trial } from '../row.ts'

/** P12. */
const RESENT_MS = 20_000

/** The dispatcher with most in hand, once it has something. */
const busiest = ({ fleet }: Trial): Promise<{ dispatcher: Member; inHand: number }> =>
  until(async () => {
    const all = await Promise.all(fleet.dispatchers.map(async (dispatcher) => ({ dispatcher, inHand: await fleet.inHand(dispatcher) })))
    const most = all.toSorted((a, b) => b.inHand - a.inHand)[0]!
    return most.inHand > 1 ? most : null
  }, { timeoutMs: 20_000, what: 'a dispatcher with something in hand' })

/** What was at agents when their dispatcher was killed, and is sent again, is so within 20 s. */
const resent = (trial: Trial): void => {
  const starts = new Map<string, number[]>()
  for (const s of trial.fleet.ledger.starts()) starts.set(s.task, [...(starts.get(s.task) ?? []), s.at])
  for (const [task, own] of starts) {
    own.sort((a, b) => a - b)
    for (const [i, at] of own.entries()) {
      const before = own[i - 1]
      if (before === undefined) continue
      // The last kill between the two.
      const kill = trial.windows.map((w) => w.from).filter((from) => from > before && from < at).at(-1)
      if (kill === undefined) continue
      trial.recovered(at - kill)
      if (at - kill > RESENT_MS) trial.violate(`P12: ${task} was sent again ${Math.round(at - kill)} ms after its dispatcher was killed`)
    }
  }
}

export const dispatcherRows: readonly Row[] = [
  {
    name: 'dispatcher-killed',
    fault: 'a dispatcher killed (kill -9) while agents work for it',
    promises: 'P1–P6, P12',
    mixes: true,
    load: { rate: 60, slow: 0.15 },
    run: async (trial) => {
      for (let i = 0; i < trial.times(3); i++) {
        const { dispatcher, inHand } = await busiest(trial)
        await trial.broken(async () => {
          trial.injected()
          await dispatcher.kill()
          if (inHand > 0) trial.bit()
          await sleep(trial.random.between(1000, 3000))
          await dispatcher.restart()
        })
      }
      // What it had in hand comes round.
      await sleep(14_000)
    },
    check: resent,
  },
  {
    name: 'dispatchers-all-killed',
    fault: 'all dispatchers killed at once, and started again 3 s later',
    promises: 'P1–P6, P12',
    load: { rate: 60, slow: 0.15 },
    run: async (trial) => {
      const { inHand } = await busiest(trial)
      await trial.broken(async () => {
        trial.injected()
        await Promise.all(trial.fleet.dispatchers.map((d) => d.kill()))
        if (inHand > 0) trial.bit()
        await sleep(3000)
        await Promise.all(trial.fleet.dispatchers.map((d) => d.restart()))
      })
      await sleep(14_000)
    },
    check: resent,
  },
]
