/** Dispatchers that are killed, or stand still. */
import { sleep, until } from '../../system.ts'
import type { Member } from '../fleet.ts'
import { says } from '../processes.ts'
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

/** Longer than a lock (10 s), and than all that it takes until somebody else has its jobs. */
const BLOCK_MS = 18_000
const STOPPED_MS = 30_000

/** What a dispatcher says that was away for longer than it held its jobs: it has been told off, and has seen it. */
const CAME_LATE = /lost the lock of jobs in hand|came too late|a step failed/

/** Dispatchers that are away and come back to what others have by now. Their late writes must change nothing. */
const away = (times: number, leave: (d: Member) => unknown, comeBack: (d: Member) => unknown) => async (trial: Trial): Promise<void> => {
  for (let i = 0; i < trial.times(times); i++) {
    const { dispatcher } = await busiest(trial)
    const late = says(dispatcher, CAME_LATE)
    await trial.broken(async () => {
      trial.injected()
      await leave(dispatcher)
      await comeBack(dispatcher)
      await until(() => says(dispatcher, CAME_LATE) > late, { timeoutMs: 10_000, what: 'a dispatcher that finds itself late' }).then(() => trial.bit(), () => {})
    })
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
  {
    name: 'dispatcher-stopped',
    fault: 'a dispatcher stopped (SIGSTOP) for 30 s while agents work for it',
    promises: 'P1–P5, P12',
    mixes: true,
    lateEnds: true,
    load: { rate: 60, slow: 0.15 },
    run: away(1, (d) => d.stop(), async (d) => {
      await sleep(STOPPED_MS)
      d.go()
    }),
    check: resent,
  },
  {
    name: 'dispatcher-blocked',
    fault: "a dispatcher whose event loop does nothing for 18 s, past its jobs' locks",
    promises: 'P1–P5, P12',
    lateEnds: true,
    load: { rate: 60, slow: 0.15 },
    fleet: { envOf: (role) => (role === 'dispatcher' ? { NODE_OPTIONS: `--import=${new URL('../../fixtures/blocked-loop.ts', import.meta.url)}`, BLOCK_MS: String(BLOCK_MS) } : {}) as Record<string, string> },
    run: away(2, (d) => d.proc.child.kill('SIGUSR2'), () => sleep(BLOCK_MS)),
    check: resent,
  },
]
