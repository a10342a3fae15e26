/** `switchyard tasks …` */
import { Option, type Command } from 'commander'
import { SwitchyardError, type Task, type TaskFilter, type TaskStatus } from '../../sdk/typescript/client.ts'
import { batchCommand } from './batch.ts'
import { explainCommand } from './explain.ts'
import { EXIT, explain, spoken } from './failure.ts'
import { follow } from './follow.ts'
import { withShared, type Register } from './session.ts'
import { submitCommand } from './submit.ts'
import { printTasks, withPages, type PageOptions } from './task-pages.ts'
import { changeLine, showTask, STATUSES } from './task-view.ts'

type ListOptions = PageOptions & { status?: TaskStatus; type?: string; taskType?: string; agent?: string }

export const taskCommands: Register = (program, run) => {
  const tasks = program.command('tasks').description('submit tasks, look at them, wait for them, cancel them')
  const add = (name: string, description: string): Command => tasks.command(name).description(description)

  submitCommand(tasks, run)
  batchCommand(tasks, run)

  withPages(
    add('list', 'list tasks, newest first')
      .addOption(new Option('--status <status>', 'only of this status').choices(STATUSES))
      .option('--type <type>', 'only for agents of this type')
      .option('--task-type <capability>', 'only those that ask for this')
      .option('--agent <id>', 'only those pinned to this agent, or that it has or had'),
  ).action(
    run<[ListOptions]>((session, o) => {
      const filter: TaskFilter = { status: o.status, agent_type: o.type, task_type: o.taskType, agent_id: o.agent }
      return printTasks(session, o, (limit) => session.client.tasks.list({ ...filter, limit }, { signal: session.signal }), 'No such task.')
    }),
  )

  add('show', 'show one task, with every attempt made')
    .argument('<id>')
    .action(
      run<[string, object]>(async ({ client, terminal, json, signal }, id) => {
        const task = await client.tasks.get(id, { signal })
        if (json) terminal.out(JSON.stringify(task))
        else for (const line of showTask(task, terminal)) terminal.out(line)
        return EXIT.ok
      }),
    )

  explainCommand(tasks, run)

  add('cancel', 'cancel tasks; one that an agent has ends within 10 s')
    .argument('<id...>')
    .action(
      run<[string[], object]>(async ({ client, terminal, json, signal, url }, ids) => {
        let code: number = EXIT.ok
        for (const id of ids) {
          try {
            const answer = await client.tasks.cancel(id, { signal })
            terminal.out(json ? JSON.stringify(answer) : answer.status === 'cancelled' ? `${id} is cancelled` : `${id} is at an agent; it ends cancelled when that attempt is over, within 10 s`)
          } catch (error) {
            // One that has ended keeps none of the others from being cancelled.
            if (!(error instanceof SwitchyardError) || explain(error, url).code !== EXIT.refused) throw error
            for (const line of spoken(explain(error, url).lines)) terminal.note(line)
            code = EXIT.refused
          }
        }
        return code
      }),
    )

  add('retry', 'submit an ended task again, as a new one; once')
    .argument('<id>')
    .action(
      run<[string, object]>(async ({ client, terminal, json, signal, hint }, id) => {
        const again = await client.tasks.retry(id, { signal })
        terminal.out(json ? JSON.stringify(again.submitted) : again.id)
        if (!json && terminal.watched) terminal.note(`It is ${again.submitted.status}; follow it: ${hint(`tasks watch ${again.id}`)}`)
        return EXIT.ok
      }),
    )

  add('redeliver', 'send the webhook of an ended task again, at once')
    .argument('<id>')
    .action(
      run<[string, object]>(async ({ client, terminal, json, signal, hint }, id) => {
        const answer = await client.tasks.redeliver(id, { signal })
        terminal.out(json ? JSON.stringify(answer) : `${answer.webhook.id} is being sent`)
        if (!json && terminal.watched) terminal.note(`See what comes of it: ${hint(`tasks show ${id}`)}`)
        return EXIT.ok
      }),
    )

  add('watch', 'print each change of a task until its end')
    .argument('<id>')
    .action(
      run<[string, object]>(async (session, id) => {
        const { client, terminal, json } = session
        let shown = ''
        const onChange = (task: Task): void => {
          const line = json ? JSON.stringify(task) : changeLine(task, terminal.paint)
          // A change that the line does not show is none for people; its time may differ.
          const what = json ? line : line.slice('00:00:00'.length)
          if (what !== shown) terminal.out(line)
          shown = what
        }
        return (await follow(session, id, (options) => client.tasks.wait(id, options), { onChange })).code
      }),
    )

  withShared(tasks)
}
