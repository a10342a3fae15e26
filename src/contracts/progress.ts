/** What agents say of an attempt beside its result: how far it is, and what came too late. */
import { z } from 'zod'
import { number, text } from './members.ts'

/** Longer messages are cut. */
export const MAX_MESSAGE_CHARS = 1_000
/** The `data` of a report, in bytes of JSON. */
export const MAX_DATA_BYTES = 10_240

/** POST /tasks/{id}/progress. Of `data` the bytes are kept as sent. */
export const ProgressReport = z
  .strictObject({
    attempt_id: text(128).describe('The attempt, as it was given to the agent.'),
    percent: number(0, 100).optional(),
    message: z.string({ error: 'must be text' }).optional().describe('For people; cut at 1,000 characters.'),
    data: z.unknown().optional().describe('Any JSON value of at most 10 KiB; clients read it byte for byte as it is here.'),
    extend_seconds: number(0.01, 86_400).optional().describe('The attempt’s deadline is then no sooner than so long from now, nor later than the operator’s MAX_TASK_TIMEOUT_SECONDS from when it was sent.'),
  })
  .meta({ id: 'ProgressReport' })

/** What it answers. */
export const ProgressTaken = z
  .object({
    task_id: z.string(),
    status: z.literal('running'),
    deadline_at: z.iso.datetime().describe('When the attempt ends if nothing is heard until then, moved or not.'),
    cancel_requested: z.boolean().describe('The task is to be cancelled: the work may stop.'),
  })
  .meta({ id: 'ProgressTaken' })

/** The latest report, as GET /tasks/{id} shows it. */
export const Progress = z
  .object({ percent: z.number().nullable(), message: z.string().nullable(), data: z.unknown().describe('As the agent gave it, any JSON value; null when it gave none.'), at: z.iso.datetime() })
  .meta({ id: 'Progress' })

/** A result that came too late to count. */
export const LateResult = z
  .object({
    attempt: z.int().describe('Which of the attempts said so.'),
    agent_id: z.string(),
    received_at: z.iso.datetime(),
    status: z.enum(['completed', 'failed']),
    result: z.unknown().describe('Any JSON value; null when there is none, or it is larger than 10 KiB.'),
    error: z.string().nullable(),
  })
  .meta({ id: 'LateResult' })
