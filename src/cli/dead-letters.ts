/** `switchyard dead-letters …` */
import { Option, type Command } from 'commander'
import type { DeadLetterFilter, DeadLetterGroup, Task } from '../../sdk/typescript/client.ts'
import { EXIT } from './failure.ts'
import { number } from './input.ts'
import { withShared, type Register, type Session } from './session.ts'
import { table, type Column } from './table.ts'
import { COLUMNS } from './task-view.ts'
import { counted, plain } from './text.ts'

const DEFAULT_LIMIT = 50
/** As many as the API gives at once. */
const LARGEST_PAGE = 200

const GROUPS: readonly Column<DeadLetterGroup>[] = [
  { title: 'COUNT', of: (g) => String(g.count) },
  { title: 'TASK', of: (g) => `${g.agent_type} ${g.task_type}`, least: 8 },
  { title: 'ERROR', of: (g) => plain(g.error), least: 20 },
  { title: 'NEWEST', of: (g) => g.newest_task_id },
]

type FilterOptions = { type?: string; taskType?: string; error?: string }
type ListOptions = FilterOptions & { includeRetried?: true; limit: number; cursor?: string }

const filterOf = (o: FilterOptions): Omit<DeadLetterFilter, 'include_retried'> => ({ agent_type: o.type, task_type: o.taskType, error: o.error })
const many = (count: number): string => counted(count, 'dead letter')

const showSummary = async ({ client, terminal, signal }: Session, filter: DeadLetterFilter): Promise<number> => {
  const { groups, count, complete } = await client.deadLetters.summary(filter, { signal })
  if (groups.length > 0) for (const line of table(groups, GROUPS, terminal.width, terminal.paint)) terminal.out(line)
  terminal.note(count === 0 ? 'No such dead letter.' : `${many(count)}${complete ? '' : ', and perhaps more'}`)
  return count
}

export const deadLetterCommands: Register = (program, run) => {
  const letters = program.command('dead-letters').description('tasks that failed or timed out: list, count, retry')
  const add = (name: string, description: string): Command =>
    letters
      .command(name)
      .description(description)
      .option('--type <type>', 'only for agents of this type')
      .option('--task-type <capability>', 'only those that ask for this')
      .option('--error <text>', 'only those with this in their error')

  add('list', 'list them, newest first')
    .option('--include-retried', 'also those that were retried')
    .addOption(new Option('--limit <count>', 'at most so many').argParser(number({ whole: true, least: 1 })).default(DEFAULT_LIMIT))
    .option('--cursor <cursor>', 'go on from next_cursor of a list before')
    .action(
      run<[ListOptions]>(async ({ client, terminal, json, signal }, o) => {
        const found: Task[] = []
        let cursor = o.cursor ?? null
        let before: string | null
        do {
          before = cursor
          const page = await client.deadLetters.list({ ...filterOf(o), include_retried: o.includeRetried, limit: Math.min(o.limit - found.length, LARGEST_PAGE) }, { signal }).page(cursor)
          found.push(...page.tasks)
          cursor = page.next_cursor
        } while (cursor !== null && cursor !== before && found.length < o.limit)
        if (json) terminal.out(JSON.stringify({ tasks: found, count: found.length, next_cursor: cursor }))
        else if (found.length === 0) terminal.note('No such dead letter.')
        else {
          for (const line of table(found, COLUMNS, terminal.width, terminal.paint)) terminal.out(line)
          if (cursor !== null && terminal.watched) terminal.note(`There are more: --limit ${o.limit * 2}`)
        }
        return EXIT.ok
      }),
    )

  add('summary', 'count them by type and kind of error')
    .option('--include-retried', 'also those that were retried')
    .action(
      run<[FilterOptions & { includeRetried?: true }]>(async (session, o) => {
        const filter = { ...filterOf(o), include_retried: o.includeRetried }
        if (session.json) session.terminal.out(JSON.stringify(await session.client.deadLetters.summary(filter, { signal: session.signal })))
        else await showSummary(session, filter)
        return EXIT.ok
      }),
    )

  add('retry', 'submit them again, each as a new task, once; without --yes it only says which')
    .option('--yes', 'do it')
    .action(
      run<[FilterOptions & { yes?: true }]>(async (session, o) => {
        const { client, terminal, json, signal } = session
        if (!o.yes) {
          if ((await showSummary(session, filterOf(o))) === 0) return EXIT.ok
          terminal.note('Nothing was retried: --yes does it.')
          return EXIT.usage
        }
        const ids: string[] = []
        let skipped = 0
        let failure: string | null = null
        for (let cursor: string | undefined; ; ) {
          const done = await client.deadLetters.retry({ ...filterOf(o), cursor }, { signal })
          ids.push(...done.task_ids)
          skipped += done.skipped
          failure = done.error
          if (!done.more || failure !== null || done.next_cursor === null || done.next_cursor === cursor) break
          cursor = done.next_cursor
        }
        if (json) terminal.out(JSON.stringify({ retried: ids.length, skipped, task_ids: ids, error: failure }))
        else terminal.out(`${many(ids.length)} retried`)
        if (failure !== null) terminal.note(`Not all were: ${plain(failure)}. Repeat it to go on.`)
        return failure === null ? EXIT.ok : EXIT.refused
      }),
    )

  withShared(letters)
}
