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
import { loadScript } from '../redis/scripts.ts'
import { backoffStrategy } from './backoff.ts'
import { LOCK_MS, STALL_CHECK_MS, type JobData } from './job.ts'
import { Lane, type Renew } from './lane.ts'
import { repeatStrategy } from './repeat.ts'

export type NewJob = { id: string; type: string; queue: string; taskType: string; priority: number; maxRetries: number; delayMs: number }

/** Finished jobs kept per queue, for the Board only. */
const KEPT_JOBS = 200
/** Behind a lost connection, until the next job of a job scheduler is tried again. */
const RETRY_MS = 1_000
/** Queue objects of a process held in memory, some 6 KB each; the one used longest ago is dropped first. */
const MAX_OPEN = 5_000
/** One unused for so long is made anew: the queue may have been forgotten, and with it what BullMQ notes of it when its object is made. */
const REOPEN_MS = 30 * 60_000

/** Ours: 15 goes first; BullMQ's: 1 goes first, and 0 would jump everything. */
const bullPriority = (priority: number): number => 16 - priority

export type Queues = ReturnType<typeof createQueues>

type Opened<T> = Map<string, { it: T; usedAt: number }>

/** By connection, for all namespaces together: what listens there, and what is held in memory. */
type Common = { backend: RedisQueueBackend; queues: Opened<Queue<JobData>>; lanes: Opened<Lane> }
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
    <T>(open: Opened<T>, make: (type: string, queue: string) => T) =>
    (type: string, queue: string): T => {
      const now = performance.now()
      const name = `${keys.namespace}/${queue}`
      let entry = open.get(name)
      if (entry) open.delete(name)
      if (!entry || now - entry.usedAt > REOPEN_MS) entry = { it: make(type, queue), usedAt: now }
      entry.usedAt = now
      open.set(name, entry)
      if (open.size > MAX_OPEN) open.delete(open.keys().next().value!)
      return entry.it
    }

  /** A queue to add to, and for the Board. */
  const queue = opened(queues, (type, name) => {
    const q = new Queue<JobData>(name, { ...options, prefix: keys.bullPrefix(type) }, backendFor(type, name))
    q.on('error', () => {})
    return q
  })

  /** A queue to take from. */
  const lane = opened(lanes, (type, name) => {
    const renew: Renew = async (queue, ms, idsAndTokens) => (await renewScript(keys.base(type), queue, ms, ...idsAndTokens)) as string[]
    const l = new Lane(name, { ...options, prefix: keys.bullPrefix(type), autorun: false, runRetryDelay: RETRY_MS }, backendFor(type, name), renew)
    l.on('error', () => {})
    return l
  })

  const renewScript = loadScript(redis, new URL('./renew.lua', import.meta.url))
  const forgetScript = loadScript(redis, new URL('./forget.lua', import.meta.url))
  const activeIds = loadScript(redis, new URL('./active.lua', import.meta.url))
  const addScript = loadScript(redis, new URL('./add.lua', import.meta.url))

  const optionsOf = (job: NewJob): JobsOptions => ({ priority: bullPriority(job.priority), attempts: job.maxRetries + 1 })

  /** Adds a task's job. Adding it twice changes nothing while the first is there. */
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
    /** The same for many, at a fraction of the cost for those that may go now. */
    addMany: async (jobs: readonly NewJob[]): Promise<void> => {
      const now = Map.groupBy(jobs.filter((job) => job.delayMs <= 0), (job) => job.type)
      const added = [...now].map(([type, some]) => {
        for (const name of new Set(some.map((job) => job.queue))) queue(type, name) // BullMQ makes a note of a queue when its object is made
        return addScript(keys.base(type), Date.now(), ...some.flatMap((job) => [job.queue, job.id, job.taskType, bullPriority(job.priority), JSON.stringify(optionsOf(job))]))
      })
      await Promise.all([...added, ...jobs.filter((job) => job.delayMs > 0).map(add)])
    },
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
        if (redis.status !== 'ready') throw error
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
