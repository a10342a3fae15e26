/** `switchyard agent-test`, as a command of commander's. */
import { readFileSync } from 'node:fs'
import { InvalidArgumentError, type Command } from 'commander'
import { agentTest } from './agent-test.ts'
import { UnreachableError, UsageError } from './discover.ts'
import { printReport } from './report.ts'

type Options = { task?: string; jsonParameters?: string; param?: Record<string, unknown>; slowTask?: string; slowJsonParameters?: string; slowParam?: Record<string, unknown>; maxConcurrency?: number; pid?: number; secret?: string; timeout?: number; command?: string; only?: string[]; json?: true }

const whole = (least: number, most: number) => (text: string): number => {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < least || value > most) throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`)
  return value
}
const seconds = (text: string): number => {
  const value = Number(text)
  if (!(value >= 1 && value <= 300)) throw new InvalidArgumentError('It must be a number of seconds from 1 to 300.')
  return value
}
/** A value that is JSON is that; any other is text. */
const pair = (text: string, before: Record<string, unknown> = {}): Record<string, unknown> => {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('It must be name=value.')
  const value = text.slice(at + 1)
  try {
    return { ...before, [text.slice(0, at)]: JSON.parse(value) as unknown }
  } catch {
    return { ...before, [text.slice(0, at)]: value }
  }
}
const names = (text: string, before: string[] = []): string[] => [...before, ...text.split(',').filter((name) => name !== '')]

/** JSON itself, a file of it, or - for standard input; and pairs on top. */
const parametersOf = (json: string | undefined, pairs: Record<string, unknown> | undefined): Record<string, unknown> | undefined => {
  if (json === undefined) return pairs
  let read: unknown
  try {
    read = JSON.parse(json.trimStart().startsWith('{') ? json : readFileSync(json === '-' ? 0 : json, 'utf8'))
  } catch (error) {
    throw new UsageError(`the parameters cannot be read: ${(error as Error).message}`)
  }
  if (typeof read !== 'object' || read === null || Array.isArray(read)) throw new UsageError('the parameters must be a JSON object')
  return { ...read, ...pairs }
}

const EXIT_CODES = `
Exit code: 0 no MUST is broken (a SHOULD that is broken is a warning), 1 one is, 2 wrong usage, 3 the agent cannot be reached.

  switchyard agent-test http://127.0.0.1:8001 --task analyze_cost --json-parameters task.json
  switchyard agent-test --command 'python3 agent.py' --task analyze_cost --param account=123`

/**
 * Adds `agent-test` to a program.
 * @param end told the exit code
 */
export const addAgentTest = (program: Command, end: (code: number) => void = (code) => (process.exitCode = code)): Command =>
  program
    .command('agent-test')
    .summary('hold an agent, in any language, to docs/protocol.md')
    .description('Holds an agent, in any language, to the rules of docs/protocol.md. Give the URL of one that runs, or --command: then it is started, with a router of the test\'s own, and everything can be checked.')
    .argument('[url]', "the agent's http://host:port")
    .option('--command <command>', 'start the agent with this; SWITCHYARD_URL, AGENT_HOST and AGENT_PORT tell it where')
    .option('--task <type>', 'a task type that it offers (else found out from it)')
    .option('--json-parameters <json>', 'the parameters of that task: a file, - for standard input, or {…}')
    .option('--param <name=value>', 'one of them; may be given again', pair)
    .option('--slow-task <type>', 'a task that takes about a second (else sleep {seconds} if it offers that)')
    .option('--slow-json-parameters <json>', 'its parameters')
    .option('--slow-param <name=value>', 'one of them; may be given again', pair)
    .option('--max-concurrency <n>', 'how many tasks it can do at once (else found out from it)', whole(1, 1000))
    .option('--pid <pid>', 'its process, which is sent SIGTERM in the end', whole(2, 2 ** 31 - 1))
    .option('--secret <whsec>', 'the secret by which requests to it are signed')
    .option('--timeout <seconds>', 'how long a task may take', seconds, 10)
    .option('--only <names>', 'only these checks, apart by commas', names)
    .option('--json', 'the report as JSON')
    .addHelpText('after', EXIT_CODES)
    .action(async (url: string | undefined, options: Options) => {
      end(await run(url, options))
    })

const run = async (url: string | undefined, options: Options): Promise<number> => {
  const stop = new AbortController()
  const stopBy = (signal: NodeJS.Signals) => (): void => stop.abort(signal)
  const handlers = (['SIGINT', 'SIGTERM', 'SIGHUP'] as const).map((signal) => [signal, stopBy(signal)] as const)
  for (const [signal, handler] of handlers) process.on(signal, handler)
  const progress = options.json || !process.stderr.isTTY ? undefined : ({ name, count, of }: { name: string; count: number; of: number }) => void process.stderr.write(`\r\x1b[K${count}/${of} ${name}`)
  const clear = (): void => {
    if (progress) process.stderr.write('\r\x1b[K')
  }
  const fail = (message: string, code: number): number => {
    clear()
    if (options.json) process.stdout.write(`${JSON.stringify({ error: message, exit_code: code })}\n`)
    else process.stderr.write(`switchyard: ${message}\n`)
    return code
  }
  try {
    const report = await agentTest({
      url, command: options.command, task: options.task, parameters: parametersOf(options.jsonParameters, options.param),
      slowTask: options.slowTask, slowParameters: parametersOf(options.slowJsonParameters, options.slowParam),
      maxConcurrency: options.maxConcurrency, pid: options.pid, secret: options.secret, timeoutMs: (options.timeout ?? 10) * 1000, only: options.only, signal: stop.signal, onProgress: progress,
    })
    clear()
    if (options.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
    else printReport(report)
    return report.exit_code
  } catch (error) {
    if (stop.signal.aborted) return fail(`stopped by ${String(stop.signal.reason)}`, stop.signal.reason === 'SIGINT' ? 130 : stop.signal.reason === 'SIGTERM' ? 143 : 129)
    if (error instanceof UsageError) return fail(error.message, 2)
    if (error instanceof UnreachableError) return fail(error.message, 3)
    throw error
  } finally {
    for (const [signal, handler] of handlers) process.removeListener(signal, handler)
  }
}
