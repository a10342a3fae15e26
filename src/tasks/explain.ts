/**
 * Why a task waits, and which agents it may go to. Read in one moment by explain.lua, with the functions that decide; only whether a
 * dispatcher is there is a second read, as that is kept elsewhere. Nothing is changed.
 */
import type { AgentReason, ConsideredAgent, ExplainReason, Explanation } from '../contracts/explain.ts'
import { isEnd, type Attempt, type TaskStatus } from '../contracts/task.ts'
import { iso } from '../contracts/time.ts'
import type { Redis } from '../redis/client.ts'
import { typeOfTask, type Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'
import type { Presence } from '../registry/presence.ts'
import { agentDetail, summaryOf } from './explain-words.ts'
import { readAttempts, readSpec, type Spec } from './record.ts'

/** Agents told of. */
const MAX_AGENTS = 100
/** Others read for their reason: dead ones, those of other capabilities, and those that cannot be used. */
const MAX_COUNTED = 300

type Row = [id: string, name: string, status: ConsideredAgent['status'], inFlight: number, max: string, reason: AgentReason, restsUntil: string, avoided: number, onTrial: number]
type Cells = [
  now: number, fields: string[], deliveries: [last: string, before: string], job: 'line' | 'delayed' | 'held' | 'loose' | 'none', line: '' | [back: number, before: number[], elsewhere: number],
  queue: [name: string, waiting: number, delayed: number, active: number], agents: '' | Row[], counts: '' | [known: number, deadCapable: number, firstRest: string, ...(string | number)[]],
]

/** What a task's record and its surroundings say, at one moment. */
type Seen = {
  nowMs: number
  status: TaskStatus
  spec: Spec
  createdMs: number
  notBeforeMs: number
  expiresMs: number
  endedMs: number
  retries: number
  avoids: string[]
  isCancelled: boolean
  isParked: boolean
  error: string
  waitedFor: ExplainReason | null
  isPoison: boolean
  isPostponed: boolean
  current: (Attempt & { deadlineMs: number }) | null
  last: Attempt | null
  job: Cells[3]
  position: Explanation['position']
  queue: Explanation['queue']
  agents: ConsideredAgent[]
  considered: Explanation['agents_considered']
  /** A dead agent could do it. */
  deadCapable: boolean
  firstRestMs: number | null
}

const pairs = <K>(flat: readonly unknown[]): [K, number][] => Array.from({ length: flat.length / 2 }, (_, i) => [flat[i * 2] as K, Number(flat[i * 2 + 1])])

const readPosition = (line: Cells[4]): Explanation['position'] => {
  if (line === '') return null
  const [returned, flat, elsewhere] = line
  const byPriority = pairs<number>(flat)
  return { before: byPriority.reduce((sum, [, tasks]) => sum + tasks, returned), returned, by_priority: byPriority.map(([priority, tasks]) => ({ priority, tasks })), elsewhere }
}

const readConsidered = (counts: Cells[7]): Explanation['agents_considered'] => {
  if (counts === '') return null
  const [total, , , ...flat] = counts
  const byReason = pairs<AgentReason>(flat).filter(([, n]) => n > 0)
  return { total, by_reason: Object.fromEntries(byReason), not_looked_at: Math.max(0, byReason.reduce((left, [, n]) => left - n, total)) }
}

/** Who may get it now comes first, in the order in which they are taken. */
const RANK: Partial<Record<AgentReason, number>> = { eligible: 0, failed_here_before: 1 }

const readAgents = (rows: Cells[6], spec: Spec, nowMs: number): ConsideredAgent[] => {
  const agents = (rows === '' ? [] : rows).map(([id, name, status, inFlight, max, reason, restsUntil, avoided, onTrial]): ConsideredAgent => ({
    agent_id: id, name, status, in_flight: inFlight, max_concurrency: Number(max), load: Math.round((inFlight / Number(max)) * 1000) / 1000, reason,
    detail: agentDetail(reason, { spec, status, restMs: restsUntil === '' ? 0 : Number(restsUntil) - nowMs, avoided: avoided === 1, onTrial: onTrial > 0, wasSick: onTrial === 2, isSuspect: onTrial === 3 }),
  }))
  return agents.sort((a, b) => (RANK[a.reason] ?? 2) - (RANK[b.reason] ?? 2))
}

const read = ([nowMs, f, [last, before], job, line, queue, rows, counts]: Cells): Seen => {
  const [status, created, notBefore, expires, ended, deliveries, sending, retries, , avoid, cancel, parked, error, waitedFor, poison, postponed, specText] = f as [TaskStatus, ...string[]]
  const spec = readSpec(specText!)
  const n = Number(deliveries)
  const attempts = readAttempts({ deliveries: deliveries!, ...(sending ? { sending } : {}), ...(last ? { [`a${n}`]: last } : {}), ...(before ? { [`a${n - 1}`]: before } : {}) })
  const current = attempts.findLast((a) => a.ended_at === null)
  return {
    nowMs, status, spec, createdMs: Number(created), notBeforeMs: Number(notBefore), expiresMs: Number(expires), endedMs: Number(ended), retries: Number(retries),
    avoids: avoid!.split(' ').filter(Boolean), isCancelled: cancel === '1', isParked: parked !== '', error: error!, waitedFor: (waitedFor || null) as ExplainReason | null, isPoison: poison === '1', isPostponed: postponed === '1',
    current: current && (status === 'sent' || status === 'running') ? { ...current, deadlineMs: Number(sending!.split('\t')[3]) } : null,
    last: attempts.findLast((a) => a.ended_at !== null) ?? null,
    job, position: readPosition(line), queue: { name: queue[0], waiting: queue[1], delayed: queue[2], active: queue[3] },
    agents: readAgents(rows, spec, nowMs), considered: readConsidered(counts), deadCapable: counts !== '' && counts[1] === 1, firstRestMs: counts === '' || counts[2] === '' ? null : Number(counts[2]),
  }
}

/** Which agents there are for a task that stands in line. */
const reasonOfAgents = ({ considered, position, spec, deadCapable }: Seen): ExplainReason => {
  const { total, by_reason: n, not_looked_at: others } = considered!
  if (n.eligible || n.failed_here_before) return position!.before + position!.elsewhere > 0 ? 'behind_others' : 'next_to_go'
  if (n.at_capacity) return 'waiting_for_slot'
  if (n.resting) return 'agents_resting'
  if (n.sick) return 'agents_sick'
  if (n.draining || n.unhealthy || n.refused || n.unreachable) return 'no_agent_usable'
  if (spec.pinnedTo !== null) return 'pinned_agent_absent'
  if (total === 0) return 'no_agent_registered'
  return deadCapable || !(n.lacks_capability || others) ? 'no_agent_alive' : 'no_agent_capable'
}

const reasonOf = (t: Seen, dispatchers: number): ExplainReason => {
  if (isEnd(t.status)) return t.status === 'timeout' && t.error === 'expired' ? 'expired' : 'ended'
  if (t.current) {
    if (t.isCancelled) return 'cancelling'
    if (t.job !== 'held') return 'dispatcher_lost'
    return t.isParked ? 'result_pending' : 'at_agent'
  }
  if (t.notBeforeMs > t.nowMs) {
    if (t.status === 'pending') return 'not_due'
    if (t.status === 'retrying') return t.isPostponed ? 'retry_postponed' : 'retry_delay'
    return t.last?.outcome === 'no_room' ? 'stepped_aside' : 'redelivery_delay'
  }
  if (dispatchers === 0) return 'no_dispatcher'
  if (t.position === null) return t.job === 'held' ? 'being_sent' : 'being_queued'
  return reasonOfAgents(t)
}

const WAITS_FOR_A_FAILURE: readonly ExplainReason[] = ['retry_delay', 'retry_postponed', 'redelivery_delay', 'stepped_aside']

const sinceOf = (t: Seen, reason: ExplainReason): string => {
  if (isEnd(t.status)) return iso(t.endedMs)
  if (t.current) return t.current.sent_at
  if (reason === 'not_due') return iso(t.createdMs)
  if (WAITS_FOR_A_FAILURE.includes(reason) && t.last) return t.last.ended_at!
  return iso(t.notBeforeMs)
}

const mayGoAt = (t: Seen, reason: ExplainReason): string | null => {
  if (reason === 'agents_resting' || reason === 'agents_sick') return t.firstRestMs !== null && t.firstRestMs > t.nowMs ? iso(t.firstRestMs) : null
  return reason === 'not_due' || WAITS_FOR_A_FAILURE.includes(reason) ? iso(t.notBeforeMs) : null
}

const attemptOf = ({ current, isParked }: Seen): Explanation['attempt'] =>
  current && {
    attempt: current.attempt, agent_id: current.agent_id, agent_name: current.agent_name, sent_at: current.sent_at, deadline_at: iso(current.deadlineMs),
    waits_for: isParked ? 'callback' : 'answer',
  }

const explained = (id: string, t: Seen, dispatchers: number): Explanation => {
  const reason = reasonOf(t, dispatchers)
  const facts: Omit<Explanation, 'summary'> = {
    task_id: id, status: t.status, reason, at: iso(t.nowMs), since: sinceOf(t, reason), may_go_at: mayGoAt(t, reason), expires_at: iso(t.expiresMs),
    cancel_requested: t.isCancelled, queue: t.queue, position: isEnd(t.status) ? null : t.position, attempt: attemptOf(t), last_attempt: t.last, avoids: t.avoids,
    waited_for: t.waitedFor, agents: t.agents, agents_considered: t.considered, dispatchers,
  }
  const { task_id, status, reason: code, ...more } = facts
  const agentType = typeOfTask(id)!
  return { task_id, status, reason: code, summary: summaryOf(facts, { ...t.spec, agentType, retries: t.retries, error: t.error, isPoison: t.isPoison, agentsReason: t.position && t.considered ? reasonOfAgents(t) : null }), ...more }
}

export const createExplain = ({ redis, keys, presence }: { redis: Redis; keys: Keys; presence: Pick<Presence, 'count'> }) => {
  const script = loadScript(redis, new URL('./explain.lua', import.meta.url))

  /** Why the task is where it is; null when there is no such task. */
  return async (id: string): Promise<Explanation | null> => {
    const type = typeOfTask(id)
    if (type === undefined) return null
    const [cells, dispatchers] = await Promise.all([script(keys.base(type), id, MAX_AGENTS, MAX_COUNTED) as Promise<Cells | null>, presence.count()])
    return cells && explained(id, read(cells), dispatchers)
  }
}
