/** `switchyard agents …` */
import { Option, type Command } from 'commander'
import type { Agent, AgentFilter, AgentStatus } from '../../sdk/typescript/client.ts'
import { EXIT } from './failure.ts'
import { number } from './input.ts'
import { withShared, type Register } from './session.ts'
import { fields, table, type Column } from './table.ts'
import type { Style } from './terminal.ts'
import { ago, counted, plain, plainLines } from './text.ts'

const STATUSES: readonly AgentStatus[] = ['healthy', 'degraded', 'unhealthy', 'draining', 'unreachable', 'dead']
const STYLES: Record<AgentStatus, Style> = { healthy: 'green', degraded: 'yellow', unhealthy: 'red', draining: 'yellow', unreachable: 'yellow', dead: 'red' }

const COLUMNS: readonly Column<Agent>[] = [
  { title: 'ID', of: (a) => a.id },
  { title: 'NAME', of: (a) => plain(a.name), least: 8 },
  { title: 'TYPE', of: (a) => a.type, least: 6 },
  { title: 'STATUS', of: (a) => a.status, style: (a) => STYLES[a.status] },
  { title: 'SLOTS', of: (a) => `${a.in_flight}/${a.max_concurrency}`, least: 5 },
  { title: 'SEEN', of: (a) => ago(a.last_seen), least: 8 },
  { title: 'CAPABILITIES', of: (a) => a.capabilities.join(' '), least: 8 },
  { title: 'ADDRESS', of: (a) => address(a), least: 12 },
]

const address = ({ host, port }: Agent): string => `${host.includes(':') ? `[${host}]` : host}:${port}`

export const agentCommands: Register = (program, run) => {
  const agents = program.command('agents').description('who performs tasks: list, look at, remove')
  const add = (name: string, description: string): Command => agents.command(name).description(description)

  add('list', 'list agents, by type and id')
    .option('--include-dead', 'also those that are dead; they are kept for a day')
    .option('--type <type>', 'only of this type')
    .option('--capability <capability>', 'only those that have it')
    .addOption(new Option('--status <status>', 'only those of this status').choices(STATUSES))
    .action(
      run<[{ includeDead?: true; type?: string; capability?: string; status?: AgentStatus }]>(async ({ client, terminal, json, signal }, o) => {
        const filter: AgentFilter = { type: o.type, capability: o.capability, status: o.status, include_dead: o.includeDead }
        const found: Agent[] = []
        for await (const agent of client.agents.list(filter, { signal })) found.push(agent)
        if (json) terminal.out(JSON.stringify({ agents: found, count: found.length, next_cursor: null }))
        else if (found.length > 0) for (const line of table(found, COLUMNS, terminal.width, terminal.paint)) terminal.out(line)
        else terminal.note(`No such agent${filter.include_dead ? '' : ' is alive; --include-dead shows the dead as well'}.`)
        return EXIT.ok
      }),
    )

  add('show', 'show one agent')
    .argument('<id>')
    .action(
      run<[string, object]>(async ({ client, terminal, json, signal }, id) => {
        const agent = await client.agents.get(id, { signal })
        if (json) terminal.out(JSON.stringify(agent))
        else for (const line of shown(agent, terminal.paint)) terminal.out(line)
        return EXIT.ok
      }),
    )

  add('rotate-secret', 'give agents another signing secret; they fetch it with their next heartbeat')
    .argument('<id...>')
    .option('--overlap <seconds>', 'for so long what they are sent is signed with the present one as well, 0 to 86400 (a day)', number({ most: 86_400 }))
    .action(
      run<[string[], { overlap?: number }]>(async ({ client, terminal, json, signal }, ids, { overlap }) => {
        for (const id of ids) {
          const answer = await client.agents.rotateSecret(id, overlap, { signal })
          terminal.out(json ? JSON.stringify(answer) : `${id} gets another secret; the one before counts until ${answer.old_secret_until}`)
        }
        return EXIT.ok
      }),
    )

  add('rm', 'unregister agents: they get no new task; what they are running may still end')
    .argument('<id...>')
    .action(
      run<[string[], object]>(async ({ client, terminal, json, signal }, ids) => {
        for (const id of ids) {
          const answer = await client.agents.unregister(id, { signal })
          terminal.out(json ? JSON.stringify(answer) : answer.unregistered ? `${id} is unregistered` : `${id} was not registered`)
        }
        return EXIT.ok
      }),
    )

  add('cleanup', 'remove the dead agents now, rather than a day after their last heartbeat').action(
    run<[object]>(async ({ client, terminal, json, signal }) => {
      const answer = await client.agents.cleanup({ signal })
      terminal.out(json ? JSON.stringify(answer) : `${counted(answer.removed, 'dead agent')} removed`)
      return EXIT.ok
    }),
  )

  withShared(agents)
}

const shown = (a: Agent, paint: (style: Style, text: string) => string): string[] =>
  fields(
    [
      ['agent', a.id],
      ['name', plain(a.name)],
      ['type', a.type],
      ['status', `${paint(STYLES[a.status], a.status)}, seen ${ago(a.last_seen)} (dead after ${a.ttl_seconds} s of silence)`],
      ['sick', a.sick === null ? undefined : `${a.sick.until === null ? 'it gets one task at a time until it completes one' : `it gets nothing, tried again ${ago(a.sick.until)}`}; ${plain(a.sick.reason)}`],
      ['suspect', a.suspect ? 'it fell silent together with most agents: it is tried last, with one task at a time' : undefined],
      ['slots', `${a.in_flight} of ${a.max_concurrency} taken`],
      ['capabilities', a.capabilities.join(' ') || 'none: it gets only tasks pinned to it'],
      ['address', address(a)],
      ['version', a.version === null ? undefined : plain(a.version)],
      ['registered', `${ago(a.registered_at)}, generation ${a.generation}`],
      ['metadata', Object.keys(a.metadata).length === 0 ? undefined : plainLines(JSON.stringify(a.metadata, null, 2))],
    ],
    paint,
  )
