/** How a task's record is asked for, and what is made of the answer: the same for one task and for many. */
import { readReceiver } from '../contracts/callback.ts'
import type { Idempotency } from '../contracts/idempotency.ts'
import type { NewTask, Submitted, TaskStatus } from '../contracts/task.ts'
import { iso } from '../contracts/time.ts'
import { AlreadyRetried, AlreadySubmitted, IdempotencyKeyReused, NoAgent, NotFound, QueueFull, TooManyQueues } from '../errors.ts'
import { jobArguments, type NewJob } from '../queues/queues.ts'
import type { Arguments } from '../redis/batch.ts'
import type { Redis } from '../redis/client.ts'
import { uuidv7 } from '../redis/ids.ts'
import { queueOf, writeSpec, type Spec } from './record.ts'

const MAX_QUEUES_PER_TYPE = 10_000
/** A queue in use is named to Redis again after so long. */
const NAME_AGAIN_MS = 60_000

/** What a submit needs beside the parsed body: the JSON texts as they were sent, and what the request said. */
export type SubmitExtra = {
  parameters: string
  metadata: string
  requireAgent?: boolean
  traceparent?: string | undefined
  retryOf?: string
  id?: string
  idempotency?: Idempotency | undefined
  /** The run of a schedule, which has claimed the id (claim.lua). */
  schedule?: { id: string; dueMs: number } | undefined
}

/** A task as taken; `replayed` when it was before, under the same idempotency key: then `submitted` is what was answered first. */
export type Taken = { submitted: Submitted; replayed: boolean }

export type Admission = {
  task: NewTask
  type: string
  extra: SubmitExtra
  job: NewJob
  isNew: boolean
  /** For submit.lua. */
  item: Arguments
}

/** What submit.lua says of one. */
export type Verdict = ['ok' | 'exists' | 'replayed' | 'reused' | 'queues' | 'full' | 'no_agent' | 'retried' | 'gone' | 'submitted', TaskStatus, string, string?]

const delayOf = (t: NewTask): number => (t.delay_seconds !== undefined ? Math.round(t.delay_seconds * 1000) : t.run_at !== undefined ? Date.parse(t.run_at) - Date.now() : 0)

/** A queue that was found full is taken to be so for so long: what goes there is refused at once. */
const FULL_MS = 250

export const createAdmission = (redis: Redis, maxQueued: number) => {
  /** Queues that were found full, until when that is believed. */
  const full = new Map<string, number>()
  const noteFull = (queue: string): void => {
    if (full.size > 1_000) full.clear()
    full.set(queue, performance.now() + FULL_MS)
  }
  /** @throws QueueFull when a queue was found full a moment ago */
  const refuseFull = (queue: string): void => {
    const until = full.get(queue)
    if (until === undefined) return
    if (performance.now() < until) throw new QueueFull(queue, maxQueued)
    full.delete(queue)
  }

  /** When this process last named a queue to Redis, which forgets one unused for an hour. */
  const lastNamed = new Map<string, number>()
  // A Redis that comes back may have lost its last second: what we know of it is to be said anew.
  const lost = () => lastNamed.clear()
  redis.on('lost', lost)

  /** @param type its agent type, resolved from `agent_id` where the body named none */
  const admit = (t: NewTask, type: string, extra: SubmitExtra): Admission => {
    const id = extra.id ?? `${type}.${uuidv7()}`
    const spec: Spec = { timeoutMs: Math.ceil(t.timeout_seconds * 1000), maxRetries: t.max_retries, retryDelayMs: Math.round(t.retry_delay_seconds * 1000), backoff: t.backoff, priority: t.priority, pinnedTo: t.agent_id ?? null, taskType: t.task_type }
    const queue = queueOf(type, spec)
    const isNew = performance.now() - (lastNamed.get(queue) ?? -Infinity) > NAME_AGAIN_MS
    const { idempotency } = extra
    const job: NewJob = { id, type, queue, taskType: t.task_type, priority: t.priority, maxRetries: t.max_retries, delayMs: delayOf(t) }
    return {
      task: t,
      type,
      extra,
      isNew,
      job,
      item: [
        id, queue, t.delay_seconds === undefined ? '' : Math.round(t.delay_seconds * 1000), t.run_at === undefined ? '' : Date.parse(t.run_at), Math.ceil(t.expires_in_seconds * 1000), MAX_QUEUES_PER_TYPE,
        extra.requireAgent ? 1 : 0, extra.id === undefined ? 0 : 1, isNew ? 1 : 0, writeSpec(spec, queue), extra.parameters, extra.metadata, extra.traceparent ?? '', extra.retryOf ?? '',
        t.callback_url === undefined ? '' : `${readReceiver(t.callback_url).origin}\t${t.callback_url}`,
        idempotency?.key ?? '', idempotency?.request ?? '', idempotency?.keepMs ?? '',
        extra.schedule === undefined ? '' : `${extra.schedule.id}\t${extra.schedule.dueMs}`,
        maxQueued, ...jobArguments(job),
      ],
    }
  }

  /**
   * What a verdict says to the client.
   * @throws NoAgent, QueueFull, TooManyQueues, IdempotencyKeyReused, of a retry AlreadyRetried, NotFound, of a schedule's run AlreadySubmitted: nothing was stored, and the key is not taken
   */
  const settle = ({ task: t, type, extra, job, isNew }: Admission, [verdict, status, created, more]: Verdict): Taken => {
    if (verdict === 'no_agent') throw new NoAgent(`no agent that can do ${t.task_type} for ${type} is alive; start one, or submit without require_agent and the task waits`)
    if (verdict === 'retried') throw new AlreadyRetried(extra.retryOf!, status)
    if (verdict === 'submitted') throw new AlreadySubmitted(job.id)
    if (verdict === 'gone') throw new NotFound(`there is no task ${extra.retryOf}`)
    if (verdict === 'reused') throw new IdempotencyKeyReused(status)
    if (verdict === 'full') {
      noteFull(job.queue)
      throw new QueueFull(job.queue, maxQueued)
    }
    if (verdict === 'queues') {
      lastNamed.delete(job.queue)
      throw new TooManyQueues(type, MAX_QUEUES_PER_TYPE)
    }
    // Only now: a submit that was refused or failed has named nothing.
    if (isNew && verdict === 'ok') {
      if (lastNamed.size > 20_000) lastNamed.clear()
      lastNamed.set(job.queue, performance.now())
    }
    const replayed = verdict === 'replayed'
    const id = replayed ? String(more) : job.id
    // The same request under the same key is pinned to the same agent: so this is the first answer, byte for byte.
    return {
      submitted: { task_id: id, status, agent_id: t.agent_id ?? null, created_at: iso(Number(created)), status_url: `/tasks/${id}`, ...(extra.retryOf === undefined ? {} : { retry_of: extra.retryOf }) },
      replayed,
    }
  }

  return { admit, settle, refuseFull, anyFull: () => full.size > 0, /** Listens no more. */ end: () => void redis.off('lost', lost) }
}
