/** A webhook's record, as outbox.lua keeps it, and as it is shown. */
import { iso } from '../../contracts/time.ts'
import type { TaskWebhook, WebhookAttempt } from '../../contracts/webhook.ts'
import { uuidOf } from '../../redis/keys.ts'

const MAX_SHOWN = 20

/** The same at every try, and for ever: made of the task's id, of which it leaves out the type and the dot. */
export const webhookId = (taskId: string): string => `msg_${uuidOf(taskId)}`

const readAttempt = (row: string): WebhookAttempt => {
  const [at, code, took, ...error] = row.split('\t')
  return { at: iso(Number(at)), status_code: code ? Number(code) : null, error: error.join('\t') || null, duration_ms: took ? Number(took) : null }
}

/** @param f the fields of its hash; none: it was forgotten */
export const readWebhook = (taskId: string, f: Record<string, string>): TaskWebhook | null => {
  if (f.status === undefined) return null
  const tries = Number(f.tries ?? 0)
  const attempts = Array.from({ length: Math.min(tries, MAX_SHOWN) }, (_, i) => f[`a${Math.max(0, tries - MAX_SHOWN) + i + 1}`]).flatMap((row) => (row === undefined ? [] : [readAttempt(row)]))
  return { id: webhookId(taskId), status: f.status as TaskWebhook['status'], attempts, next_attempt_at: f.next === undefined || f.token !== undefined ? null : iso(Number(f.next)) }
}
