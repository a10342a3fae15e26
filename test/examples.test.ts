/** The example agents, each by itself: with a router, or with a stand-in for what a router cannot be made to do. */
import { createServer, type IncomingMessage } from 'node:http'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { clean, ROOT, run, until, type Running } from './processes.ts'
import { noPython } from './python.ts'
import { call, startSystem, type System } from './system.ts'

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

/** Those that register with a router that is there share one: each is of a type of its own, and gone with its test. */
let shared: System
beforeAll(async () => {
  shared = await startSystem()
})
afterAll(() => shared[Symbol.asyncDispose]())

const registered = (agent: Running, type: string): Promise<{ agent_id: string; port: number }> =>
  until(`it registered: ${agent.output()}`, async () => (await shared.get(`/agents/type/${type}`)).json.agents[0])

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

test('the plain agent does without an SDK: it registers, beats, computes checksums, and leaves when told to', async () => {
  await using agent = startAgent('examples/plain-agent.ts', shared.url())
  const { agent_id: id, port } = await registered(agent, 'plain')
  expect((await shared.get(`/agents/${id}`)).json).toMatchObject({ name: 'plain-agent', type: 'plain', capabilities: ['checksum'], max_concurrency: 4 })

  const submit = (parameters: object) => shared.submit({ agent_type: 'plain', task_type: 'checksum', parameters })
  const digest = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad' // of FIPS 180-2
  expect(await shared.ended(await submit({ text: 'abc' }))).toMatchObject({ status: 'completed', result: { algorithm: 'sha256', digest, bytes: 3 } })
  expect(await shared.ended(await submit({ text: 7 }))).toMatchObject({ status: 'failed', error: 'text must be a string', attempts: [{ status_code: 422 }] })
  const at = `http://127.0.0.1:${port}`
  expect((await call('GET', `${at}/health`)).json).toEqual({ status: 'healthy', running: 0, max_concurrency: 4, capabilities: ['checksum'] })
  expect((await call('POST', `${at}/task`, '[]')).status).toBe(400)
  expect((await call('POST', `${at}/task`, { text: 'x'.repeat(2 * 1024 * 1024) })).status).toBe(413)

  agent.child.kill('SIGTERM')
  expect(await agent.ended).toBe(0)
  expect((await shared.get(`/agents/${id}`)).status).toBe(404)
})

const ITEMS = [8, 9, 10, 11, 12, 40].map((amount) => ({ service: 'compute', resource: `vm-${amount}`, amount, usage_hours: 90 }))

test.for(['examples/cost_agent.py', 'examples/demo/cost-agent.ts'])('%s analyzes and forecasts, and leaves when told to', async (script, { skip }) => {
  skip(script.endsWith('.py') && noPython, 'there is no python3 of 3.9 or newer')
  await using agent = startAgent(script, shared.url(), { AGENT_NAME: 'controller' })
  const { agent_id: id } = await registered(agent, 'cost')
  expect((await shared.get(`/agents/${id}`)).json).toMatchObject({ name: 'controller', type: 'cost', capabilities: ['analyze_cost', 'forecast_cost'] })

  const submit = (task_type: string, parameters: object) => shared.submit({ agent_type: 'cost', task_type, parameters })
  const analyzed = await shared.ended(await submit('analyze_cost', { period_hours: 100, items: [...ITEMS, { service: 'storage', amount: 10, usage_hours: 3 }] }))
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
  const forecast = await shared.ended(await submit('forecast_cost', { daily: [1, 3, 5, 7], days: 3 }))
  expect(forecast.result).toEqual({ slope_per_day: 2, r_squared: 1, forecast: [9, 11, 13], forecast_total: 33 })
  expect(await shared.ended(await submit('analyze_cost', { items: [{ service: 'compute', amount: -1 }] }))).toMatchObject({ status: 'failed', error: 'items[0].amount must be a number of at least 0', retry_count: 0 })

  agent.child.kill('SIGTERM')
  expect(await agent.ended).toBe(0)
  expect((await shared.get(`/agents/${id}`)).status).toBe(404)
})

test('the plain Python agent compares texts, and leaves when told to', async ({ skip }) => {
  skip(noPython, 'there is no python3 of 3.9 or newer')
  await using agent = startAgent('examples/plain_agent.py', shared.url(), { AGENT_NAME: 'comparer' })
  const { agent_id: id } = await registered(agent, 'diff')
  expect((await shared.get(`/agents/${id}`)).json).toMatchObject({ name: 'comparer', type: 'diff', capabilities: ['diff_texts'] })
  const submit = (parameters: object) => shared.submit({ agent_type: 'diff', task_type: 'diff_texts', parameters })
  const compared = await shared.ended(await submit({ before: 'one\ntwo\nthree', after: 'one\n2\nthree\nfour' }))
  expect(compared).toMatchObject({ status: 'completed', result: { added: 2, removed: 1, diff: '--- before\n+++ after\n@@ -1,3 +1,4 @@\n one\n-two\n+2\n three\n+four' } })
  expect(await shared.ended(await submit({ before: 1 }))).toMatchObject({ status: 'failed', error: 'before and after must be strings', retry_count: 0 })

  agent.child.kill('SIGTERM')
  expect(await agent.ended).toBe(0)
  expect((await shared.get(`/agents/${id}`)).status).toBe(404)
})

test('the agent of primes answers 202, tells how far it is and its result, stops when cancelled, and leaves when told to', async ({ skip }) => {
  skip(noPython, 'there is no python3 of 3.9 or newer')
  await using agent = startAgent('examples/primes_agent.py', shared.url())
  const { agent_id: id } = await registered(agent, 'primes')
  await until('it knows that', () => agent.output().includes('registered at')) // before that it declines what it is sent
  const submit = (below: unknown, more: object = {}) => shared.submit({ agent_type: 'primes', task_type: 'count_primes', parameters: { below }, ...more })
  // π(10) is 4, π(2) is 0; π(3·10⁶) is 216816.
  const [ten, none, many, long] = [await submit(10), await submit(2), await submit(3_000_000), await submit(100_000_000_000, { timeout_seconds: 10 })]
  expect(await shared.ended(ten)).toMatchObject({ status: 'completed', result: { below: 10, count: 4, largest: 7 }, attempts: [{ status_code: 200 }] })
  expect((await shared.ended(none)).result).toEqual({ below: 2, count: 0, largest: null })
  expect(await shared.ended(many)).toMatchObject({ status: 'completed', result: { count: 216_816, largest: 2_999_999 }, attempts: [{ status_code: null }] })
  expect(await shared.ended(await submit(-1))).toMatchObject({ status: 'failed', error: expect.stringMatching(/^below must be a whole number/), retry_count: 0 })
  const told = await until('it says how far it is', async () => (await shared.task(long)).progress)
  expect(told).toMatchObject({ percent: expect.any(Number), message: expect.stringMatching(/^\d+ up to \d+$/), data: { count: expect.any(Number) } })
  expect((await shared.call('DELETE', `/tasks/${long}`)).status).toBe(200)
  await until('its slot is free', async () => (await shared.get(`/agents/${id}`)).json.in_flight === 0)
  agent.child.kill('SIGTERM')
  expect(await agent.ended).toBe(0)
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
