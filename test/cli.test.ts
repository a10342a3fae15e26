/**
 * The command line against a real router. What a command asks, says and ends with, it does in this process, where a start costs nothing; what
 * only a process has (its streams, signals, terminal, exit code, launcher, processes of its own) is tried on processes.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { chmod, cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runProgram } from '../src/cli/program.ts'
import { createTerminal, type Stream } from '../src/cli/terminal.ts'
import { run, tempFolder, until } from './processes.ts'
import { standIn } from './stand-in.ts'
import { startSystem, type System } from './system.ts'

const BIN = fileURLToPath(new URL('../bin/switchyard.js', import.meta.url))
const VERSION = (JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }).version
delete process.env['FORCE_COLOR'] // of the runner
const ID = /^[\w-]+\.[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/

let system: System
let url: string
beforeAll(async () => {
  system = await startSystem()
  url = system.url()
})
afterAll(() => system[Symbol.asyncDispose]())

type Ended = { code: number | NodeJS.Signals | null; out: string; err: string }
type Options = { env?: Record<string, string | undefined>; input?: string; cwd?: string }

/** Starts a command in a process group of its own, as a shell does. */
const start = (args: string[], { env = {}, input, cwd }: Options = {}) => {
  const child = spawn(process.execPath, [BIN, ...args], { cwd, detached: true, stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'], env: { ...process.env, SWITCHYARD_URL: url, FORCE_COLOR: undefined, ...env } })
  let out = ''
  let err = ''
  child.stdout!.on('data', (chunk) => (out += chunk))
  child.stderr!.on('data', (chunk) => (err += chunk))
  child.stdin?.on('error', () => {}) // it may have ended without reading
  child.stdin?.end(input)
  const ended = new Promise<Ended>((done) => child.once('close', (code, signal) => done({ code: code ?? signal, out, err })))
  return { child, ended, out: () => out, err: () => err, ctrlC: () => process.kill(-child.pid!, 'SIGINT') }
}
/** As a process, to its end. */
const shell = (args: string[], options?: Options): Promise<Ended> => start(args, options).ended
/** In this process, to its end. */
const sy = async (args: string[], { env = {} }: Pick<Options, 'env'> = {}): Promise<Ended> => {
  const said = { out: '', err: '' }
  const stream = (name: 'out' | 'err') => new Writable({ write: (chunk, _encoding, done) => ((said[name] += String(chunk)), done()) }) as unknown as Stream
  const world = { env: { ...process.env, SWITCHYARD_URL: url, ...env }, terminal: createTerminal(stream('out'), stream('err')), signal: new AbortController().signal }
  return { code: await runProgram(['node', BIN, ...args], { ...world, version: VERSION }), ...said }
}
/** On a terminal of its own, in so many columns: what it shows. */
const onTerminal = (args: string[], columns: number, env: Record<string, string> = {}): Promise<string> =>
  new Promise((done) => {
    const script = 'import fcntl, os, pty, struct, sys, termios\npid, fd = pty.fork()\nif pid == 0:\n  fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, int(sys.argv[1]), 0, 0)); os.execv(sys.argv[2], sys.argv[2:])\nwhile True:\n  try: data = os.read(fd, 9999)\n  except OSError: break\n  if not data: break\n  os.write(1, data)\nos.waitpid(pid, 0)'
    const child = spawn('python3', ['-c', script, String(columns), process.execPath, BIN, ...args], { env: { ...process.env, TERM: 'xterm', SWITCHYARD_URL: url, FORCE_COLOR: undefined, NO_COLOR: undefined, CI: undefined, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (chunk) => (text += chunk))
    child.once('close', () => done(text.replaceAll('\r\n', '\n')))
  })
const escape = String.fromCharCode(27)

test('schedules: put, list, show, pause, resume, rm', async () => {
  const made = await sy(['schedules', 'put', 'nightly', 'timed', 'count', '--cron', '30 2 * * *', '--tz', 'Europe/Berlin', '--param', 'n=12345678901234567890', '--priority', 'high', '--catch-up', '60', '--callback', 'https://hooks.invalid/a'])
  expect(made).toMatchObject({ code: 0, err: '', out: expect.stringMatching(/^nightly runs next in .*, at \d{4}-.*T0[01]:30:00\.000Z\n$/) })
  const [list, show, json] = await Promise.all([sy(['schedules', 'list', '--type', 'timed']), sy(['schedules', 'show', 'nightly']), sy(['schedules', 'list', '--json'])])
  expect(list.out.split('\n')[0]).toMatch(/^ID +WHEN +NEXT +TASK +RUNS +MISSED +FAILED +LAST$/)
  expect(list.out.split('\n')[1]).toMatch(/^nightly  30 2 \* \* \* Europe\/Berlin +in \d+ \w+ +timed count +0 +0 +0/)
  expect(show.out).toMatch(/^catches up +for 60 s$/m)
  expect(show.out).toContain('"n": 12345678901234567890')
  expect(JSON.parse(json.out)).toMatchObject({ schedules: [{ schedule_id: 'nightly', task: { priority: 'high', callback_url: 'https://hooks.invalid/a' } }], next_cursor: null })
  expect((await sy(['schedules', 'pause', 'nightly'])).out).toBe('nightly is paused\n')
  const [resumed, both, never, unknown] = await Promise.all([sy(['schedules', 'resume', 'nightly']), sy(['schedules', 'put', 'x', 'a', 'b', '--cron', '* * * * *', '--every', '5']), sy(['schedules', 'put', 'x', 'a', 'b', '--cron', '0 0 31 2 *']), sy(['schedules', 'show', 'x'])])
  expect(resumed.out).toMatch(/^nightly runs next in /)
  expect(both).toMatchObject({ code: 2, err: 'switchyard: say when: by --cron or by --every\n' })
  expect(never).toMatchObject({ code: 1, err: expect.stringContaining('cron must be a cron expression') })
  expect(unknown).toMatchObject({ code: 1, err: expect.stringContaining('there is no schedule x') })
  expect((await sy(['schedules', 'rm', 'nightly', 'x'])).out).toBe('nightly is deleted\nx was not there\n')
})

describe('agents', () => {
  test('list, show, rm: for people and for machines', async () => {
    const agent = await system.agent({ type: 'listed', name: 'lister', capabilities: ['one', 'two'] })
    const list = await sy(['agents', 'list', '--type', 'listed'])
    expect(list).toMatchObject({ code: 0, err: '' })
    expect(list.out.split('\n')[0]).toMatch(/^ID +NAME +TYPE +STATUS +SLOTS +SEEN +CAPABILITIES +ADDRESS$/)
    expect(list.out.split('\n')[1]).toMatch(new RegExp(`^${agent.id}  lister  listed  healthy  0/10   (now|\\d+ s ago) +one two +127.0.0.1:${agent.port}$`))
    const api = (await system.get('/agents?type=listed')).text
    const json = await sy(['agents', 'list', '--type', 'listed', '--json'])
    expect(JSON.parse(json.out)).toEqual({ ...JSON.parse(api), agents: [{ ...JSON.parse(api).agents[0], last_seen: expect.any(String), last_heartbeat: expect.any(String) }] })

    const show = await sy(['agents', 'show', agent.id])
    expect(show.out).toMatch(/^name +lister$/m)
    expect(show.out).toMatch(/^capabilities +one two$/m)
    expect(JSON.parse((await sy(['agents', '--json', 'show', agent.id])).out).id).toBe(agent.id)
    expect(await sy(['agents', 'show', 'nobody'])).toEqual({ code: 1, out: '', err: expect.stringMatching(/^switchyard: agent nobody is not registered\n.*switchyard agents list/) })

    expect(await sy(['agents', 'rotate-secret', agent.id, '--overlap', '60'])).toEqual({ code: 0, out: expect.stringMatching(new RegExp(`^${agent.id} gets another secret; the one before counts until 2.*Z\n$`)), err: '' })
    expect(await sy(['agents', 'rm', agent.id, 'nobody'])).toEqual({ code: 0, out: `${agent.id} is unregistered\nnobody was not registered\n`, err: '' })
    expect((await sy(['agents', 'list', '--type', 'listed'])).err).toBe('No such agent is alive; --include-dead shows the dead as well.\n')
  })

  test('the dead are listed when asked for, and cleanup removes and counts them', async () => {
    const agent = await system.agent({ type: 'dying', beats: false, ttlSeconds: 5 })
    const [seconds] = await system.redis.time()
    await system.redis.hset(system.keys.agent('dying', agent.id), 'seen', (Number(seconds) - 60) * 1000)
    await until('it is dead', async () => (await system.get(`/agents/${agent.id}`)).json.status === 'dead')
    expect((await sy(['agents', 'list', '--type', 'dying'])).out).toBe('')
    expect((await sy(['agents', 'list', '--type', 'dying', '--include-dead'])).out).toContain(agent.id)
    expect((await sy(['agents', 'list', '--status', 'dead'])).out).toContain(agent.id)
    expect(await sy(['agents', 'cleanup'])).toEqual({ code: 0, out: '1 dead agent removed\n', err: '' })
    expect(await sy(['agents', 'cleanup', '--json'])).toEqual({ code: 0, out: '{"removed":0}\n', err: '' })
  })
})

describe('tasks batch', () => {
  test('submits each line, tells those that are refused by their line, and takes a file that is sent again once', async () => {
    const line = (n: number | string, more = '') => `{"agent_type":"lines","task_type":"echo","parameters":{"n":${n}}${more}}`
    const input = [line('12345678901234567890'), '', '{"agent_type":"lines"', '5', line(2, ',"priority":99'), line(3), ...Array.from({ length: 1000 }, (_, n) => line(n + 4))].join('\n')
    const first = await shell(['tasks', 'batch', '-', '--idempotency-key', 'file'], { input })
    const ids = first.out.trimEnd().split('\n')
    expect([first.code, ids.length, ids.every((id) => ID.test(id))]).toEqual([1, 1002, true])
    expect(first.err.split('\n')).toEqual([expect.stringMatching(/^line 3: it is not JSON/), 'line 4: it must hold a JSON object: a task', 'line 5: /priority must be a whole number from 1 to 15, or low, normal, high or critical', ''])
    expect((await system.get(`/tasks/${ids[0]}`)).text).toContain('"parameters":{"n":12345678901234567890}')
    await using folder = await tempFolder()
    const file = join(folder.path, 'tasks.ndjson')
    await writeFile(file, input)
    const again = await sy(['tasks', 'batch', file, '--idempotency-key', 'file', '--json'])
    const answers = again.out.trimEnd().split('\n').map((text) => JSON.parse(text))
    expect(answers.filter((a) => a.task_id).map((a) => a.task_id)).toEqual(ids)
    expect(answers.find((a) => a.line === 5).error).toMatchObject({ type: '/docs/errors#invalid-request', status: 422 })
    expect([again.code, again.err, await system.redis.zcard(system.keys.tasks('lines', 'queued'))]).toEqual([1, '', 1002])
    expect(await sy(['tasks', 'batch', join(folder.path, 'none')])).toMatchObject({ code: 2, err: expect.stringContaining('there is no file') })
    const one = ['tasks', 'submit', 'lines', 'echo', '--idempotency-key', 'k']
    expect((await sy(one)).out).toBe((await sy(one)).out)
    expect((await sy([...one, '--priority', 'low']))).toMatchObject({ code: 1, err: expect.stringContaining('tasks show') })
  })
})

describe('tasks submit', () => {
  test('prints the id alone, and sends what its options say', async () => {
    const { code, out, err } = await sy(['tasks', 'submit', 'idle', 'echo', '--priority', 'high', '--timeout', '12.5', '--retries', '0', '--delay', '60', '--expires', '600', '--metadata', 'who=me'])
    expect([code, err]).toEqual([0, ''])
    expect(out.trimEnd()).toMatch(ID)
    expect(await system.task(out.trimEnd())).toMatchObject({ agent_type: 'idle', task_type: 'echo', priority: 10, timeout_seconds: 12.5, max_retries: 0, status: 'pending', metadata: { who: 'me' } })
    const pinned = await system.agent({ type: 'pinned', capabilities: [] })
    expect(JSON.parse((await sy(['tasks', 'submit', 'pinned', 'any', '--agent', pinned.id, '--json'])).out)).toMatchObject({ agent_id: pinned.id, status_url: expect.stringMatching(/^\/tasks\/pinned\./) })
  })

  test('--param is JSON if it parses as JSON, else text, and every digit arrives', async () => {
    const agent = await system.agent({ type: 'params' })
    const { code, out, err } = await sy(['tasks', 'submit', 'params', 'echo', '-p', 'n=3', '-p', 'text=a=b c', '-p', 's="3"', '-p', 'on=true', '-p', 'list=[1,{"a":null}]', '-p', 'id=12345678901234567890', '-p', 'none=', '--wait', '30'])
    expect([code, err]).toEqual([0, expect.stringMatching(/^params\.\S+ completed in \S+ ms by agent-\d+\n$/)])
    const raw = agent.runs[0]!.body
    expect(raw).toContain('"parameters":{"n":3,"text":"a=b c","s":"3","on":true,"list":[1,{"a":null}],"id":12345678901234567890,"none":""}')
    expect(JSON.parse(out)).toEqual({ echo: agent.runs[0]!.parameters })
  })

  test('takes parameters from a file and from standard input', async () => {
    await using folder = await tempFolder()
    await writeFile(join(folder.path, 'p.json'), '{"from": "a file", "big": 12345678901234567890}')
    const file = await shell(['tasks', 'submit', 'idle', 'echo', '--json', 'p.json'], { cwd: folder.path })
    expect((await system.get(`/tasks/${file.out.trim()}`)).text).toContain('"parameters":{"from":"a file","big":12345678901234567890}')
    const input = await shell(['--json', 'tasks', 'submit', 'idle', 'echo', '--json', '-'], { input: '{"from":"input"}' })
    expect((await system.task(JSON.parse(input.out).task_id)).parameters).toEqual({ from: 'input' })
    const both = await shell(['tasks', 'submit', 'idle', 'echo', '--params', '-', '--json'], { input: '{"from":"input"}' })
    expect(JSON.parse(both.out).status).toBe('queued')
  })

  const wrong: [string, string[], string][] = [
    ['a parameter without a value', ['-p', 'x'], 'must be name=value'],
    ['a parameter twice', ['-p', 'x=1', '-p', 'x=2'], 'x is given twice'],
    ['parameters and a file', ['-p', 'x=1', '--json', '-'], 'not both'],
    ['no file', ['--json', '/nowhere.json'], 'there is no file /nowhere.json'],
    ['no JSON', ['--json', '-'], 'standard input is not JSON'],
    ['no number', ['--timeout', 'soon'], 'must be a number'],
    ['no whole number', ['--retries', '1.5'], 'must be a whole number'],
    ['no priority', ['--priority', 'urgent'], 'must be low, normal, high, critical'],
    ['an unknown option', ['--prioritty', 'high'], '(did you mean --priority?)'],
  ]
  test('wrong usage is 2, and said in two lines at most', async () => {
    await Promise.all(
      wrong.map(async ([what, args, words]) => {
        const { code, out, err } = await (what === 'no JSON' ? shell(['tasks', 'submit', 'idle', 'echo', ...args], { input: 'no' }) : sy(['tasks', 'submit', 'idle', 'echo', ...args]))
        expect([code, out], what).toEqual([2, ''])
        expect(err, what).toContain(words)
        expect(err.trimEnd().split('\n').length, what).toBeLessThanOrEqual(2)
      }),
    )
  })

  test('--wait ends with 1 when the task fails, with the agent’s words', async () => {
    await system.agent({ type: 'failing', handle: () => { throw new Error(`no such account\nat all`) } })
    const { code, out, err } = await sy(['tasks', 'submit', 'failing', 'echo', '--retries', '0', '--wait'])
    expect([code, out]).toEqual([1, ''])
    expect(err).toMatch(/^failing\.\S+ failed after 1 attempt: .*no such account at all.*\n$/)
    const json = await sy(['tasks', 'submit', 'failing', 'echo', '--retries', '0', '--wait', '--json'])
    expect([json.code, json.err, JSON.parse(json.out).status]).toEqual([1, '', 'failed'])
  })

  test('--wait SECONDS ends with 4 when it has not ended by then, and says that it goes on', async () => {
    const { code, out, err } = await sy(['tasks', 'submit', 'idle', 'echo', '--wait', '0.3', '--json'])
    const task = JSON.parse(out)
    expect([code, task.status]).toEqual([4, 'queued'])
    expect(err).toBe(`switchyard: ${task.task_id} is still queued after 0.3 s\nThe task goes on; look at it: switchyard tasks show ${task.task_id}\n`)
    expect((await system.task(task.task_id)).status).toBe('queued')
  })

  test('--wait says what the task waits for when that may be for good', async () => {
    const { code, err } = await sy(['tasks', 'submit', 'idle', 'mispelt', '--wait', '6'])
    expect(code).toBe(4)
    expect(err).toMatch(/^switchyard: (\S+) is queued\. No agent of type idle is registered: start one that offers mispelt\.\nSee more: switchyard tasks explain \1\n/)
  })

  test('--require-agent is refused with 1 when there is none', async () => {
    expect(await sy(['tasks', 'submit', 'nobody', 'echo', '--require-agent'])).toEqual({ code: 1, out: '', err: expect.stringMatching(/^switchyard: .*\nStart one, or leave out --require-agent/) })
    const refused = await sy(['tasks', 'submit', 'idle', 'echo', '--retries', '1000'])
    expect(refused).toEqual({ code: 1, out: '', err: expect.stringMatching(/^switchyard: max_retries .*100\n$/) })
  })
})

describe('tasks', () => {
  test('explain tells people why a task waits and what of each agent, and machines the same', async () => {
    const agent = await system.agent({ type: 'why', name: 'slow', maxConcurrency: 1, handle: () => undefined })
    const other = await system.agent({ type: 'why', name: 'leaving\u202e', status: 'draining' })
    await system.becomes(await system.submit({ agent_type: 'why' }), 'sent')
    await system.submit({ agent_type: 'why', priority: 10 })
    const id = await system.submit({ agent_type: 'why' })
    const { code, out, err } = await sy(['tasks', 'explain', id])
    expect([code, err]).toEqual([0, ''])
    expect(out.split('\n')[0]).toBe('No agent of type why that offers echo has a free slot (1 full); before it goes 1 task of its queue. It goes when a slot comes free: wait, start another agent, or raise max_concurrency.')
    expect(out).toMatch(/^reason +waiting_for_slot, since /m)
    expect(out).toMatch(/^queue +1 task before it \(1 of priority 10\); 2 in line, 1 under way$/m)
    expect(out).toMatch(new RegExp(`^${agent.id}  slow +at_capacity  1/1 +healthy$`, 'm'))
    expect(out).toMatch(new RegExp(`^${other.id}  leaving\ufffd  draining +0/10 +draining +it said that it takes nothing new$`, 'm'))
    const json = JSON.parse((await sy(['tasks', 'explain', id, '--json'])).out)
    const { json: api } = await system.get(`/tasks/${id}/explain`)
    expect(json).toEqual({ ...api, at: json.at })
    expect(await sy(['tasks', 'explain', 'nobody'])).toEqual({ code: 1, out: '', err: expect.stringMatching(/^switchyard: there is no such task; its id is not of the form that ids have/) })
  })

  test('list and show, for people and for machines', async () => {
    const ids: string[] = []
    for (let i = 0; i < 3; i++) ids.unshift(await system.submit({ agent_type: 'many', parameters: { i } }))
    const list = await sy(['tasks', 'list', '--type', 'many', '--limit', '2'])
    expect(list.out.split('\n').map((line) => line.split(/ +/)[0])).toEqual(['ID', ids[0], ids[1], ''])
    const first = JSON.parse((await sy(['tasks', 'list', '--type', 'many', '--limit', '2', '--json'])).out)
    expect(first).toEqual((await system.get('/tasks?agent_type=many&limit=2')).json)
    const rest = JSON.parse((await sy(['tasks', 'list', '--type', 'many', '--json', '--cursor', first.next_cursor])).out)
    expect([rest.tasks.map((t: { task_id: string }) => t.task_id), rest.count, rest.next_cursor]).toEqual([[ids[2]], 1, null])
    expect((await sy(['tasks', 'list', '--type', 'many', '--task-type', 'other'])).err).toBe('No such task.\n')
    expect((await sy(['tasks', 'list', '--type', 'many', '--status', 'lost'])).code).toBe(2)

    const big = (await system.post('/tasks', '{"agent_type":"many","task_type":"echo","parameters":{"id":12345678901234567890,"x":1.0,"csi":"\u009b31m"}}')).json.task_id
    expect((await sy(['tasks', 'show', big, '--json'])).out).toBe(`${(await system.get(`/tasks/${big}`)).text}\n`)
    const show = await sy(['tasks', 'show', big])
    expect(show.out).toMatch(/^status +queued$/m)
    expect(show.out).toContain('"id": 12345678901234567890')
    expect(show.out).toContain('"csi": "\ufffd31m"') // what would act on a terminal does not reach it
    expect((await sy(['tasks', 'show', 'nothing'])).code).toBe(1)
  })

  test('cancel and retry, for people and for machines', async () => {
    const ids = await Promise.all([1, 2, 3].map(() => system.submit({ agent_type: 'unwanted' })))
    const cancel = await sy(['tasks', 'cancel', ids[0]!, 'nothing', ids[1]!])
    expect([cancel.code, cancel.out]).toEqual([1, `${ids[0]} is cancelled\n${ids[1]} is cancelled\n`])
    expect(cancel.err).toContain('there is no such task')
    expect(JSON.parse((await sy(['tasks', 'cancel', ids[2]!, '--json'])).out)).toEqual({ task_id: ids[2], status: 'cancelled', cancel_requested: true })
    const twice = await sy(['tasks', 'cancel', ids[2]!])
    expect(twice).toEqual({ code: 1, out: '', err: `switchyard: task ${ids[2]} has already ended: cancelled\nLook at it: switchyard tasks show ${ids[2]}\n` })

    const retried = await sy(['tasks', 'retry', ids[0]!])
    expect((await system.task(retried.out.trimEnd())).retry_of).toBe(ids[0])
    expect((await sy(['tasks', 'retry', ids[0]!])).err).toContain(`Look at that one: switchyard tasks show ${retried.out.trimEnd()}`)
  })

  test('events prints what happens until Ctrl-C', async () => {
    const people = start(['events', '--type', 'told'])
    await until('it listens', async () => Number((await system.redis.pubsub('NUMSUB', system.keys.eventsChannel('told')))[1]) === 1)
    await system.agent({ type: 'told', name: 'teller' })
    const id = await system.submit({ agent_type: 'told' })
    const agent = system.agents.at(-1)!.id
    const machine = start(['events', '--type', 'told', '--json', '--after', 'told.1-0'])
    await until('its end is told', () => people.out().includes('completed') && machine.out().includes('completed'))
    people.ctrlC()
    machine.ctrlC()
    expect((await people.ended).code).toBe(130)
    expect(people.out().replace(/\d\d:\d\d:\d\d/g, 'hh:mm:ss')).toBe(`hh:mm:ss  ${id}  queued\nhh:mm:ss  ${id}  sent       attempt 1 at ${agent}\nhh:mm:ss  ${id}  completed  attempt 1 at ${agent}\n`)
    expect(machine.out().trim().split('\n').map((line) => JSON.parse(line).type)).toEqual(['task.queued', 'task.sent', 'task.completed'])
  })

  test('redeliver asks for the webhook of an ended task again', async () => {
    const id = await system.submit({ agent_type: 'hooked', callback_url: 'https://hooks.invalid/a' })
    const refused = sy(['tasks', 'submit', 'hooked', 'x', '--callback', 'https://127.0.0.1/'])
    expect(await sy(['tasks', 'redeliver', id])).toMatchObject({ code: 1, err: expect.stringContaining(`task ${id} is queued`) })
    await system.call('DELETE', `/tasks/${id}`)
    expect(await sy(['tasks', 'redeliver', id])).toMatchObject({ code: 0, out: `msg_${id.split('.')[1]} is being sent\n` })
    expect((await sy(['tasks', 'show', id])).out).toMatch(/^ *webhook +https:\/\/hooks\.invalid\/a pending after \d attempts?/m)
    expect(await refused).toMatchObject({ code: 1, err: expect.stringContaining('not a public address') })
  })

  test('watch prints each change until the end', async () => {
    const id = await system.submit({ agent_type: 'watched', max_retries: 0 })
    const people = start(['tasks', 'watch', id])
    const machine = start(['tasks', 'watch', id, '--json'])
    await until('both see it', () => people.out().includes('queued') && machine.out().includes('queued'))
    let go = () => {}
    const held = new Promise<void>((resolve) => (go = resolve))
    await system.agent({ type: 'watched', name: 'watcher', handle: async () => (await held, {}) })
    await until('both see it sent', () => people.out().includes('sent') && machine.out().includes('"sent"'))
    go()
    const ended = await people.ended
    expect([ended.code, ended.err]).toEqual([0, ''])
    expect(ended.out.replace(/\d\d:\d\d:\d\d/g, 'hh:mm:ss')).toMatch(/^hh:mm:ss {2}queued\nhh:mm:ss {2}sent {7}attempt 1 at watcher\nhh:mm:ss {2}completed {2}in \S+ ms\n$/)
    const lines = (await machine.ended).out.trimEnd().split('\n').map((line) => JSON.parse(line))
    expect(lines.map((t) => t.status)).toEqual(['queued', 'sent', 'completed'])
    expect(lines.at(-1)).toEqual(await system.task(id))
  })
})

describe('Ctrl-C', () => {
  test('ends waiting with 130, and says that the task goes on and how to look at it', async () => {
    const id = await system.submit({ agent_type: 'idle' })
    const watching = start(['tasks', 'watch', id, '--url', url])
    await until('it watches', () => watching.out().includes('queued'))
    watching.ctrlC()
    const { code, err } = await watching.ended
    expect([code, err]).toEqual([130, `switchyard: stopped waiting while ${id} is queued\nThe task goes on; look at it: switchyard tasks show ${id} --url ${url}\n`])
    expect((await system.task(id)).status).toBe('queued')
  })

  test('leaves a machine the id of what was submitted', async () => {
    const looks = async () => Number(/^switchyard_http_request_seconds_count\{method="GET",route="\/tasks\/:id",status="200"\} (\d+)/m.exec((await system.get('/metrics')).text)?.[1] ?? 0)
    const before = await looks()
    const waiting = start(['tasks', 'submit', 'interrupted', 'echo', '--wait', '--json'])
    await until('it looks at the task', async () => (await looks()) > before)
    const { task_id: id } = (await system.get('/tasks?agent_type=interrupted')).json.tasks[0]
    waiting.ctrlC()
    const { code, out } = await waiting.ended
    expect([code, JSON.parse(out).task_id]).toEqual([130, id])
  })
})

test('a router that is not there is 3, with how to start it; a url that is none is 2', async () => {
  expect(await shell(['tasks', 'list', '--url', 'http://127.0.0.1:2'])).toEqual({
    code: 3,
    out: '',
    err: 'switchyard: cannot reach a router at http://127.0.0.1:2: nothing listens there\nStart one with `switchyard start`, or say where it is with --url or SWITCHYARD_URL.\n',
  })
  expect(await sy(['tasks', 'list'], { env: { SWITCHYARD_URL: 'localhost:8080' } })).toEqual({ code: 2, out: '', err: expect.stringMatching(/^switchyard: the router's url must begin with http.*SWITCHYARD_URL says it\n$/) })
  expect(await sy(['tasks', 'list'], { env: { SWITCHYARD_API_KEY: 'hush\nhush' } })).toEqual({ code: 2, out: '', err: expect.stringMatching(/^switchyard: the API key must be [^\n]*SWITCHYARD_API_KEY says it\n$/) })
})

test('unknown commands suggest, and help tells the exit codes', async () => {
  expect(await shell(['tsks', 'list'])).toEqual({ code: 2, out: '', err: "switchyard: unknown command 'tsks' (did you mean tasks?)\nSee: switchyard --help\n" })
  expect(await sy(['tasks', 'shw', 'x'])).toMatchObject({ code: 2, err: expect.stringContaining('(did you mean show?)\nSee: switchyard tasks --help') })
  expect((await sy(['tasks', 'show'])).err).toBe("switchyard: missing required argument 'id'\nSee: switchyard tasks show --help\n")
  const help = await sy(['--help'])
  expect([help.code, help.err]).toEqual([0, ''])
  expect(help.out).toMatch(/Exit codes:\n(.*\n)*  130 {2}Ctrl-C/)
  expect((await shell(['--version'])).out).toBe(`${VERSION}\n`)
})

test('a reader that goes away is no error', async () => {
  const id = await system.submit({ agent_type: 'piped' })
  const watching = start(['tasks', 'watch', id])
  await until('it watches', () => watching.out().includes('queued'))
  watching.child.stdout!.destroy()
  // Something to say that nobody reads; the task does not end.
  let go = () => {}
  const held = new Promise<void>((resolve) => (go = resolve))
  await system.agent({ type: 'piped', handle: async () => (await held, {}) })
  const { code, err } = await watching.ended
  expect([code, err]).toEqual([0, ''])
  go()
})

test('only a terminal gets colours, a table of its width and a line that moves', async () => {
  const id = await system.submit({ agent_type: 'a-type-with-a-long-name', task_type: 'a_capability_with_a_long_name_as_well' })
  await system.call('DELETE', `/tasks/${id}`)
  const list = ['tasks', 'list', '--type', 'a-type-with-a-long-name']
  const [plain, wide, narrow, waiting] = await Promise.all([shell(list), onTerminal(list, 100), onTerminal(list, 90, { NO_COLOR: '1' }), onTerminal(['tasks', 'submit', 'idle', 'echo', '--wait', '2'], 80)])
  expect(plain.out).not.toContain(escape)
  expect(wide).toContain(`${escape}[2mcancelled${escape}[22m`)
  expect(narrow).not.toContain(escape)
  for (const line of narrow.split('\n')) expect(line.length, line).toBeLessThanOrEqual(90)
  expect(narrow).toContain(id)
  expect(narrow).toMatch(/ a-type-\S*… /)
  expect(waiting).toMatch(/queued.* · 1 s · Ctrl-C stops waiting/)
})

test('completes commands, options and their values', async () => {
  expect((await shell(['complete', '--', 'tasks', 's'])).out.split('\n').map((line) => line.split('\t')[0])).toEqual(['submit', 'show', ':4', ''])
  expect((await shell(['complete', '--', 'agents', 'list', '--status', 'd'])).out).toMatch(/^degraded\t\ndraining\t\ndead\t\n/)
  expect((await shell(['completion', 'bash'])).out).toContain('switchyard complete -- ')
  expect((await sy(['completion', 'tcsh'])).code).toBe(2)
})

describe('the launcher', () => {
  test('hands over to the project’s own Node where the current one is too old, with arguments, exit code and signals', async () => {
    await using folder = await tempFolder()
    const root = join(folder.path, 'checkout')
    await mkdir(join(root, 'node_modules/.bin'), { recursive: true })
    await mkdir(join(root, 'bin'))
    await writeFile(join(root, 'package.json'), '{"type":"module"}')
    // Said to be older than it is: the launcher asks for no other Node than this.
    const text = (await readFile(BIN, 'utf8')).replace('fits(process.version)', "fits('v20.11.1')")
    expect(text).toContain("'v20.11.1'")
    await writeFile(join(root, 'bin/switchyard.js'), text)
    await mkdir(join(root, 'dist/src/cli'), { recursive: true })
    await writeFile(join(root, 'dist/src/cli/main.js'), "process.on('SIGTERM', () => process.exit(7))\nconsole.log(JSON.stringify(process.argv.slice(2)), process.cwd())\nif (process.argv[2] === 'wait') setInterval(() => {}, 1000)\nelse if (process.argv[2] === 'die') process.kill(process.pid, 'SIGKILL')\nelse process.exitCode = 5\n")
    await symlink(join(root, 'bin/switchyard.js'), join(folder.path, 'link'))
    await using without = run(process.execPath, [join(folder.path, 'link')])
    expect(await without.ended).toBe(1)
    expect(without.output()).toMatch(/Node\.js 22\.19 or newer is needed, and this is v/)

    await symlink(process.execPath, join(root, 'node_modules/.bin/node'))
    await using passed = run(process.execPath, [join(folder.path, 'link'), 'a b', '--c=$d'], { cwd: folder.path })
    expect(await passed.ended).toBe(5)
    expect(passed.output()).toBe(`["a b","--c=$d"] ${await import('node:fs/promises').then((fs) => fs.realpath(folder.path))}\n`)
    await using waits = run(process.execPath, [join(folder.path, 'link'), 'wait'])
    await until('it runs', () => waits.output().includes('wait'))
    process.kill(waits.pid, 'SIGTERM')
    expect(await waits.ended).toBe(7)
    await using dies = run(process.execPath, [join(folder.path, 'link'), 'die'])
    expect(await dies.ended).toBe('SIGKILL')
  })

  test('on a fresh clone says what to do, or does it for what starts the router', async () => {
    await using folder = await tempFolder()
    await mkdir(join(folder.path, 'bin'))
    await cp(BIN, join(folder.path, 'bin/switchyard.js'))
    await writeFile(join(folder.path, 'package.json'), '{"type":"module"}')
    await mkdir(join(folder.path, 'src/cli'), { recursive: true })
    await writeFile(join(folder.path, 'src/cli/main.ts'), "const words: string = 'started'\nconsole.log(words)\n")
    await writeFile(join(folder.path, 'bin/setup'), '#!/bin/sh\necho setting up\n')
    await chmod(join(folder.path, 'bin/setup'), 0o755)
    await using lists = run(process.execPath, [join(folder.path, 'bin/switchyard.js'), 'tasks', 'list'])
    expect(await lists.ended).toBe(1)
    expect(lists.output()).toMatch(/^switchyard: nothing is installed yet\.\nRun .*bin\/setup first\.\n$/)
    await using starts = run(process.execPath, [join(folder.path, 'bin/switchyard.js'), 'start'])
    expect(await starts.ended).toBe(0)
    expect(starts.output()).toBe('setting up\nstarted\n')
  })
})

test('webhooks secret prints what all processes sign with, made once', async () => {
  const env = { REDIS_URL: system.redisUrl, REDIS_PREFIX: system.prefix }
  await using folder = await tempFolder()
  const [made, again, set, none] = await Promise.all([
    shell(['webhooks', 'secret'], { env }),
    shell(['webhooks', 'secret'], { env }),
    shell(['webhooks', 'secret'], { env: { ...env, WEBHOOK_SECRET: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' } }),
    shell(['webhooks', 'secret'], { env: { REDIS_URL: undefined, DATA_DIR: folder.path } }),
  ])
  expect(made).toEqual({ code: 0, out: expect.stringMatching(/^whsec_[\w+/=]{44}\n$/), err: '' })
  expect(again.out).toBe(made.out)
  expect(await system.redis.get(system.keys.webhookSecret)).toBe(made.out.trim())
  expect(set.out).toBe('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n')
  expect(none).toEqual({ code: 1, out: '', err: expect.stringContaining('No Redis runs') })
})

test('keys: the first one on the router’s machine, then create, list, rotate and revoke by it', async () => {
  await using keyed = await startSystem({ workers: 0 })
  const at = { SWITCHYARD_URL: keyed.url() }
  const settings = { ...at, REDIS_URL: keyed.redisUrl, REDIS_PREFIX: keyed.prefix }
  const refused = await shell(['keys', 'create', '--local', '--role', 'view'], { env: settings })
  expect(refused).toMatchObject({ code: 1, out: '', err: expect.stringContaining('must hold admin') })
  expect(await sy(['keys', 'list'], { env: at })).toMatchObject({ code: 0, out: '', err: expect.stringContaining('There is none. Make the first one') })
  expect(await shell(['keys', 'create', '--local', '--role', 'admin', '--namespace', 'acme'], { env: settings })).toMatchObject({ code: 1, err: expect.stringContaining('no admin of all namespaces') })
  const first = await shell(['keys', 'create', 'mine', '--local', '--role', 'admin'], { env: settings })
  expect(first).toMatchObject({ code: 0, out: expect.stringMatching(/^sy_\w{12}_\w{43}\n$/), err: '' })
  await until('it is needed', async () => (await sy(['keys', 'list'], { env: at })).code === 1)
  expect(await sy(['tasks', 'list'], { env: at })).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/a key is needed here.*\n.*keys create --local --role admin/) })
  const env = { ...at, SWITCHYARD_API_KEY: first.out.trim() }
  const made = await sy(['keys', 'create', '--role', 'view', '--role', 'submit', 'two', '--namespace', 'acme', '--expires', '3600'], { env })
  expect(made).toMatchObject({ code: 0, out: expect.stringMatching(/^sy_\w+\n$/), err: expect.stringMatching(/of role view, submit in namespace acme, which expires in .*not shown again/) })
  const id = made.out.split('_')[1]!
  const rotated = await sy(['keys', 'rotate', id, '--keep', '60', '--json'], { env })
  expect(JSON.parse(rotated.out)).toMatchObject({ name: 'two', roles: ['view', 'submit'], namespace: 'acme', key: expect.any(String) })
  const list = await sy(['keys', 'list'], { env })
  expect(list.out.split('\n').map((line) => line.replace(/ {2,}/g, '|').split('|').slice(1, 3))).toEqual([['NAME', 'NAMESPACE'], ['mine', 'default'], ['two', 'acme'], ['two', 'acme'], []])
  expect(list.out).not.toContain(made.out.trim())
  expect((await sy(['keys', 'revoke', id, id], { env })).out).toBe(`${id} is revoked\n${id} was no key\n`)
  await using only = await standIn(() => ({ keys: [], count: 0, admin_key: true }))
  expect(await sy(['keys', 'list'], { env: { SWITCHYARD_URL: only.url } })).toMatchObject({ code: 0, out: '', err: expect.stringContaining('There is none but ADMIN_KEY') })
  expect(JSON.parse((await sy(['keys', 'list', '--json'], { env: { SWITCHYARD_URL: only.url } })).out)).toEqual({ keys: [], count: 0, admin_key: true })
  expect(await sy(['keys', 'create', '--role', 'boss'], { env })).toMatchObject({ code: 2, err: expect.stringContaining('submit, agent, view, admin') })
})

test('starts the router’s processes, which end with it: by Ctrl-C with 0, and when it is killed', async () => {
  const env = { REDIS_URL: system.redisUrl, REDIS_PREFIX: system.prefix, PORT: '0', HEALTH_PORT: '0', HOST: '127.0.0.1', SWITCHYARD_SKIP_SETUP: '1' }
  const api = start(['api'], { env })
  const worker = start(['worker'], { env })
  const { url: own } = JSON.parse(await until('it listens', () => api.out().split('\n').find((line) => line.includes('"listening"'))))
  expect((await sy(['tasks', 'list', '--limit', '1', '--url', own])).code).toBe(0)
  await until('it dispatches', () => worker.out().includes('"dispatching"'))
  api.ctrlC()
  expect((await api.ended).code).toBe(0)
  worker.child.kill('SIGKILL')
  await worker.ended // its output is closed when the last process that has it has ended
  expect(worker.out()).toContain('stopping (the supervisor is gone)')
})
