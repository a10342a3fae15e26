/** The Python SDK's agents, asked by hand, and by a stand-in for the router where it must misbehave on demand. */
import { createHmac, randomUUID } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ROOT, tempFolder, until } from './processes.ts'
import { asked, environment, start, startAgent, version } from './sdk-python.ts'
import { BEAT, REGISTERED, standIn } from './stand-in.ts'
import { call } from './system.ts'

/** A connection of bytes. */
const rawConnection = async (port: number) => {
  const socket: Socket = connect(port, '127.0.0.1')
  let text = ''
  socket.on('data', (chunk) => (text += chunk))
  socket.on('error', () => {})
  const closed = new Promise<void>((done) => socket.once('close', () => done()))
  await new Promise((done) => socket.once('connect', done))
  return { socket, closed, text: () => text, reads: (what: RegExp) => until(`${what} in ${text}`, () => what.test(text)), [Symbol.dispose]: () => socket.destroy() }
}
const request = (body: string, head = `Content-Length: ${Buffer.byteLength(body)}\r\n`): string => `POST /task HTTP/1.1\r\nHost: a\r\n${head}\r\n${body}`
const ECHO = JSON.stringify({ task_id: 't', task_type: 'echo', parameters: { a: 'é' } })

describe.skipIf(version.status !== 0).concurrent('the agents of the Python SDK', { timeout: 60_000 }, () => {
  // --- what an agent answers -----------------------------------------------------------------------------------------------

  test('an agent does tasks with sync and async handlers, tells its health, and refuses what is no task (T2, T7, H1, H2)', async () => {
    await using agent = await startAgent()
    expect(await agent.send('echo', { a: [1, 'é', null, 1.5, 12345678901234567890n.toString()] })).toMatchObject({ status: 200, json: { task_id: 't', status: 'completed', result: { a: [1, 'é', null, 1.5, '12345678901234567890'] } } })
    expect((await agent.send('later', { b: 1 })).json).toMatchObject({ status: 'completed', result: { b: 1 }, execution_time_ms: expect.any(Number) })
    expect((await agent.send('later_about')).json.result).toBe('t')
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    const sent = { task_id: 'about.1', task_type: 'about', parameters: {}, attempt: 3, attempt_id: 'x', timeout_seconds: 9, metadata: { m: 1 }, priority: 7 }
    const { result } = (await call('POST', `${agent.url}/task`, sent, { traceparent })).json
    expect(result).toMatchObject({ task_id: 'about.1', task_type: 'about', attempt: 3, attempt_id: 'x', timeout_seconds: 9, metadata: { m: 1 }, priority: 7, traceparent, reason: null, cancelled: false })
    expect(result.remaining).toBeGreaterThan(0)
    expect(result.remaining).toBeLessThanOrEqual(9)

    expect(await agent.health()).toEqual({ status: 'healthy', running: 0, max_concurrency: 4, capabilities: expect.arrayContaining(['echo', 'later']) })
    for (const path of ['/health/live', '/health/ready', '/health?a=b']) expect((await call('GET', agent.url + path)).status, path).toBe(200)
    for (const [method, path, status] of [['GET', '/', 404], ['POST', '/tasks', 404], ['GET', '/task', 405], ['PUT', '/task', 405], ['POST', '/health', 405], ['GET', '/task/t', 405], ['DELETE', '/task/t', 404]] as const) {
      const answer = await call(method, agent.url + path)
      expect([answer.status, answer.headers.get('content-type'), typeof answer.json.error], `${method} ${path}`).toEqual([status, 'application/json', 'string'])
    }
    expect((await fetch(`${agent.url}/health`, { method: 'HEAD' })).status).toBe(200)

    for (const body of ['', '{"a":', 'null', '[]', '5', '"x"', '\ufeff{}', '{"task_id":"t","task_type":"echo","parameters":{"a":NaN}}', '{"task_id":"t","task_type":"echo","parameters":{"a":1e999}}', '['.repeat(100_000)]) {
      expect((await call('POST', `${agent.url}/task`, body)).status, body.slice(0, 50)).toBe(400)
    }
    const task = { task_id: 't', task_type: 'echo', parameters: {} }
    for (const fault of [{ task_id: undefined }, { task_id: 5 }, { task_id: '' }, { task_type: undefined }, { task_type: ['echo'] }, { parameters: undefined }, { parameters: [] }, { parameters: null }, { attempt_id: 5 }, { attempt: 'one' }, { timeout_seconds: -1 }, { timeout_seconds: '5' }, { metadata: [] }]) {
      expect(await call('POST', `${agent.url}/task`, { ...task, ...fault }), JSON.stringify(fault)).toMatchObject({ status: 422, json: { error: expect.stringContaining(Object.keys(fault)[0]!) } })
    }
    for (const type of ['unheard_of', 'toString', '__init__']) expect(await agent.send(type)).toMatchObject({ status: 422, json: { error: expect.stringContaining(`no capability ${type}`) } })
    expect((await agent.send('echo')).status).toBe(200)
  })

  test('what a handler raises or returns becomes the answer that fits, and never ends the agent', async () => {
    await using agent = await startAgent()
    const raised = (kind: string, message?: string) => agent.send('raise', { kind, message })
    expect(await raised('final', 'no such account')).toMatchObject({ status: 422, json: { task_id: 't', status: 'failed', error: 'no such account', retryable: false } })
    const failed = await raised('value')
    expect(failed).toMatchObject({ status: 500, json: { task_id: 't', status: 'failed', error: 'ValueError: on purpose' } })
    expect(failed.json).not.toHaveProperty('retryable')
    expect(failed.text).not.toContain('Traceback')
    await agent.says('Traceback')
    expect((await raised('value', 'x'.repeat(50_000))).json.error).toMatch(/^ValueError: x{3987}…$/)
    for (const [kind, error] of [['exit', 'SystemExit: 3'], ['interrupt', 'KeyboardInterrupt: on purpose'], ['cancelled', 'CancelledError: on purpose']] as const) expect(await raised(kind)).toMatchObject({ status: 500, json: { status: 'failed', error } })

    for (const kind of ['nan', 'infinity', 'set', 'object', 'bytes', 'cycle', 'deep', 'large']) {
      const { status: code, json } = await agent.send('return', { kind })
      expect({ code, ...json }, kind).toEqual({ code: 500, task_id: 't', status: 'failed', error: expect.stringMatching(/^the handler returns returned /), retryable: false })
    }
    // The largest there may be fits into what the router takes.
    const largest = await agent.send('return', { kind: 'largest' })
    expect([largest.status, largest.text.length <= 1024 * 1024]).toEqual([200, true])
    expect((await agent.send('return', { kind: 'tuple' })).json.result).toEqual([1, 'é'])
    expect((await agent.send('return', { kind: 'none' })).json).toMatchObject({ status: 'completed', result: null })
    expect((await agent.send('return', { kind: 'surrogate' })).text).toContain('"\\ud800"')
    expect(await agent.health()).toMatchObject({ running: 0 })
  })

  test('a child that a handler forks ends where its handler does', async () => {
    await using agent = await startAgent()
    const { pid } = (await agent.send('fork')).json.result
    await until('the child has ended', () => !/^[^)]*\) [^Z]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8')))
    expect((await agent.send('echo', { a: 1 })).json.result).toEqual({ a: 1 })
  })

  test('a decorator refuses what could never be called', async () => {
    const refused = await asked(`
import json
from switchyard import Agent
agent = Agent(type="test")
def refused(capability, function):
    try:
        agent.task(capability)(function)
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__} {error}"
agent.task("one")(lambda parameters: 1)
print(json.dumps([refused(*r) for r in [("a b", print), ("", print), (5, print), ("one", print), ("none", lambda: 1), ("three", lambda a, b, c: 1), ("two", lambda a, b=1: 1)]]))`)
    expect(refused).toEqual([/^ValueError a capability must be/, /^ValueError/, /^ValueError/, /^ValueError there is a handler for one/, /^TypeError the handler .* must take/, /^TypeError/].map((re) => expect.stringMatching(re)).concat([null]))
  })

  test('connections are kept, bodies may be chunked, and what cannot be read hurts only its own connection (T8, T9)', async () => {
    await using agent = await startAgent()
    const { port } = agent
    {
      // Two at once, then one in chunks, then one that asks first, all on one connection.
      using c = await rawConnection(port)
      c.socket.write(request(ECHO) + request(ECHO))
      await c.reads(/(HTTP\/1\.1 200[^]*){2}/)
      c.socket.write('POST /task HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n')
      const bytes = Buffer.from(ECHO)
      for (const part of [bytes.subarray(0, 5), bytes.subarray(5)]) {
        c.socket.write(`${part.length.toString(16)};ext=1\r\n`)
        c.socket.write(part)
        c.socket.write('\r\n')
      }
      c.socket.write('0\r\nTrailer: x\r\n\r\n')
      await c.reads(/(HTTP\/1\.1 200[^]*){3}/)
      c.socket.write(`POST /task HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: ${bytes.length}\r\n\r\n`)
      await c.reads(/100 Continue/)
      c.socket.write(bytes)
      await c.reads(/(HTTP\/1\.1 200[^]*){4}/)
      expect(c.text().match(/"result": \{"a":"é"\}/g)).toHaveLength(4)
      c.socket.write('GET /health HTTP/1.0\r\n\r\n')
      await c.closed
    }
    for (const [bytes, status] of [
      ['what is this\r\n\r\n', 400],
      ['GET /health HTTP/2.0\r\n\r\n', 400],
      ['GET /health HTTP/1.1\r\nno colon\r\n\r\n', 400],
      ['GET /health HTTP/1.1\r\n folded: x\r\n\r\n', 400],
      [request(ECHO, 'Content-Length: 5\r\nContent-Length: 6\r\n'), 400],
      [request(ECHO, 'Content-Length: -5\r\n'), 400],
      [request(ECHO, 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n'), 400],
      [request('zz\r\n', 'Transfer-Encoding: chunked\r\n'), 400],
      [request(ECHO, 'Transfer-Encoding: gzip\r\n'), 501],
      [request(ECHO, `Content-Encoding: gzip\r\nContent-Length: ${Buffer.byteLength(ECHO)}\r\n`), 415],
      [request('', `X: ${'x'.repeat(20_000)}\r\n`), 431],
      [request('', 'Content-Length: 5000000000\r\n'), 413],
      [request('300000\r\n', 'Transfer-Encoding: chunked\r\n'), 413],
    ] as const) {
      using c = await rawConnection(port)
      c.socket.write(bytes)
      await c.reads(new RegExp(`^HTTP/1\\.1 ${status} [^]*\\{"error": `))
      await c.closed
    }
    // Just under the limit is taken, and one over it is told so although it sends on regardless.
    expect((await agent.send('echo', { a: 'x'.repeat(1_000_000) })).status).toBe(200)
    expect((await call('POST', `${agent.url}/task`, 'x'.repeat(2 * 1024 * 1024 + 1))).status).toBe(413)
    expect(await agent.health()).toMatchObject({ running: 0 })
  })

  test('clients that stall are let go, and however many there are, others are served', async () => {
    await using agent = await startAgent({ REQUEST_SECONDS: '0.5' })
    const stalled = await Promise.all(Array.from({ length: 160 }, () => rawConnection(agent.port)))
    for (const c of stalled) c.socket.write('POST /task HTTP/1.1\r\nContent-Length: 5\r\n\r\n{')
    expect((await agent.send('echo', { a: 1 })).status).toBe(200)
    await Promise.all(stalled.map((c) => c.closed))
    expect(stalled.filter((c) => c.text().startsWith('HTTP/1.1 408')).length).toBeGreaterThan(100)
    expect((await agent.send('echo', { a: 1 })).status).toBe(200)
  })

  test('one that is full says 429 and its health, and has room again by the time its answer is there (T4)', async () => {
    await using agent = await startAgent({ AGENT_MAX_CONCURRENCY: '2' })
    const two = ['a', 'b'].map((task_id) => agent.send('wait', {}, { task_id }).catch(() => null))
    await until('both run', async () => (await agent.health()).running === 2)
    const full = await agent.send('echo')
    expect([full.status, full.headers.get('retry-after'), full.json.error]).toEqual([429, '1', 'this agent has all the 2 tasks it can do at once'])
    expect((await call('GET', `${agent.url}/health/ready`)).status).toBe(200)
    // DELETE cancels, by a path that is encoded as well (T6)
    expect(await call('DELETE', `${agent.url}/task/%61`)).toMatchObject({ status: 200, json: { task_id: 'a' } })
    expect(await two[0]).toMatchObject({ status: 500, json: { status: 'failed', error: 'the task was cancelled' } })
    await agent.says('ended a cancelled')
    expect((await call('DELETE', `${agent.url}/task/a`)).status).toBe(404)
    for (let i = 0; i < 100; i++) expect((await agent.send('echo', { i })).status).toBe(200)
  })

  test('where no thread can be started a task is declined, and its place is free again', async () => {
    await using router = await standIn(() => 404)
    const [declined, done] = await asked(
      `
import http.client, json, threading
from switchyard import Agent
agent = Agent(max_concurrency=1, verify=False)
agent.task("one")(lambda parameters: 1)
agent.start()
def send():
    connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=10)
    connection.request("POST", "/task", json.dumps({"task_id": "t", "task_type": "one", "parameters": {}}))
    answer = connection.getresponse()
    return [answer.status, answer.getheader("Retry-After"), json.loads(answer.read()).get("result"), agent._health()["running"]]
start = threading.Thread.start
def full(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = full
declined = [send(), send()]
threading.Thread.start = start
print(json.dumps([declined, send()]))`,
      { SWITCHYARD_URL: router.url },
    )
    expect(declined).toEqual(Array(2).fill([503, '1', null, 0]))
    expect(done).toEqual([200, null, 1, 0])
  })

  test('the same attempt again joins the one that runs, and gets its answer (T3)', async () => {
    await using agent = await startAgent()
    const attempt = { task_id: 'j', attempt_id: 'one' }
    const leaving = new AbortController()
    const first = fetch(`${agent.url}/task`, { method: 'POST', body: JSON.stringify({ task_type: 'ignore', parameters: {}, ...attempt }), signal: leaving.signal }).catch(() => null)
    await agent.says('began j')
    const second = agent.send('ignore', {}, attempt)
    await agent.says('task j came again')
    leaving.abort() // one of two: somebody still waits
    await first
    await agent.send('open')
    expect((await second).json).toMatchObject({ status: 'completed', result: 'too late' })
    await agent.says('ended j None')
    expect(agent.output().match(/began j/g)).toHaveLength(1)
    // Afterwards, and with another attempt id, it is done again.
    expect((await agent.send('ignore', {}, attempt)).json.result).toBe('too late')
    await until('it began again', () => agent.output().match(/began j/g)?.length === 2)
  })

  test('who hangs up or has no time left aborts the task; a handler that goes on keeps its place (T1, T5)', async () => {
    await using agent = await startAgent({ AGENT_MAX_CONCURRENCY: '2' })
    for (const type of ['wait', 'wait_async']) {
      using c = await rawConnection(agent.port)
      c.socket.write(request(JSON.stringify({ task_id: `d-${type}`, task_type: type, parameters: {}, timeout_seconds: 30 })))
      await agent.says(`began d-${type}`)
      c.socket.destroy()
      await agent.says(`ended d-${type} disconnected`)
      expect(await agent.send(type, {}, { task_id: `t-${type}`, timeout_seconds: 0.1 })).toMatchObject({ status: 500, json: { status: 'failed', error: 'no result within 0.1 s' } })
      await agent.says(`ended t-${type} timeout`)
    }
    expect((await agent.send('ignore', {}, { task_id: 'i', timeout_seconds: 0.1 })).status).toBe(500)
    expect(await agent.health()).toMatchObject({ running: 1 })
    const other = agent.send('wait', {}, { task_id: 'o', timeout_seconds: 30 })
    await agent.says('began o')
    expect((await agent.send('echo')).status).toBe(429)
    await call('DELETE', `${agent.url}/task/o`)
    expect((await other).status).toBe(500)
    expect((await agent.send('open')).status).toBe(200)
    await agent.says('ended i timeout')
    await until('its place is free', async () => (await agent.health()).running === 0)
  })

  // --- signatures ----------------------------------------------------------------------------------------------------------

  test('the published test vector of Standard Webhooks comes out, and nothing else passes', async () => {
    expect(
      await asked(`
import json
from switchyard import WebhookVerificationError, sign, verify, verify_webhook
from switchyard.signature import keys_of
secret, body, now = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}', 1614265330
right = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", now, body)
def ok(secrets=secret, body=body, at=now, **more):
    headers = {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": str(now), "webhook-signature": right, **{"webhook-" + k: v for k, v in more.items()}}
    return verify(keys_of(secrets), headers, body, at) is None
other = "whsec_" + "QUJD" * 8
def bad(secret):
    try:
        return bool(keys_of(secret)) and False
    except ValueError as error:
        return secret == "whsec_" or secret not in str(error)
def event(**more):
    headers = {"Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "WEBHOOK-TIMESTAMP": str(now), "webhook-signature": right, **more}
    try:
        return verify_webhook(other + " " + secret, headers, body.decode(), now)
    except WebhookVerificationError as error:
        return str(error)
print(json.dumps([right, [event(), event(**{"webhook-signature": "v1,AAAA"})],
  [ok(), ok(at=now + 299), ok(at=now - 299), ok([other, secret]), ok(other + " " + secret), ok(signature="v1,AAAA v1a,x " + right)],
  [ok(other), ok(body=body + b" "), ok(at=now + 301), ok(at=now - 301), ok(signature=""), ok(id="x"), ok(timestamp="16e8"), ok(signature=right[3:]), ok(signature="v1," + "é"), ok(timestamp=str(now + 1))],
  [bad("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), bad("whsec_"), bad("whsec_!!"), bad("whsec_" + "QUJD" * 7), bad("whsec_" + "QUJD" * 22)]]))`),
    ).toEqual(['v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=', [{ test: 2432232314 }, expect.stringContaining('webhook-signature')], Array(6).fill(true), Array(10).fill(false), Array(5).fill(true)])
  })

  test('an agent with secrets does only what is signed (S1)', async () => {
    const keys = [randomUUID(), randomUUID()].map((text) => Buffer.from(text))
    await using agent = await startAgent({ AGENT_SECRET: keys.map((key) => `whsec_${key.toString('base64')}`).join(' ') })
    const signed = (body: string, key: Buffer, at = Math.floor(Date.now() / 1000), id = 'task_1') => ({ 'webhook-id': id, 'webhook-timestamp': String(at), 'webhook-signature': `v1,${createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64')}` })
    const body = JSON.stringify({ task_id: 's', task_type: 'wait', parameters: {} })
    const send = (headers: Record<string, string>) => call('POST', `${agent.url}/task`, body, headers)
    for (const headers of [{}, signed(body, Buffer.from('x')), signed(body, keys[0]!, 1_700_000_000), signed(`${body} `, keys[0]!), signed(body, keys[0]!, undefined, 'stop_1')]) expect(await send(headers)).toMatchObject({ status: 401, json: { error: expect.any(String) } })
    expect(agent.output()).not.toContain('began')
    for (const key of keys) {
      const answer = send(signed(body, key))
      await until('it runs', async () => (await agent.health()).running === 1)
      expect((await call('DELETE', `${agent.url}/task/s`)).status).toBe(401)
      for (const [sent, id, of] of [[body, 'task_1', {}], ['', 'task_1', {}], ['', 'stop_t', {}], ['', 'stop_s', { 'switchyard-attempt': 't' }]] as const) expect((await call('DELETE', `${agent.url}/task/s`, sent || undefined, { ...signed(sent, key, undefined, id), ...of })).status).toBe(401)
      expect((await call('DELETE', `${agent.url}/task/s`, undefined, signed('', key, undefined, 'stop_s'))).status).toBe(200)
      expect((await answer).status).toBe(500)
    }
  })

  // --- its life at the router ----------------------------------------------------------------------------------------------

  test('it shows the token that it was given, its key to register, and its key where the token is refused', async () => {
    await using router = await standIn((path) => {
      if (path === '/agents/register') return { ...REGISTERED, agent_token: `sya_${router.registrations().length}` }
      return path.endsWith('/heartbeat') ? ({ 3: 403, 6: 404 }[router.beats().length] ?? BEAT) : {}
    })
    await using agent = await startAgent({ AGENT_REGISTER: '1', SWITCHYARD_URL: router.url, SWITCHYARD_API_KEY: 'k' })
    await until('it beats again', () => router.beats().length >= 7)
    expect(router.registrations().map((s) => s.headers.authorization)).toEqual(['Bearer k', 'Bearer k'])
    expect(router.beats().slice(0, 7).map((s) => s.headers.authorization)).toEqual(['sya_1', 'sya_1', 'sya_1', 'k', 'k', 'k', 'sya_2'].map((shown) => `Bearer ${shown}`))
    expect(agent.output()).not.toContain('sya_')
  })

  test('it registers when the router comes up, beats as told, obeys, and registers again when forgotten (R1-R4, B1-B5)', async () => {
    const free = await standIn(() => 404)
    await free[Symbol.asyncDispose]()
    const env = { AGENT_REGISTER: '1', SWITCHYARD_URL: `http://127.0.0.1:${free.port}/base/`, SWITCHYARD_API_KEY: 'sk_1', http_proxy: 'http://127.0.0.1:9', AGENT_NAME: 'odd one' }
    await using agent = await startAgent(env)
    await agent.says('cannot register')
    expect((await call('GET', `${agent.url}/health/ready`)).status).toBe(503)
    const state = { ...BEAT, forgets: 0, breaks: 0 as number }
    await using router = await standIn((path) => {
      if (path === '/base/agents/register') return { ...REGISTERED, code: 201 }
      if (state.breaks > 0) return [undefined, 500, { text: 'no JSON' }, { text: '[]' }, { next_interval_seconds: 'soon', cancel: null, lost: 7 }, 400][6 - state.breaks--]
      return state.forgets-- > 0 ? 404 : state
    }, free.port)
    const registrations = () => router.seen.filter((s) => s.path === '/base/agents/register')
    const lastBeat = () => router.beats().at(-1)?.body
    await until('it beats', () => router.beats().length > 3)
    expect(registrations()[0]!.body).toEqual({ name: 'odd one', type: 'test', host: '127.0.0.1', port: agent.port, capabilities: expect.arrayContaining(['echo', 'about']), max_concurrency: 4, ttl_seconds: 60, instance_id: expect.any(String) })
    expect(new Set(router.seen.map((s) => s.headers.authorization))).toEqual(new Set(['Bearer sk_1']))
    expect(router.beats()[0]!.path).toBe('/base/agents/a1/heartbeat')
    await until('it is ready', async () => (await call('GET', `${agent.url}/health/ready`)).status === 200)

    const tasks = ['c', 'l'].map((id) => agent.send('wait', {}, { task_id: id, attempt_id: `at-${id}` }))
    await until('both are reported', () => lastBeat().running.toSorted().join() === 'at-c,at-l')
    state.cancel = ['at-c', 'at-unknown']
    state.lost = ['at-l']
    expect((await Promise.all(tasks)).map((a) => [a.status, a.json.error])).toEqual([[500, 'the task was cancelled'], [500, "the attempt is no longer this agent's"]])
    await agent.says('ended c cancelled')
    await agent.says('ended l lost')
    await until('nothing is reported', () => lastBeat().running.length === 0)

    state.drain = true
    await until('it drains', async () => (await agent.send('echo')).status === 503)
    expect((await agent.send('echo')).headers.get('retry-after')).toBe('5')
    expect((await call('GET', `${agent.url}/health/ready`)).status).toBe(503)
    expect(await agent.health()).toMatchObject({ status: 'draining' })
    // It does not say healthy in between, which would undo it.
    expect(lastBeat()).not.toHaveProperty('status')
    state.drain = false
    await until('it drains no longer', async () => (await agent.send('echo')).status === 200)

    state.forgets = 1
    await until('it registered again', () => registrations().length === 2)
    expect(registrations()[1]!.body).toEqual({ ...registrations()[0]!.body, agent_id: 'a1' })

    // Whatever is answered, it goes on.
    state.breaks = 6
    await until('all of it was answered', () => state.breaks === 0)
    const before = router.beats().length
    await until('it beats on', () => router.beats().length > before + 2)
    expect((await agent.send('echo')).status).toBe(200)
    expect(agent.output().match(/cannot register/g)).toHaveLength(1)
    expect(agent.output()).not.toContain('went wrong')
  })

  test('beats come a little early or late, and sooner after a failure', async () => {
    let fails = true
    await using router = await standIn((path) => (path === '/agents/register' ? { ...REGISTERED, heartbeat_interval_seconds: 0.4 } : fails ? ((fails = false), undefined) : { ...BEAT, next_interval_seconds: 0.2 }))
    await using agent = await startAgent({ AGENT_REGISTER: '1', SWITCHYARD_URL: router.url })
    await until('it beats', () => router.beats().length >= 10)
    const at = [router.registrations()[0]!.at, ...router.beats().map((b) => b.at)]
    const gaps = at.slice(1).map((t, i) => t - at[i]!)
    expect(gaps[0]).toBeGreaterThan(0.35 * 1000)
    expect(Math.min(...gaps.slice(2))).toBeGreaterThan(0.15 * 1000)
    expect(agent.output().match(/heartbeat/g)).toHaveLength(2) // one failed; they are received again
  })

  test('no interval that it is told makes it silent for longer than its time to live', async () => {
    const intervals = await asked(`
import json
from types import SimpleNamespace
from switchyard.membership import Membership
def told(*intervals):
    member = Membership(SimpleNamespace(logger=None, agent_id=None, ttl_seconds=60), 1, [], None, None, None)
    for interval in intervals:
        member._told(interval)
    return member._interval
print(json.dumps([told(10), told(3600), told(float("inf")), told(10**400), told(0.0001), told(10, 0, -5, float("nan"), "1", None, True)]))`)
    expect(intervals).toEqual([10, 60, 60, 60, 0.05, 10])
  })

  test('no attempt id that the router would refuse stands in a beat', async () => {
    const lengths = await asked(`
import json
from types import SimpleNamespace as Named
from switchyard.work import Work
work = Work({}, 1, None)
ids = ["a" * 128, "a" * 129, "\\U0001f600" * 64, "\\U0001f600" * 65, None, chr(0xd800)]
work._places = {at: Named(context=Named(attempt_id=one)) for at, one in enumerate(ids)}
print(json.dumps([len(one) for one in work.attempt_ids()]))`)
    expect(lengths).toEqual([128, 64, 1])
  })

  test('a registration that is refused is said once, unmissably, and the agent lives on (R2)', async () => {
    await using router = await standIn(() => ({ code: 403, error: 'this host is never posted to' }))
    await using agent = await startAgent({ AGENT_REGISTER: '1', SWITCHYARD_URL: router.url, AGENT_HOST: '169.254.169.254', AGENT_PORT: '0', AGENT_ID: 'mine' })
    await agent.says('SWITCHYARD REFUSED THIS AGENT')
    expect(agent.output()).toContain('403 this host is never posted to')
    expect(router.registrations()[0]!.body).toMatchObject({ host: '169.254.169.254', agent_id: 'mine' })
    // One that is not refused, but fails, has tried three times meanwhile.
    await using failing = await standIn(() => ({ code: 500 }))
    await using other = await startAgent({ AGENT_REGISTER: '1', SWITCHYARD_URL: failing.url, AGENT_PORT: '0' })
    await until('it tries on', () => failing.seen.length >= 3)
    expect([router.seen.length, other.child.exitCode]).toEqual([1, null])
    expect(await agent.send('echo')).toMatchObject({ status: 503, json: { error: expect.stringContaining('not registered') } }) // it cannot tell who asks
    agent.child.kill('SIGTERM')
    expect(await agent.ended).toBe(0)
    expect(router.seen.length).toBe(1) // it was never registered
  })

  test('at SIGTERM it drains: says so, answers what runs, declines what is new, unregisters, exits 0 (L1, L2)', async () => {
    await using folder = await tempFolder()
    await using router = await standIn((path) => (path === '/agents/register' ? { ...REGISTERED, heartbeat_interval_seconds: 20 } : { ...BEAT, next_interval_seconds: 20 }))
    await using agent = await startAgent({ AGENT_REGISTER: '1', SWITCHYARD_URL: router.url })
    await agent.says('registered at') // before that it declines what it is sent
    const path = join(folder.path, 'now')
    const runs = agent.send('until_file', { path }, { task_id: 'r', attempt_id: 'at-r' })
    await agent.says('began r')
    agent.child.kill('SIGTERM')
    await until('it says that it drains', () => router.beats().length > 0)
    expect(router.beats()[0]!.body).toEqual({ status: 'draining', running: ['at-r'] })
    const declined = await agent.send('echo')
    expect([declined.status, declined.headers.get('retry-after'), declined.headers.get('connection')]).toEqual([503, '5', 'close'])
    expect(await agent.health()).toMatchObject({ status: 'draining', running: 1 })
    expect(router.seen.some((s) => s.path.endsWith('unregister'))).toBe(false)
    writeFileSync(path, '')
    expect((await runs).json).toMatchObject({ status: 'completed', result: 'there it is' })
    expect(await agent.ended).toBe(0)
    expect(router.seen.slice(1).map((s) => s.path)).toEqual(['/agents/a1/heartbeat', '/agents/a1/unregister'])
  })

  test('a drain has an end, and a second signal is one at once', async () => {
    await using router = await standIn((path) => (path === '/agents/register' ? REGISTERED : BEAT))
    await using slow = await startAgent({ AGENT_REGISTER: '1', SWITCHYARD_URL: router.url, AGENT_DRAIN_SECONDS: '0.2' })
    await until('it registered', () => router.registrations().length === 1)
    const stopped = ['wait', 'ignore'].map((type) => slow.send(type, {}, { task_id: type }))
    await slow.says('began wait')
    await slow.says('began ignore')
    slow.child.kill('SIGTERM')
    for (const answer of await Promise.all(stopped)) expect([answer.status, answer.headers.get('retry-after'), answer.json.status]).toEqual([503, '1', 'failed'])
    expect(await slow.ended).toBe(0)
    expect(slow.output()).toContain('ended wait stopped')
    expect(router.seen.at(-1)!.path).toBe('/agents/a1/unregister')

    await using hasty = await startAgent()
    const cut = hasty.send('ignore', {}, { task_id: 'h' }).catch(() => 'cut')
    await hasty.says('began h')
    hasty.child.kill('SIGINT')
    hasty.child.kill('SIGINT') // the same Ctrl-C, from a wrapper
    await until('it drains', async () => (await hasty.health()).status === 'draining')
    await until('another one counts', () => (hasty.child.kill('SIGINT'), hasty.child.exitCode !== null))
    expect(await hasty.ended).toBe(130)
    expect(await cut).toBe('cut')
  })

  test('a router that is gone or hangs does not keep it from leaving', async () => {
    let gone = false
    await using router = await standIn((path) => (gone ? undefined : path === '/agents/register' ? REGISTERED : BEAT))
    await using agent = await startAgent({ AGENT_REGISTER: '1', SWITCHYARD_URL: router.url })
    await until('it beats', () => router.beats().length > 0)
    gone = true
    agent.child.kill('SIGTERM')
    expect(await agent.ended).toBe(0)
    expect(agent.output()).toContain('could not unregister')
  })

  test('a port that is taken, and a setting that is wrong, are one plain line and exit code 1', async () => {
    await using taken = await standIn(() => 404)
    for (const [env, words] of [
      [{ AGENT_PORT: String(taken.port) }, new RegExp(`^odd: cannot listen on ${taken.port} \\(Address already in use.*\\); set AGENT_PORT to a free one, or leave it out\n$`)],
      [{ AGENT_PORT: 'eighty' }, /^odd: the port \(AGENT_PORT\) must be a number from 0 to 65535; it is 'eighty'\n$/],
      [{ SWITCHYARD_URL: 'router:8080' }, /^odd: the url of Switchyard \(SWITCHYARD_URL\) must be like [^\n]*\n$/],
      [{ AGENT_SECRET: 'hush' }, /^odd: the secret must be whsec_ and base64[^\n]*\n$/],
      [{ AGENT_SECRET: ' ' }, /^odd: the secret \(AGENT_SECRET\) is empty[^\n]*\n$/],
      [{ AGENT_ID: 'a b' }, /^odd: the agent's id \(AGENT_ID\) must be [^\n]*\n$/],
      [{ AGENT_BIND: '192.0.2.1' }, /^odd: cannot listen on [^\n]*\n$/],
    ] as const) {
      await using agent = start([join(ROOT, 'test/agents/python_odd.py')], { cwd: ROOT, env: { ...environment, AGENT_NAME: 'odd', ...env } })
      expect(await agent.ended, agent.output()).toBe(1)
      expect(agent.output()).toMatch(words)
    }
  })

  test('options beat the environment, hosts and addresses to listen at follow from where the router is', async () => {
    const settings = await asked(
      `
import json, socket
from switchyard import server
from switchyard.settings import resolve
base = dict(name=None, type=None, url=None, api_key=None, host=None, port=None, bind=None, agent_id=None, max_concurrency=10, ttl_seconds=60, metadata=None, version=None, secret=None, drain_seconds=25, register=True, logger=None)
def of(env={}, **options):
    s = resolve({**base, **options}, env)
    return [s.name, s.type, s.target.url, s.target.api_key, s.host, s.port, s.agent_id, list(s.bind)]
def wrong(**options):
    try:
        of(**options)
    except ValueError as error:
        return str(error).split(" ")[0]
env = dict(AGENT_NAME="n", AGENT_HOST="h.example", AGENT_PORT="81", AGENT_BIND="127.0.0.9", AGENT_ID="i", SWITCHYARD_URL="https://router.example/x", SWITCHYARD_API_KEY="k")
def dual():
    sockets = server.listen([""], 0)
    port = sockets[0].getsockname()[1]
    reached = []
    for at in ["127.0.0.1"] + (["::1"] if socket.has_dualstack_ipv6() else []):
        with socket.create_connection((at, port), 2):
            reached.append(at)
    return len(reached) == (2 if socket.has_dualstack_ipv6() else 1)
print(json.dumps([of(), of(env), of(env, name="a", type="t", url="http://[::1]:1", api_key="K", host="b", port=82, bind="::", agent_id="j"),
  [of(**o)[-1] for o in [dict(url="http://localhost:1"), dict(url="http://127.3.2.1"), dict(url="http://router"), dict(host="agent-1"), dict(host="127.0.0.1", url="http://router"), dict(host="localhost:9")]],
  [wrong(**o) for o in [dict(max_concurrency=0), dict(max_concurrency=True), dict(ttl_seconds=1), dict(type="a.b"), dict(name="a\\nb"), dict(metadata={"a": {1}}), dict(metadata=[]), dict(url="http://u:p@h"), dict(secret=""), dict(secret=" "), dict(secret=[])]],
  dual()]))`,
    )
    const anywhere = ['']
    const loopback = ['127.0.0.1', '::1']
    expect(settings).toEqual([
      ['default-agent', 'default', 'http://127.0.0.1:8080', null, null, 0, null, loopback],
      ['n', 'default', 'https://router.example:443/x', 'k', 'h.example', 81, 'i', ['127.0.0.9']],
      ['a', 't', 'http://[::1]:1', 'K', 'b', 82, 'j', ['::']],
      [loopback, loopback, anywhere, anywhere, loopback, loopback],
      ['max_concurrency', 'max_concurrency', 'ttl_seconds', 'type', 'the', 'metadata', 'metadata', 'the', 'the', 'the', 'the'],
      true,
    ])
  })

  test('it runs inside another program, in any thread, and starts again', async () => {
    await using router = await standIn((path) => (path === '/agents/register' ? { ...REGISTERED, heartbeat_interval_seconds: 20 } : BEAT))
    const [ports, ids, ready, threads, instances] = await asked(
      `
import json, threading
from switchyard import Agent
agent = Agent(name="inside", type="test")
@agent.task("echo")
def echo(parameters): return parameters
ports, ids, ready = [], [], []
def live():
    agent.start()
    ready.append(agent.wait_until_registered(5))
    ports.append(agent.port); ids.append(agent.agent_id)
    try:
        agent.start()
    except RuntimeError as error:
        ids.append(str(error))
    agent.stop()
    agent.stop()
for _ in range(2):
    thread = threading.Thread(target=live); thread.start(); thread.join()
runner = threading.Thread(target=agent.run); runner.start()
while not agent.wait_until_registered(5): pass
agent.stop(); runner.join(5)
print(json.dumps([ports, ids, ready, [t.name for t in threading.enumerate()], runner.is_alive()]))`,
      { SWITCHYARD_URL: router.url },
    )
    expect(ports.every((p: number) => p > 0)).toBe(true)
    expect([ids, ready, threads, instances]).toEqual([['a1', 'the agent has started already', 'a1', 'the agent has started already'], [true, true], ['MainThread'], false])
    expect(router.seen.map((s) => s.path)).toEqual(Array(3).fill(['/agents/register', '/agents/a1/heartbeat', '/agents/a1/unregister']).flat())
    expect(new Set(router.registrations().map((s) => s.body.instance_id)).size).toBe(3)
  })
})
