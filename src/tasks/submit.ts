/** Takes tasks. */
import type { NewTask } from '../contracts/task.ts'
import type { Logger } from '../logger.ts'
import type { Queues } from '../queues/queues.ts'
import { createBatch } from '../redis/batch.ts'
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'
import type { Types } from '../registry/types.ts'
import { createAdmission, type SubmitExtra, type Taken, type Verdict } from './admission.ts'
import { queueOf } from './record.ts'
import type { Stats } from './stats.ts'
import { createSubmitMany } from './submit-many.ts'

/** Runs `then` once the promise chains begun in this turn have sent their commands: the connection keeps the order record, job, wake. */
const afterThisTurn = <T>(then: () => Promise<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    queueMicrotask(() => process.nextTick(() => then().then(resolve, reject)))
  })

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

  /** Queues whose agents had no room when last asked; of a Redis that comes back that is to be asked anew. */
  const full = new Set<string>()
  const lost = () => full.clear()
  redis.on('close', lost)

  /** Notes whether the queue's agents have room, and tells a dispatcher if that was not done before. */
  const noteRoom = async ({ id, type, queue }: { id: string; type: string; queue: string }, hasRoom: boolean, told: boolean): Promise<void> => {
    if (hasRoom) {
      full.delete(queue)
      if (!told) await wake(type, id, queue).catch(() => {})
    } else {
      if (full.size > 10_000) full.clear()
      full.add(queue)
    }
  }

  /**
   * Takes a task: its record, then its job, then a wake, each sent behind the other without waiting, as one packet; answered when all have.
   * Dying anywhere between leaves a record that the sweeper finds and completes.
   * @param agentType its agent type, resolved from `agent_id` where the body named none
   * @throws NoAgent, QueueFull, TooManyQueues, IdempotencyKeyReused; of a retry AlreadyRetried, NotFound; of a schedule's run AlreadySubmitted
   */
  const one = async (t: NewTask, agentType: string, extra: SubmitExtra): Promise<Taken> => {
    // Under a key it may have been taken before: the record says.
    if (anyFull() && !extra.idempotency && !extra.schedule) refuseFull(queueOf(agentType, { taskType: t.task_type, pinnedTo: t.agent_id ?? null }))
    // With require_agent there must be an agent, which has made the type known; a refused submit leaves nothing behind.
    if (!extra.requireAgent) await types.ensure(agentType)
    const a = admit(t, agentType, extra)
    const { job } = a
    const sent = Promise.withResolvers<void>()
    const recorded = record(keys.base(agentType), a.item, sent.resolve) as Promise<Verdict>
    // Asked whether it may, or whether it is there already, a submit waits for the answer; otherwise the job follows at once.
    if (extra.requireAgent || extra.idempotency || extra.schedule) {
      const taken = settle(a, await recorded)
      if (taken.replayed) return taken
    } else await sent.promise
    // Where the last task found no room, this one will not either, and a freed slot finds it: no wake is sent along.
    const silent = full.has(job.queue)
    const [answer, added] = await Promise.allSettled([recorded, queues.add(job), silent ? undefined : afterThisTurn(() => wake(agentType, job.id, job.queue))])
    if (answer.status === 'rejected') throw answer.reason
    const [, status, , room] = answer.value
    await noteRoom(job, status === 'pending' || room === 1, !silent || added.status === 'rejected')
    let taken: Taken
    try {
      taken = settle(a, answer.value)
    } catch (error) {
      await queues.remove(agentType, job.queue, job.id)
      throw error
    }
    if (added.status === 'rejected') {
      // Under a key another call may have been told of the record by now: it stays, so it is taken, and the sweeper adds its job.
      // So it does of a schedule's run, which has nobody who is told no.
      // Otherwise the client is told no: take the record back, or else the sweeper would run it.
      if (extra.idempotency === undefined && extra.schedule === undefined) {
        await withdraw(keys.base(agentType), job.id).catch(() => {})
        throw added.reason
      }
      log.warn({ task: job.id, error: String(added.reason) }, 'a job could not be added; the sweeper will')
    }
    stats.count(agentType, 'submitted')
    return taken
  }

  return { one, many: createSubmitMany({ keys, types, queues, stats, wake, log, script: submitScript, admit, settle }), refuseFull, anyFull, /** Listens no more. */ end: () => (redis.off('close', lost), end()) }
}
