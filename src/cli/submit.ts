/** `switchyard tasks submit` */
import { InvalidArgumentError, Option, type Command } from 'commander'
import type { JsonObject, NewTask } from '../../sdk/typescript/client.ts'
import { EXIT, UsageError } from './failure.ts'
import { follow } from './follow.ts'
import { member, number, readParameters } from './input.ts'
import type { Runner, Session } from './session.ts'
import { endLine, jsonLines } from './task-view.ts'

export type Priority = number | 'low' | 'normal' | 'high' | 'critical'

type SubmitOptions = {
  param?: JsonObject
  params?: string
  /** A file; true asks for JSON out, as everywhere. */
  json?: string | true
  wait?: number | true
  priority?: Priority
  timeout?: number
  retries?: number
  delay?: number
  expires?: number
  agent?: string
  callback?: string
  requireAgent?: true
  metadata?: JsonObject
  idempotencyKey?: string
}

export const priority = (text: string): Priority => {
  if (/^(low|normal|high|critical)$/.test(text)) return text as 'low'
  const value = Number(text)
  if (Number.isInteger(value) && value >= 1 && value <= 15) return value
  throw new InvalidArgumentError('It must be low, normal, high, critical, or a whole number from 1 to 15.')
}

const waitSeconds = (text: string): number => {
  if (/^\d+(\.\d+)?$/.test(text) && Number(text) > 0) return Number(text)
  throw new InvalidArgumentError('It must be seconds; write --wait behind the type and the capability.')
}

const idempotencyKey = (text: string): string => {
  if (/^[!-~]{1,255}$/.test(text)) return text
  throw new InvalidArgumentError('It must be 1 to 255 visible ASCII characters.')
}

const HELP = `
A value of --param and --metadata is taken as JSON if it is JSON, else as text: n=3 is a number, s='"3"' is text, on=true is a truth value.
With --wait the result goes to stdout and how the task ended to stderr; else the task's id goes to stdout.

Examples:
  switchyard tasks submit text word_count --param text="red fox, red hen" --wait
  switchyard tasks submit cost analyze_cost --json bill.json --priority high --wait 60
  echo '{"text": "one two"}' | switchyard --json tasks submit text word_count --json - --wait
  id=$(switchyard tasks submit text word_count --param text="one two")`

export const submitCommand = (tasks: Command, run: Runner): void => {
  const command = tasks
    .command('submit')
    .description('submit a task')
    .argument('<type>', 'the agents it is for')
    .argument('<capability>', 'what is to be done')
    .addOption(new Option('-p, --param <name=value>', 'a parameter; may be repeated').argParser(member))
    .addOption(new Option('--json [file]', 'the parameters, as a JSON object in a file or, with -, on standard input; without a file: print the API’s JSON'))
    .addOption(new Option('--params <file>', 'the same as --json <file>, to go with --json').conflicts('param'))
    .addOption(new Option('--wait [seconds]', 'wait for its end').argParser(waitSeconds))
    .addOption(new Option('--priority <priority>', 'low, normal, high, critical, or 1 to 15; higher goes first').argParser(priority))
    .addOption(new Option('--timeout <seconds>', 'for each attempt').argParser(number()))
    .addOption(new Option('--retries <count>', 'how often a failed attempt is followed by another').argParser(number({ whole: true })))
    .addOption(new Option('--delay <seconds>', 'not before so long from now').argParser(number()))
    .addOption(new Option('--expires <seconds>', 'end it when no attempt could begin within so long').argParser(number()))
    .addOption(new Option('--agent <id>', 'only this agent may do it'))
    .addOption(new Option('--callback <url>', 'is sent a webhook when the task ends'))
    .addOption(new Option('--require-agent', 'refuse it when no agent that can do it is alive, instead of letting it wait'))
    .addOption(new Option('--metadata <name=value>', 'something to go along; may be repeated').argParser(member))
    .addOption(new Option('--idempotency-key <key>', 'makes it safe to submit it again: within a day the same task is taken once').argParser(idempotencyKey))
  command.addHelpText('after', HELP).action(run<[string, string, SubmitOptions]>(submit))
}

const submit = async (session: Session, type: string, capability: string, o: SubmitOptions): Promise<number> => {
  const { client, terminal, signal, json, hint } = session
  if (typeof o.json === 'string' && o.params !== undefined) throw new UsageError('the parameters are given twice: by --json and by --params')
  const file = o.params ?? (typeof o.json === 'string' ? o.json : undefined)
  if (file !== undefined && o.param) throw new UsageError('give the parameters by --param or in a file, not both')

  const task: NewTask = {
    agent_type: type,
    task_type: capability,
    agent_id: o.agent,
    parameters: file === undefined ? o.param : await readParameters(file, signal),
    priority: o.priority,
    timeout_seconds: o.timeout,
    max_retries: o.retries,
    delay_seconds: o.delay,
    expires_in_seconds: o.expires,
    callback_url: o.callback,
    metadata: o.metadata,
  }
  const handle = await client.tasks.submit(task, { signal, requireAgent: o.requireAgent, idempotencyKey: o.idempotencyKey })
  if (o.wait === undefined) {
    terminal.out(json ? JSON.stringify(handle.submitted) : handle.id)
    if (!json && terminal.watched) terminal.note(`It is ${handle.submitted.status}; follow it: ${hint(`tasks watch ${handle.id}`)}`)
    return EXIT.ok
  }
  const { code, task: last, ended } = await follow(session, handle.id, handle.wait, { timeoutSeconds: o.wait === true ? undefined : o.wait })
  // A machine gets the id also when the waiting ended first.
  if (json) terminal.out(JSON.stringify(last ?? handle.submitted))
  else if (ended) {
    if (last!.status === 'completed') terminal.out(jsonLines(last!.result))
    terminal.note(endLine(last!))
  }
  return code
}
