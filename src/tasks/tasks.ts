/**
 * The record of a task: it decides. Every change of state is one atomic script (*.lua beside this file), fenced by the attempt that may
 * speak, and comes before BullMQ hears of it. A late, stale, doubled or cancelled outcome cannot change a record.
 */
import { iso } from '../contracts/time.ts'
import { isEnd, type NewTask, type Submitted, type TaskStatus } from '../contracts/task.ts'
import { AlreadyRetried, NotFound, TaskEnded, TaskNotEnded } from '../errors.ts'
import type { Config } from '../config.ts'
import type { Logger } from '../logger.ts'
import type { Queues } from '../queues/queues.ts'
import type { Redis } from '../redis/client.ts'
import { createBatch } from '../redis/batch.ts'
import type { Fullness } from '../redis/fullness.ts'
import { uuidv7 } from '../redis/ids.ts'
import { typeOfTask, type Keys } from '../redis/keys.ts'
import { loadScript, text } from '../redis/scripts.ts'
import type { SubmitExtra } from './admission.ts'
import type { AttemptEnd, Begun, Finished, Held, Parked } from './attempt.ts'
import { createDeadLetters } from './dead-letters.ts'
import { createAgentOf } from './agent-of.ts'
import { createLate } from './late.ts'
import { createList } from './list.ts'
import { createParked } from './parked.ts'
import { createProgress } from './progress.ts'
import { readRecord, readSpec, type TaskView } from './record.ts'
import type { Stats } from './stats.ts'
import { createSubmit } from './submit.ts'
import { createSweeping } from './sweeping.ts'
import type { Webhooks } from './webhooks/webhooks.ts'
import { readSlot, type Slot, type SlotTokens } from '../registry/registry.ts'
import type { Types } from '../registry/types.ts'

/** Behind `CANCEL_MS` of record.lua. */
const CANCELLED_WITHIN_MS = 4_000

export type Tasks = ReturnType<typeof createTasks>

export type TasksDeps = {
  redis: Redis
  keys: Keys
  types: Types
  queues: Queues
  stats: Stats
  webhooks: Webhooks
  retention: Config['retention']
  fullness: Fullness
  /** Of its memory, from which on Redis takes no new work. */
  fullPercent: number
  /** The most that an attempt may take, however often it asks for more. */
  maxAttemptMs: number
  fault: Config['fault']
  /** Tasks that may wait in one queue. */
  maxQueued: number
  log: Logger
}

export const createTasks = ({ redis, keys, types, queues, stats, webhooks, retention, fullness, fullPercent, fault, maxAttemptMs, maxQueued, log }: TasksDeps) => {
  const script = (file: string) => loadScript(redis, new URL(file, import.meta.url))
  const scripts = {
    confirm: script('./confirm.lua'),
    reserve: script('./reserve.lua'),
    recover: script('./recover.lua'),
    begin: createBatch(script('./begin.lua')),
    finish: createBatch(script('./finish.lua')),
    cancel: script('./cancel.lua'),
    expire: script('./expire.lua'),
    park: script('./park.lua'),
  }

  /** Tells a dispatcher of a task's job, if it is there. */
  const wake = (type: string, id: string, queue: string) => scripts.confirm(keys.base(type), id, queue)
  const { one: submitOnce, many: submitMany, refuseFull, anyFull, end } = createSubmit({ redis, keys, types, queues, stats, wake, maxQueued, log })
  /** For those who send no idempotency key. */
  const submit = async (task: NewTask, type: string, extra: SubmitExtra): Promise<Submitted> => (await submitOnce(task, type, extra)).submitted

  /** The log's line for a change of status that no outcome of an attempt brought about, as scripts tell it: {status, attempt that was lost, its agent}. */
  const tell = (task: string, news: unknown): void => {
    if (!Array.isArray(news)) return
    const [status, attempt, agent] = news as [string, string?, string?]
    if (attempt) log.warn({ task, attempt: Number(attempt), agent, outcome: 'lost', status }, `${status}: nobody said what came of an attempt`)
    else log.info({ task, status }, status)
  }

  /** The log's line for an agent that is sick, or well again, or was not sick at all. */
  const tellOfAgent = (agent_type: string, [what, agent, until, times, why, spare, refunded]: string[]): void => {
    const line = { agent, agent_type, until: until === undefined ? '' : iso(Number(until)), times: Number(times), refunded: Number(refunded), reason: why?.replace(/(?:; the last)?: [^]*/, '') } // and not the agent's words behind it, which may hold of the payload
    if (what === 'back') log.info({ agent, agent_type }, 'an agent is well again')
    else if (what === 'cleared') log.warn({ agent, agent_type }, 'an agent was not sick: the tasks that failed there failed elsewhere, too')
    else if (what !== 'out') return
    else if (spare === 'yes') log.warn(line, 'an agent is sick: it gets nothing until then, and those attempts are not charged')
    else log[times === '1' ? 'warn' : 'debug'](line, 'an agent is sick and nothing can replace it: it is tried every 5 s, and those attempts are not charged')
  }

  /** What makes a task poison and an agent sick, for failed.lua. */
  const limits = `${fault.poisonAgents} ${fault.sickAgentFailures}`

  const readGo = (slot: Slot, r: readonly unknown[]): Begun => {
    const [, attemptId, attempt, spec, parameters, metadata, traceparent, retries, waited, moved] = r as string[]
    return {
      verdict: 'go', attemptId: attemptId!, attempt: Number(attempt), ...readSpec(spec!), parameters: parameters!, metadata: metadata!,
      traceparent: traceparent ? traceparent : undefined, retries: Number(retries), waitedMs: Number(waited), movedTo: readSlot(slot.type, moved, slot),
    }
  }

  /** Reserves a slot for each of these tokens, or for as many as there is work and room for, takes a job for each, and begins its attempt where nothing is against that. */
  const reserve = async (type: string, queue: string, dispatcher: string, inFlight: number, tokens: readonly SlotTokens[]): Promise<Slot[]> => {
    const rows = (await scripts.reserve(keys.base(type), queue, dispatcher, inFlight, ...tokens.flatMap(({ token, lock }) => [token, lock]))) as unknown[]
    return rows.map((row, i) => readSlot(type, row, tokens[i]!)!)
  }
  /** The slots of a reserve whose answer was not heard. */
  const recover = async (type: string, queue: string, tokens: readonly SlotTokens[]): Promise<Slot[]> => {
    const askedAt = performance.now()
    const rows = (await scripts.recover(keys.base(type), queue, ...tokens.flatMap(({ token, lock }) => [token, lock]))) as unknown[][]
    return rows.map((row) => readSlot(type, row, { token: String(row[0]).slice('h.'.length), lock: String(row[9]), askedAt })!)
  }

  /** The attempt that has begun with a slot, or is begun now; or why there is none. `slot.lease` is the hold: the attempt's id takes its place. */
  const begin = async (taskId: string, slot: Slot, dispatcher: string): Promise<Begun> => {
    if (slot.begun !== null) return readGo(slot, slot.begun)
    const r = (await scripts.begin(keys.base(slot.type), [taskId, slot.agentId, slot.lease, slot.token, dispatcher, slot.name])) as unknown[]
    switch (r[0]) {
      case 'go':
        return readGo(slot, r)
      case 'ended':
        tell(taskId, r[2])
        return { verdict: 'ended', status: text(r[1]) as TaskStatus }
      case 'later':
        tell(taskId, r[2])
        return { verdict: 'later', ms: Number(r[1]) }
      case 'no_slot':
        return { verdict: 'no_slot' }
      default:
        return { verdict: 'unknown' }
    }
  }

  /**
   * Ends an attempt and frees its slot, or leases it again at once, with a job taken for it.
   * @param held when a dispatcher has its job in hand: that of one that has completed is done as well
   * @param sent called once it is on its way
   */
  const finish = async (type: string, end: AttemptEnd, held?: Held, sent?: () => void): Promise<Finished> => {
    const next = held?.next ?? null
    const [verdict, status, waitMs, slot, repeated, news = []] = (await scripts.finish(
      keys.base(type),
      [
        end.taskId, end.attemptId, end.agentId, end.outcome, end.statusCode ?? '', end.error, end.result, end.executionMs ?? '', end.retryInMs, end.maxRetries, end.restMs,
        next?.token ?? '', limits, end.excused ? 1 : '', held?.queue ?? '', held?.lock ?? '', held?.keep ? 1 : '', held?.dispatcher ?? '', held?.again ? 1 : '',
      ],
      sent,
    )) as ['ok' | 'stale', TaskStatus | '', string, unknown, number, [string, ...string[]][]?]
    for (const line of news) tellOfAgent(type, line)
    // A dispatcher repeats what it had no answer to, and has not counted it; a callback that comes twice has been counted.
    if (verdict === 'ok' && !(repeated === 1 && held === undefined)) {
      stats.count(type, `attempts:${end.outcome}`)
      if (isEnd(status)) stats.count(type, `ended:${status}`)
      else if (status === 'retrying') stats.count(type, 'retried')
      else stats.count(type, `redelivered:${end.outcome}`)
    }
    return { verdict, status, waitMs: Number(waitMs), next: next && readSlot(type, slot, next), repeated: repeated === 1, poison: news.some(([what]) => what === 'poison') }
  }

  /** Lets an attempt go on without a dispatcher, until its callback or its deadline. */
  const park = async (type: string, taskId: string, attemptId: string, lock: string): Promise<Parked> => {
    const [verdict, ...rest] = (await scripts.park(keys.base(type), taskId, attemptId, lock)) as [Parked['verdict'], ...string[]]
    if (verdict === 'parked') return { verdict, leftMs: Number(rest[0]) }
    if (verdict === 'over') return { verdict, status: rest[0] as TaskStatus, waitMs: Number(rest[1]) }
    return { verdict: verdict as 'cancelled' | 'lost' }
  }

  const readOne = async (id: string): Promise<TaskView | null> => {
    const fields = await redis.hgetall(keys.task(typeOfTask(id)!, id))
    if (fields.status === undefined) return null
    const t = readRecord(id, fields)
    return t.callbackUrl === null || t.endedMs === null ? t : { ...t, webhook: await webhooks.read(t.agentType, id) }
  }

  /** A task whose time is over is there for as long as its webhook may be asked for again. */
  const keptForWebhook = async (type: string, id: string): Promise<TaskView | null> => {
    const webhook = await webhooks.read(type, id)
    const t = webhook && (await webhooks.task(type, id))
    return t && { ...t, webhook }
  }

  /** The task, or null: unknown, forgotten, or not of our form. */
  const get = async (id: string): Promise<TaskView | null> => {
    const type = typeOfTask(id)
    if (type === undefined) return null
    const t = (await readOne(id)) ?? (await keptForWebhook(type, id))
    if (!t || isEnd(t.status)) return t
    const isAtAgent = t.status === 'sent' || t.status === 'running'
    // By our clock it may have expired; the script asks Redis's.
    if (isAtAgent ? !t.cancelRequested : Date.now() < t.expiresMs) return t
    const ended = (await scripts.expire(keys.base(type), id)) as [queue: string, status: string] | null
    if (ended === null) return t
    tell(id, [ended[1]])
    await queues.remove(type, ended[0], id).catch(() => false)
    return readOne(id)
  }

  /**
   * Cancels a task. `cancelled`: it has ended so. `requested`: it is at an agent, and will.
   * @throws NotFound, TaskEnded
   */
  const cancel = async (id: string): Promise<{ status: TaskStatus; requested: boolean }> => {
    const type = typeOfTask(id)
    const reply = type === undefined ? null : ((await scripts.cancel(keys.base(type), id)) as [string, string, string?] | null)
    if (type === undefined || reply === null) throw new NotFound(`there is no task ${id}`)
    const [verdict, what, parkedAs] = reply
    if (verdict === 'ended') throw new TaskEnded(id, what)
    if (verdict === 'requested') {
      // Should no dispatcher live that would end it in time, whoever reads it does.
      setTimeout(() => void get(id).catch(() => {}), CANCELLED_WITHIN_MS).unref()
      return { status: what as TaskStatus, requested: true }
    }
    if (parkedAs !== undefined) {
      await parked.settle(type, what, id, parkedAs, { status: 'cancelled', error: '', waitMs: 0 })
      return { status: 'cancelled', requested: false }
    }
    const removed = await queues.remove(type, what, id).catch(() => false)
    // A dispatcher has it in hand, and may be putting it back for a retry that will not be.
    if (!removed) setTimeout(() => void queues.remove(type, what, id).catch(() => {}), 1000).unref()
    return { status: 'cancelled', requested: false }
  }

  /**
   * Submits an ended task again, as a new one; once.
   * @throws NotFound, TaskNotEnded, AlreadyRetried, TooManyQueues
   */
  const retry = async (id: string): Promise<Submitted> => {
    const old = await get(id)
    if (!old) throw new NotFound(`there is no task ${id}`)
    if (!isEnd(old.status)) throw new TaskNotEnded(id, old.status)
    if (old.retriedAs !== null) throw new AlreadyRetried(id, old.retriedAs)
    const again: NewTask = {
      task_type: old.taskType,
      agent_type: old.agentType,
      ...(old.pinnedTo === null ? {} : { agent_id: old.pinnedTo }),
      priority: old.priority,
      timeout_seconds: old.timeoutMs / 1000,
      max_retries: old.maxRetries,
      retry_delay_seconds: old.retryDelayMs / 1000,
      backoff: old.backoff as NewTask['backoff'],
      expires_in_seconds: (old.expiresMs - old.createdMs) / 1000,
      ...(old.callbackUrl === null ? {} : { callback_url: old.callbackUrl }),
    }
    return submit(again, old.agentType, { id: `${old.agentType}.${uuidv7()}`, parameters: old.parameters, metadata: old.metadata, retryOf: id, traceparent: old.traceparent ?? undefined })
  }

  const keepLate = createLate({ redis, keys })
  const parked = createParked({ redis, keys, queues, finish, keepLate, wake, log })
  const progress = createProgress({ redis, keys, maxAttemptMs, log })
  const agentOf = createAgentOf({ redis, keys })
  const list = createList({ redis, keys, types, queues, readOne })
  const deadLetters = createDeadLetters({ redis, keys, types, readOne, retry })
  const sweeping = createSweeping({ redis, keys, queues, retention, fullness, fullPercent, readOne, wake, tell })

  return { agentOf, submit, submitOnce, submitMany, refuseFull, anyFull, reserve, recover, begin, finish, park, progress, keepLate, callback: parked.callback, timeOut: parked.timeOut, cameBack: parked.settle, get, cancel, retry, list, deadLetters, ...sweeping, wake, end }
}
