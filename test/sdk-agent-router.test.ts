/** The TypeScript agent SDK with a router: a real one, and a stand-in for what that cannot be made to do. Agents that are killed are real processes. */
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createAgent, type AgentOptions } from '../sdk/typescript/agent.ts'
import { becomesQuiet } from './quiet.ts'
import { ROOT, clean, run, tempFolder, until, type Running } from './processes.ts'
import { call, startSystem, type System } from './system.ts'

/** As a literal, for scripts elsewhere. */
const SDK = JSON.stringify(join(ROOT, 'sdk/typescript/agent.ts'))
const FIXTURE = join(ROOT, 'test/agents/typescript.ts')

const startProcess = (url: string, settings: Record<string, string> = {}, script = FIXTURE): Running =>
  run(process.execPath, [script], { cwd: ROOT, env: { ...clean, SWITCHYARD_URL: url, ...settings } })

describe('with a router', () => {
  let system: System
  beforeAll(async () => void (system = await startSystem()))
  afterAll(async () => {
    await becomesQuiet(system)
    await system[Symbol.asyncDispose]()
  })

  const listed = async (type: string): Promise<any[]> => (await system.get(`/agents?type=${type}`)).json.agents
  /** The record says sent a moment before the agent has it. */
  const works = async (type: string): Promise<unknown> => {
    const [agent] = await listed(type)
    return until(`the agent of ${type} works`, async () => (await call('GET', `http://127.0.0.1:${agent.port}/health`)).json.running > 0)
  }
  /** An agent process, registered. Each test has a type of its own. */
  const start = async (type: string, settings: Record<string, string> = {}, script?: string) => {
    const before = (await listed(type)).length
    const proc = startProcess(system.url(), { AGENT_TYPE: type, ...settings }, script)
    await until(`it registers: ${proc.output()}`, async () => (await listed(type)).length > before && proc.output().includes('registered at'))
    return proc
  }
  const submit = (agent_type: string, task_type: string, parameters: object, more: object = {}) => system.submit({ agent_type, task_type, parameters, ...more })

  test('registers, does tasks, fails them for good or not, stops what is cancelled or has timed out', async () => {
    await using proc = await start('does', { AGENT_NAME: 'doer', AGENT_MAX_CONCURRENCY: '3', AGENT_TTL_SECONDS: '5' })
    const [agent] = await listed('does')
    expect(agent).toMatchObject({ name: 'doer', type: 'does', host: '127.0.0.1', capabilities: ['echo', 'sleep', 'later', 'fail'], max_concurrency: 3, ttl_seconds: 5, generation: 1, status: 'healthy' })
    expect((await call('GET', `http://127.0.0.1:${agent.port}/health/ready`)).status).toBe(200)

    const ids = await Promise.all([
      submit('does', 'echo', { a: ['ä', 1.5, null] }),
      submit('does', 'fail', { message: 'broken' }, { max_retries: 1, retry_delay_seconds: 0.1 }),
      submit('does', 'fail', { message: 'no such thing', retryable: false }),
    ])
    const [echoed, broken, final] = await Promise.all(ids.map((id) => system.ended(id)))
    expect(echoed).toMatchObject({ status: 'completed', result: { a: ['ä', 1.5, null] }, retry_count: 0 })
    expect(broken).toMatchObject({ status: 'failed', error: 'broken', attempts: [{ status_code: 500 }, { status_code: 500 }] })
    expect(final).toMatchObject({ status: 'failed', error: 'no such thing', attempts: [{ status_code: 422 }] })

    const [long, late] = await Promise.all([submit('does', 'sleep', { seconds: 60 }, { timeout_seconds: 100 }), submit('does', 'sleep', { seconds: 60 }, { timeout_seconds: 0.5, max_retries: 0 })])
    await system.becomes(long, 'sent')
    await works('does')
    await system.call('DELETE', `/tasks/${long}`)
    expect(await system.ended(long)).toMatchObject({ status: 'cancelled' })
    expect(await system.ended(late)).toMatchObject({ status: 'timeout' })
    await until('nothing runs', async () => (await call('GET', `http://127.0.0.1:${agent.port}/health`)).json.running === 0)
    expect(proc.output()).toMatch(/stopping sleep: (disconnected|cancelled)/)

    // Someone removed it; at its next beat it hears of that.
    await system.call('DELETE', `/agents/${agent.id}`)
    const again = await until('it is back', async () => (await listed('does'))[0])
    expect(again).toMatchObject({ id: agent.id, port: agent.port })
  })

  test('SIGTERM: what it works on is answered, then it unregisters and exits with 0', async () => {
    await using folder = await tempFolder()
    const [script, go] = [join(folder.path, 'agent.ts'), join(folder.path, 'go')]
    await writeFile(script, `
      import { existsSync } from 'node:fs'
      import { setTimeout as sleep } from 'node:timers/promises'
      import { createAgent } from ${SDK}
      const wait = async () => { while (!existsSync(${JSON.stringify(go)})) await sleep(10); return 'done' }
      await createAgent({ type: 'leaves', capabilities: { wait } }).start()`)
    await using proc = await start('leaves', { AGENT_VERIFY: 'false' }, script) // the test asks it too
    const [agent] = await listed('leaves')
    const id = await submit('leaves', 'wait', {})
    await system.becomes(id, 'sent')
    await works('leaves')
    proc.child.kill('SIGTERM')
    await until('it says so', async () => (await listed('leaves'))[0]?.status === 'draining')
    // It takes nothing new meanwhile.
    const refused = await call('POST', `http://127.0.0.1:${agent.port}/task`, { task_id: 't', task_type: 'wait', parameters: {} })
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '5'])
    expect((await call('GET', `http://127.0.0.1:${agent.port}/health`)).json).toMatchObject({ status: 'draining', running: 1 })
    expect(await call('GET', `http://127.0.0.1:${agent.port}/health/ready`)).toMatchObject({ status: 503, json: { reason: 'leaving' } })
    await writeFile(go, '')
    expect(await proc.ended, proc.output()).toBe(0)
    expect(await system.task(id)).toMatchObject({ status: 'completed', result: 'done', retry_count: 0, attempts: [{ agent_id: agent.id }] })
    expect((await system.get(`/agents/${agent.id}`)).status).toBe(404)
  })

  test('what is not done when the drain is over goes to another agent, at no cost', async () => {
    await using first = await start('hands-over', { AGENT_DRAIN_SECONDS: '0.1', AGENT_NAME: 'first' })
    const id = await submit('hands-over', 'sleep', { seconds: 60 }, { max_retries: 0, timeout_seconds: 100 })
    await system.becomes(id, 'sent')
    await works('hands-over')
    await using second = await start('hands-over', { AGENT_DRAIN_SECONDS: '0.1', AGENT_NAME: 'second' })
    first.child.kill('SIGTERM')
    expect(await first.ended, first.output()).toBe(0)
    expect(first.output()).toContain('stopping sleep: stopped')
    const moved = await until('it is at the second', async () => ((await system.task(id)).attempts.length === 2 ? system.task(id) : null))
    expect(moved).toMatchObject({ status: 'sent', retry_count: 0, attempts: [{ agent_name: 'first', status_code: 503, outcome: 'no_room' }, { agent_name: 'second' }] })
    await system.call('DELETE', `/tasks/${id}`)
    expect(await system.ended(id)).toMatchObject({ status: 'cancelled' })
    // The slot comes back long before the next beat is due, in 20 s.
    await until('its slot is free', async () => (await listed('hands-over'))[0].in_flight === 0)
    second.child.kill('SIGTERM')
    expect(await second.ended).toBe(0)
  })

  test('a second signal ends it at once', async () => {
    await using proc = await start('hurries')
    const id = await submit('hurries', 'sleep', { seconds: 60 }, { timeout_seconds: 100, max_retries: 0 })
    await system.becomes(id, 'sent')
    await works('hurries')
    proc.child.kill('SIGINT')
    proc.child.kill('SIGINT') // as npm passes it on
    await until('it says so', async () => (await listed('hurries'))[0]?.status === 'draining')
    expect(proc.child.exitCode).toBeNull()
    await until('another one counts', () => (proc.child.kill('SIGINT'), proc.child.exitCode !== null))
    expect(await proc.ended).toBe(130)
    await system.ended(id)
  })

  test('after kill -9 it is another instance under the same id, and its slots are free', async () => {
    await using first = await start('returns', { AGENT_ID: 'returns-1', AGENT_MAX_CONCURRENCY: '1' })
    const id = await submit('returns', 'sleep', { seconds: 60 }, { timeout_seconds: 100, max_retries: 0 })
    await system.becomes(id, 'sent')
    await works('returns')
    first.child.kill('SIGKILL')
    await first.ended
    await using second = startProcess(system.url(), { AGENT_TYPE: 'returns', AGENT_ID: 'returns-1', AGENT_MAX_CONCURRENCY: '1' })
    await until('it is there again', () => second.output().includes('registered at'))
    expect(await listed('returns')).toMatchObject([{ id: 'returns-1', generation: 2 }])
    expect(await system.ended(await submit('returns', 'echo', { again: true }))).toMatchObject({ status: 'completed', agent_id: 'returns-1' })
    second.child.kill('SIGTERM')
    expect(await second.ended).toBe(0)
  })
})

type Call = { path: string; body: any; headers: Record<string, unknown> }

/** In the router's place, it answers what it is told to: a status, an object, or nothing at all (null). */
const standIn = async (answer: (call: Call, nth: number) => number | object | string | null, { port = 0, host = '127.0.0.1' } = {}) => {
  const calls: Call[] = []
  const server = createServer(async (req, res) => {
    let text = ''
    for await (const chunk of req) text += String(chunk)
    const its = { path: req.url!, body: text === '' ? {} : JSON.parse(text), headers: req.headers }
    calls.push(its)
    const said = answer(its, calls.filter((c) => c.path === its.path).length)
    if (said === null) return
    if (said === 'hang up') return res.destroy()
    res.writeHead(typeof said === 'number' ? said : 200, { 'content-type': 'application/json' }).end(typeof said === 'string' ? said : JSON.stringify(typeof said === 'number' ? { error: `it says ${said}` } : said))
  })
  await new Promise<void>((done) => server.listen(port, host, done))
  const at = (server.address() as { port: number }).port
  const close = async (): Promise<void> => {
    server.closeAllConnections()
    if (server.listening) await new Promise((done) => server.close(done))
  }
  return { port: at, url: `http://127.0.0.1:${at}`, calls, to: (path: string) => calls.filter((c) => c.path === path), close, [Symbol.asyncDispose]: close }
}

const REGISTERED = { agent_id: 'a.1', heartbeat_interval_seconds: 0.05 }
const BEATEN = { received: true, next_interval_seconds: 0.05, cancel: [], lost: [], drain: false }
const REGISTER = '/agents/register'
const BEAT = '/agents/a.1/heartbeat'
const UNREGISTER = '/agents/a.1/unregister'
/** All as it should be, but for the heartbeats. */
const wellBut = (beat: (its: Call, nth: number) => number | object | string | null) => (its: Call, nth: number) => (its.path === REGISTER ? REGISTERED : its.path === BEAT ? beat(its, nth) : {})

/** An agent in this process, and what it logged. */
const startAgent = async (url: string, options: Partial<AgentOptions> = {}) => {
  const logs: string[] = []
  const log = (level: string) => (message: string) => void logs.push(`${level} ${message}`)
  const logger = { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') }
  const agent = createAgent({ name: 'it', url, handleSignals: false, drainSeconds: 0, logger, capabilities: {}, ...options })
  await agent.start()
  return { agent, logs, ready: () => call('GET', `http://127.0.0.1:${agent.port}/health/ready`), said: (what: string | RegExp) => logs.filter((l) => (typeof what === 'string' ? l.includes(what) : what.test(l))), [Symbol.asyncDispose]: () => agent.stop() }
}

describe('with a router that misbehaves', () => {
  test('registers when the router starts later, after failures, and only then is ready', async () => {
    const gone = await standIn(() => 404)
    await gone.close()
    await using it = await startAgent(gone.url, { agentId: 'a.1', apiKey: 'k', version: '2', metadata: { zone: 'a' }, ttlSeconds: 9 })
    await until('it cannot', () => it.said('cannot register').length > 0)
    expect(it.logs.at(-1)).toBe(`warn cannot register at ${gone.url} (ECONNREFUSED); is it running, and SWITCHYARD_URL right? Trying on`)
    expect(await it.ready()).toMatchObject({ status: 503, json: { reason: expect.stringContaining('ECONNREFUSED') } })
    await using router = await standIn((_, nth) => ['no JSON', 500, REGISTERED][nth - 1] ?? BEATEN, { port: gone.port })
    expect(await it.agent.registered).toBe('a.1')
    expect((await it.ready()).status).toBe(200)
    expect(router.to(REGISTER)[0]!.headers['authorization']).toBe('Bearer k')
    const { instance_id, ...body } = router.to(REGISTER).at(-1)!.body
    expect(body).toEqual({ name: 'it', type: 'default', host: '127.0.0.1', port: it.agent.port, capabilities: [], max_concurrency: 10, ttl_seconds: 9, agent_id: 'a.1', version: '2', metadata: { zone: 'a' } })
    expect(new Set(router.to(REGISTER).map((c) => c.body.instance_id))).toEqual(new Set([instance_id]))
    // One line for all that, and one for its end.
    expect([it.said('cannot register').length, it.said('answers again').length <= 1]).toEqual([1, true])
  })

  test('shows the token that it was given, its key to register, and its key where the token is refused', async () => {
    await using router = await standIn((its, nth) => (its.path === REGISTER ? { ...REGISTERED, agent_token: `sya_${nth}` } : its.path === BEAT ? ([null, BEATEN, BEATEN, 403, BEATEN, BEATEN, 404][nth] ?? BEATEN) : {}))
    await using it = await startAgent(router.url, { apiKey: 'k' })
    await until('it beats again', () => router.to(BEAT).length >= 7)
    expect(router.to(REGISTER).map((c) => c.headers['authorization'])).toEqual(['Bearer k', 'Bearer k'])
    expect(router.to(BEAT).slice(0, 7).map((c) => c.headers['authorization'])).toEqual(['sya_1', 'sya_1', 'sya_1', 'k', 'k', 'k', 'sya_2'].map((shown) => `Bearer ${shown}`))
    await it.agent.stop()
    expect(router.to(UNREGISTER)[0]!.headers['authorization']).toBe('Bearer sya_2')
    expect(it.logs.join()).not.toContain('sya_')
  })

  test('takes no registration for one whose answer is huge, or gives an id that no router gives', async () => {
    const odd = [{ ...REGISTERED, padding: 'x'.repeat(2 * 1024 * 1024) }, { ...REGISTERED, agent_id: '\ud800' }, { ...REGISTERED, agent_id: '../tasks' }]
    await using router = await standIn((its, nth) => (its.path === REGISTER ? (odd[nth - 1] ?? REGISTERED) : its.path === BEAT ? BEATEN : {}))
    await using it = await startAgent(router.url)
    expect(await it.agent.registered).toBe('a.1')
    expect(router.to(REGISTER).length).toBe(4)
    expect(it.said('warn cannot register')[0]).toContain('an answer of more than 1 MiB')
    await it.agent.stop()
    expect([...new Set(router.calls.map((c) => c.path))]).toEqual([REGISTER, BEAT, UNREGISTER])
  })

  test('a registration that is refused is said once, in the router’s words, and not hammered; the agent lives', async () => {
    await using router = await standIn(() => 422)
    await using it = await startAgent(router.url, { host: '127.0.0.1' })
    await until('it says so', () => it.said('refuses').length > 0)
    expect(it.said('refuses')).toEqual([`error ${router.url} refuses the registration: 422 it says 422. It was told of the host 127.0.0.1; AGENT_HOST (or host) says another. No task will come until that is mended; trying again every 30 s`])
    // An agent that is not refused, but fails, has tried three times meanwhile.
    await using failing = await standIn(() => 500)
    await using other = await startAgent(failing.url)
    await until('it tries on', () => failing.calls.length >= 3)
    expect([router.calls.length, other.agent.agentId]).toEqual([1, undefined])
    expect(await it.ready()).toMatchObject({ status: 503, json: { reason: expect.stringContaining('it says 422') } })
  })

  test('beats with what runs, stops what is cancelled or lost, says when it is drained', async () => {
    const answer = { ...BEATEN, cancel: [] as string[], lost: [] as string[] }
    await using router = await standIn(wellBut(() => answer))
    const whys: string[] = []
    const wait = (_: object, { signal, attemptId }: { signal: AbortSignal; attemptId: string }) => new Promise((done) => signal.addEventListener('abort', () => done(whys.push(`${attemptId} ${signal.reason.why}`))))
    await using it = await startAgent(router.url, { capabilities: { wait } })
    await it.agent.registered
    const sent = ['x.1', 'x.2', 'x.3'].map((attempt_id) => call('POST', `http://127.0.0.1:${it.agent.port}/task`, { task_id: 't', task_type: 'wait', parameters: {}, attempt_id }))
    const lastRunning = () => router.to(BEAT).at(-1)?.body.running?.join()
    await until('it says all three', () => lastRunning()?.length === 11)
    answer.cancel = ['x.1', 'unknown']
    answer.lost = ['x.2']
    await until('it says the one', () => lastRunning() === 'x.3')
    expect(whys).toEqual(['x.1 cancelled', 'x.2 lost'])
    expect((await Promise.all(sent.slice(0, 2))).map((a) => [a.status, a.json.error])).toEqual([[500, 'cancelled'], [500, 'the attempt is no longer this agent’s']])
    answer.drain = true
    await until('it is drained', async () => (await it.ready()).status === 503)
    expect((await it.ready()).json.reason).toBe('the router drains this agent')
    // It must not undo that by calling itself healthy.
    expect(router.to(BEAT).filter((c) => 'status' in c.body)).toEqual([])
    answer.drain = false
    await until('it is no longer', async () => (await it.ready()).status === 200)
    await it.agent.stop()
    expect(await sent[2]).toMatchObject({ status: 503, json: { error: 'the agent is leaving, and could not finish' } })
    const last = router.calls.slice(-2)
    expect(last.map((c) => [c.path, c.body.status])).toEqual([[BEAT, 'draining'], [UNREGISTER, undefined]].slice(-2))
  })

  test('beats that fail end nothing; after a 404 it registers again under its id, as the same instance', async () => {
    await using router = await standIn(wellBut((_, nth) => [500, 'hang up', 'no JSON', { next_interval_seconds: 'soon' }, 404, 401][nth - 1] ?? BEATEN))
    await using it = await startAgent(router.url)
    await until('it beats on', () => router.to(BEAT).length >= 9)
    const [first, second] = router.to(REGISTER).map((c) => c.body)
    expect(second).toEqual({ ...first, agent_id: 'a.1' })
    expect(it.said(/error .*takes no heartbeat: 401/).length).toBe(1)
    expect((await it.ready()).status).toBe(200)
  })

  test('the interval is the one it was last told, more or less', async () => {
    await using router = await standIn(wellBut((_, nth) => (nth < 5 ? BEATEN : { ...BEATEN, next_interval_seconds: 600 })))
    await using it = await startAgent(router.url)
    await until('it beats', () => router.to(BEAT).length === 5)
    // One that was told nothing else beats five times meanwhile.
    await using steady = await standIn(wellBut(() => BEATEN))
    await using other = await startAgent(steady.url)
    await until('the other beats', () => steady.to(BEAT).length >= 5)
    expect(other.agent.agentId).toBe('a.1')
    expect(router.to(BEAT).length).toBe(5)
    expect(it.agent.agentId).toBe('a.1')
  })

  test('leaves in time though the router has fallen silent', { timeout: 30_000 }, async () => {
    let silent = false
    await using router = await standIn((its) => (silent ? null : its.path === REGISTER ? REGISTERED : BEATEN))
    await using it = await startAgent(router.url)
    await it.agent.registered
    silent = true
    const { length } = router.calls
    await until('it is at a beat', () => router.calls.length > length)
    await it.agent.stop()
    expect(it.agent.port).toBeUndefined()
    expect(it.said('could not unregister').length).toBe(1)
  })

  test('leaves at once also when it is told to during its first registration', { timeout: 30_000 }, async () => {
    const calls: string[] = []
    const server = createServer((req, res) => {
      calls.push(req.url!)
      setTimeout(() => res.end(JSON.stringify({ ...REGISTERED, heartbeat_interval_seconds: 20 })), req.url === REGISTER ? 300 : 0)
    })
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    try {
      await using it = await startAgent(`http://127.0.0.1:${(server.address() as { port: number }).port}`)
      await until('it registers', () => calls.length > 0)
      const began = performance.now()
      await it.agent.stop()
      expect(performance.now() - began).toBeLessThan(3000)
      expect(calls).toEqual([REGISTER, BEAT, UNREGISTER])
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })

  test('to a router elsewhere it gives its address on the way there, and listens at all', async ({ skip }) => {
    const own = Object.values(networkInterfaces()).flat().find((card) => card?.family === 'IPv4' && !card.internal)?.address
    if (!own) return skip('this machine has no address but loopback')
    await using router = await standIn(() => REGISTERED, { host: '0.0.0.0' })
    await using it = await startAgent(`http://${own}:${router.port}`)
    await it.agent.registered
    expect(router.to(REGISTER)[0]!.body).toMatchObject({ host: own, port: it.agent.port })
    for (const address of [own, '127.0.0.1']) expect((await call('GET', `http://${address}:${it.agent.port}/health/live`)).status).toBe(200)
  })

  test('a host that says its port is passed on as it is, and listened at on another if told', async () => {
    await using router = await standIn(() => REGISTERED)
    await using it = await startAgent(router.url, { host: 'agents.example:9101', port: 0 })
    await it.agent.registered
    expect(router.to(REGISTER)[0]!.body.host).toBe('agents.example:9101')
    expect(router.to(REGISTER)[0]!.body.port).toBeUndefined()
  })
})

test('an agent whose log nobody reads any more lives on', async () => {
  await using proc = startProcess('http://127.0.0.1:1', { AGENT_REGISTER: 'false', LOG_LEVEL: 'debug' })
  const port = await until('it listens', () => /port (\d+)/.exec(proc.output())?.[1])
  proc.child.stdout!.destroy()
  const send = () => call('POST', `http://127.0.0.1:${port}/task`, { task_id: 't', task_type: 'echo', parameters: {} })
  for (let i = 0; i < 5; i++) expect((await send()).status).toBe(200)
  proc.child.kill('SIGTERM')
  expect(await proc.ended, proc.output()).toBe(0)
})

describe('two agents in one process', () => {
  test('both leave at a signal before the process ends', async () => {
    await using folder = await tempFolder()
    await using router = await standIn((its) => (its.path === REGISTER ? { ...REGISTERED, agent_id: its.body.name } : BEATEN))
    const script = join(folder.path, 'two.ts')
    await writeFile(script, `import { createAgent } from ${SDK}\nfor (const name of ['a', 'b']) await createAgent({ name, capabilities: {} }).start()\n`)
    await using proc = startProcess(router.url, {}, script)
    await until('both beat', () => ['a', 'b'].every((id) => router.to(`/agents/${id}/heartbeat`).length > 0))
    proc.child.kill('SIGTERM')
    expect(await proc.ended, proc.output()).toBe(0)
    expect(['a', 'b'].map((id) => router.to(`/agents/${id}/unregister`).length)).toEqual([1, 1])
  })
})

describe('the README', () => {
  test('its examples run', async () => {
    const readme = await readFile(join(ROOT, 'sdk/typescript/README.md'), 'utf8')
    const examples = [...readme.matchAll(/^```ts\n(.*?)^```/gms)].map((found) => found[1]!.replace("'switchyard/agent'", SDK))
    expect(examples.length).toBe(3)
    await using folder = await tempFolder()
    await using page = await standIn(() => '<html><title>A page</title></html>')
    await using router = await standIn((its) => (its.path === REGISTER ? REGISTERED : BEATEN))
    const answers = await Promise.all(
      examples.map(async (text, at) => {
        const script = join(folder.path, `example-${at}.ts`)
        await writeFile(script, text)
        await using proc = startProcess(router.url, { AGENT_NAME: `example-${at}` }, script)
        const { port } = await until(`it registers: ${proc.output()}`, () => router.to(REGISTER).find((c) => c.body.name === `example-${at}`)?.body)
        const send = (task_type: string, parameters: object) => call('POST', `http://127.0.0.1:${port}/task`, { task_id: 't', task_type, parameters })
        const sent = [
          async () => [await send('analyze_cost', { amounts: [1, 2.5] })],
          async () => [await send('title', { url: page.url }), await send('title', { url: 'x' })],
          // Who posts it tells no attempt_id: there is nothing that could be told later.
          async () => [await send('sum', { to: 1_000_001 })],
        ]
        return (await sent[at]!()).map((answer) => [answer.status, answer.json.result ?? answer.json.error])
      }),
    )
    expect(answers).toEqual([[[200, { total: 3.5 }]], [[200, { title: 'A page' }], [422, 'url must be a URL']], [[200, 500_001_500_001]]])
  })
})

describe('the bundle', () => {
  const bundle = async (target: string): Promise<string> => {
    const { outputFiles, metafile } = await build({ entryPoints: [FIXTURE], bundle: true, platform: 'node', format: 'esm', minify: true, target, write: false, metafile: true, absWorkingDir: ROOT })
    expect(Object.keys(metafile.inputs).filter((path) => !/^(sdk\/typescript|test\/agents)\//.test(path))).toEqual([])
    return outputFiles[0]!.text
  }

  test('of an agent holds nothing but the SDK, is small, has no syntax newer than Node 22’s, and runs', async () => {
    const text = await bundle('node22')
    expect(text).toBe(await bundle('esnext'))
    expect(Buffer.byteLength(text)).toBeLessThan(64 * 1024)
    await using folder = await tempFolder()
    const script = join(folder.path, 'agent.mjs')
    await writeFile(script, text)
    await using proc = startProcess('http://127.0.0.1:1', { AGENT_REGISTER: 'false' }, script)
    const port = await until('it listens', () => /port (\d+)/.exec(proc.output())?.[1])
    expect((await call('POST', `http://127.0.0.1:${port}/task`, { task_id: 't', task_type: 'echo', parameters: { a: 1 } })).json).toMatchObject({ status: 'completed', result: { a: 1 } })
    proc.child.kill('SIGTERM')
    expect(await proc.ended, proc.output()).toBe(0)
  })
})
