/** Cancels against everything that they may race with. */
import { sleep, until } from '../../system.ts'
import { mono } from '../clock.ts'
import type { Told } from '../load.ts'
import type { Row, Trial } from '../row.ts'

/**
 * So many tasks, each cancelled at a moment of its own.
 * @param rate tasks a second
 */
const races = (count: number, rate: number) => async (trial: Trial): Promise<void> => {
  const { load, random } = trial
  await trial.broken(async () => {
    const raced: Told[] = []
    for (const began = mono(); raced.length < count; await sleep(10)) {
      while (raced.length < Math.min(count, ((mono() - began) / 1000) * rate)) {
        raced.push(load.one({ work: { ms: random.whole(1, 40), how: random.chance(0.3) ? 'later' : 'answer' }, cancelAfterMs: random.between(0, 60), twice: false }))
      }
      // As many as the machine takes: what cannot be answered now waits here and not there.
      await until(() => load.pending() < rate, { timeoutMs: 60_000, what: 'answers to cancels' })
    }
    await until(() => raced.every((t) => t.cancel !== null || t.oddities.length > 0), { timeoutMs: 60_000, what: 'answers to all cancels' })
    const by = (status: number) => raced.filter((t) => t.cancel?.status === status).length
    trial.note(`cancels answered: ${by(200)} at once, ${by(202)} later, ${by(409)} too late`)
    trial.injected(count)
    // A race that one side always wins is none.
    if (by(200) + by(202) > count / 20 && by(409) > count / 100) trial.bit(by(200) + by(202) + by(409))
  })
}

export const cancelRows: readonly Row[] = [
  {
    name: 'cancel-races',
    fault: 'cancels at random moments, from before the dispatch to behind the end',
    promises: 'P1, P6, P7',
    mixes: true,
    load: { rate: 20 },
    run: races(400, 200),
  },
  {
    name: 'cancel-races-10000',
    fault: '10,000 cancels at random moments',
    promises: 'P1, P6, P7',
    load: { rate: 10, watched: 0.05 },
    run: races(10_000, 400),
  },
]
