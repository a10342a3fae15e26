/** The record of a task as TypeScript sees it: its types, and its fields read and written. record.lua says what they hold. */
import type { Attempt, TaskStatus } from '../contracts/task.ts'
import { iso } from '../contracts/time.ts'
import type { TaskWebhook } from '../contracts/webhook.ts'
import { queueName, typeOfTask } from '../redis/keys.ts'
import { readLate, type LateResult } from './late.ts'
import { readProgress, type KeptReport } from './progress.ts'

/** A record as read. `parameters`, `result` and `metadata` are JSON texts, byte for byte as they came. */
export type TaskView = {
  taskId: string
  taskType: string
  agentType: string
  pinnedTo: string | null
  agentId: string | null
  priority: number
  status: TaskStatus
  parameters: string
  metadata: string
  result: string
  error: string | null
  createdMs: number
  startedMs: number | null
  endedMs: number | null
  notBeforeMs: number
  expiresMs: number
  timeoutMs: number
  retries: number
  maxRetries: number
  retryDelayMs: number
  backoff: string
  redeliveries: number
  refunds: number
  poison: boolean
  cancelRequested: boolean
  retryOf: string | null
  retriedAs: string | null
  executionMs: number | null
  traceparent: string | null
  callbackUrl: string | null
  /** From its end on, where it was read as well. */
  webhook: TaskWebhook | null
  /** The schedule of which it is a run, and when that was due. */
  schedule: { id: string; dueMs: number } | null
  attempts: Attempt[]
  progress: KeptReport | null
  lateResults: LateResult[]
}

const num = (s: string | undefined): number | null => (s === undefined || s === '' ? null : Number(s))

/** What of a task never changes; one field of its record. */
export type Spec = { timeoutMs: number; maxRetries: number; retryDelayMs: number; backoff: string; priority: number; pinnedTo: string | null; taskType: string }
export const writeSpec = (s: Spec, queue: string): string => [s.timeoutMs, s.maxRetries, s.retryDelayMs, s.backoff, s.priority, s.pinnedTo ?? '', s.taskType, queue].join('\t')
export const readSpec = (spec: string): Spec => {
  const [timeout, maxRetries, retryDelay, backoff, priority, pin, taskType] = spec.split('\t')
  return { timeoutMs: Number(timeout), maxRetries: Number(maxRetries), retryDelayMs: Number(retryDelay), backoff: backoff!, priority: Number(priority), pinnedTo: pin ? pin : null, taskType: taskType! }
}

/** Where its job waits: in the queue of its capability, or in that of the agent it is pinned to. */
export const queueOf = (type: string, { pinnedTo, taskType }: Pick<Spec, 'pinnedTo' | 'taskType'>): string => queueName(type, pinnedTo === null ? taskType : `@${pinnedTo}`)

const readSchedule = (text: string | undefined): TaskView['schedule'] => {
  const [id, due] = text?.split('\t') ?? []
  return id && due ? { id, dueMs: Number(due) } : null
}

/** The deliveries whose fields are given, oldest first. */
export const readAttempts = (f: Record<string, string>): Attempt[] => {
  const attempts: Attempt[] = []
  const last = Number(f.deliveries ?? 0)
  for (let n = Math.max(1, last - 99); n <= last; n++) {
    const cells = f[`a${n}`]?.split('\t') ?? (n === last ? f.sending?.split('\t').slice(0, 3) : undefined)
    if (!cells) continue
    const [agent, name, sent, ended, outcome, code, ...error] = cells
    attempts.push({
      attempt: n,
      agent_id: agent!,
      agent_name: name!,
      sent_at: iso(Number(sent)),
      ended_at: ended ? iso(Number(ended)) : null,
      outcome: (outcome as Attempt['outcome']) ?? null,
      status_code: num(code),
      error: error.length > 0 && error[0] !== '' ? error.join('\t') : null,
    })
  }
  return attempts
}

export const readRecord = (taskId: string, f: Record<string, string>, spec = readSpec(f.spec!)): TaskView => ({
  taskId,
  ...spec,
  agentType: typeOfTask(taskId)!,
  agentId: f.sending?.slice(0, f.sending.indexOf('\t')) ?? spec.pinnedTo,
  status: f.status as TaskStatus,
  parameters: f.parameters!,
  metadata: f.metadata!,
  result: f.result ?? 'null',
  error: f.error ? f.error : null,
  createdMs: Number(f.created),
  startedMs: num(f.started),
  endedMs: num(f.ended),
  notBeforeMs: Number(f.not_before),
  expiresMs: Number(f.expires),
  retries: Number(f.retries ?? 0),
  redeliveries: Number(f.redeliveries ?? 0),
  refunds: Number(f.refunds ?? 0),
  poison: f.poison === '1',
  cancelRequested: f.cancel === '1',
  retryOf: f.retry_of ?? null,
  retriedAs: f.retried_as ?? null,
  executionMs: num(f.execution_ms),
  traceparent: f.traceparent ?? null,
  callbackUrl: f.callback?.slice(f.callback.indexOf('\t') + 1) ?? null,
  webhook: null,
  schedule: readSchedule(f.schedule),
  attempts: readAttempts(f),
  progress: readProgress(f.progress, f.progress_data),
  lateResults: readLate(f),
})
