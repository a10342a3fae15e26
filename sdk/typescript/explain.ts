/** Why a task waits, as types: what `tasks.explain` gives. Held equal to the API's own schemas, as those of `wire.ts` are. */
import type { AgentStatus, Attempt, TaskStatus } from './wire.ts'

/** Why a task is where it is; docs/explain.md tells what each means, and what to do. New ones may come. */
export type ExplainReason =
  | 'not_due'
  | 'retry_delay'
  | 'retry_postponed'
  | 'redelivery_delay'
  | 'stepped_aside'
  | 'no_dispatcher'
  | 'being_queued'
  | 'being_sent'
  | 'no_agent_registered'
  | 'no_agent_capable'
  | 'no_agent_alive'
  | 'pinned_agent_absent'
  | 'no_agent_usable'
  | 'agents_resting'
  | 'agents_sick'
  | 'waiting_for_slot'
  | 'behind_others'
  | 'next_to_go'
  | 'at_agent'
  | 'result_pending'
  | 'dispatcher_lost'
  | 'cancelling'
  | 'expired'
  | 'ended'

/** `eligible`: the agent may get the task now; else why not. */
export type AgentReason =
  | 'eligible'
  | 'failed_here_before'
  | 'at_capacity'
  | 'resting'
  | 'sick'
  | 'draining'
  | 'unhealthy'
  | 'refused'
  | 'unreachable'
  | 'dead'
  | 'lacks_capability'
  | 'not_the_pinned_agent'

export type ConsideredAgent = {
  agent_id: string
  name: string
  status: AgentStatus
  /** Slots taken. */
  in_flight: number
  max_concurrency: number
  /** in_flight ÷ max_concurrency: the least loaded goes first. */
  load: number
  reason: AgentReason
  /** For people: what more there is to the reason. */
  detail: string | null
}

export type Explanation = {
  task_id: string
  status: TaskStatus
  reason: ExplainReason
  /** For people: where it is, why, and what may be done. */
  summary: string
  /** The moment that all of this is of. */
  at: string
  /** Since when it waits, is at its agent, or has ended. */
  since: string
  /** When it may go, if that is a matter of time: its own, or that an agent's rest ends. */
  may_go_at: string | null
  expires_at: string
  cancel_requested: boolean
  /** How many tasks of its queue may go, wait for their time, and are at a dispatcher or an agent. */
  queue: { name: string; waiting: number; delayed: number; active: number }
  /** Its place in line; null when it does not stand in line. */
  position: {
    /** How many tasks of its queue go before it. */
    before: number
    /** How many of these came back from a dispatcher that died: they go first. */
    returned: number
    /** The others, the highest priority first. */
    by_priority: { priority: number; tasks: number }[]
    /** Tasks of a higher priority in other queues that its agents serve: they go before it as well. */
    elsewhere: number
  } | null
  /** The attempt that is under way; `callback`: the agent said 202. */
  attempt: { attempt: number; agent_id: string; agent_name: string; sent_at: string; deadline_at: string; waits_for: 'answer' | 'callback' } | null
  /** The last attempt that has ended. */
  last_attempt: Attempt | null
  /** Agents that failed it: it goes to another, if one has room. */
  avoids: string[]
  /** What it was waiting for when it expired. */
  waited_for: ExplainReason | null
  /** Of a task that waits: at most 100 agents of the type, who is next first. */
  agents: ConsideredAgent[]
  /** How many there are for each reason, beyond those too; null when the task does not wait. */
  agents_considered: { total: number; by_reason: Partial<Record<AgentReason, number>>; not_looked_at: number } | null
  /** How many dispatchers make progress: without one, nothing is sent. */
  dispatchers: number
}
