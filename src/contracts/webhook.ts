/** The webhook of a task: what its callback_url is sent, and what a task tells of it. */
import { z } from 'zod'

/** One try to deliver it. */
export const WebhookAttempt = z
  .object({
    at: z.iso.datetime(),
    status_code: z.int().nullable().describe('What the receiver answered, if it did.'),
    error: z.string().nullable(),
    duration_ms: z.int().nullable().describe('Null when the process that sent it stopped.'),
  })
  .meta({ id: 'WebhookAttempt' })
export type WebhookAttempt = z.infer<typeof WebhookAttempt>

export const WebhookStatus = z.enum([
  'pending', // it is being sent, or will be
  'delivered', // the receiver answered 2xx
  'failed', // it was sent as often as it is, in vain
  'disabled', // the receiver answered 410, to this one or to another one sent there
])

export const TaskWebhook = z
  .object({
    id: z.string().describe('The header webhook-id, the same at every try: by it a receiver knows one that came before.'),
    status: WebhookStatus,
    attempts: z.array(WebhookAttempt).describe('Oldest first; the last 20.'),
    next_attempt_at: z.iso.datetime().nullable().describe('Null while it is being sent, and when no other try comes.'),
  })
  .meta({ id: 'TaskWebhook' })
export type TaskWebhook = z.infer<typeof TaskWebhook>

export const WebhookType = z.enum(['task.completed', 'task.failed', 'task.timeout', 'task.cancelled'])

/** What is posted to a callback_url. `task`: the schema of tasks, which has a member of this file. */
export const webhookEvent = <T extends z.ZodType>(task: T) =>
  z
    .object({
      type: WebhookType,
      timestamp: z.iso.datetime().describe('When the task ended.'),
      data: task,
      omitted: z.array(z.string()).optional().describe('Members of the task that were left out, and are empty here, as the whole was larger than 1 MiB.'),
    })
    .meta({ id: 'WebhookEvent' })

/** What POST /tasks/{id}/webhooks/redeliver answers. */
export const Redelivery = z.object({ task_id: z.string(), webhook: TaskWebhook }).meta({ id: 'Redelivery' })
