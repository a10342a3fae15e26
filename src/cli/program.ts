/** The commands, as one program. A new command is a file with a `Register` and a line in COMMANDS. */
import { Command, CommanderError } from 'commander'
import { agentTestCommand } from './agent-test/command.ts'
import { agentCommands } from './agents.ts'
import { completionCommand } from './completion.ts'
import { eventsCommand } from './events.ts'
import { deadLetterCommands } from './dead-letters.ts'
import { EXIT, explain, spoken } from './failure.ts'
import { initCommand } from './init/command.ts'
import { scheduleCommands } from './schedules.ts'
import { keyCommands } from './keys.ts'
import { openSession, withShared, type Register, type Runner, type Session, type World } from './session.ts'
import { startCommands } from './start.ts'
import { taskCommands } from './tasks.ts'
import { webhookCommands } from './webhooks.ts'

const COMMANDS: readonly Register[] = [startCommands, agentCommands, taskCommands, deadLetterCommands, eventsCommand, scheduleCommands, webhookCommands, keyCommands, agentTestCommand, initCommand, completionCommand]

const HELP = `
Examples:
  switchyard start
  switchyard agents list
  switchyard tasks submit text word_count --param text="red fox, red hen" --wait
  switchyard tasks list --status failed

Exit codes:
  0    good
  1    the task ended otherwise than completed, or the request was refused
  2    what was typed is wrong
  3    the router cannot be reached
  4    the wait timed out; the task goes on
  130  Ctrl-C`

/** Runs one command line and gives its exit code. */
export const runProgram = async (argv: readonly string[], world: World & { version: string }): Promise<number> => {
  let code: number = EXIT.ok
  let url = world.env['SWITCHYARD_URL'] ?? ''
  const run: Runner =
    <Args extends unknown[]>(work: (session: Session, ...args: Args) => Promise<number>) =>
    async (...args: [...Args, Command]) => {
      const session = openSession(args.at(-1) as Command, world)
      url = session.url
      code = await work(session, ...(args.slice(0, -1) as unknown as Args))
    }

  const program = new Command('switchyard')
    .description('A task router for fleets of HTTP agents.')
    .version(world.version, '-V, --version', 'print the version')
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => world.terminal.out(text.trimEnd()),
      writeErr: (text) => world.terminal.note(text.trimEnd()),
      outputError: (text, write) => write(text.replace(/^error: /, 'switchyard: ').replace(/\n\(D(id you mean .*)\)/, ' (d$1)')),
    })
    .addHelpText('after', HELP)
  withShared(program) // no command is there yet: they take care of their own
  for (const register of COMMANDS) register(program, run, { ...world, end: (ended) => (code = ended) })
  sayWhereHelpIs(program, program.name())

  try {
    await program.parseAsync(argv)
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    const said = explain(error, url)
    for (const line of spoken(said.lines)) world.terminal.note(line)
    return said.code
  }
  return code
}

const sayWhereHelpIs = (command: Command, path: string): void => {
  command.showHelpAfterError(`See: ${path} --help`)
  for (const sub of command.commands) sayWhereHelpIs(sub, `${path} ${sub.name()}`)
}
