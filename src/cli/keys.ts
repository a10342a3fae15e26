/** `switchyard keys …` */
import { InvalidArgumentError, Option, type Command } from 'commander'
import type { Key, KeyMade, Role } from '../../sdk/typescript/client.ts'
import { EXIT } from './failure.ts'
import { number } from './input.ts'
import { withShared, type Register, type Session } from './session.ts'
import { become } from './start.ts'
import { table, type Column } from './table.ts'
import { ago, plain } from './text.ts'

const ROLES: readonly Role[] = ['submit', 'agent', 'view', 'admin']

const COLUMNS: readonly Column<Key>[] = [
  { title: 'ID', of: (k) => k.key_id },
  { title: 'NAME', of: (k) => plain(k.name), least: 8 },
  { title: 'NAMESPACE', of: (k) => k.namespace, least: 7 },
  { title: 'ROLES', of: (k) => k.roles.join(' '), least: 6 },
  { title: 'LIMIT', of: (k) => (k.requests_per_second === null ? '-' : `${k.requests_per_second}/s`), least: 5 },
  { title: 'EXPIRES', of: (k) => (k.expires_at === null ? 'never' : ago(k.expires_at)), style: (k) => (k.expired ? 'red' : undefined), least: 8 },
  { title: 'USED', of: (k) => (k.last_used_at === null ? 'never' : ago(k.last_used_at)), least: 8 },
  { title: 'MADE', of: (k) => ago(k.created_at), least: 8 },
]

const HELP = `
submit brings tasks and looks after them; agent registers agents and speaks for them; view looks; admin may all of that, and makes keys.
The key is printed once and kept nowhere: what needs it reads it from SWITCHYARD_API_KEY.`

const LOCAL = 'make it in the router’s Redis, not over HTTP: for the first key, on the router’s machine, with its settings (REDIS_URL and REDIS_PREFIX, or DATA_DIR)'

const role = (typed: string, before: Role[] = []): Role[] => {
  const found = ROLES.find((one) => one === typed)
  if (!found) throw new InvalidArgumentError(`It must be one of ${ROLES.join(', ')}.`)
  return [...before, found]
}

/** The key alone on stdout, so that it can go where it belongs; what to know of it beside that. */
const tell = ({ terminal, json }: Session, made: KeyMade, more = ''): number => {
  terminal.out(json ? JSON.stringify(made) : made.key)
  if (!json) terminal.note(`key ${made.key_id} of role ${made.roles.join(', ')}${made.namespace === 'default' ? '' : ` in namespace ${made.namespace}`}, ${made.expires_at === null ? 'which never expires' : `which expires ${ago(made.expires_at)}`}; it is not shown again.${more}`)
  return EXIT.ok
}

export const keyCommands: Register = (program, run, { env, end }) => {
  const keys = program.command('keys').description('who may come in: make, list, rotate and revoke keys')
  const add = (name: string, description: string): Command => keys.command(name).description(description)
  const expires = () => new Option('--expires <seconds>', 'it is of no use after that; it never expires unless given').argParser(number())

  type CreateOptions = { role: Role[]; namespace?: string; limit?: number; expires?: number; local?: true; json?: true }
  const create = run<[string, CreateOptions]>(async (session, name, o) => tell(session, await session.client.keys.create({ name, roles: o.role, namespace: o.namespace, expires_in_seconds: o.expires, requests_per_second: o.limit }, { signal: session.signal })))
  add('create', 'make a key and print it')
    .argument('[name]', 'for people: whose it is', 'key')
    .addOption(new Option('--role <role>', `what it may, also several: ${ROLES.join(', ')}`).argParser(role).makeOptionMandatory())
    .option('--namespace <name>', 'whose tasks, agents and schedules it is about; those of others are not there for it')
    .addOption(expires())
    .addOption(new Option('--limit <requests>', 'so many a second at most; heartbeats, results and cancels are not counted').argParser(number({ whole: true, least: 1 })))
    .option('--local', LOCAL)
    .addHelpText('after', HELP)
    .action(async (name: string, o: CreateOptions, command: Command) => {
      if (!o.local) return create(name, o, command)
      end(await become('../access/main', env, [JSON.stringify({ name, roles: o.role, namespace: o.namespace, expires_in_seconds: o.expires, requests_per_second: o.limit, json: o.json })]))
    })

  add('list', 'list keys, the oldest first').action(
    run<[object]>(async ({ client, terminal, json, signal }) => {
      const found = await client.keys.list({ signal })
      if (json) terminal.out(JSON.stringify(found))
      else if (found.keys.length > 0) for (const line of table(found.keys, COLUMNS, terminal.width, terminal.paint)) terminal.out(line)
      else terminal.note(found.admin_key ? 'There is none but ADMIN_KEY, which is set where the router runs, and has the role admin. Make others with: switchyard keys create --role submit' : 'There is none. Make the first one with: switchyard keys create --role admin')
      return EXIT.ok
    }),
  )

  add('rotate', 'make and print a key that takes the place of another, which goes on beside it for a while')
    .argument('<id>')
    .addOption(new Option('--keep <seconds>', 'so long the old one goes on (a day)').argParser(number()))
    .addOption(expires())
    .action(
      run<[string, { keep?: number; expires?: number }]>(async (session, id, o) => {
        const made = await session.client.keys.rotate(id, { old_expires_in_seconds: o.keep, expires_in_seconds: o.expires }, { signal: session.signal })
        return tell(session, made, ` Key ${id} goes on for a while: switchyard keys list`)
      }),
    )

  add('revoke', 'revoke keys: no API process takes them any longer, within 2 s')
    .argument('<id...>')
    .action(
      run<[string[], object]>(async ({ client, terminal, json, signal }, ids) => {
        for (const id of ids) {
          const answer = await client.keys.revoke(id, { signal })
          terminal.out(json ? JSON.stringify(answer) : answer.revoked ? `${id} is revoked` : `${id} was no key`)
        }
        return EXIT.ok
      }),
    )

  withShared(keys)
}
