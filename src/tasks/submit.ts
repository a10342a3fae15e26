/** Takes tasks. */
import type { NewTask, Submitted, TaskStatus } from '../contracts/task.ts'
import { readReceiver, type CallbackPolicy } from '../contracts/callback.ts'
import { NoAgent, TooManyQueues } from '../errors.ts'
import type { Queues } from '../queues/queues.ts'
import { createBatch } from '../redis/batch.ts'
import type { Redis } from '../redis/client.ts'
import { uuidv7 } from '../redis/ids.ts'
import { queueName, type Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'
import type { Types } from '../registry/types.ts'
import { writeSpec, type Spec } from './record.ts'
import type { Stats } from './stats.ts'

const MAX_QUEUES_PER_TYPE = 10_000
/** A queue in use is named to Redis again after so long. */
const NAME_AGAIN_MS = 60_000

/** What a submit needs beside the parsed body: the JSON texts as they were sent, and what the request said. */
export type SubmitExtra = { parameters: string; metadata: string; requireAgent?: boolean; traceparent?: string | undefined; retryOf?: string; id?: string }

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
  callbacks: CallbackPolicy
  /** Tells a dispatcher of a task's job, if it is there. */
  wake: (type: string, id: string, queue: string) => Promise<unknown>
}

export const createSubmit = ({ redis, keys, types, queues, stats, callbacks, wake }: SubmitDeps) => {
  const script = (file: string) => loadScript(redis, new URL(file, import.meta.url))
  const scripts = {
    submit: createBatch(script('./submit.lua')),
    withdraw: script('./withdraw.lua'),
  }

  /** When this process last named a queue to Redis, which forgets one unused for an hour. */
  const lastNamed = new Map<string, number>()
  /** Queues whose agents had no room when last asked. */
  const full = new Set<string>()
  // A Redis that comes back may have lost its last second: what we know of it is to be said and asked anew.
  redis.on('close', () => {
    lastNamed.clear()
    full.clear()
  })

  /**
   * Takes a task: its record, then its job, then a wake, each sent behind the other without waiting, as one packet; answered when all have.
   * Dying anywhere between leaves a record that the sweeper finds and completes.
   * @param agentType its agent type, resolved from `agent_id` where the body named none
   * @throws NoAgent, TooManyQueues, HostNotAllowed
   */
  return async (t: NewTask, agentType: string, extra: SubmitExtra): Promise<Submitted> => {
    // What was taken once is taken again; when it is sent, the policy of that day decides.
    if (t.callback_url !== undefined && extra.retryOf === undefined) callbacks.check(t.callback_url)
    // With require_agent there must be an agent, which has made the type known; a refused submit leaves nothing behind.
    if (!extra.requireAgent) await types.ensure(agentType)
    const id = extra.id ?? `${agentType}.${uuidv7()}`
    const queue = queueName(agentType, t.agent_id === undefined ? t.task_type : `@${t.agent_id}`)
    const base = keys.base(agentType)
    const delayMs = t.delay_seconds !== undefined ? Math.round(t.delay_seconds * 1000) : t.run_at !== undefined ? Date.parse(t.run_at) - Date.now() : 0
    const spec: Spec = { timeoutMs: Math.ceil(t.timeout_seconds * 1000), maxRetries: t.max_retries, retryDelayMs: Math.round(t.retry_delay_seconds * 1000), backoff: t.backoff, priority: t.priority, pinnedTo: t.agent_id ?? null, taskType: t.task_type }
    const isNew = performance.now() - (lastNamed.get(queue) ?? -Infinity) > NAME_AGAIN_MS
    const sent = Promise.withResolvers<void>()
    const recorded = scripts.submit(
      base,
      [
        id, queue, t.delay_seconds === undefined ? '' : Math.round(t.delay_seconds * 1000), t.run_at === undefined ? '' : Date.parse(t.run_at), Math.ceil(t.expires_in_seconds * 1000), MAX_QUEUES_PER_TYPE,
        extra.requireAgent ? 1 : 0, extra.id === undefined ? 0 : 1, isNew ? 1 : 0, writeSpec(spec, queue), extra.parameters, extra.metadata, extra.traceparent ?? '', extra.retryOf ?? '',
        t.callback_url === undefined ? '' : `${readReceiver(t.callback_url).origin}\t${t.callback_url}`,
      ],
      sent.resolve,
    ) as Promise<[string, TaskStatus, string, number]>
    const refuse = ([verdict]: [string, ...unknown[]]) => {
      if (verdict === 'no_agent') throw new NoAgent(`no agent that can do ${t.task_type} for ${agentType} is alive; start one, or submit without require_agent and the task waits`)
      if (verdict === 'queues') {
        lastNamed.delete(queue)
        throw new TooManyQueues(agentType, MAX_QUEUES_PER_TYPE)
      }
    }
    // Asked whether it may, a submit waits for the answer; otherwise the job follows at once.
    if (extra.requireAgent) refuse(await recorded)
    else await sent.promise
    const silent = full.has(queue)
    const [record, added] = await Promise.allSettled([
      recorded,
      queues.add({ id, type: agentType, queue, taskType: t.task_type, priority: t.priority, maxRetries: t.max_retries, delayMs }),
      // Where the last task found no room, this one will not either, and a freed slot finds it: no wake is sent along.
      silent ? undefined : afterThisTurn(() => wake(agentType, id, queue)),
    ])
    if (record.status === 'rejected') throw record.reason
    const [verdict, status, created, room] = record.value
    // Only now: a submit that was refused or failed has named nothing.
    if (isNew && verdict === 'ok') {
      if (lastNamed.size > 20_000) lastNamed.clear()
      lastNamed.set(queue, performance.now())
    }
    if (status === 'pending' || room === 1) {
      full.delete(queue)
      if (silent && added.status === 'fulfilled') await wake(agentType, id, queue).catch(() => {})
    } else {
      if (full.size > 10_000) full.clear()
      full.add(queue)
    }
    try {
      refuse(record.value)
    } catch (error) {
      await queues.remove(agentType, queue, id)
      throw error
    }
    if (added.status === 'rejected') {
      // The client is told no: take the record back, or else the sweeper would run it.
      await scripts.withdraw(base, id).catch(() => {})
      throw added.reason
    }
    stats.count(agentType, 'submitted')
    return { task_id: id, status, agent_id: t.agent_id ?? null, created_at: new Date(Number(created)).toISOString(), status_url: `/tasks/${id}`, ...(extra.retryOf === undefined ? {} : { retry_of: extra.retryOf }) }
  }
}
