/** `switchyard schedules …` */
import { Option, type Command } from 'commander'
import type { JsonObject, Schedule } from '../../sdk/typescript/client.ts'
import { EXIT, UsageError } from './failure.ts'
import { member, number, readParameters } from './input.ts'
import { withShared, type Register, type Session } from './session.ts'
import { priority, type Priority } from './submit.ts'
import { fields, table, type Column } from './table.ts'
import { jsonLines } from './task-view.ts'
import type { Terminal } from './terminal.ts'
import { ago, plain } from './text.ts'

const when = (s: Schedule): string => (s.cron === null ? `every ${s.every_seconds} s` : `${plain(s.cron)} ${s.tz}`)
const next = (s: Schedule): string => (s.paused ? 'paused' : s.next_run_at === null ? 'never' : ago(s.next_run_at))

const COLUMNS: readonly Column<Schedule>[] = [
  { title: 'ID', of: (s) => s.schedule_id },
  { title: 'WHEN', of: when, least: 12 },
  { title: 'NEXT', of: next, style: (s) => (s.paused ? 'yellow' : undefined) },
  { title: 'TASK', of: (s) => `${s.agent_type} ${String(s.task['task_type'])}`, least: 8 },
  { title: 'RUNS', of: (s) => String(s.runs), least: 4 },
  { title: 'MISSED', of: (s) => String(s.missed), style: (s) => (s.missed > 0 ? 'red' : undefined), least: 6 },
  { title: 'FAILED', of: (s) => String(s.failed), style: (s) => (s.failed > 0 ? 'red' : undefined), least: 6 },
  { title: 'LAST', of: (s) => (s.last_run_at === null ? '' : ago(s.last_run_at)), least: 8 },
]

const shown = (s: Schedule, paint: Terminal['paint']): string[] =>
  fields(
    [
      ['schedule', s.schedule_id],
      ['when', when(s)],
      ['next', s.paused ? paint('yellow', 'paused') : s.next_run_at === null ? 'never' : `${ago(s.next_run_at)}, at ${s.next_run_at}`],
      ['catches up', `for ${s.catch_up_seconds} s`],
      ['last', s.last_run_at === null ? undefined : `${ago(s.last_run_at)} (due ${s.last_scheduled_at}): ${s.last_task_id}`],
      ['runs', String(s.runs)],
      ['missed', s.missed === 0 ? undefined : `${paint('red', String(s.missed))}, the last one due ${s.last_missed_at}`],
      ['failed', s.failed === 0 ? undefined : `${paint('red', String(s.failed))}, the last one ${ago(s.last_error_at!)}: ${plain(s.last_error!)}`],
      ['put', `${ago(s.updated_at)}, made ${ago(s.created_at)}`],
      ['task', jsonLines(s.task)],
    ],
    paint,
  )

type PutOptions = {
  cron?: string
  tz?: string
  every?: number
  catchUp?: number
  paused?: true
  param?: JsonObject
  params?: string
  priority?: Priority
  timeout?: number
  retries?: number
  expires?: number
  agent?: string
  callback?: string
  metadata?: JsonObject
}

const HELP = `
Put again, a schedule is changed; as long as it says when as before, its next run stays when it is. A paused one stays paused.

Examples:
  switchyard schedules put nightly cost analyze_cost --cron "30 2 * * *" --tz Europe/Berlin --param days=1
  switchyard schedules put pulse text word_count --every 60 --param text="red fox, red hen"`

const put = async ({ client, terminal, signal, json }: Session, id: string, type: string, capability: string, o: PutOptions): Promise<number> => {
  if ((o.cron === undefined) === (o.every === undefined)) throw new UsageError('say when: by --cron or by --every')
  if (o.params !== undefined && o.param) throw new UsageError('give the parameters by --param or in a file, not both')
  const task = {
    agent_type: type,
    task_type: capability,
    agent_id: o.agent,
    parameters: o.params === undefined ? o.param : await readParameters(o.params, signal),
    priority: o.priority,
    timeout_seconds: o.timeout,
    max_retries: o.retries,
    expires_in_seconds: o.expires,
    callback_url: o.callback,
    metadata: o.metadata,
  }
  const schedule = await client.schedules.put(id, { cron: o.cron, tz: o.tz, every_seconds: o.every, catch_up_seconds: o.catchUp, paused: o.paused, task }, { signal })
  terminal.out(json ? JSON.stringify(schedule) : said(schedule))
  return EXIT.ok
}

const said = (s: Schedule): string => `${s.schedule_id} ${s.paused ? 'is paused' : s.next_run_at === null ? 'is never due' : `runs next ${ago(s.next_run_at)}, at ${s.next_run_at}`}`

export const scheduleCommands: Register = (program, run) => {
  const schedules = program.command('schedules').description('submit tasks again and again: by cron, or every so many seconds')
  const add = (name: string, description: string): Command => schedules.command(name).description(description)

  add('list', 'list schedules, by id')
    .option('--type <type>', 'only those for agents of this type')
    .action(
      run<[{ type?: string }]>(async ({ client, terminal, json, signal }, o) => {
        const found: Schedule[] = []
        for await (const schedule of client.schedules.list({ agent_type: o.type, limit: 200 }, { signal })) found.push(schedule)
        if (json) terminal.out(JSON.stringify({ schedules: found, count: found.length, next_cursor: null }))
        else if (found.length > 0) for (const line of table(found, COLUMNS, terminal.width, terminal.paint)) terminal.out(line)
        else terminal.note('No such schedule.')
        return EXIT.ok
      }),
    )

  add('show', 'show one schedule, and what has come of it')
    .argument('<id>')
    .action(
      run<[string, object]>(async ({ client, terminal, json, signal }, id) => {
        const schedule = await client.schedules.get(id, { signal })
        if (json) terminal.out(JSON.stringify(schedule))
        else for (const line of shown(schedule, terminal.paint)) terminal.out(line)
        return EXIT.ok
      }),
    )

  add('put', 'make a schedule, or change one')
    .argument('<id>', 'what you call it; to put it again changes it')
    .argument('<type>', 'the agents its tasks are for')
    .argument('<capability>', 'what is to be done')
    .option('--cron <expression>', 'when: minute, hour, day of month, month, day of week')
    .option('--tz <zone>', 'the time zone of --cron, such as Europe/Berlin; UTC unless given')
    .addOption(new Option('--every <seconds>', 'instead: so long after each run').argParser(number()))
    .addOption(new Option('--catch-up <seconds>', 'make up for a run that nobody could make for so long').argParser(number()))
    .option('--paused', 'pause it')
    .addOption(new Option('-p, --param <name=value>', 'a parameter; may be repeated').argParser(member))
    .option('--params <file>', 'the parameters, as a JSON object in a file or, with -, on standard input')
    .addOption(new Option('--priority <priority>', 'low, normal, high, critical, or 1 to 15; higher goes first').argParser(priority))
    .addOption(new Option('--timeout <seconds>', 'for each attempt').argParser(number()))
    .addOption(new Option('--retries <count>', 'how often a failed attempt is followed by another').argParser(number({ whole: true })))
    .addOption(new Option('--expires <seconds>', 'end a task when no attempt could begin within so long').argParser(number()))
    .option('--agent <id>', 'only this agent may do it')
    .option('--callback <url>', 'is sent a webhook when a task ends')
    .addOption(new Option('--metadata <name=value>', 'something to go along; may be repeated').argParser(member))
    .addHelpText('after', HELP)
    .action(run<[string, string, string, PutOptions]>(put))

  add('rm', 'delete schedules: no further task comes of them')
    .argument('<id...>')
    .action(
      run<[string[], object]>(async ({ client, terminal, json, signal }, ids) => {
        for (const id of ids) {
          const answer = await client.schedules.delete(id, { signal })
          terminal.out(json ? JSON.stringify(answer) : answer.deleted ? `${id} is deleted` : `${id} was not there`)
        }
        return EXIT.ok
      }),
    )

  for (const [name, description] of [['pause', 'pause schedules: what comes due meanwhile is not made up for'], ['resume', 'let paused schedules go on']] as const) {
    add(name, description)
      .argument('<id...>')
      .action(
        run<[string[], object]>(async ({ client, terminal, json, signal }, ids) => {
          for (const id of ids) {
            const schedule = await client.schedules[name](id, { signal })
            terminal.out(json ? JSON.stringify(schedule) : said(schedule))
          }
          return EXIT.ok
        }),
      )
  }

  withShared(schedules)
}
