/** Tasks as people see them: in a table, alone, and as a line for each change. */
import type { Attempt, Progress, Task, TaskStatus, TaskWebhook } from '../../sdk/typescript/client.ts'
import { fields, table, type Column } from './table.ts'
import type { Style, Terminal } from './terminal.ts'
import { ago, counted, duration, plain, plainLines } from './text.ts'

export const STATUSES: readonly TaskStatus[] = ['pending', 'queued', 'sent', 'running', 'retrying', 'completed', 'failed', 'timeout', 'cancelled']
export const STYLES: Partial<Record<string, Style>> = { sent: 'cyan', running: 'cyan', retrying: 'yellow', completed: 'green', failed: 'red', timeout: 'red', cancelled: 'dim' }

export const COLUMNS: readonly Column<Task>[] = [
  { title: 'ID', of: (t) => t.task_id },
  { title: 'STATUS', of: (t) => t.status, style: (t) => STYLES[t.status] },
  { title: 'TASK', of: (t) => `${t.agent_type} ${t.task_type}`, least: 8 },
  { title: 'CREATED', of: (t) => ago(t.created_at), least: 10 },
  { title: 'PRIORITY', of: (t) => String(t.priority), least: 8 },
  { title: 'RETRIES', of: (t) => `${t.retry_count}/${t.max_retries}`, least: 7 },
  { title: 'AGENT', of: (t) => t.attempts.at(-1)?.agent_name ? plain(t.attempts.at(-1)!.agent_name) : (t.agent_id ?? ''), least: 8 },
  { title: 'ERROR', of: (t) => plain(t.error ?? ''), least: 12 },
]

const ATTEMPTS: readonly Column<Attempt>[] = [
  { title: 'ATTEMPT', of: (a) => String(a.attempt) },
  { title: 'OUTCOME', of: (a) => a.outcome ?? 'under way', style: (a) => STYLES[a.outcome ?? 'sent'] },
  { title: 'AGENT', of: (a) => plain(a.agent_name), least: 8 },
  { title: 'SENT', of: (a) => ago(a.sent_at), least: 6 },
  { title: 'TOOK', of: (a) => (a.ended_at === null ? '' : duration(Date.parse(a.ended_at) - Date.parse(a.sent_at))), least: 5 },
  { title: 'ANSWER', of: (a) => String(a.status_code ?? ''), least: 6 },
  { title: 'ERROR', of: (a) => plain(a.error ?? ''), least: 12 },
]

const isEmpty = (object: object): boolean => Object.keys(object).length === 0
/** JSON for people. */
export const jsonLines = (value: unknown): string => plainLines(JSON.stringify(value, null, 2))

const webhookLine = (url: string, w: TaskWebhook | null): string => {
  const last = w?.attempts.at(-1)
  const next = w?.next_attempt_at ? `, again ${ago(w.next_attempt_at)}` : ''
  return plain(`${url}${w === null ? '' : ` ${w.status} after ${counted(w.attempts.length, 'attempt')}${last?.error ? ` (${last.error})` : ''}${next}`}`)
}

/** What an agent told: how far it is, and its words, or else its data. */
const progressOf = ({ percent, message, data }: Progress): string =>
  [percent === null ? '' : `${Math.round(percent * 10) / 10} %`, message ? plain(message) : percent === null ? plain(JSON.stringify(data)) : ''].filter(Boolean).join(', ')

export const showTask = (t: Task, { paint, width }: Terminal): string[] => {
  const when = t.completed_at !== null ? `, ${ago(t.completed_at)}` : t.run_at !== null ? `, goes ${ago(t.run_at)}` : t.cancel_requested ? ', its cancellation is asked for' : ''
  return [
    ...fields(
      [
        ['task', t.task_id],
        ['status', `${paint(STYLES[t.status] ?? [], t.status)}${when}`],
        ['what', `${t.task_type} for ${t.agent_type}, priority ${t.priority}`],
        ['agent', t.agent_id ?? undefined],
        ['created', `${ago(t.created_at)}${t.started_at === null ? '' : `, begun ${ago(t.started_at)}`}`],
        ['limits', `${t.timeout_seconds} s an attempt; ${t.retry_count} of ${t.max_retries} retries made${t.redeliveries > 0 ? `; ${t.redeliveries} redeliveries` : ''}${t.refunds > 0 ? `; ${t.refunds} failed attempts not charged, as their agent was sick` : ''}`],
        ['poison', t.poison ? 'it failed on too many agents to be tried again' : undefined],
        ['retry of', t.retry_of ?? undefined],
        ['retried as', t.retried_as ?? undefined],
        ['webhook', t.callback_url === null ? undefined : webhookLine(t.callback_url, t.webhook)],
        ['progress', t.progress === null ? undefined : `${progressOf(t.progress)}, ${ago(t.progress.at)}`],
        ['too late', t.late_results.length === 0 ? undefined : t.late_results.map((l) => `${l.status} by attempt ${l.attempt}, ${ago(l.received_at)}`).join('; ')],
        ['metadata', isEmpty(t.metadata) ? undefined : jsonLines(t.metadata)],
        ['parameters', isEmpty(t.parameters) ? undefined : jsonLines(t.parameters)],
        ['error', t.error === null ? undefined : plainLines(t.error)],
        ['result', t.status === 'completed' ? jsonLines(t.result) : undefined],
      ],
      paint,
    ),
    ...(t.attempts.length === 0 ? [] : ['', ...table(t.attempts, ATTEMPTS, width, paint)]),
  ]
}

const clock = (time: string | number): string => new Date(time).toTimeString().slice(0, 8)

/** Where a task is now, in a few words. */
export const whereabouts = (t: Task): string => {
  const last = t.attempts.at(-1)
  if (t.status === 'completed') return t.execution_time_ms === null ? '' : `in ${duration(t.execution_time_ms)}`
  if (t.error !== null && t.completed_at !== null) return t.error === t.status ? '' : plain(t.error)
  if (t.cancel_requested && t.completed_at === null) return 'its cancellation is asked for'
  if (t.status === 'sent' || t.status === 'running') return last === undefined ? '' : `attempt ${last.attempt} at ${plain(last.agent_name)}${t.progress === null || t.progress.at < last.sent_at ? '' : `: ${progressOf(t.progress)}`}`
  if (t.status === 'retrying') return `${t.run_at === null ? '' : `${ago(t.run_at)}, `}after ${last?.outcome ?? 'a failure'}${last?.error ? `: ${plain(last.error)}` : ''}`
  if (t.status === 'pending' && t.run_at !== null) return ago(t.run_at)
  return last?.outcome === 'no_room' ? `${plain(last.agent_name)} had no room` : ''
}

/** One line for a change: when, what, where. */
export const changeLine = (t: Task, paint: Terminal['paint']): string => {
  const last = t.attempts.at(-1)
  const at = t.completed_at ?? (t.status === 'sent' ? last?.sent_at : undefined) ?? Date.now()
  return `${clock(at)}  ${paint(STYLES[t.status] ?? [], t.status.padEnd(9))}  ${whereabouts(t)}`.trimEnd()
}

/** How it ended, in one line. */
export const endLine = (t: Task): string => {
  const by = t.attempts.at(-1)
  const words = whereabouts(t)
  return `${t.task_id} ${t.status}${t.status === 'completed' ? ` ${words}${by ? ` by ${plain(by.agent_name)}` : ''}` : `${t.attempts.length > 0 ? ` after ${counted(t.attempts.length, 'attempt')}` : ''}${words ? `: ${words}` : ''}`}`.replace(/ {2,}/g, ' ')
}
