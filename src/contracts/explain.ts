/** Why a task waits, or what has become of it: what GET /tasks/{id}/explain answers. docs/explain.md tells each code, and what to do. */
import { z } from 'zod'
import { AgentStatus } from './agent.ts'
import { Attempt, TaskStatus } from './task.ts'

export const ExplainReason = z.enum([
  // its time has not come
  'not_due',
  'retry_delay',
  'retry_postponed',
  'redelivery_delay',
  'stepped_aside',
  // on its way through the queue
  'no_dispatcher',
  'being_queued',
  'being_sent',
  // waiting for an agent
  'no_agent_registered',
  'no_agent_capable',
  'no_agent_alive',
  'pinned_agent_absent',
  'no_agent_usable',
  'agents_resting',
  'agents_sick',
  'waiting_for_slot',
  'behind_others',
  'next_to_go',
  // at an agent
  'at_agent',
  'result_pending',
  'dispatcher_lost',
  'cancelling',
  // over
  'expired',
  'ended',
])
export type ExplainReason = z.infer<typeof ExplainReason>

export const AgentReason = z.enum([
  'eligible',
  'failed_here_before',
  'at_capacity',
  'resting',
  'sick',
  'draining',
  'unhealthy',
  'refused',
  'unreachable',
  'dead',
  'lacks_capability',
  'not_the_pinned_agent',
])
export type AgentReason = z.infer<typeof AgentReason>

export const ConsideredAgent = z
  .object({
    agent_id: z.string(),
    name: z.string(),
    status: AgentStatus,
    in_flight: z.int().describe('Slots taken.'),
    max_concurrency: z.int(),
    load: z.number().describe('in_flight ÷ max_concurrency: the least loaded goes first.'),
    reason: AgentReason.describe('eligible: it may get the task now; else why not.'),
    detail: z.string().nullable().describe('For people: what more there is to the reason.'),
  })
  .meta({ id: 'ConsideredAgent' })
export type ConsideredAgent = z.infer<typeof ConsideredAgent>

export const Explanation = z
  .object({
    task_id: z.string(),
    status: TaskStatus,
    reason: ExplainReason.describe('Why it is where it is.'),
    summary: z.string().describe('For people: where it is, why, and what may be done.'),
    at: z.iso.datetime().describe('The moment that all of this is of.'),
    since: z.iso.datetime().describe('Since when it waits, is at its agent, or has ended.'),
    may_go_at: z.iso.datetime().nullable().meta({ description: 'When it may go, if that is a matter of time: its own, or that an agent’s rest ends.' }),
    expires_at: z.iso.datetime(),
    cancel_requested: z.boolean(),
    queue: z.object({
      name: z.string(),
      waiting: z.int().describe('Tasks that may go.'),
      delayed: z.int().describe('Those whose time has not come.'),
      active: z.int().describe('Those at a dispatcher or an agent.'),
    }),
    position: z
      .object({
        before: z.int().describe('How many tasks of its queue go before it.'),
        returned: z.int().describe('How many of these came back from a dispatcher that died: they go first.'),
        by_priority: z.array(z.object({ priority: z.int(), tasks: z.int() })).describe('The others by priority, the highest first.'),
        elsewhere: z.int().describe('Tasks of a higher priority in other queues that its agents serve: they go before it as well.'),
      })
      .nullable()
      .meta({ description: 'Its place in line; null when it does not stand in line.' }),
    attempt: z
      .object({
        attempt: z.int(),
        agent_id: z.string(),
        agent_name: z.string(),
        sent_at: z.iso.datetime(),
        deadline_at: z.iso.datetime(),
        waits_for: z.enum(['answer', 'callback']).describe('callback: the agent said 202.'),
      })
      .nullable()
      .meta({ description: 'The attempt that is under way.' }),
    last_attempt: Attempt.nullable().meta({ description: 'The last attempt that has ended.' }),
    avoids: z.array(z.string()).describe('Agents that failed it: it goes to another, if one has room.'),
    waited_for: ExplainReason.nullable().meta({ description: 'What it was waiting for when it expired.' }),
    agents: z.array(ConsideredAgent).describe('Of a task that waits: at most 100 agents of the type, who is next first.'),
    agents_considered: z
      .object({
        total: z.int().describe('Agents of the type that are known, living or dead.'),
        by_reason: z.partialRecord(AgentReason, z.int()),
        not_looked_at: z.int().describe('Of so many the reason was not looked at: beyond a bound only those with a place in line are.'),
      })
      .nullable()
      .meta({ description: 'How many there are for each reason; null when the task does not wait.' }),
    dispatchers: z.int().describe('How many dispatchers make progress.'),
  })
  .meta({ id: 'Explanation' })
export type Explanation = z.infer<typeof Explanation>
