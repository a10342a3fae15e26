/**
 * Attempts whose agent said 202: their end comes by callback, from the API, or with their deadline, from the sweeper; no dispatcher has a part
 * in it. The record decides, as ever; the job, which stands locked under the attempt's id, is moved behind it. Should we die in between, the
 * lock runs out within seconds, the job comes round, and finds what the record has come to.
 */
import type { TaskStatus } from '../contracts/task.ts'
import { NotFound, StaleAttempt } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { retryDelayMs } from '../queues/backoff.ts'
import type { Queues } from '../queues/queues.ts'
import type { Redis } from '../redis/client.ts'
import { typeOfTask, type Keys } from '../redis/keys.ts'
import type { AttemptEnd, Finished } from './attempt.ts'
import { queueOf, readSpec, type Spec } from './record.ts'

/** What a callback says: the agent's own words and JSON text, and whether another try is worth it. */
export type Said = { outcome: 'completed' | 'failed' | 'rejected'; result: string; error: string; executionMs: number | null }

export type ParkedDeps = {
  redis: Redis
  keys: Keys
  queues: Queues
  finish: (type: string, end: AttemptEnd) => Promise<Finished>
  keepLate: (id: string, attemptId: string, said: { completed: boolean; result: string; error: string }) => Promise<void>
  wake: (type: string, id: string, queue: string) => Promise<unknown>
  log: Logger
}

type Current = { type: string; queue: string; spec: Spec; status: TaskStatus; attemptId: string; attempt: number; agentId: string; mayTakeMs: number; retries: number; isParked: boolean; last: string; result: string; error: string }

export const createParked = ({ redis, keys, queues, finish, keepLate, wake, log }: ParkedDeps) => {
  const read = async (id: string): Promise<Current | null> => {
    const type = typeOfTask(id)
    if (type === undefined) return null
    const [status, spec, attemptId, attempt, sending, retries, isParked, result, error] = await redis.hmget(
      keys.task(type, id), 'status', 'spec', 'attempt', 'deliveries', 'sending', 'retries', 'parked', 'result', 'error',
    )
    if (!status || !spec) return null
    const read = readSpec(spec)
    const [agentId = '', , sentMs, deadlineMs] = sending?.split('\t') ?? []
    return {
      type, spec: read, queue: queueOf(type, read),
      status: status as TaskStatus, attemptId: attemptId ?? '', attempt: Number(attempt ?? 0), agentId, mayTakeMs: Number(deadlineMs) - Number(sentMs), retries: Number(retries ?? 0), isParked: isParked !== null && isParked !== undefined,
      last: (await redis.hget(keys.task(type, id), `a${attempt}`)) ?? '', result: result ?? 'null', error: error ?? '',
    }
  }

  /** Moves the job of an attempt that was parked. What fails here mends itself: the job comes round. */
  const settle = async (type: string, queue: string, id: string, attemptId: string, to: { status: TaskStatus | ''; error: string; waitMs: number }): Promise<void> => {
    try {
      await queues.lane(type, queue).settle(id, attemptId, to)
      if (to.status === 'retrying' || to.status === 'queued') await wake(type, id, queue)
    } catch (error) {
      log.debug({ task: id, error: String(error) }, 'could not move a parked job; it comes round again')
    }
  }

  const end = async (id: string, t: Current, how: Pick<AttemptEnd, 'outcome' | 'error' | 'result' | 'executionMs'>): Promise<Finished> => {
    const retryInMs = retryDelayMs({ backoff: t.spec.backoff, retryDelayMs: t.spec.retryDelayMs, retries: t.retries })
    const fin = await finish(t.type, { taskId: id, attemptId: t.attemptId, agentId: t.agentId, statusCode: null, retryInMs, restMs: 0, maxRetries: t.spec.maxRetries, ...how })
    if (fin.verdict !== 'ok' || fin.repeated) return fin
    // What its agent said of it may hold of the payload.
    log.info({ task: id, attempt: t.attempt, agent: t.agentId, outcome: how.outcome, status: fin.status, ...(how.outcome === 'timeout' ? { error: how.error } : {}), ...(fin.status === 'retrying' ? { retry_in_ms: fin.waitMs } : {}), ...(fin.poison ? { poison: true } : {}) }, fin.status)
    // One that is still in its dispatcher's hands is moved by that: the answer 202 has yet to come.
    if (t.isParked) await settle(t.type, t.queue, id, t.attemptId, { status: fin.status, error: how.error, waitMs: fin.waitMs })
    return fin
  }

  /** Whether this very end was told before, by this attempt. */
  const saidBefore = (t: Current, said: Said): boolean => {
    const outcome = t.last.split('\t')[4]
    return outcome === said.outcome && (said.outcome === 'completed' ? t.result === said.result : t.last.split('\t').slice(6).join('\t') === said.error)
  }

  return {
    settle,
    /**
     * Ends the current attempt of a task as its agent says, if it still is the current one.
     * @returns what the task has come to; the same again when the same is said again
     * @throws NotFound, StaleAttempt
     */
    callback: async (id: string, attemptId: string, said: Said): Promise<TaskStatus> => {
      const t = await read(id)
      if (!t) throw new NotFound(`there is no task ${id}`)
      if (t.attemptId === attemptId && (t.status === 'sent' || t.status === 'running')) {
        const fin = await end(id, t, said)
        if (fin.verdict === 'ok' && !fin.repeated) return fin.status as TaskStatus
      }
      const now = t.attemptId === attemptId ? await read(id) : t
      if (now && now.attemptId === attemptId && saidBefore(now, said)) return now.status
      await keepLate(id, attemptId, { ...said, completed: said.outcome === 'completed' })
      throw new StaleAttempt(id, now?.status ?? t.status)
    },
    /** Ends a parked attempt whose deadline has come. */
    timeOut: async (id: string): Promise<void> => {
      const t = await read(id)
      if (!t?.isParked || t.status !== 'running') return
      await end(id, t, { outcome: 'timeout', error: `no result came within ${t.mayTakeMs / 1000} s`, result: '', executionMs: null })
    },
  }
}
