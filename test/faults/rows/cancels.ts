/** Cancels against everything that they may race with. */
import { sleep, until } from '../../system.ts'
import type { Told } from '../load.ts'
import type { Row } from '../row.ts'

export const cancelRows: readonly Row[] = [
  {
    name: 'cancel-races',
    fault: 'cancels at random moments, from before the dispatch to behind the end',
    promises: 'P1, P6, P7',
    mixes: true,
    load: { rate: 20 },
    run: async (trial) => {
      const { load, random } = trial
      await trial.broken(async () => {
        const raced: Told[] = []
        for (let i = 0; i < 400; i++) {
          raced.push(load.one({ work: { ms: random.whole(1, 40), how: random.chance(0.3) ? 'later' : 'answer' }, cancelAfterMs: random.between(0, 60) }))
          if (i % 4 === 3) await sleep(20)
        }
        await until(() => raced.every((t) => t.cancel !== null || t.oddities.length > 0), { timeoutMs: 60_000, what: 'answers to all cancels' })
        const by = (status: number) => raced.filter((t) => t.cancel?.status === status).length
        trial.note(`cancels answered: ${by(200)} at once, ${by(202)} later, ${by(409)} too late`)
        // A race that one side always wins is none.
        trial.injected(2)
        if (by(200) + by(202) > 20) trial.bit()
        if (by(409) > 5) trial.bit()
      })
    },
  },
]
