/** `switchyard agent-test` as a process, on agents of every kind: what it says, how it ends, and that nothing of it is left. */
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { isAlive } from '../src/redis/process.ts'
import { CHECKS } from '../src/cli/agent-test/agent-test.ts'
import { linkOf, type Need } from '../src/cli/agent-test/check.ts'
import { wordsOf } from '../src/cli/agent-test/launch.ts'
import type { Report } from '../src/cli/agent-test/report.ts'
import { serve } from './agents/broken.ts'
import { clean, ROOT, run, tempFolder, until, type Running } from './processes.ts'

const BROKEN = join(ROOT, 'test/agents/broken.ts')
const NODE = process.execPath
const patient = { timeout: 90_000 }

const switchyard = (...args: string[]): Running => run(NODE, [join(ROOT, 'bin/switchyard.js'), ...args], { cwd: ROOT, env: { ...clean, NODE_NO_WARNINGS: '1' } })
const agentTest = (...args: string[]): Running => switchyard('agent-test', ...args)
const ended = async (...args: string[]): Promise<{ code: unknown; output: string }> => {
  await using it = agentTest(...args)
  const code = await it.ended
  return { code, output: it.output() }
}
const reported = async (...args: string[]): Promise<Report & { code: unknown }> => {
  const { code, output } = await ended('--json', ...args)
  return { ...(JSON.parse(output) as Report), code }
}
const told = (report: Report): string => report.results.filter((result) => result.sent !== undefined).map(({ name, sent, came }) => `${name}: ${sent}: ${came}`).join('\n')
const names = (report: Report, status: string): string[] => report.results.filter((result) => result.status === status).map((result) => result.name)

/** A server that answers in any way. */
const answering = async (answer: (req: IncomingMessage, res: ServerResponse) => void) => {
  const server = createServer(answer)
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  return {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
}

const writeOn = (res: ServerResponse, piece: string, everyMs: number): void => {
  const more = setInterval(() => void res.write(piece), everyMs)
  res.once('close', () => clearInterval(more))
}

// --- how it ends ---------------------------------------------------------------------------------------------------------

test.concurrent('a broken MUST is exit code 1, a broken SHOULD a warning and 0, and each is explained', patient, async ({ expect: expectHere }) => {
  await using must = await serve('does any task type')
  await using should = await serve('says text/html')
  const only = ['--only', 'unknown-task-type,answer-content-type,health']
  const [bad, warned] = await Promise.all([ended(`http://127.0.0.1:${must.port}`, ...only), ended(`http://127.0.0.1:${should.port}`, ...only)])
  expectHere(bad.code).toBe(1)
  expectHere(bad.output).toMatch(/^✗ unknown-task-type {6}MUST {3}T2 {3}refuses a task type/m)
  expectHere(bad.output).toMatch(/✗ unknown-task-type \(MUST, T2: docs\/protocol\.md#3-do-tasks\).*\n {4}sent {2}POST \/task .*\n {4}came {2}200 .*completed.*\n {4}to do answer 422/)
  expectHere(bad.output).toMatch(/6 passed, 1 broken, \d+ not done in [\d.]+ s\n$/)
  expectHere(bad.output).toMatch(/^– heartbeats .*give --command 'how to start it'/m)
  expectHere(warned.code).toBe(0)
  expectHere(warned.output).toMatch(/^! answer-content-type +SHOULD T10/m)
  expectHere(bad.output + warned.output).not.toContain('\x1b')
})

test.concurrent('wrong usage is exit code 2, and says what to give', patient, async ({ expect: expectHere }) => {
  await using silent = await answering((_req, res) => void res.writeHead(404).end())
  await using choosy = await answering((req, res) => void res.writeHead(req.url === '/health' ? 200 : 422).end(req.url === '/health' ? '{"status":"healthy","capabilities":["analyze"]}' : '{"error":"account is missing"}'))
  const cases: [string[], RegExp][] = [
    [[], /either the agent's URL or --command/],
    [['http://127.0.0.1:1', '--command', 'true'], /either the agent's URL or --command/],
    [['ftp://127.0.0.1'], /http:\/\/host:port/],
    [['http://127.0.0.1:1', '--max-concurrency', 'many'], /whole number/],
    [['http://127.0.0.1:1', '--param', 'x'], /name=value/],
    [['http://127.0.0.1:1', '--param', 'x=1', '--param', 'x=2'], /x is given twice/],
    [['http://127.0.0.1:1', '--json-parameters', '[1]'], /cannot be read|JSON object/],
    [['http://127.0.0.1:1', '--secret', 'hush'], /whsec_/],
    [['http://127.0.0.1:1', '--only', 'nonsense'], /there is no check nonsense/],
    [['http://127.0.0.1:1', '--what'], /unknown option/],
    [['--command', 'node "open'], /a quote that does not end/],
    [[silent.url], /names no capabilities\. Give --task TYPE/],
    [[choosy.url], /which parameters analyze takes: to none it answered 422 .*account is missing.*Give --param/],
  ]
  for (const group of [cases.slice(0, 6), cases.slice(6)]) {
    await Promise.all(group.map(async ([args, says]) => {
      const { code, output } = await ended(...args)
      expectHere([args, code]).toEqual([args, 2])
      expectHere(output).toMatch(says)
    }))
  }
})

test.concurrent('an agent that is not there is exit code 3', patient, async ({ expect: expectHere }) => {
  const [refused, json, ends] = await Promise.all([ended('http://127.0.0.1:1'), ended('http://127.0.0.1:1', '--json'), ended('--command', `${NODE} -e 'console.error("no such module\\x1b[2J"); process.exit(7)'`)])
  expectHere(refused).toMatchObject({ code: 3, output: expectHere.stringMatching(/^switchyard: there is no agent at http:\/\/127\.0\.0\.1:1: no connection \(ECONNREFUSED\)\n$/) })
  await using before = switchyard('--json', 'agent-test', 'http://127.0.0.1:1')
  expectHere(await before.ended).toBe(3)
  for (const output of [json.output, before.output()]) expectHere(JSON.parse(output)).toMatchObject({ exit_code: 3, error: expectHere.stringContaining('ECONNREFUSED') })
  expectHere(ends.code).toBe(3)
  expectHere(ends.output).toMatch(/the agent ended with 7 before it registered: no such module/)
  expectHere(ends.output).not.toContain('\x1b')
})

test.concurrent('an agent that never registers breaks the rule of registering', patient, async ({ expect: expectHere }) => {
  const report = await reported('--command', `${NODE} -e 'setInterval(() => {}, 1000)'`)
  expectHere([report.code, names(report, 'failed')]).toEqual([1, ['register-fields']])
})

const DEEP = `fetch(process.env.SWITCHYARD_URL + '/agents/register', { method: 'POST', body: '{"metadata":' + '['.repeat(1e5) + ']'.repeat(1e5) + '}' })`
/** Beats without end, in bodies that are cut off for their size. */
const FLOODS = `const url = process.env.SWITCHYARD_URL + '/agents/a/', big = 'x'.repeat(1.1e6), port = Number(process.env.AGENT_PORT)
const post = (path, body) => fetch(new URL(path, url), { method: 'POST', body: JSON.stringify(body) }).catch(() => {})
require('node:http').createServer((req, res) => res.end('{"status":"completed"}')).listen(port, '127.0.0.1')
setInterval(() => post('../register', { agent_id: 'a', name: 'a', host: '127.0.0.1', port, capabilities: ['x'] }), 200)
for (let i = 0; i < 2; i++) (async () => { for (;;) { await post('heartbeat', { big }); await new Promise((done) => setTimeout(done, 25)) } })()`.replaceAll('\n', '; ')
test.concurrent.for([['registers with what is too deep to be told', `setInterval(() => ${DEEP}.catch(() => {}), 200)`], ['floods its router with beats', FLOODS]] as const)('an agent that %s does not end the test', patient, async ([, script], { expect: expectHere }) => {
  const { code, output } = await ended('--command', `${NODE} -e ${JSON.stringify(script)}`, '--task', 'x', '--param', 'a=1')
  expectHere(output).not.toMatch(/should not have happened|^ +at /m)
  expectHere(output).toMatch(/^\d+ passed, \d+ broken/m)
  expectHere(code).toBe(1)
})

// --- what surrounds it ---------------------------------------------------------------------------------------------------

test.concurrent('an agent that runs is sent SIGTERM only with its pid, and leaves well', patient, async ({ expect: expectHere }) => {
  await using agent = run(NODE, [BROKEN], { env: { ...clean, FAULT: 'none', SWITCHYARD_URL: 'http://127.0.0.1:1', AGENT_PORT: '0', AGENT_TELLS: '1' } })
  const port = await until('it listens', () => /^(\d+)$/m.exec(agent.output())?.[1])
  const without = await reported(`http://127.0.0.1:${port}`, '--only', 'drain-ends,health')
  expectHere(without.results.find((result) => result.name === 'drain-ends')).toMatchObject({ status: 'skipped', because: expectHere.stringMatching(/^give --pid/) })
  expectHere(isAlive(agent.pid)).toBe(true)
  const report = await reported(`http://127.0.0.1:${port}`, '--pid', String(agent.pid), '--only', 'drain-ends,drain-finishes,drain-new-work')
  expectHere(names(report, 'passed'), told(report)).toEqual(expectHere.arrayContaining(['drain-new-work', 'drain-finishes', 'drain-ends']))
  expectHere(await agent.ended).toBe(0)
})

test.concurrent('parameters come from a file, from JSON and from pairs; what a task answers to them counts', patient, async ({ expect: expectHere }) => {
  await using folder = await tempFolder()
  const file = join(folder.path, 'parameters.json')
  writeFileSync(file, '{"a": 12345678901234567890}')
  const seen: unknown[] = []
  await using agent = await answering((req, res) => {
    let text = ''
    req.on('data', (chunk) => (text += String(chunk))).on('end', () => {
      if (req.method === 'POST') seen.push([JSON.parse(text).task_type, /"parameters":(\{.*?\})/.exec(text)?.[1]])
      res.writeHead(200, { 'content-type': 'application/json' }).end('{"status":"completed","result":1}')
    })
  })
  const { code } = await ended(agent.url, '--task', 'add', '--json-parameters', '{"a":1,"b":2}', '--param', 'b=3', '--param', 'c=text=', '--only', 'answers-a-task')
  expectHere(code).toBe(0)
  expectHere((await ended(agent.url, '--task', 'add', '--json-parameters', file, '--only', 'answers-a-task')).code).toBe(0)
  expectHere(seen).toEqual([['add', '{"a":1,"b":3,"c":"text="}'], ['add', '{"a":12345678901234567890}']])
})

test.concurrent('Ctrl-C ends it and the agent that it started', patient, async ({ expect: expectHere }) => {
  await using it = agentTest('--command', `${NODE} -e 'setInterval(() => {}, 1000)'`)
  const children = (): number[] => spawnSync('pgrep', ['-P', String(it.pid)], { encoding: 'utf8' }).stdout.split('\n').filter(Boolean).map(Number)
  const [child] = await until('it started the agent', () => (children().length > 0 ? children() : null))
  it.child.kill('SIGINT')
  expectHere(await it.ended).toBe(130)
  await until('the agent has ended', () => !isAlive(child!))
})

const HOSTILE: [string, (req: IncomingMessage, res: ServerResponse) => void][] = [
  ['never answers', () => {}],
  ['answers without end', (_req, res) => writeOn(res, 'x'.repeat(65_536), 1)],
  ['answers byte by byte', (_req, res) => writeOn(res, ' ', 50)],
  ['answers deeper than can be told', (_req, res) => void res.writeHead(200, { 'content-type': 'application/json' }).end(`{"status":"completed","task_id":${'['.repeat(100_000)}${']'.repeat(100_000)}}`)],
  ['closes every connection', (req) => void req.socket.destroy()],
  ['says what a terminal would obey', (_req, res) => void res.writeHead(500).end('\x1b[2J\x1b]0;owned\x07\u202e')],
]

test.concurrent.for(HOSTILE)('an agent that %s is told so, within its time', patient, async ([, answer], { expect: expectHere }) => {
  await using agent = await answering(answer)
  const began = performance.now()
  const { code, output } = await ended(agent.url, '--task', 'echo', '--param', 'a=1', '--timeout', '2')
  expectHere(code).toBe(1)
  expectHere(output).toMatch(/^✗ (answers-a-task|answer-form)/m)
  expectHere(output).not.toMatch(/[\x1b\x07\u202e]/)
  // The bound of the whole, and of a machine that is busy.
  expectHere(performance.now() - began).toBeLessThan(75_000)
})

// --- what is written of it -----------------------------------------------------------------------------------------------

const doc = (name: string): string => readFileSync(join(ROOT, 'docs', name), 'utf8')

test('each check cites a rule of the protocol that has its word, in the section that it links to', () => {
  const sections = doc('protocol.md').split(/^## /m)
  for (const [name, { rule, level }] of Object.entries(CHECKS)) {
    const [, anchor] = linkOf(rule).split('#')
    const section = sections.find((text) => text.split('\n', 1)[0]!.toLowerCase().replace(/\./g, '').replaceAll(' ', '-') === anchor)
    const text = new RegExp(`^- \\*\\*${rule}\\*\\* [^]*?(?=^- |^\\n|(?![^]))`, 'm').exec(section ?? '')?.[0]
    expect(text, `${name}: ${rule}`).toContain(level)
  }
})

test('docs/agent-test.md has every check, as it is in the code', () => {
  const needs: Record<Need, string> = { command: '`--command`', process: '`--pid` or `--command`', slow: 'a slow task', limit: 'its limit', secret: '`--secret`' }
  const rows = Object.entries(CHECKS).map(([name, check]) => `| \`${name}\` | ${check.level} | [${check.rule}](${linkOf(check.rule).replace('docs/', '')}) | ${check.title} | ${(check.needs ?? []).map((need) => needs[need]).join(', ')} |`)
  expect(doc('agent-test.md').split('\n').filter((line) => /^\| `[a-z0-9-]+` \| (MUST|SHOULD|MAY) \|/.test(line))).toEqual(rows)
})

test('every option is in docs/agent-test.md', async () => {
  const { output } = await ended('--help')
  const options = [...output.matchAll(/^ +(?:-h, )?(--[a-z-]+)/gm)].map((match) => match[1]!).filter((option) => option !== '--help')
  expect(options.length).toBeGreaterThan(10)
  for (const option of options) expect(doc('agent-test.md')).toContain(`${option}`)
})

test('a command is split as a shell splits it', () => {
  expect(wordsOf(`python3  'my agent.py' --x="a \\"b\\"" c\\ d ''`)).toEqual(['python3', 'my agent.py', '--x=a "b"', 'c d', ''])
  expect(wordsOf(`a 'b`)).toBeNull()
})
