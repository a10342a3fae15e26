/** `switchyard events`: what happens to tasks, as it happens. */
import type { TaskEvent } from '../../sdk/typescript/client.ts'
import { EXIT } from './failure.ts'
import { withShared, type Register } from './session.ts'
import { STYLES } from './task-view.ts'
import type { Terminal } from './terminal.ts'
import { plain } from './text.ts'

type Options = { type?: string; after?: string }

/** 15:32:04  cost.01a1…  retrying  attempt 1 at 01a1…: failed: no such account */
export const eventLine = (e: TaskEvent, paint: Terminal['paint']): string => {
  const what = e.type.slice('task.'.length)
  const at = e.attempt === null ? '' : `attempt ${e.attempt}${e.agent_id === null ? '' : ` at ${e.agent_id}`}${e.outcome === null || e.outcome === what ? '' : `: ${e.outcome}`}`
  const said = e.error ?? (e.progress === null ? '' : JSON.stringify(e.progress))
  const more = [at, plain(said)].filter(Boolean).join(': ')
  const style = STYLES[what]
  const padded = what.padEnd('completed'.length)
  return `${new Date(e.at).toTimeString().slice(0, 8)}  ${e.task_id}  ${style === undefined ? padded : paint(style, padded)}  ${more}`.trimEnd()
}

export const eventsCommand: Register = (program, run) => {
  const command = program
    .command('events')
    .description('print what happens to tasks, from now on, until Ctrl-C')
    .option('--type <type>', 'only to tasks for agents of this type')
    .option('--after <id>', 'go on behind the event of this id')
    .action(
      run<[Options]>(async ({ client, terminal, json, signal }, o) => {
        for await (const event of client.events({ agentType: o.type, lastEventId: o.after, signal })) {
          if (json) terminal.out(JSON.stringify(event))
          else if (event.type === 'gap') terminal.note(`(${event.detail})`)
          else terminal.out(eventLine(event, terminal.paint))
        }
        return EXIT.ok
      }),
    )
  withShared(command)
}
