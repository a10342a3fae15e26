/** A task as it goes over the wire: what GET /tasks/{id} shows, and webhooks carry. */
import { rawJson, rawList, stringify, type RawJson } from '../contracts/json.ts'
import { iso, isoOrNull } from '../contracts/time.ts'
import type { LateResult } from './late.ts'
import type { KeptReport } from './progress.ts'
import type { TaskView } from './record.ts'

const progressWire = (p: KeptReport): RawJson => rawJson(stringify({ percent: p.percent, message: p.message, data: rawJson(p.data ?? 'null'), at: iso(p.atMs) }))
const lateWire = (late: LateResult[]): RawJson =>
  rawList(late.map((l) => stringify({ attempt: l.attempt, agent_id: l.agentId, received_at: iso(l.atMs), status: l.status, result: rawJson(l.result), error: l.error })))

/** For `stringify`: its payloads are JSON texts. */
export const wire = (t: TaskView): Record<string, unknown> => ({
  task_id: t.taskId,
  task_type: t.taskType,
  agent_type: t.agentType,
  agent_id: t.agentId,
  priority: t.priority,
  status: t.status,
  parameters: rawJson(t.parameters),
  result: rawJson(t.result),
  error: t.error,
  created_at: iso(t.createdMs),
  started_at: isoOrNull(t.startedMs),
  completed_at: isoOrNull(t.endedMs),
  // A time that has come says nothing: what still waits then waits for a slot. Only shown, so our clock is good enough.
  run_at: (t.status === 'pending' || t.status === 'retrying') && t.notBeforeMs > Date.now() ? iso(t.notBeforeMs) : null,
  expires_at: iso(t.expiresMs),
  timeout_seconds: t.timeoutMs / 1000,
  retry_count: t.retries,
  max_retries: t.maxRetries,
  redeliveries: t.redeliveries,
  refunds: t.refunds,
  poison: t.poison,
  progress: t.progress === null ? null : progressWire(t.progress),
  metadata: rawJson(t.metadata),
  cancel_requested: t.cancelRequested,
  retry_of: t.retryOf,
  retried_as: t.retriedAs,
  schedule_id: t.schedule?.id ?? null,
  scheduled_at: isoOrNull(t.schedule?.dueMs ?? null),
  execution_time_ms: t.executionMs,
  callback_url: t.callbackUrl,
  webhook: t.webhook,
  attempts: t.attempts,
  late_results: t.lateResults.length === 0 ? [] : lateWire(t.lateResults),
})
