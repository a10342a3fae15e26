/** APIs that are killed. */
import { sleep } from '../../system.ts'
import { logged } from '../processes.ts'
import type { Row, Trial } from '../row.ts'

const KILLS = 10
/** Tasks in the burst that an API is killed in: with all kills 1,000 keys. */
const BURST = 100
/** A record whose job was not added is given one so soon. */
const HAS_JOB_MS = 30_000

/** What the killed left without a job got one in time. That of all others was there at once: nothing else can give it one. */
const hadJobs = ({ fleet, records, violate, note }: Trial): void => {
  const given = fleet.dispatchers.flatMap((d) => logged(d).filter((l) => String(l.msg).startsWith('a task had no job')))
  const late = given.filter((l) => Date.parse(l.time as string) - Date.parse(records.get(l.task as string)?.created_at ?? '') > HAS_JOB_MS)
  note(`${given.length} records had no job, and were given one`)
  if (late.length > 0) violate(`${late.length} tasks were longer than ${HAS_JOB_MS / 1000} s without a job: ${late.slice(0, 5).map((l) => l.task).join(', ')}`)
}

export const apiRows: readonly Row[] = [
  {
    name: 'api-killed',
    fault: 'an API killed (kill -9) amid submits and results, and started again',
    promises: 'P1, P2, P9, P10',
    mixes: true,
    load: { rate: 40, later: 0.4, doubled: 0.3 },
    run: async (trial) => {
      const { fleet, load, random } = trial
      for (let i = 0; i < trial.times(KILLS); i++) {
        const index = random.whole(0, fleet.apis.length - 1)
        await sleep(random.between(300, 1000))
        await trial.broken(async () => {
          const failed = () => load.calls.filter((c) => c.api === index && c.status === 0).length
          const before = failed()
          // Its calls are on the way when it dies, and the results of what was quick.
          for (let n = 0; n < BURST; n++) load.one({ twice: true, work: { ms: random.whole(1, 60), how: random.chance(0.5) ? 'later' : 'answer' } })
          await sleep(random.between(0, 50))
          trial.injected()
          await fleet.apis[index]!.kill()
          await sleep(300)
          if (failed() > before) trial.bit()
          await fleet.apis[index]!.restart()
        })
      }
    },
    check: hadJobs,
  },
]
