/** What happens to tasks, as watchers are told. */
import { z } from 'zod'
import { AttemptOutcome, TaskStatus } from './task.ts'

/** The events' names: the status that a task has come to, or its agent's word of progress. */
export const EVENT_TYPES = [...TaskStatus.options.map((status) => `task.${status}` as const), 'task.progress' as const, 'task.withdrawn' as const]

export const TaskEvent = z
  .object({
    id: z.string().describe('Of this event: its agent type and its place in the type’s log.'),
    type: z.enum(EVENT_TYPES).describe('task.withdrawn: its submit was refused behind all; it will not run.'),
    task_id: z.string(),
    agent_type: z.string(),
    at: z.iso.datetime().describe('By the clock of the store.'),
    attempt: z.int().nullable().describe('The attempt that this is about, if it is about one.'),
    agent_id: z.string().nullable().describe('The agent of that attempt.'),
    outcome: AttemptOutcome.nullable().describe('How that attempt ended, if it did.'),
    error: z.string().nullable().describe('What went wrong, in brief; the task has it whole.'),
    progress: z.unknown().describe('What the agent said; null but for task.progress.'),
  })
  .meta({ id: 'TaskEvent' })
export type TaskEvent = z.infer<typeof TaskEvent>
