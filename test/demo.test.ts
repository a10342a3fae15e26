import { randomUUID } from 'node:crypto'
import { execFileSync, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, symlinkSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { findServer } from '../src/redis/embedded.ts'
import { run, tempFolder, until, type Running } from './processes.ts'
import { call, startSystem } from './system.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** Without what vitest and npm add. */
const { npm_lifecycle_event: _, FORCE_COLOR: __, REDIS_URL: ___, ...clean } = process.env
const noPython = spawnSync('python3', ['-c', 'import sys; sys.exit(sys.version_info < (3, 9))']).status !== 0

/** The processes that were started with a mark in their environment, whoever started them and wherever they hang. */
const marked = (mark: string): number[] => {
  try {
    return readdirSync('/proc').flatMap((pid) => {
      try {
        return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, 'utf8').includes(mark) ? [Number(pid)] : []
      } catch {
        return [] // it has ended, or belongs to someone else
      }
    })
  } catch {
    const lines = execFileSync('ps', ['axeww', '-o', 'pid=,command='], { encoding: 'utf8', maxBuffer: 1e8 }).split('\n')
    return lines.filter((line) => line.includes(mark)).map((line) => Number.parseInt(line, 10))
  }
}

const startDemo = async (settings: Record<string, string> = {}) => {
  const folder = await tempFolder('sy-demo-')
  const mark = randomUUID()
  const demo = run(process.execPath, ['examples/demo.ts', '--once'], { cwd: ROOT, env: { ...clean, PORT: '0', TMPDIR: folder.path, DEMO_MARK: mark, ...settings } })
  const left = () => ({ processes: marked(mark), files: readdirSync(folder.path) })
  return {
    demo,
    left,
    says: (what: RegExp) => until(`it says ${what}: ${demo.output()}`, () => what.test(demo.output())),
    [Symbol.asyncDispose]: async () => {
      await demo[Symbol.asyncDispose]()
      for (const pid of marked(mark)) {
        try {
          process.kill(pid, 'SIGKILL')
        } catch {
          // It has just ended.
        }
      }
      await folder[Symbol.asyncDispose]()
    },
  }
}

const NOTHING = { processes: [], files: [] }

type Row = { task: string; capability: string; priority: number; status: string; attempts: number; agent: string; ms: number; result: string }

/** The rows of the table at the end. */
const tableOf = (output: string): Row[] => {
  const lines = output.split('\n')
  const head = lines.findIndex((line) => /^task +capability +prio +status +attempts +agent +ms +result$/.test(line))
  return lines.slice(head + 1, lines.indexOf('', head)).map((line) => {
    const [task = '', capability = '', priority, status = '', attempts, agent = '', ms, ...result] = line.split(/ +/)
    return { task, capability, priority: Number(priority), status, attempts: Number(attempts), agent, ms: Number(ms), result: result.join(' ') }
  })
}

const statuses = (rows: Row[]): Record<string, number> => Object.fromEntries([...Map.groupBy(rows, (row) => row.status)].map(([status, those]) => [status, those.length]))

test('the demo takes twenty tasks of mixed priority to their ends, on three agents of two types, and leaves nothing', async () => {
  await using it = await startDemo()
  const began = performance.now()
  expect(await it.demo.ended, it.demo.output()).toBe(0)
  expect(performance.now() - began).toBeLessThan(40_000) // about 7 s
  const rows = tableOf(it.demo.output())
  expect(new Set(rows.map((row) => row.task)).size).toBe(20)
  expect(statuses(rows)).toEqual({ completed: 18, timeout: 1, cancelled: 1 })
  expect(new Set(rows.map((row) => row.priority)).size).toBeGreaterThanOrEqual(4)
  const agents = new Set(rows.map((row) => row.agent).filter((name) => name !== '-'))
  expect([...agents].sort()).toEqual(['cost-1', 'text-1', 'text-2'])

  const one = (capability: string, status: string) => rows.find((row) => row.capability === capability && row.status === status)
  expect(rows.filter((row) => row.attempts === 2)).toEqual([one('fail_first_attempt', 'completed')])
  expect(one('never_answer', 'timeout')).toMatchObject({ attempts: 1 })
  expect(one('word_count', 'cancelled')).toMatchObject({ attempts: 0, agent: '-', result: 'cancelled before it was sent' })
  expect(rows.find((row) => row.capability === 'forecast_cost')?.result).toBe('$1,089.20 in the next 7 days, +$1.19 a day')

  // Each task's way, a line a change.
  const way = (row: Row | undefined) => it.demo.output().split('\n').filter((line) => /^\d\d:\d\d:/.test(line) && line.includes(row!.task)).map((line) => line.split(/ +/)[4])
  expect(way(one('fail_first_attempt', 'completed'))).toEqual(['queued', 'sent', 'retrying', 'sent', 'completed'])
  expect(way(one('never_answer', 'timeout'))).toEqual(['queued', 'sent', 'timeout'])
  expect(way(one('word_count', 'cancelled'))).toEqual(['pending', 'cancelled'])
  expect(it.demo.output()).toMatch(/http:\/\/127\.0\.0\.1:\d+\/queues.*http:\/\/127\.0\.0\.1:\d+\/docs/)
  // oxlint-disable-next-line no-control-regex
  expect(it.demo.output()).not.toMatch(/\x1b/)
  expect(it.left()).toEqual(NOTHING)
})

test('Ctrl-C in the midst of it is a success and leaves nothing; a port that is taken is no hindrance', async () => {
  await using taken = await listen(() => ({}))
  await using it = await startDemo({ PORT: String(taken.port) })
  await it.says(/never_answer +5 +sent/)
  expect(it.demo.output()).toContain(`port ${taken.port} is taken, so the demo takes a free one; set PORT`)
  process.kill(-it.demo.pid, 'SIGINT')
  expect(await it.demo.ended, it.demo.output()).toBe(0)
  expect(it.demo.output()).not.toContain('died')
  expect(it.left()).toEqual(NOTHING)
})

test('what a killed demo leaves ends by itself', async () => {
  await using it = await startDemo()
  await it.says(/text-2 +type text/)
  process.kill(it.demo.pid, 'SIGKILL')
  await until('all has ended', () => it.left().processes.length === 0 && it.left().files.length === 0, 30_000)
})

test('without Python there are still two types of agents, and it says what is missing', async () => {
  await using bin = await tempFolder()
  symlinkSync(findServer()!, join(bin.path, 'redis-server'))
  await using it = await startDemo({ PATH: bin.path })
  expect(await it.demo.ended, it.demo.output()).toBe(0)
  expect(it.demo.output()).toContain('there is no python3')
  const rows = tableOf(it.demo.output())
  expect(statuses(rows)).toEqual({ completed: 18, timeout: 1, cancelled: 1 })
  expect(rows.find((row) => row.capability === 'forecast_cost')).toMatchObject({ agent: 'cost-1', result: '$1,089.20 in the next 7 days, +$1.19 a day' })
  expect(it.left()).toEqual(NOTHING)
})

// --- the agents, each by itself ------------------------------------------------------------------------------------------

/** A server on a free port. */
const listen = async (answer: (path: string, body: any) => object | number) => {
  const server = createServer(async (req: IncomingMessage, res) => {
    let text = ''
    for await (const chunk of req) text += String(chunk)
    const said = answer(req.url!, text === '' ? {} : JSON.parse(text))
    res.writeHead(typeof said === 'number' ? said : 200, { 'content-type': 'application/json' }).end(JSON.stringify(typeof said === 'number' ? {} : said))
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  return {
    port: (server.address() as { port: number }).port,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      if (server.listening) await new Promise((done) => server.close(done))
    },
  }
}

const startAgent = (script: string, url: string, settings: Record<string, string> = {}): Running =>
  run(script.endsWith('.py') ? 'python3' : process.execPath, [script], { cwd: ROOT, env: { ...clean, PYTHONDONTWRITEBYTECODE: '1', SWITCHYARD_URL: url, ...settings } })

const TEXT = 'The red fox saw the hen. The red fox ran. A hen sat.'

test('the text agent waits for Switchyard, counts and summarizes, and leaves when told to', async () => {
  const free = await listen(() => 404)
  await free[Symbol.asyncDispose]()
  await using agent = startAgent('examples/text-agent.ts', `http://127.0.0.1:${free.port}`, { AGENT_NAME: 'reader', AGENT_PORT: '0' })
  await until(`it cannot register: ${agent.output()}`, () => agent.output().includes(`cannot register at http://127.0.0.1:${free.port} (ECONNREFUSED); is it running`))
  await using system = await startSystem({ env: { PORT: String(free.port) } })
  const { agent_id: id } = await until('it registered', async () => (await system.get('/agents')).json.agents[0])
  expect((await system.get(`/agents/${id}`)).json).toMatchObject({ name: 'reader', type: 'text', capabilities: ['word_count', 'summarize'], max_concurrency: 4 })

  const submit = (task_type: string, parameters: object) => system.submit({ agent_type: 'text', task_type, parameters })
  const counted = await system.ended(await submit('word_count', { text: TEXT, top: 3 }))
  // The, red, fox, saw, hen, ran, a, sat; of those that tell something, three come twice.
  const top_words = [{ word: 'fox', count: 2 }, { word: 'hen', count: 2 }, { word: 'red', count: 2 }]
  expect(counted).toMatchObject({ status: 'completed', result: { words: 13, different_words: 8, sentences: 3, characters: 52, top_words } })
  // red 2 + fox 2 + saw 1 + hen 2 = 7 over √6 is 2.9; red 2 + fox 2 + ran 1 = 5 over √4 is 2.5; hen 2 + sat 1 = 3 over √3 is 1.7
  const summary = await system.ended(await submit('summarize', { text: TEXT }))
  expect(summary).toMatchObject({ status: 'completed', result: { summary: 'The red fox saw the hen. The red fox ran.', sentences: 2, of_sentences: 3 } })
  // What is at fault in the parameters stays so: no second attempt.
  expect(await system.ended(await submit('word_count', { text: 7 }))).toMatchObject({ status: 'failed', error: 'text must be a string that is not empty', attempts: [{ status_code: 422 }] })

  agent.child.kill('SIGTERM')
  expect(await agent.ended).toBe(0)
  expect((await system.get(`/agents/${id}`)).status).toBe(404)
})

const ITEMS = [8, 9, 10, 11, 12, 40].map((amount) => ({ service: 'compute', resource: `vm-${amount}`, amount, usage_hours: 90 }))

test.for(['examples/cost_agent.py', 'examples/demo/cost-agent.ts'])('%s analyzes and forecasts, and leaves when told to', async (script, { skip }) => {
  skip(script.endsWith('.py') && noPython, 'there is no python3 of 3.9 or newer')
  await using system = await startSystem()
  await using agent = startAgent(script, system.url(), { AGENT_NAME: 'controller' })
  const { agent_id: id } = await until(`it registered: ${agent.output()}`, async () => (await system.get('/agents')).json.agents[0])
  expect((await system.get(`/agents/${id}`)).json).toMatchObject({ name: 'controller', type: 'cost', capabilities: ['analyze_cost', 'forecast_cost'] })

  const submit = (task_type: string, parameters: object) => system.submit({ agent_type: 'cost', task_type, parameters })
  const analyzed = await system.ended(await submit('analyze_cost', { period_hours: 100, items: [...ITEMS, { service: 'storage', amount: 10, usage_hours: 3 }] }))
  expect(analyzed).toMatchObject({ status: 'completed', error: null })
  expect(analyzed.result).toEqual({
    total: 100,
    items: 7,
    by_service: [{ service: 'compute', amount: 90, share: 0.9, items: 6 }, { service: 'storage', amount: 10, share: 0.1, items: 1 }],
    // The median is 10.5, the distances 2.5 1.5 0.5 0.5 1.5 29.5, and their median 1.5: 0.6745 · 29.5 / 1.5 = 13.27
    anomalies: [{ index: 5, service: 'compute', resource: 'vm-40', amount: 40, usual: 10.5, score: 13.27 }],
    idle_suspects: [{ index: 6, service: 'storage', resource: null, amount: 10, usage_hours: 3 }],
    idle_amount: 10,
  })
  const forecast = await system.ended(await submit('forecast_cost', { daily: [1, 3, 5, 7], days: 3 }))
  expect(forecast.result).toEqual({ slope_per_day: 2, r_squared: 1, forecast: [9, 11, 13], forecast_total: 33 })
  expect(await system.ended(await submit('analyze_cost', { items: [{ service: 'compute', amount: -1 }] }))).toMatchObject({ status: 'failed', error: 'items[0].amount must be a number of at least 0', retry_count: 0 })

  agent.child.kill('SIGTERM')
  expect(await agent.ended).toBe(0)
  expect((await system.get(`/agents/${id}`)).status).toBe(404)
})

test('the plain Python agent compares texts, and leaves when told to', async ({ skip }) => {
  skip(noPython, 'there is no python3 of 3.9 or newer')
  await using system = await startSystem()
  await using agent = startAgent('examples/plain_agent.py', system.url(), { AGENT_NAME: 'comparer' })
  const { agent_id: id } = await until(`it registered: ${agent.output()}`, async () => (await system.get('/agents')).json.agents[0])
  expect((await system.get(`/agents/${id}`)).json).toMatchObject({ name: 'comparer', type: 'diff', capabilities: ['diff_texts'] })
  const submit = (parameters: object) => system.submit({ agent_type: 'diff', task_type: 'diff_texts', parameters })
  const compared = await system.ended(await submit({ before: 'one\ntwo\nthree', after: 'one\n2\nthree\nfour' }))
  expect(compared).toMatchObject({ status: 'completed', result: { added: 2, removed: 1, diff: '--- before\n+++ after\n@@ -1,3 +1,4 @@\n one\n-two\n+2\n three\n+four' } })
  expect(await system.ended(await submit({ before: 1 }))).toMatchObject({ status: 'failed', error: 'before and after must be strings', retry_count: 0 })

  agent.child.kill('SIGTERM')
  expect(await agent.ended).toBe(0)
  expect((await system.get(`/agents/${id}`)).status).toBe(404)
})

/** Each line just rare enough that difflib compares it with all its like. */
const lines = (step: number): string => Array.from({ length: 2400 }, (_, i) => (i * step) % 100).join('\n')
/** Tasks that take a while, for agents whose work cannot be made to hang: much of it at once instead. */
const LONG_WORK: Record<string, object> = {
  'examples/cost_agent.py': { task_type: 'forecast_cost', parameters: { daily: Array.from({ length: 60_000 }, (_, i) => i) } },
  'examples/plain_agent.py': { task_type: 'diff_texts', parameters: { before: lines(3), after: lines(7) } },
}

test.for(['examples/text-agent.ts', 'examples/cost_agent.py', 'examples/plain_agent.py'])('%s beats as often as it is told, registers again when forgotten, and takes no more than it can do', async (script, { skip }) => {
  skip(script.endsWith('.py') && noPython, 'there is no python3 of 3.9 or newer')
  const seen: { path: string; body: any }[] = []
  const cancel: string[] = []
  await using switchyard = await listen((path, body) => {
    seen.push({ path, body })
    if (path === '/agents/register') return { agent_id: 'a1', heartbeat_interval_seconds: 0.05 }
    if (seen.length === 5) return 404
    return { received: true, next_interval_seconds: 0.05, cancel, lost: [], drain: false }
  })
  await using agent = startAgent(script, `http://127.0.0.1:${switchyard.port}/`, { AGENT_FAULTS: '1' })
  await until('it beats again', () => seen.length > 8)
  const registrations = seen.filter((s) => s.path === '/agents/register')
  expect(registrations.map((r) => r.body.agent_id)).toEqual([undefined, 'a1'])
  expect(registrations[1]!.body).toMatchObject({ instance_id: registrations[0]!.body.instance_id, max_concurrency: 4 })

  const at = `http://127.0.0.1:${registrations[0]!.body.port}`
  const python = script.endsWith('.py')
  const send = (attempt_id: string) =>
    call('POST', `${at}/task`, { task_id: 't', attempt_id, attempt: 2, ...(LONG_WORK[script] ?? { task_type: 'never_answer', parameters: {} }) })
  if (python) {
    const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => send(`at-${i}`)))
    expect(new Set(answers.map((a) => a.status))).toEqual(new Set([200, 429]))
    expect(answers.find((a) => a.status === 429)!.headers.get('retry-after')).toBe('1')
    expect(Math.max(...seen.map((s) => s.body.running?.length ?? 0))).toBeLessThanOrEqual(4)
  } else {
    const four = ['a', 'b', 'c', 'd'].map((id) => send(id).catch(() => null))
    await until('they run, and it says so', () => seen.at(-1)!.body.running?.length === 4)
    expect(await send('e')).toMatchObject({ status: 429, json: { error: 'text-agent has all the 4 tasks it can do at once' } })
    cancel.push('a')
    expect(await four[0]).toMatchObject({ status: 500, json: { status: 'failed' } })
    await until('it says so', () => seen.at(-1)!.body.running?.toSorted().join() === 'b,c,d')
  }
  expect((await call('GET', `${at}/health`)).json).toMatchObject({ status: 'healthy', max_concurrency: 4 })
  expect((await call('POST', `${at}/task`, 'no JSON')).status).toBe(400)
  expect((await call('POST', `${at}/task`, { task_id: 't', attempt_id: 'x', attempt: 1, task_type: 'toString', parameters: {} })).status).toBe(422)

  if (python) {
    agent.child.kill('SIGTERM')
    expect(await agent.ended).toBe(0)
    expect(seen.slice(-2).map((s) => [s.path, s.body.status])).toEqual([['/agents/a1/heartbeat', 'draining'], ['/agents/a1/unregister', undefined]])
  }
})
