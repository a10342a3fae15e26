/** APIs that are killed. */
import { sleep } from '../../system.ts'
import type { Row } from '../row.ts'

export const apiRows: readonly Row[] = [
  {
    name: 'api-killed',
    fault: 'an API killed (kill -9) amid submits and results, and started again',
    promises: 'P1, P2, P9, P10',
    mixes: true,
    load: { rate: 100, later: 0.4, doubled: 0.3 },
    run: async (trial) => {
      for (let i = 0; i < trial.times(6); i++) {
        const index = trial.random.whole(0, trial.fleet.apis.length - 1)
        await sleep(trial.random.between(500, 1500))
        await trial.broken(async () => {
          const failed = () => trial.load.calls.filter((c) => c.api === index && c.status === 0).length
          const before = failed()
          // A burst that it is killed in: its calls are on the way when it dies.
          for (let n = 0; n < 40; n++) trial.load.one({ twice: true })
          await sleep(trial.random.between(0, 50))
          trial.injected()
          await trial.fleet.apis[index]!.kill()
          await sleep(500)
          if (failed() > before) trial.bit()
          await trial.fleet.apis[index]!.restart()
        })
      }
    },
  },
]
