/**
 * The queues: BullMQ, and the only folder that knows it. A job carries a task through its queue (priority, delay, backoff, locks, stall
 * recovery, the Board); what a task has come to is its record's to say, never a job's.
 *
 * All queues of a process share one connection: BullMQ's `forQueue` gives each a backend of its own on it, and slots are reserved
 * before jobs are fetched, so nothing blocks and no queue needs a connection to wait on.
 */
import { createRedisBackend, Queue, type JobsOptions, type RedisQueueBackend } from 'bullmq'
import { isOutOfMemory, type Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { isUp } from '../redis/nodes.ts'
import { loadScript } from '../redis/scripts.ts'
import { backoffStrategy } from './backoff.ts'
import { LOCK_MS, STALL_CHECK_MS, type JobData } from './job.ts'
import { Lane, type LaneScripts } from './lane.ts'
import { repeatStrategy } from './repeat.ts'

export type NewJob = { id: string; type: string; queue: string; taskType: string; priority: number; maxRetries: number; delayMs: number }

/** Finished jobs kept per queue, for the Board only. */
const KEPT_JOBS = 200
/** Behind a lost connection, until the next job of a job scheduler is tried again. */
const RETRY_MS = 1_000
/** Queue objects of a process held in memory, some 6 KB each; the one used longest ago is dropped first. */
const MAX_OPEN = 5_000

/** Ours: 15 goes first; BullMQ's: 1 goes first, and 0 would jump everything. */
const bullPriority = (priority: number): number => 16 - priority

const optionsOf = (job: NewJob): JobsOptions => ({ priority: bullPriority(job.priority), attempts: job.maxRetries + 1 })

/** What add_job of jobs.lua takes of a job, behind its queue and id. */
export const jobArguments = (job: NewJob): [name: string, priority: number, options: string] => [job.taskType, bullPriority(job.priority), JSON.stringify(optionsOf(job))]

export type Queues = ReturnType<typeof createQueues>

/** By connection, for all namespaces together: what listens there, and what is held in memory. */
type Common = { backend: RedisQueueBackend; queues: Map<string, Queue<JobData>>; lanes: Map<string, Lane> }
const commons = new WeakMap<Redis, Common>()
const commonOf = (redis: Redis, options: Parameters<typeof createRedisBackend>[1]): Common => {
  const known = commons.get(redis)
  if (known) return known
  const backend = createRedisBackend('_', options) as RedisQueueBackend
  backend.on('error', () => {}) // client.ts says when Redis is away
  const common: Common = { backend, queues: new Map(), lanes: new Map() }
  commons.set(redis, common)
  return common
}

export const createQueues = ({ redis, keys }: { redis: Redis; keys: Keys }) => {
  const options = {
    connection: redis,
    prefix: keys.bullPrefix('_'),
    lockDuration: LOCK_MS,
    stalledInterval: STALL_CHECK_MS,
    // The record counts redeliveries and caps them; a job must never fail by this count.
    maxStalledCount: 1_000_000,
    streams: { events: { maxLen: 100 } },
    skipVersionCheck: true,
    // Here rather than in each job, which would carry them through Redis.
    removeOnComplete: { count: KEPT_JOBS },
    removeOnFail: { count: KEPT_JOBS },
    settings: { backoffStrategy, repeatStrategy },
  }
  const { backend: shared, queues, lanes } = commonOf(redis, options)
  const backendFor = (type: string, queue: string) => () => shared.forQueue(queue, keys.bullPrefix(type)) as RedisQueueBackend

  const opened =
    <T>(open: Map<string, T>, make: (type: string, queue: string) => T) =>
    (type: string, queue: string): T => {
      const name = `${keys.namespace}/${queue}`
      const it = open.get(name) ?? make(type, queue)
      open.delete(name)
      open.set(name, it)
      if (open.size > MAX_OPEN) open.delete(open.keys().next().value!)
      return it
    }

  /** A queue to add to, and for the Board. */
  const queue = opened(queues, (type, name) => {
    // It would make its note of a queue where one only looks. Submits do (note_queue of jobs.lua); of schedules nobody else does.
    const q = new Queue<JobData>(name, { ...options, prefix: keys.bullPrefix(type), skipMetasUpdate: !name.includes('~') }, backendFor(type, name))
    q.on('error', () => {})
    return q
  })

  /** A queue to take from. */
  const lane = opened(lanes, (type, name) => {
    const scripts: LaneScripts = {
      take: async (queue, token) => (await takeScript(keys.base(type), queue, token)) as string | null,
      renew: async (queue, ms, idsAndTokens) => (await renewScript(keys.base(type), queue, ms, ...idsAndTokens)) as string[],
    }
    const l = new Lane(name, { ...options, prefix: keys.bullPrefix(type), autorun: false, runRetryDelay: RETRY_MS }, backendFor(type, name), scripts)
    l.on('error', () => {})
    return l
  })

  const takeScript = loadScript(redis, new URL('./take.lua', import.meta.url))
  const renewScript = loadScript(redis, new URL('./renew.lua', import.meta.url))
  const forgetScript = loadScript(redis, new URL('./forget.lua', import.meta.url))
  const activeIds = loadScript(redis, new URL('./active.lua', import.meta.url))

  /** Adds a task's job, or puts it where it waits for its time. Adding it twice changes nothing while the first is there. */
  const add = async (job: NewJob): Promise<void> => {
    const jobOptions: JobsOptions = { jobId: job.id, ...optionsOf(job) }
    if (job.delayMs > 0) jobOptions.delay = job.delayMs
    await queue(job.type, job.queue).add(job.taskType, {}, jobOptions)
  }

  return {
    queue,
    lane,
    /** The tasks that are at a dispatcher or parked at an agent now. */
    active: async (type: string): Promise<string[]> => (await activeIds(keys.base(type))) as string[],
    /** Resolves once scripts can run. */
    ready: () => shared.waitUntilReady(),
    add,
    /** Takes a job out of its queue; false when it is at a dispatcher or not there. */
    remove: async (type: string, name: string, id: string): Promise<boolean> => {
      try {
        return (await queue(type, name).remove(id)) === 1
      } catch {
        return false // locked: it comes round, finds its record ended, and ends
      }
    },
    /** Moves a delayed job to where it can be taken; nothing when it already is. */
    promote: async (type: string, name: string, id: string): Promise<void> => {
      try {
        await queue(type, name).getBackend().promote(id)
      } catch (error) {
        if (!isUp(redis, keys.base(type))) throw error
      }
    },
    /** Forgets a queue without work for an hour, if it still is: its finished jobs first, then what BullMQ notes of it. */
    forget: async (type: string, name: string): Promise<void> => {
      const q = queue(type, name)
      await Promise.all([q.clean(0, 0, 'completed'), q.clean(0, 0, 'failed')])
      await forgetScript(keys.base(type), name, ...Object.values(q.keys))
    },
    /** Puts jobs whose lock has run out back to the front of their queue. Returns how many: none while Redis has no memory, which BullMQ needs for it. */
    recoverStalled: async (type: string, name: string): Promise<number> => {
      try {
        return (await lane(type, name).getBackend().moveStalledJobsToWait()).length
      } catch (error) {
        if (isOutOfMemory(error)) return 0
        throw error
      }
    },
  }
}
