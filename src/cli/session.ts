/** What a command has to work with, made from the options that every command takes. */
import { Command, Option } from 'commander'
import { createClient, type Client } from '../../sdk/typescript/client.ts'
import { DEFAULT_URL } from '../../sdk/typescript/url.ts'
import { UsageError } from './failure.ts'
import { parseJson } from './json.ts'
import type { Terminal } from './terminal.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** What the program runs in. */
export type World = {
  env: Environment
  terminal: Terminal
  /** Aborted by Ctrl-C and by a broken pipe. */
  signal: AbortSignal
}

export type Session = World & {
  client: Client
  /** Where the router is. */
  url: string
  /** Print the API's JSON, for machines. */
  json: boolean
  /** A command line to try next, with what it needs to reach the same router. */
  hint(command: string): string
}

/** Runs the work of a command and keeps its exit code; given to every file of commands. */
export type Runner = <Args extends unknown[]>(work: (session: Session, ...args: Args) => Promise<number>) => (...args: [...Args, Command]) => Promise<void>
/** A file of commands. */
export type Register = (program: Command, run: Runner, more: Pick<World, 'env'> & { end: (code: number) => void }) => void

const GROUP = 'For every command:'

/** Gives a command, and all below it, the options that each command takes: after its own, so that help has them last. */
export const withShared = (command: Command): Command => {
  for (const sub of command.commands) withShared(sub)
  command.addOption(new Option('--url <url>', `where the router is (SWITCHYARD_URL; else ${DEFAULT_URL})`).helpGroup(GROUP))
  command.addOption(new Option('--api-key <key>', 'sent as a bearer token (SWITCHYARD_API_KEY, which others do not see in the list of processes)').helpGroup(GROUP))
  // `tasks submit` has one of that name, which does this as well.
  if (!command.options.some((o) => o.long === '--json')) command.addOption(new Option('--json', 'print the API’s JSON, for machines').helpGroup(GROUP))
  return command
}

/** The values of an option, from the command outwards. */
const given = (command: Command, name: string): unknown[] => {
  const values: unknown[] = []
  for (let c: Command | null = command; c; c = c.parent) values.push((c.opts() as Record<string, unknown>)[name])
  return values.filter((value) => value !== undefined)
}

/** @throws UsageError when the url is none, or the key cannot be one */
export const openSession = (command: Command, world: World): Session => {
  const [typedUrl, apiKey] = ['url', 'apiKey'].map((name) => given(command, name)[0] as string | undefined)
  const url = typedUrl ?? (world.env['SWITCHYARD_URL'] || DEFAULT_URL)
  try {
    const client = createClient({ url, apiKey: apiKey ?? (world.env['SWITCHYARD_API_KEY'] || undefined), parseJson })
    return {
      ...world,
      client,
      url,
      json: given(command, 'json').includes(true), // a file's name is where `tasks submit` has its parameters from
      hint: (line) => `switchyard ${line}${typedUrl === undefined ? '' : ` --url ${typedUrl}`}`,
    }
  } catch (error) {
    if (error instanceof TypeError) throw new UsageError(`${error.message}; ${error.message.includes('API key') ? '--api-key or SWITCHYARD_API_KEY' : '--url or SWITCHYARD_URL'} says it`)
    throw error
  }
}
