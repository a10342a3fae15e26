/** What the demo prints: a line for each change, and a table at the end. In colour on a terminal only. */
import { styleText } from 'node:util'
import { endOf, type Change, type Followed } from './follow.ts'

const COLOURS: Record<string, Parameters<typeof styleText>[0]> = { completed: 'green', failed: 'red', timeout: 'red', cancelled: 'yellow', retrying: 'magenta', sent: 'cyan', pending: 'gray', queued: 'gray' }

/** styleText leaves colour out where stdout is no terminal, or NO_COLOR is set. */
const status = (name: string): string => styleText(COLOURS[name] ?? 'reset', name.padEnd(9))
const dim = (text: string): string => styleText('gray', text)
export const bold = (text: string): string => styleText('bold', text)

/** Ids begin with the time, so those of one moment differ in their ends only. */
export const shortId = (id: string): string => id.slice(-6)

const NARROWEST = 100
const cut = (text: string, used: number): string => {
  const room = Math.max(process.stdout.columns || 140, NARROWEST) - used
  const line = text.replace(/\s+/g, ' ')
  return line.length > room ? `${line.slice(0, room - 1)}…` : line
}

const clock = (at: number): string => {
  const date = new Date(at)
  return `${date.toTimeString().slice(0, 8)}.${String(date.getMilliseconds()).padStart(3, '0')}`
}

const HEAD = ['task'.padEnd(6), 'capability'.padEnd(18), 'prio'].join('  ')
const first = ({ id, plan, task }: Followed): string => [shortId(id), plan.body.task_type.padEnd(18), String(task?.priority ?? '').padStart(4)].join('  ')

export const changeHead = (): string => bold(['time'.padEnd(12), HEAD, 'status'.padEnd(9), 'agent'.padEnd(8), 'note'].join('  '))
export const changeLine = (followed: Followed, change: Change): string =>
  [dim(clock(change.at)), first(followed), status(change.status), change.agent.padEnd(8), cut(change.note, 71)].join('  ')

const COLUMNS = [HEAD, 'status'.padEnd(9), 'attempts', 'agent'.padEnd(8), 'ms'.padStart(5), 'result'].join('  ')

/** A row for each task, in the order in which they were submitted. `ms` is from the submission to the end. */
export const table = (all: readonly Followed[]): string => [bold(COLUMNS), ...all.map(row)].join('\n')

const row = (followed: Followed): string => {
  const { task } = followed
  if (!task) return first(followed)
  const ms = task.completed_at === null ? '' : String(Date.parse(task.completed_at) - Date.parse(task.created_at))
  return [first(followed), status(task.status), String(task.attempts.length).padStart(8), (task.attempts.at(-1)?.agent_name ?? '-').padEnd(8), ms.padStart(5), cut(endOf(task), 74)].join('  ')
}

/** `18 completed, 1 timeout, 1 cancelled` */
export const counts = (all: readonly Followed[]): string =>
  [...Map.groupBy(all, ({ task }) => task?.status ?? 'unknown')].map(([name, those]) => `${those.length} ${name}`).join(', ')
