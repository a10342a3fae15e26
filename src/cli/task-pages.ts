/** Lists of tasks that may be long: as many as were asked for, page by page. */
import { Option, type Command } from 'commander'
import type { List, Task } from '../../sdk/typescript/client.ts'
import { EXIT } from './failure.ts'
import { number } from './input.ts'
import type { Session } from './session.ts'
import { table } from './table.ts'
import { COLUMNS } from './task-view.ts'

/** As many as the API gives at once. */
const LARGEST_PAGE = 200
const DEFAULT_LIMIT = 50

export type PageOptions = { limit: number; cursor?: string }

export const withPages = (command: Command): Command =>
  command
    .addOption(new Option('--limit <count>', 'at most so many').argParser(number({ whole: true, least: 1 })).default(DEFAULT_LIMIT))
    .option('--cursor <cursor>', 'go on from next_cursor of a list before')

/**
 * @param list pages of so many tasks at most
 * @param none said when there are none
 */
export const printTasks = async ({ terminal, json }: Session, o: PageOptions, list: (limit: number) => List<Task, { tasks: Task[]; next_cursor: string | null }>, none: string): Promise<number> => {
  const found: Task[] = []
  let cursor = o.cursor ?? null
  let before: string | null
  do {
    before = cursor
    const page = await list(Math.min(o.limit - found.length, LARGEST_PAGE)).page(cursor)
    found.push(...page.tasks)
    cursor = page.next_cursor
  } while (cursor !== null && cursor !== before && found.length < o.limit)
  if (json) terminal.out(JSON.stringify({ tasks: found, count: found.length, next_cursor: cursor }))
  else if (found.length === 0) terminal.note(none)
  else {
    for (const line of table(found, COLUMNS, terminal.width, terminal.paint)) terminal.out(line)
    if (cursor !== null && terminal.watched) terminal.note(`There are more: --limit ${o.limit * 2}`)
  }
  return EXIT.ok
}
