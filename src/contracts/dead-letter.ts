/** Dead letters as they are asked for and told: tasks that failed or timed out, until they are retried. */
import { z } from 'zod'
import { AgentType, Capability } from './agent.ts'
import { CURSOR_FORM, integer, text } from './members.ts'

/** Which are meant, in a query as in a body. */
export const deadLetterFilter = {
  agent_type: AgentType.optional(),
  task_type: Capability.optional(),
  error: text(256).optional().describe('Only those with this anywhere in their error; a–z and A–Z are the same.'),
}

/** At most so many are retried by one call. */
export const MAX_RETRIED = 1_000

/** POST /dead-letters/retry */
export const RetryDeadLetters = z
  .strictObject({
    ...deadLetterFilter,
    limit: integer(1, MAX_RETRIED).default(MAX_RETRIED).describe('At most so many; the newest.'),
    cursor: text(300, CURSOR_FORM).optional().describe('`next_cursor` of the call before: go on from there. May be left out, those retried are passed over.'),
  })
  .meta({ id: 'RetryDeadLetters' })

/** What it answers. */
export const DeadLettersRetried = z
  .object({
    retried: z.int().describe('How many new tasks there are.'),
    skipped: z.int().describe('How many somebody else retried, or that were forgotten, at that moment.'),
    task_ids: z.array(z.string()).describe('The new tasks, in the order of the old ones.'),
    more: z.boolean().describe('There may be more: call again.'),
    next_cursor: z.string().nullable().describe('Give it as cursor to the next call.'),
    error: z.string().nullable().describe('What kept it from retrying all that it found; null when nothing did.'),
  })
  .meta({ id: 'DeadLettersRetried' })

export const DeadLetterGroup = z
  .object({
    agent_type: z.string(),
    task_type: z.string(),
    error: z.string().describe('What their errors have in common: ids and numbers are `#`, at most 200 characters.'),
    count: z.int(),
    newest_task_id: z.string(),
  })
  .meta({ id: 'DeadLetterGroup' })

/** GET /dead-letters/summary */
export const DeadLetterSummary = z
  .object({
    groups: z.array(DeadLetterGroup).describe('The most frequent first; at most 100.'),
    count: z.int().describe('How many there are in all that was looked at.'),
    complete: z.boolean().describe('False when there are more than 20,000 to look at, of which the newest count, or more than 100 groups.'),
  })
  .meta({ id: 'DeadLetterSummary' })
