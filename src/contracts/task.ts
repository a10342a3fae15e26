/** A task as clients submit and read it: zod schemas, and the types inferred from them. */
import { z } from 'zod'
import { AgentId, AgentType, Capability, JsonObject } from './agent.ts'
import { CallbackUrl } from './callback.ts'
import { always, anObject, integer, number, oneOf, text } from './members.ts'
import { LateResult, Progress } from './progress.ts'
import { TaskWebhook, webhookEvent } from './webhook.ts'

/** Priorities as people say them; 15 goes first. */
export const NAMED_PRIORITIES = { low: 1, normal: 5, high: 10, critical: 15 } as const
const MAX_DAYS_SECONDS = 30 * 86_400
const PRIORITY_FORM = 'must be a whole number from 1 to 15, or low, normal, high or critical'
const RUN_AT_FORM = 'must be a time with its zone, such as 2026-01-31T12:00:00Z, at most 30 days from now'

export const TaskStatus = oneOf('pending', 'queued', 'sent', 'running', 'retrying', 'completed', 'failed', 'timeout', 'cancelled')
export type TaskStatus = z.infer<typeof TaskStatus>
/** The four ends. A task reaches exactly one of them, and it never changes. */
export const END_STATUSES = ['completed', 'failed', 'timeout', 'cancelled'] as const
export const isEnd = (status: string): boolean => (END_STATUSES as readonly string[]).includes(status)

/**
 * POST /tasks. `parameters` and `metadata` are only checked to be objects here: their bytes are kept as sent.
 * @param maxTimeoutSeconds the operator's upper bound for `timeout_seconds`
 */
export const newTaskSchema = (maxTimeoutSeconds: number) =>
  z
    .strictObject({
      task_type: Capability.describe('What is to be done: a capability of the agents.'),
      agent_type: AgentType.optional().describe('Which agents are to do it. Required unless agent_id is given.'),
      agent_id: AgentId.optional().describe('Pins the task to this agent, which needs no capability for it.'),
      parameters: JsonObject.optional().describe('For the agent, which gets them byte for byte as they are here.'),
      priority: z
        .union([integer(1, 15, PRIORITY_FORM), z.enum(['low', 'normal', 'high', 'critical']).transform((name) => NAMED_PRIORITIES[name])], { error: PRIORITY_FORM })
        .prefault(5) // as sent, so that the API's document can tell it
        .describe('Higher goes first. low, normal, high, critical are 1, 5, 10, 15.'),
      timeout_seconds: number(0.01, maxTimeoutSeconds).default(Math.min(30, maxTimeoutSeconds)).describe('For each attempt.'),
      max_retries: integer(0, 100).default(3).describe('How often a failed attempt is followed by another; 0 means never.'),
      retry_delay_seconds: number(0, 3600).default(5).describe('Before the first retry, jittered; no delay is longer than 5 minutes.'),
      backoff: oneOf('exponential', 'fixed').default('exponential').describe('Whether the delay doubles with each retry.'),
      delay_seconds: number(0, MAX_DAYS_SECONDS).optional().describe('Not before so many seconds from now.'),
      run_at: z.iso
        .datetime({ offset: true, error: RUN_AT_FORM })
        .max(40, RUN_AT_FORM) // any number of digits would be a fraction
        .refine((at) => Date.parse(at) <= Date.now() + MAX_DAYS_SECONDS * 1000, RUN_AT_FORM)
        .optional()
        .describe('Not before this time. One that is past means now.'),
      expires_in_seconds: number(0.01, MAX_DAYS_SECONDS).default(86_400).describe('Ends as timeout (error: expired) when no attempt could begin within so long.'),
      callback_url: CallbackUrl.optional().describe('Is sent a webhook when the task ends, whichever way.'),
      metadata: JsonObject.optional().describe('Goes along to the agent, and comes back as it is here.'),
    }, anObject)
    .refine((t) => t.agent_type !== undefined || t.agent_id !== undefined, { path: ['agent_type'], message: 'is required unless agent_id is given', ...always })
    .refine((t) => t.delay_seconds === undefined || t.run_at === undefined, { path: ['run_at'], message: 'cannot be given beside delay_seconds: give one of them', ...always })
    .meta({ id: 'NewTask', anyOf: [{ required: ['agent_type'] }, { required: ['agent_id'] }] })
export type NewTask = z.infer<ReturnType<typeof newTaskSchema>>

/** How one delivery of a task went. `outcome` is null while it lasts. */
export const AttemptOutcome = z.enum([
  'completed', // the agent answered with a result
  'failed', // the agent said so, answered 5xx or something unusable, or the connection broke
  'rejected', // the agent refused it for good (4xx, or retryable: false)
  'timeout', // no end within timeout_seconds
  'unreachable', // no connection could be made
  'no_room', // 429 or 503: costs no attempt
  'cancelled', // stopped because the task was cancelled
  'lost', // its dispatcher died, or its agent no longer knew of it: costs no attempt
  'drained', // its dispatcher was stopped: costs no attempt
])
export type AttemptOutcome = z.infer<typeof AttemptOutcome>

export const Attempt = z
  .object({
    attempt: z.int(),
    agent_id: z.string(),
    agent_name: z.string(),
    sent_at: z.iso.datetime(),
    ended_at: z.iso.datetime().nullable(),
    outcome: AttemptOutcome.nullable().describe('Null while it lasts. no_room, lost and drained cost the task no retry.'),
    status_code: z.int().nullable().describe('What the agent answered, if it did.'),
    error: z.string().nullable(),
  })
  .meta({ id: 'Attempt' })
export type Attempt = z.infer<typeof Attempt>

/** The answer to a submit. */
export const Submitted = z
  .object({ task_id: z.string(), status: TaskStatus, agent_id: z.string().nullable(), created_at: z.iso.datetime(), status_url: z.string(), retry_of: z.string().optional() })
  .meta({ id: 'Submitted' })
export type Submitted = z.infer<typeof Submitted>

/** A task as GET shows it. `parameters`, `result` and `metadata` come back byte for byte as they were sent. */
export const Task = z
  .object({
    task_id: z.string(),
    task_type: z.string(),
    agent_type: z.string(),
    agent_id: z.string().nullable().meta({ description: 'The agent it is pinned to, or the one that has or had it.' }),
    priority: z.int(),
    status: TaskStatus,
    parameters: JsonObject,
    result: z.unknown().meta({ description: 'The agent’s result, any JSON value; null until completed.' }),
    error: z.string().nullable().describe('The agent’s own words, or ours.'),
    created_at: z.iso.datetime(),
    started_at: z.iso.datetime().nullable(),
    completed_at: z.iso.datetime().nullable(),
    run_at: z.iso.datetime().nullable().meta({ description: 'When a pending or retrying task may go; null when it may go now, as soon as an agent has room.' }),
    expires_at: z.iso.datetime(),
    timeout_seconds: z.number(),
    retry_count: z.int().describe('Retries so far.'),
    max_retries: z.int(),
    redeliveries: z.int().meta({ description: 'Deliveries repeated because we failed, not the agent.' }),
    refunds: z.int().describe('Failed attempts that cost it no retry, as their agent was found to be sick.'),
    poison: z.boolean().describe('It failed on so many different agents that it was not tried again, whatever retries were left.'),
    progress: Progress.nullable().meta({ description: 'The latest report of an agent on it, of whichever attempt.' }),
    metadata: JsonObject,
    cancel_requested: z.boolean().describe('Its cancellation was asked for: at an agent it will end cancelled, waiting it has.'),
    retry_of: z.string().nullable().describe('The ended task that this one repeats.'),
    retried_as: z.string().nullable().describe('The task that repeats this one.'),
    schedule_id: z.string().nullable().describe('The schedule of which it is a run.'),
    scheduled_at: z.iso.datetime().nullable().describe('When that run was due.'),
    execution_time_ms: z.number().nullable(),
    callback_url: z.string().nullable().describe('Is sent a webhook when the task ends.'),
    webhook: TaskWebhook.nullable().describe('That webhook, from the task’s end on. Null in the webhook itself.'),
    attempts: z.array(Attempt).describe('Deliveries, oldest first; the last 100.'),
    late_results: z.array(LateResult).describe('Results that came too late and changed nothing, oldest first; the last 5.'),
  })
  .meta({ id: 'Task' })

/** What a task's callback_url is sent when it ends. */
export const WebhookEvent = webhookEvent(Task)

export const TaskList = z
  .object({ tasks: z.array(Task), count: z.int().describe('How many are in this page.'), next_cursor: z.string().nullable().describe('Give it as cursor for the next page; null at the end.') })
  .meta({ id: 'TaskList' })

/** What DELETE /tasks/{id} answers. */
export const Cancelled = z.object({ task_id: z.string(), status: TaskStatus, cancel_requested: z.boolean() }).meta({ id: 'Cancelled' })

/** What an agent answers to it. Only `status` and `result` or `error` count; the rest may be left out. */
export const DeliveryAnswer = z
  .looseObject({
    task_id: z.string().optional().describe('If given, the task’s.'),
    status: z.enum(['completed', 'failed']).describe('With 200, completed ends the task; failed is a failed attempt.'),
    result: z.unknown().optional().describe('Any JSON value; clients read it byte for byte as it is here.'),
    error: z.string().optional().describe('What went wrong, in words for the task’s client.'),
    execution_time_ms: z.number().optional(),
    retryable: z.boolean().optional().describe('Overrules what the HTTP status says about trying again.'),
  })
  .meta({ id: 'DeliveryAnswer' })

/** The header `traceparent`, W3C trace context, level 1: taken with a submit and passed on with each attempt; anything else is not. */
export const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/

/** POST /tasks/{id}/result: how an attempt that was answered 202 has ended. */
export const AttemptResult = z
  .strictObject({
    attempt_id: text(128).describe('The attempt, as it was given to the agent.'),
    status: oneOf('completed', 'failed'),
    result: z.unknown().optional().describe('Any JSON value; clients read it byte for byte as it is here.'),
    error: z.string({ error: 'must be text' }).optional().describe('What went wrong, in words for the task’s client.'),
    execution_time_ms: number(0, Number.MAX_SAFE_INTEGER).optional(),
    retryable: z.boolean({ error: 'must be true or false' }).optional().describe('false: a failed attempt is not followed by another.'),
    task_id: z.string({ error: 'must be the task’s id' }).optional().describe('If given, the task’s.'),
    metadata: JsonObject.optional().describe('Not kept.'),
  })
  .meta({ id: 'AttemptResult' })

/** What it answers. */
export const ResultTaken = z.object({ task_id: z.string(), status: TaskStatus.describe('What the task has come to.') }).meta({ id: 'ResultTaken' })

/** What we POST to an agent's /task. */
export const Delivery = z
  .object({
    task_id: z.string(),
    task_type: z.string(),
    parameters: JsonObject,
    timeout_seconds: z.number(),
    priority: z.int(),
    metadata: JsonObject,
    attempt: z.int(),
    attempt_id: z.string(),
  })
  .meta({ id: 'Delivery' })
