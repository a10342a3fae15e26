/** `switchyard dead-letters …` */
import type { Command } from 'commander'
import type { DeadLetterFilter, DeadLetterGroup } from '../../sdk/typescript/client.ts'
import { EXIT } from './failure.ts'
import { withShared, type Register, type Session } from './session.ts'
import { table, type Column } from './table.ts'
import { printTasks, withPages, type PageOptions } from './task-pages.ts'
import { counted, plain } from './text.ts'

const GROUPS: readonly Column<DeadLetterGroup>[] = [
  { title: 'COUNT', of: (g) => String(g.count) },
  { title: 'TASK', of: (g) => `${g.agent_type} ${g.task_type}`, least: 8 },
  { title: 'ERROR', of: (g) => plain(g.error), least: 20 },
  { title: 'NEWEST', of: (g) => g.newest_task_id },
]

type FilterOptions = { type?: string; taskType?: string; error?: string }
type ListOptions = FilterOptions & PageOptions & { includeRetried?: true }

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

  withPages(add('list', 'list them, newest first').option('--include-retried', 'also those that were retried')).action(
    run<[ListOptions]>((session, o) =>
      printTasks(session, o, (limit) => session.client.deadLetters.list({ ...filterOf(o), include_retried: o.includeRetried, limit }, { signal: session.signal }), 'No such dead letter.'),
    ),
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
