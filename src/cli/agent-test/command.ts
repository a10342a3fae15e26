/** `switchyard agent-test`, as a command of commander's. */
import type { Command } from 'commander'
import { member, number } from '../input.ts'
import type { Options } from './run.ts'
import { DEFAULT_TIMEOUT_MS } from './waiting.ts'

const DEFAULT_TIMEOUT_SECONDS = DEFAULT_TIMEOUT_MS / 1000
/** The most that Linux gives. */
const MAX_PID = 2 ** 22

const names = (text: string, before: string[] = []): string[] => [...before, ...text.split(',').filter((name) => name !== '')]

const EXIT_CODES = `
Exit code: 0 no MUST is broken (a SHOULD that is broken is a warning), 1 one is, 2 wrong usage, 3 the agent cannot be reached.

  switchyard agent-test http://127.0.0.1:8001 --task analyze_cost --json-parameters task.json
  switchyard agent-test --command 'python3 agent.py' --task analyze_cost --param account=123`

/** As every file of commands does, but for its signals: whatever ends it, the agents that it started end first. */
export const agentTestCommand = (program: Command, _run: unknown, { end }: { end: (code: number) => void }): void => {
  program
    .command('agent-test')
    .summary('hold an agent, in any language, to docs/protocol.md')
    .description('Holds an agent, in any language, to the rules of docs/protocol.md. Give the URL of one that runs, or --command: then it is started, with a router of the test\'s own, and everything can be checked.')
    .argument('[url]', "the agent's http://host:port")
    .option('--command <command>', 'start the agent with this; SWITCHYARD_URL, AGENT_HOST and AGENT_PORT tell it where')
    .option('--task <type>', 'a task type that it offers (else found out from it)')
    .option('--json-parameters <json>', 'the parameters of that task: a file, - for standard input, or {…}')
    .option('--param <name=value>', 'one of them; may be given again', member)
    .option('--slow-task <type>', 'a task that takes about a second (else sleep {seconds} if it offers that)')
    .option('--slow-json-parameters <json>', 'its parameters')
    .option('--slow-param <name=value>', 'one of them; may be given again', member)
    .option('--later-task <type>', 'a task of about a second that it answers 202 (else later {seconds} if it offers that)')
    .option('--later-json-parameters <json>', 'its parameters')
    .option('--later-param <name=value>', 'one of them; may be given again', member)
    .option('--max-concurrency <n>', 'how many tasks it can do at once (else found out from it)', number({ whole: true, least: 1, most: 1000 }))
    .option('--pid <pid>', 'its process, which is sent SIGTERM in the end', number({ whole: true, least: 2, most: MAX_PID }))
    .option('--secret <whsec>', 'the secret by which requests to it are signed')
    .option('--timeout <seconds>', 'how long a task may take', number({ least: 1, most: 300 }), DEFAULT_TIMEOUT_SECONDS)
    .option('--only <names>', 'only these checks, apart by commas', names)
    .option('--json', 'the report as JSON')
    .addHelpText('after', EXIT_CODES)
    .action(async (url: string | undefined, _options: Options, self: Command) => {
      // The kit is as large as all the other commands together, which need not wait for it.
      const { run } = await import('./run.ts')
      // `--json` may stand before the command as well.
      end(await run(url, self.optsWithGlobals<Options>()))
    })
}
