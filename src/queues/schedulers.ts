/**
 * Job schedulers: BullMQ makes somebody look at a schedule when a run is due. What a look comes to is the schedule's record to say, so a job
 * that comes twice, too early, or for a schedule that has changed meanwhile does no harm; and one that does not come is made up for by
 * whoever finds the run overdue.
 *
 * Each agent type with schedules has one queue of them, `cost.~schedules`: no capability or pin begins with `~`. As for tasks, a dispatcher
 * fetches when it knows that there is something, and nothing blocks.
 */
import type { JobSchedulerTemplateOptions } from 'bullmq'
import { queueName } from '../redis/keys.ts'
import type { TaskJob } from './job.ts'
import type { Queues } from './queues.ts'
import { repeatOf, type Timing } from './repeat.ts'

/** survey.lua knows it, too. */
export const schedulesQueue = (type: string): string => queueName(type, '~schedules')

/** Nothing is kept of a job that is done: BullMQ refuses a second one for the same time. */
const JOB: JobSchedulerTemplateOptions = { removeOnComplete: true, removeOnFail: true }

export type Schedulers = ReturnType<typeof createSchedulers>

export const createSchedulers = ({ queues }: { queues: Queues }) => {
  const queue = (type: string) => queues.queue(type, schedulesQueue(type))
  const lane = (type: string) => queues.lane(type, schedulesQueue(type))
  return {
    /** @param nextMs when the next run is due */
    arm: async (type: string, id: string, timing: Timing, nextMs: number): Promise<void> => {
      await queue(type).upsertJobScheduler(id, repeatOf(timing, nextMs), { name: id, opts: JOB })
    },
    disarm: async (type: string, id: string): Promise<void> => void (await queue(type).removeJobScheduler(id)),
    /**
     * The next job that is due, by this process's clock; and its successor is there from now on.
     * @returns the schedule and the job; or in how many ms the next one is due, if there is one
     */
    take: async (type: string, token: string): Promise<{ id: string; job: TaskJob } | { inMs: number | null }> => {
      const from = lane(type)
      const job = await from.takeWhole(token)
      if (!job) return { inMs: from.nextDelayedMs() }
      return { id: job.repeatJobKey ?? job.name, job }
    },
    /** A job whose lock ran out meanwhile comes round again, and has nothing to do. */
    done: async (type: string, job: TaskJob, token: string): Promise<void> => void (await lane(type).complete(job, token)),
    /** What BullMQ notes of the queue of a type that has no schedules any more. */
    forget: (type: string): Promise<void> => queues.forget(type, schedulesQueue(type)),
  }
}
