/** Takes tasks. */
import type { NewTask } from '../contracts/task.ts'
import type { Logger } from '../logger.ts'
import type { Queues } from '../queues/queues.ts'
import { createBatch } from '../redis/batch.ts'
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'
import type { Types } from '../registry/types.ts'
import { createAdmission, type Admission, type SubmitExtra, type Taken, type Verdict } from './admission.ts'
import { queueOf } from './record.ts'
import type { Stats } from './stats.ts'
import { createSubmitMany } from './submit-many.ts'

export type SubmitDeps = {
  redis: Redis
  keys: Keys
  types: Types
  queues: Queues
  stats: Stats
  /** Tells a dispatcher of a task's job, if it is there. */
  wake: (type: string, id: string, queue: string) => Promise<unknown>
  /** Tasks that may wait in one queue. */
  maxQueued: number
  log: Logger
}

export const createSubmit = ({ redis, keys, types, queues, stats, wake, maxQueued, log }: SubmitDeps) => {
  const script = (file: string) => loadScript(redis, new URL(file, import.meta.url))
  const submitScript = script('./submit.lua')
  const record = createBatch(submitScript)
  const withdraw = script('./withdraw.lua')
  const { admit, settle, refuseFull, anyFull, end } = createAdmission(redis, maxQueued)

  /**
   * Adds the job of a task whose time has not come, behind its record. Dying in between leaves a record that the sweeper finds and completes.
   * @throws when it could not be added and the client is to be told no: the record is taken back then
   */
  const addLater = async ({ job, extra }: Admission): Promise<void> => {
    try {
      await queues.add(job)
      await wake(job.type, job.id, job.queue).catch(() => {})
    } catch (error) {
      // Under a key another call may have been told of the record by now: it stays, so it is taken, and the sweeper adds its job.
      // So it does of a schedule's run, which has nobody who is told no.
      // Otherwise the client is told no: take the record back, or else the sweeper would run it.
      if (extra.idempotency === undefined && extra.schedule === undefined) {
        await withdraw(keys.base(job.type), job.id).catch(() => {})
        throw error
      }
      log.warn({ task: job.id, error: String(error) }, 'a job could not be added; the sweeper will')
    }
  }

  /**
   * Takes a task: its record, its job and a wake, all in one step; or, when its time has not come, its job behind the record.
   * @param agentType its agent type, resolved from `agent_id` where the body named none
   * @throws NoAgent, QueueFull, TooManyQueues, IdempotencyKeyReused; of a retry AlreadyRetried, NotFound; of a schedule's run AlreadySubmitted
   */
  const one = async (t: NewTask, agentType: string, extra: SubmitExtra): Promise<Taken> => {
    // Under a key it may have been taken before: the record says.
    if (anyFull() && !extra.idempotency && !extra.schedule) refuseFull(queueOf(agentType, { taskType: t.task_type, pinnedTo: t.agent_id ?? null }))
    // With require_agent there must be an agent, which has made the type known; a refused submit leaves nothing behind.
    if (!extra.requireAgent) await types.ensure(agentType)
    const a = admit(t, agentType, extra)
    const taken = settle(a, (await record(keys.base(agentType), a.item)) as Verdict)
    if (taken.replayed) return taken
    if (taken.submitted.status === 'pending') await addLater(a)
    stats.count(agentType, 'submitted')
    return taken
  }

  return { one, many: createSubmitMany({ keys, types, queues, stats, wake, log, script: submitScript, admit, settle }), refuseFull, anyFull, end }
}
