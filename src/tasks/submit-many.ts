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

/**
 * All records, with the jobs that may go now; then the jobs of those whose time has not come. What has a record is taken, as the sweeper adds the job that it may
 * lack; so nothing is ever taken back, and each task fails alone.
 */
export const createSubmitMany = ({ keys, types, queues, stats, wake, log, script, admit, settle }: SubmitManyDeps) => {
  const addLater = async (pending: readonly Admission['job'][]): Promise<void> => {
    try {
      await Promise.all(pending.map(async (job) => {
        await queues.add(job)
        await wake(job.type, job.id, job.queue) // a dispatcher is told when its time comes
      }))
    } catch (error) {
      log.warn({ tasks: pending.length, error: String(error) }, 'jobs could not be added; the sweeper will')
    }
  }

  /** What came of one: taken, or why not. */
  const outcomeOf = (a: Admission, verdict: Verdict | Error, pending: Admission['job'][]): Taken | Error => {
    if (verdict instanceof Error) return verdict
    try {
      const taken = settle(a, verdict)
      if (!taken.replayed) {
        if (taken.submitted.status === 'pending') pending.push(a.job)
        stats.count(a.type, 'submitted')
      }
      return taken
    } catch (error) {
      return error as SwitchyardError
    }
  }

  /** Those of one agent type, as they stand behind each other. */
  const ofType = async (type: string, tasks: readonly NewSubmit[], pending: Admission['job'][]): Promise<(Taken | Error)[]> => {
    if (!tasks.every(({ extra }) => extra.requireAgent)) await types.ensure(type)
    const admitted = tasks.map(({ task, extra }) => admit(task, type, extra))
    const parts = [...partsOf(admitted, (a) => a.item)].map(async (part): Promise<(Taken | Error)[]> => {
      try {
        const verdicts = (await script(keys.base(type), ...part.flatMap((a) => a.item))) as (Verdict | Error)[]
        return part.map((a, i) => outcomeOf(a, verdicts[i]!, pending))
      } catch (error) {
        return part.map(() => error as Error)
      }
    })
    return (await Promise.all(parts)).flat()
  }

  /** @returns what came of each, in their order */
  return async (tasks: readonly NewSubmit[]): Promise<(Taken | Error)[]> => {
    const pending: Admission['job'][] = []
    const outcomes = new Map<NewSubmit, Taken | Error>()
    const groups = [...Map.groupBy(tasks, (task) => task.type)].map(async ([type, some]) => {
      const came = await ofType(type, some, pending).catch((error: Error) => some.map(() => error))
      for (const [i, task] of some.entries()) outcomes.set(task, came[i]!)
    })
    await Promise.all(groups)
    if (pending.length > 0) await addLater(pending)
    return tasks.map((task) => outcomes.get(task)!)
  }
}
