/** `switchyard tasks explain`: why a task waits, and which agents it may go to. */
import type { Command } from 'commander'
import type { ConsideredAgent, Explanation } from '../../sdk/typescript/client.ts'
import { EXIT } from './failure.ts'
import type { Runner } from './session.ts'
import { fields, table, type Column } from './table.ts'
import type { Terminal } from './terminal.ts'
import { ago, counted, plain } from './text.ts'

const COLUMNS: readonly Column<ConsideredAgent>[] = [
  { title: 'AGENT', of: (a) => a.agent_id },
  { title: 'NAME', of: (a) => plain(a.name), least: 8 },
  { title: 'REASON', of: (a) => a.reason, style: (a) => (a.reason === 'eligible' ? 'green' : 'yellow') },
  { title: 'SLOTS', of: (a) => `${a.in_flight}/${a.max_concurrency}`, least: 5 },
  { title: 'STATUS', of: (a) => a.status, least: 6 },
  { title: 'DETAIL', of: (a) => plain(a.detail ?? ''), least: 12 },
]

const place = ({ position, queue }: Explanation): string | undefined => {
  if (position === null) return undefined
  const parts = [...(position.returned > 0 ? [`${position.returned} that came back`] : []), ...position.by_priority.map((p) => `${p.tasks} of priority ${p.priority}`)]
  const elsewhere = position.elsewhere > 0 ? `, and ${counted(position.elsewhere, 'task')} of other queues` : ''
  return `${counted(position.before, 'task')} before it${parts.length > 0 ? ` (${parts.join(', ')})` : ''}${elsewhere}; ${queue.waiting} in line, ${queue.active} under way`
}

/** How many agents there are beyond those shown. */
const beyond = ({ agents, agents_considered: all }: Explanation): string[] => {
  if (all === null || all.total <= agents.length) return []
  const counts = Object.entries(all.by_reason).map(([reason, n]) => `${n} ${reason}`)
  return [`${agents.length} of ${all.total} agents are shown; in all: ${[...counts, ...(all.not_looked_at > 0 ? [`${all.not_looked_at} not looked at`] : [])].join(', ')}`]
}

const shown = (e: Explanation, { paint, width }: Terminal): string[] => [
  plain(e.summary),
  '',
  ...fields(
    [
      ['task', e.task_id],
      ['status', e.status],
      ['reason', `${e.reason}, since ${ago(e.since, Date.parse(e.at))}`],
      ['may go', e.may_go_at === null ? undefined : ago(e.may_go_at, Date.parse(e.at))],
      ['expires', e.agents_considered === null ? undefined : ago(e.expires_at, Date.parse(e.at))],
      ['queue', place(e)],
      ['avoids', e.avoids.join(' ') || undefined],
    ],
    paint,
  ),
  ...(e.agents.length === 0 ? [] : ['', ...table(e.agents, COLUMNS, width, paint)]),
  ...beyond(e),
]

export const explainCommand = (tasks: Command, run: Runner): void => {
  tasks
    .command('explain')
    .description('say why a task waits, and which agents it may go to')
    .argument('<id>')
    .action(
      run<[string, object]>(async ({ client, terminal, json, signal }, id) => {
        const explanation = await client.tasks.explain(id, { signal })
        if (json) terminal.out(JSON.stringify(explanation))
        else for (const line of shown(explanation, terminal)) terminal.out(line)
        return EXIT.ok
      }),
    )
}
