/** Holds the promises (docs/reliability.md) over what clients were told, what agents did and what the API says at the end. Looks at nothing else. */
import { wallAhead } from './clock.ts'
import type { AgentEvent } from './ledger.ts'
import { ENDS, type Call, type Told } from './load.ts'

/** A task as `GET /tasks/{id}` tells of it; of an agent, `GET /agents`. */
export type TaskRecord = { task_id: string; status: string; agent_id: string | null; result: { attempt_id?: string } | null; error: string | null; retry_count: number; redeliveries: number; timeout_seconds: number; created_at: string; completed_at: string | null; attempts: { attempt: number; agent_id: string; sent_at: string; ended_at: string | null; outcome: string | null; error: string | null }[] }
export type AgentRecord = { agent_id: string; in_flight: number; max_concurrency: number }

/** From when to when something was broken, on the clock of clock.ts. */
export type Window = { row: string; from: number; to: number }

export type Allowed = {
  /** Agents are at fault: attempts may be charged and sent again, and tasks may fail. */
  agentsFail?: boolean
  /** Attempts may end late: who ends them was away. */
  lateEnds?: boolean
  /** What Redis acknowledged so many ms before something broke may be gone, as documented: tasks, and what was told of them. */
  lost?: number
}

export type Evidence = { told: readonly Told[]; calls: readonly Call[]; events: readonly AgentEvent[]; records: ReadonlyMap<string, TaskRecord>; agents: readonly AgentRecord[]; windows: readonly Window[]; allowed: Allowed }

export type Findings = {
  tasks: number
  /** Acknowledged, and gone or without an end. */
  lost: number
  /** Delivered to agents more than once, for whatever reason. */
  doubled: number
  /** An end that somebody was told of, and that is another one now. */
  changed: number
  /** Attempts above a max_concurrency. */
  overLimit: number
  /** Slots that are held when everything has ended. */
  leaked: number
  /** How long clients waited for a 503, ms: 95 of 100 of them. */
  p95Of503: number
  violations: string[]
}

type Start = AgentEvent & { what: 'start' }

/** Work in flight when something broke may be noticed, and repeated, this much later: locks run out, stalled jobs come round, and wait for a place. */
const AFTERMATH_MS = 30_000
/** An answer takes so long at most, also one that nothing can be done now. */
const ANSWER_MS = 2_000
/** What this machine may add, which runs all of them. */
const SLACK_MS = 1_000
const SENT_MS = /^(\d+)\./

export const sentAt = (attempt: string, ahead: number): number => Number(SENT_MS.exec(attempt)![1]) - ahead
const list = (ids: readonly string[]): string => `${ids.slice(0, 5).join(', ')}${ids.length > 5 ? ` and ${ids.length - 5} more` : ''}`

/** The most that an agent had at once above its limit, each attempt counted until its end or its deadline. */
const above = (events: readonly AgentEvent[], forgotten: (at: number) => boolean): number => {
  const ends = new Map<string, number>()
  const deaths = new Map<string, number[]>()
  for (const e of events) {
    if (e.what === 'end') ends.set(e.attempt, e.at)
    if (e.what === 'killed') deaths.set(e.agent, [...(deaths.get(e.agent) ?? []), e.at])
  }
  const edges = new Map<string, [at: number, step: number, slots: number][]>()
  for (const s of events) {
    if (s.what !== 'start' || forgotten(s.at)) continue
    const death = deaths.get(s.agent)?.find((at) => at >= s.at) ?? Infinity
    const own = edges.get(s.agent) ?? []
    edges.set(s.agent, own)
    // The router's clock has whole milliseconds, and so have the ids.
    own.push([s.at, 1, s.slots], [Math.max(s.at, Math.min(ends.get(s.attempt) ?? Infinity, s.until - 2, death)), -1, s.slots])
  }
  let most = 0
  for (const own of edges.values()) {
    let now = 0
    for (const [, step, slots] of own.sort((a, b) => a[0] - b[0] || a[1] - b[1])) most = Math.max(most, (now += step) - slots)
  }
  return most
}

export const check = ({ told, calls, events, records, agents, windows, allowed }: Evidence): Findings => {
  const violations: string[] = []
  const must = (held: readonly string[], what: string): void => {
    if (held.length > 0) violations.push(`${held.length} × ${what}: ${list(held)}`)
  }
  const ahead = wallAhead()
  const starts = new Map<string, Start[]>()
  for (const e of events) if (e.what === 'start') starts.set(e.task, [...(starts.get(e.task) ?? []), e])
  for (const own of starts.values()) own.sort((a, b) => a.at - b.at)
  const answered = new Map(events.flatMap((e) => (e.what === 'end' && e.why === 'answered' ? [[e.attempt, e]] : [])))
  const inFault = (from: number, to: number): boolean => windows.some((w) => from <= w.to + AFTERMATH_MS && to >= w.from)

  const forgotten = (at: number): boolean => allowed.lost !== undefined && windows.some((w) => at >= w.from - allowed.lost! && at <= w.to)

  const taken = told.filter((t) => t.ids.size > 0)
  must(told.filter((t) => t.ids.size > 1).map((t) => t.key), 'P10: one key, several tasks')
  must(told.filter((t) => t.ids.size === 0).map((t) => `${t.key} ${t.oddities[0] ?? ''}`), 'a submit that was never taken')
  // Of what may be gone clients may hear that it is.
  must(told.filter((t) => t.ids.size > 0).flatMap((t) => t.oddities.filter((o) => !(forgotten(t.takenAt!) && / 404 /.test(o)))), 'an answer that nobody should get')

  const lost = taken.filter((t) => [...t.ids].some((id) => !ENDS.includes(records.get(id)?.status ?? 'gone')))
  must(lost.filter((t) => !forgotten(t.takenAt!)).map((t) => [...t.ids].map((id) => `${id} (${records.get(id)?.status ?? 'gone'})`).join()), 'P1, P2: acknowledged and without an end')

  const known = new Map(taken.flatMap((t) => [...t.ids].map((id) => [id, t])))
  /** It may be: no client was told that it is there, or only just before. */
  const isGone = (id: string): boolean => allowed.lost !== undefined && !records.has(id) && (!known.has(id) || forgotten(known.get(id)!.takenAt!))

  const changed: string[] = []
  const bad = { cancels: [] as string[], charged: [] as string[], failed: [] as string[], nobodys: [] as string[], twice: [] as string[], uncounted: [] as string[], afterCancel: [] as string[], late: [] as string[] }
  let doubled = 0
  for (const t of taken) {
    const id = [...t.ids][0]!
    const record = records.get(id)
    if (!record) continue
    const own = starts.get(id) ?? []
    const ends = [...t.ends.filter((e) => !forgotten(e.at)).map((e) => `${e.status} ${e.result}`), `${record.status} ${JSON.stringify(record.result)}`]
    if (new Set(ends).size > 1) changed.push(`${id}: ${ends.join(' → ')}`)
    if (t.cancel && t.cancel.status !== 409 && !forgotten(t.cancel.at) && record.status !== 'cancelled') changed.push(`${id}: cancelled (${t.cancel.status}) → ${record.status}`)
    if (record.status === 'cancelled' && !t.cancel) bad.cancels.push(id)
    if (!allowed.agentsFail && record.retry_count > 0) bad.charged.push(`${id} (${record.attempts.map((a) => `${a.outcome} ${a.error ?? ''}`).join(', ')})`)
    if (!allowed.agentsFail && !['completed', 'cancelled', ...t.may].includes(record.status)) bad.failed.push(`${id} (${record.status}: ${record.error})`)
    if (record.status === 'completed' && answered.get(record.result?.attempt_id ?? '')?.task !== id) bad.nobodys.push(id)
    if (own.length > 1) doubled++
    for (const [i, s] of own.entries()) {
      const next = own[i + 1]
      const failed = allowed.agentsFail && record.attempts.some((a) => ['failed', 'timeout', 'unreachable', 'rejected'].includes(a.outcome ?? ''))
      if (next && !failed && !inFault(s.at, Math.min(next.at, s.until))) bad.twice.push(`${id} at ${Math.round(s.at)} and ${Math.round(next.at)}`)
      const cancelledAt = record.status === 'cancelled' && record.completed_at ? Date.parse(record.completed_at) - ahead : Infinity
      if (sentAt(s.attempt, ahead) > cancelledAt + 1) bad.afterCancel.push(id)
    }
    if (record.attempts.length < Math.min(100, own.filter((s) => !forgotten(s.at)).length)) bad.uncounted.push(id)
    // A lost one ended with its dispatcher; that was noticed later.
    if (!allowed.lateEnds) for (const a of record.attempts) if (a.ended_at && a.outcome !== 'lost' && Date.parse(a.ended_at) - Date.parse(a.sent_at) > record.timeout_seconds * 1000 + 1000 + SLACK_MS) bad.late.push(`${id} (attempt ${a.attempt}, ${a.outcome})`)
  }
  must(changed, 'P1: a changed end')
  must(bad.cancels, 'cancelled, and nobody asked for it')
  must(bad.charged, 'P4: charged with a failure of ours')
  must(bad.failed, 'P4: failed by a fault of ours')
  must(bad.nobodys, 'completed with a result that no agent gave for it')
  must(bad.twice, 'P3: sent twice while nothing was broken')
  must(bad.uncounted, 'P3: a delivery that the record does not know')
  must(bad.afterCancel, 'P7: sent after its cancel')
  must(bad.late, 'P8: an attempt that ended late')
  // A result that was answered 200 is the task's, unless a cancel had been asked for.
  must(events.flatMap((e) => {
    if (e.what !== 'told' || forgotten(e.at) || (e.status === 404 && isGone(e.task))) return []
    const record = records.get(e.task)
    const counts = record?.status === 'cancelled' || record?.result?.attempt_id === e.attempt
    return (e.status === 200 && record && !counts) || ![0, 200, 409].includes(e.status) ? [`${e.task} ${e.attempt}: ${e.status}, ${record?.status}`] : []
  }), 'P9: a result from an agent, answered wrongly')

  const overLimit = above(events, forgotten)
  if (overLimit > 0) violations.push(`P5: ${overLimit} above an agent's max_concurrency`)
  const leaked = agents.reduce((n, a) => n + a.in_flight, 0)
  if (leaked > 0) violations.push(`P6: ${leaked} slots held with nothing under way: ${list(agents.filter((a) => a.in_flight > 0).map((a) => a.agent_id))}`)
  must(calls.filter((c) => c.status === 0 && c.what !== 'wait' && c.ms > 9_000).map((c) => `${c.what} ${Math.round(c.ms)} ms`), 'P13: a call that hung')
  const waits = calls.flatMap((c) => (c.status === 503 && c.what !== 'wait' ? [c.ms] : [])).sort((a, b) => a - b)
  const p95Of503 = waits[Math.floor(waits.length * 0.95)] ?? 0
  // Not by the slowest: now and then this machine, which runs everything, stands still for a second itself.
  if (p95Of503 > ANSWER_MS + SLACK_MS) violations.push(`P13: of the 503s one in twenty took more than ${Math.round(p95Of503)} ms`)
  return { tasks: taken.length, lost: lost.length, doubled, changed: changed.length, overLimit: Math.max(0, overLimit), leaked, p95Of503, violations }
}
