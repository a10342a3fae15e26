/** Agents that are killed, or stand still. */
import { sleep, until } from '../../system.ts'
import type { Row } from '../row.ts'

export const agentRows: readonly Row[] = [
  {
    name: 'agents-killed',
    fault: 'agents killed (kill -9) in mid-task, and started again',
    promises: 'P1, P5, P6',
    mixes: true,
    agentsFail: true,
    load: { rate: 50, slow: 0.15 },
    run: async (trial) => {
      const { fleet } = trial
      for (let i = 0; i < trial.times(3); i++) {
        const host = trial.random.pick(fleet.hosts)
        const inHand = () => fleet.ledger.open().filter((s) => host.agents.some((a) => a.id === s.agent)).length
        await until(() => inHand() > 1, { timeoutMs: 15_000, what: 'agents with something in hand' })
        await trial.broken(async () => {
          const had = inHand()
          trial.injected()
          await host.kill()
          if (had > 0) trial.bit()
          await sleep(trial.random.between(500, 3000))
          await host.restart()
        })
        trial.recovered(await trial.goesOn())
        await sleep(1000)
      }
    },
  },
]
