/** Takes many tasks at once: some at a time, so that neither Redis nor this process stands still for them. */
import type { NewTask } from '../contracts/task.ts'
import { SwitchyardError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import type { Queues } from '../queues/queues.ts'
import { partsOf } from '../redis/batch.ts'
import type { Keys } from '../redis/keys.ts'
import type { Script } from '../redis/scripts.ts'
import type { Types } from '../registry/types.ts'
import type { Admission, createAdmission, SubmitExtra, Taken, Verdict } from './admission.ts'
import type { Stats } from './stats.ts'

/** For one call: Redis has some 20 µs of work with each. */
export const SUBMIT_AT_ONCE = 64

export type NewSubmit = { task: NewTask; type: string; extra: SubmitExtra }

export type SubmitManyDeps = {
  keys: Keys
  types: Types
  queues: Queues
  stats: Stats
  wake: (type: string, id: string, queue: string) => Promise<unknown>
  log: Logger
  /** submit.lua */
  script: Script
} & Pick<ReturnType<typeof createAdmission>, 'admit' | 'settle'>

type Made = { job: Admission['job']; status: string }

/**
 * All records, then all jobs, then a wake for each queue. What has a record is taken, as the sweeper adds the job that it may lack; so
 * nothing is ever taken back, and each task fails alone.
 */
export const createSubmitMany = ({ keys, types, queues, stats, wake, log, script, admit, settle }: SubmitManyDeps) => {
  const addJobs = async (made: readonly Made[]): Promise<void> => {
    try {
      await queues.addMany(made.map(({ job }) => job))
      // One dispatcher is told of each queue; and of each task whose time is to come, when that is.
      const told = new Map(made.map(({ job, status }) => [status === 'pending' ? job.id : job.queue, job]))
      await Promise.all([...told.values()].map((job) => wake(job.type, job.id, job.queue)))
    } catch (error) {
      log.warn({ tasks: made.length, error: String(error) }, 'jobs could not be added; the sweeper will')
    }
  }

  /** What came of one: taken, or why not. */
  const outcomeOf = (a: Admission, verdict: Verdict | Error, made: Made[]): Taken | Error => {
    if (verdict instanceof Error) return verdict
    try {
      const taken = settle(a, verdict)
      if (!taken.replayed) {
        made.push({ job: a.job, status: taken.submitted.status })
        stats.count(a.type, 'submitted')
      }
      return taken
    } catch (error) {
      return error as SwitchyardError
    }
  }

  /** Those of one agent type, as they stand behind each other. */
  const ofType = async (type: string, tasks: readonly NewSubmit[], made: Made[]): Promise<(Taken | Error)[]> => {
    if (!tasks.every(({ extra }) => extra.requireAgent)) await types.ensure(type)
    const admitted = tasks.map(({ task, extra }) => admit(task, type, extra))
    const parts = [...partsOf(admitted, (a) => a.item)].map(async (part): Promise<(Taken | Error)[]> => {
      try {
        const verdicts = (await script(keys.base(type), ...part.flatMap((a) => a.item))) as (Verdict | Error)[]
        return part.map((a, i) => outcomeOf(a, verdicts[i]!, made))
      } catch (error) {
        return part.map(() => error as Error)
      }
    })
    return (await Promise.all(parts)).flat()
  }

  /** @returns what came of each, in their order */
  return async (tasks: readonly NewSubmit[]): Promise<(Taken | Error)[]> => {
    const made: Made[] = []
    const outcomes = new Map<NewSubmit, Taken | Error>()
    const groups = [...Map.groupBy(tasks, (task) => task.type)].map(async ([type, some]) => {
      const came = await ofType(type, some, made).catch((error: Error) => some.map(() => error))
      for (const [i, task] of some.entries()) outcomes.set(task, came[i]!)
    })
    await Promise.all(groups)
    if (made.length > 0) await addJobs(made)
    return tasks.map((task) => outcomes.get(task)!)
  }
}
