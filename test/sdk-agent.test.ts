/** The TypeScript agent SDK by itself: how it serves, what handlers may do, signatures, settings. With a router: sdk-agent-router.test.ts. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, expect, test } from 'vitest'
import { createAgent, NonRetryableError, TaskAborted, type AgentOptions, type Fields, type Handler } from '../sdk/typescript/agent.ts'
import { bindFor } from '../sdk/typescript/address.ts'
import { createLogger, readLevel } from '../sdk/typescript/log.ts'
import { readSettings } from '../sdk/typescript/settings.ts'
import { readSecret, sign } from '../sdk/typescript/signature.ts'
import { until } from './processes.ts'
import { call, type Answer } from './system.ts'

const MIB = 1024 * 1024

/** Never rejects: an answer, or null when the connection ended without one. */
type Sent = { answer: Promise<Answer | null>; hangUp: () => void }

/** An agent in this process, which is told of no router unless its options say so, and what it logged. */
const startAgent = async (capabilities: Record<string, Handler>, options: Partial<AgentOptions> = {}) => {
  const logs: { level: string; message: string; fields: Fields }[] = []
  const log = (level: string) => (message: string, fields: Fields = {}) => void logs.push({ level, message, fields })
  const logger = { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') }
  const agent = createAgent({ name: 'it', register: false, handleSignals: false, drainSeconds: 0, logger, capabilities, ...options })
  await agent.start()
  const url = `http://127.0.0.1:${agent.port}`
  const body = (task_type: string, parameters: object, more: object) => ({ task_id: 'test.1', task_type, parameters, timeout_seconds: 30, priority: 5, metadata: {}, attempt: 1, attempt_id: crypto.randomUUID(), ...more })
  return {
    agent,
    url,
    logs,
    said: (level: string) => logs.filter((l) => l.level === level).map((l) => l.message),
    get: (path: string) => call('GET', url + path),
    send: (task_type: string, parameters: object = {}, more: object = {}, headers: Record<string, string> = {}) => call('POST', `${url}/task`, body(task_type, parameters, more), headers),
    /** The same, with a way to hang up. */
    begin: (task_type: string, parameters: object = {}, more: object = {}): Sent => {
      const controller = new AbortController()
      const request = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body(task_type, parameters, more)), signal: controller.signal }
      const answer = fetch(`${url}/task`, request).then(async (res) => ({ status: res.status, headers: res.headers, json: await res.json(), text: '' }), () => null) // prettier-ignore
      return { answer, hangUp: () => controller.abort() }
    },
    [Symbol.asyncDispose]: () => agent.stop(),
  }
}

/** A handler that waits to be let go, and what it was given. */
const gate = (obeys = true) => {
  const { promise, resolve } = Promise.withResolvers<void>()
  const calls: { parameters: any; ctx: Parameters<Handler>[1] }[] = []
  const whys = (): string[] => calls.filter((c) => c.ctx.signal.aborted).map((c) => c.ctx.signal.reason.why)
  const handler: Handler = async (parameters, ctx) => {
    calls.push({ parameters, ctx })
    await (obeys ? Promise.race([promise, once(ctx.signal, 'abort')]) : promise)
    return 'whole'
  }
  return { handler, calls, whys, open: resolve }
}

describe('serving', () => {
  test('answers a task with its result, and tells the handler what it came with', async () => {
    const seen: any[] = []
    await using it = await startAgent({ add: ({ a, b }: { a: number; b: number }, ctx) => { seen.push(ctx); return a + b } }) // prettier-ignore
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
    const answer = await it.send('add', { a: 1, b: 2 }, { attempt: 3, attempt_id: 'x.1', timeout_seconds: 1.5, metadata: { of: 'Ada' } }, { traceparent })
    expect(answer).toMatchObject({ status: 200, json: { task_id: 'test.1', status: 'completed', result: 3, execution_time_ms: expect.any(Number) } })
    expect(answer.headers.get('content-type')).toBe('application/json')
    expect(seen[0]).toMatchObject({ taskId: 'test.1', taskType: 'add', attempt: 3, attemptId: 'x.1', timeoutMs: 1500, metadata: { of: 'Ada' }, traceparent })
    expect(seen[0].deadline.getTime() - Date.now()).toBeLessThanOrEqual(1500)
    seen[0].logger.info('counted', { n: 1 })
    expect(it.logs.at(-1)).toEqual({ level: 'info', message: 'counted', fields: { task_id: 'test.1', attempt: 3, n: 1 } })
    await it.send('add', {}, {}, { traceparent: 'nonsense' })
    expect(seen[1].traceparent).toBeUndefined()
  })

  test('shows its health; other routes are 404 and wrong methods 405, all as JSON', async () => {
    await using it = await startAgent({ a: () => 1, b: () => 2 }, { maxConcurrency: 3 })
    expect(await it.get('/health?x=1')).toMatchObject({ status: 200, json: { status: 'healthy', running: 0, max_concurrency: 3, capabilities: ['a', 'b'], agent_id: null } })
    expect(await it.get('/health/live')).toMatchObject({ status: 200, json: { status: 'live' } })
    expect(await it.get('/health/ready')).toMatchObject({ status: 200, json: { status: 'ready' } })
    expect(await it.get('/')).toMatchObject({ status: 404, json: { error: expect.stringContaining('POST /task') } })
    const wrong = await it.get('/task')
    expect([wrong.status, wrong.headers.get('allow'), wrong.json.error]).toEqual([405, 'POST', '/task takes POST'])
    expect((await call('POST', `${it.url}/health`, {})).status).toBe(405)
    expect((await call('PUT', `${it.url}/task/x`, {})).headers.get('allow')).toBe('DELETE')
  })

  test('a body that is no UTF-8 is 400, and not done as another', async () => {
    const { handler, calls, open } = gate()
    open()
    await using it = await startAgent({ echo: handler })
    const [before, after] = JSON.stringify({ task_id: 't', task_type: 'echo', parameters: { name: '|' } }).split('|')
    const res = await fetch(`${it.url}/task`, { method: 'POST', body: Buffer.concat([Buffer.from(before!), Buffer.from([0xff, 0xfe]), Buffer.from(after!)]) })
    expect([res.status, calls]).toEqual([400, []])
    await res.arrayBuffer()
  })

  test.each([
    ['no JSON', '{"task_id":'],
    ['nothing', ''],
    ['a list', '[]'],
    ['no task_id', { task_id: undefined }],
    ['no task_type', { task_type: undefined }],
    ['a task_type that is no string', { task_type: 7 }],
    ['no parameters', { parameters: undefined }],
    ['parameters that are a list', { parameters: [] }],
    ['parameters that are null', { parameters: null }],
    ['a timeout of 0', { timeout_seconds: 0 }],
    ['metadata that are a string', { metadata: 'x' }],
    ['an attempt_id too long for a heartbeat', { attempt_id: 'x'.repeat(129) }],
  ])('a body with %s is 400, and does no harm', async (_name, body) => {
    const { handler, calls } = gate()
    await using it = await startAgent({ echo: handler, ok: () => 1 })
    const sent = typeof body === 'string' ? await call('POST', `${it.url}/task`, body) : await it.send('echo', {}, body)
    expect(sent).toMatchObject({ status: 400, json: { error: expect.any(String) } })
    expect(calls).toEqual([])
    expect((await it.send('ok')).status).toBe(200)
  })

  test('a body over 2 MiB is 413, however it comes, and the agent goes on; one of 2 MiB is taken', async () => {
    await using it = await startAgent({ size: ({ text }: { text: string }) => text.length })
    expect(await it.send('size', { text: 'x'.repeat(2 * MIB) })).toMatchObject({ status: 413, json: { error: expect.stringContaining('2097152') } })
    const text = 'x'.repeat(2 * MIB - 1000)
    expect((await it.send('size', { text })).json.result).toBe(text.length)
    // In chunks without end: cut off, wherever that is noticed first.
    const socket = connect(it.agent.port!, '127.0.0.1')
    socket.on('error', () => {})
    const closed = new Promise<void>((done) => socket.once('close', () => done()))
    let heard = ''
    socket.on('data', (chunk) => (heard += String(chunk)))
    socket.write('POST /task HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n')
    const chunk = `${MIB.toString(16)}\r\n${'x'.repeat(MIB)}\r\n`
    for (let sent = 0; sent < 256 && !socket.destroyed && heard === ''; sent++) await Promise.race([closed, new Promise((written) => socket.write(chunk, written))])
    await closed
    expect(heard === '' || /^HTTP\/1\.1 413 .*\r\nConnection: close\r\n/s.test(heard), heard).toBe(true)
    socket.destroy()
    expect((await it.send('size', { text: 'abc' })).json.result).toBe(3)
  })

  test('however many connections say nothing, others are served, and none that waits is cut off', async () => {
    const { handler, open } = gate()
    await using it = await startAgent({ wait: handler, echo: () => 1 }, { maxConcurrency: 2 })
    const waiting = it.begin('wait')
    await until('it waits', () => it.agent.running === 1)
    const silent = Array.from({ length: 300 }, () => connect(it.agent.port!, '127.0.0.1').on('error', () => {}))
    await Promise.all(silent.map((socket) => new Promise((done) => socket.once('connect', done).once('close', done))))
    expect((await it.begin('echo').answer)?.status).toBe(200)
    open()
    expect((await waiting.answer)?.status).toBe(200)
    const left = () => silent.filter((socket) => !socket.destroyed).length
    silent.forEach((socket) => socket.resume())
    await until(`all but those it has room for are closed`, () => left() <= 104)
    expect(left()).toBeGreaterThan(90)
    silent.forEach((socket) => socket.destroy())
  })

  test('what is no HTTP is answered in JSON too', async () => {
    await using it = await startAgent({})
    const socket = connect(it.agent.port!, '127.0.0.1')
    socket.end('what?\r\n\r\n')
    let heard = ''
    socket.on('data', (chunk) => (heard += String(chunk)))
    await once(socket, 'close')
    expect(heard).toMatch(/^HTTP\/1\.1 400 .*application\/json.*\{"error":"[^"]+"\}$/s)
  })

  test('takes no more than maxConcurrency: 429 with Retry-After, but 422 for what it cannot do at all', async () => {
    const { handler, calls, open } = gate()
    await using it = await startAgent({ wait: handler }, { maxConcurrency: 2 })
    const two = [it.begin('wait'), it.begin('wait')]
    await until('both run', () => calls.length === 2)
    const third = await it.send('wait')
    expect([third.status, third.headers.get('retry-after'), third.json.error]).toEqual([429, '1', 'it has all the 2 tasks it can do at once'])
    expect(await it.send('toString')).toMatchObject({ status: 422, json: { task_id: 'test.1', error: 'it has no capability toString' } })
    expect(it.agent.running).toBe(2)
    expect((await it.get('/health')).json.running).toBe(2)
    open()
    expect((await Promise.all(two.map((one) => one.answer))).map((a) => a?.json.result)).toEqual(['whole', 'whole'])
    expect((await it.send('wait')).status).toBe(200)
  })

  test('the same attempt again joins the one that runs, and both get its answer', async () => {
    const { handler, calls, open } = gate()
    await using it = await startAgent({ wait: handler }, { maxConcurrency: 1 })
    const first = it.begin('wait', {}, { attempt_id: 'x.1' })
    await until('it runs', () => calls.length === 1)
    const second = it.begin('wait', {}, { attempt_id: 'x.1' })
    expect((await it.send('wait', {}, { attempt_id: 'x.2' })).status).toBe(429)
    await until('it joined', () => it.said('debug').some((message) => message.includes('joins')))
    first.hangUp()
    expect(await first.answer).toBeNull()
    // Time for it to see that the first has gone, which is not missed.
    for (let i = 0; i < 10; i++) await it.get('/health')
    expect(calls[0]!.ctx.signal.aborted).toBe(false)
    open()
    expect((await second.answer)?.json).toMatchObject({ status: 'completed', result: 'whole' })
    expect(calls.length).toBe(1)
  })

  test('stops when the last connection that waits is closed', async () => {
    const { handler, calls, whys } = gate()
    await using it = await startAgent({ wait: handler })
    const sent = [it.begin('wait', {}, { attempt_id: 'x.1' }), it.begin('wait', {}, { attempt_id: 'x.1' })]
    await until('both are there', () => it.said('debug').some((message) => message.includes('joins')))
    for (const one of sent) one.hangUp()
    await until('it is told', () => whys().length === 1)
    expect(whys()).toEqual(['disconnected'])
    expect(calls[0]!.ctx.signal.reason).toBeInstanceOf(TaskAborted)
    expect(calls[0]!.ctx.signal.reason).toMatchObject({ name: 'AbortError', message: expect.stringContaining('closed') })
    await until('it has stopped', () => it.agent.running === 0)
  })

  test('a handler that does not obey its signal holds its place until it ends', async () => {
    const { handler, calls, open } = gate(false)
    await using it = await startAgent({ wait: handler }, { maxConcurrency: 1 })
    const one = it.begin('wait', {}, { attempt_id: 'x.1' })
    await until('it runs', () => calls.length === 1)
    one.hangUp()
    await until('it is told', () => calls[0]!.ctx.signal.aborted)
    expect((await it.send('wait')).status).toBe(429)
    expect((await it.send('wait', {}, { attempt_id: 'x.1' })).status).toBe(503)
    open()
    await until('there is room again', () => it.agent.running === 0)
  })

  test('answers when the time is over, also for a handler that goes on', async () => {
    const { handler, calls, whys, open } = gate(false)
    await using it = await startAgent({ wait: handler })
    expect(await it.send('wait', {}, { timeout_seconds: 0.05 })).toMatchObject({ status: 500, json: { task_id: 'test.1', status: 'failed', error: 'no result within 0.05 s' } })
    expect([whys(), it.agent.running, calls.length]).toEqual([['timeout'], 1, 1])
    open()
    await until('it has ended', () => it.agent.running === 0)
  })

  test('DELETE /task/{id} stops a task; half a result does not pass for a whole one', async () => {
    const { handler, calls, whys } = gate()
    await using it = await startAgent({ wait: handler })
    const one = it.begin('wait', {}, { task_id: 'test.ä/1' })
    await until('it runs', () => calls.length === 1)
    expect((await call('DELETE', `${it.url}/task/other`)).status).toBe(404)
    expect((await call('DELETE', `${it.url}/task/%E0%A4%A`)).status).toBe(404)
    expect(await call('DELETE', `${it.url}/task/${encodeURIComponent('test.ä/1')}`)).toMatchObject({ status: 200, json: { status: 'cancelled' } })
    expect(await one.answer).toMatchObject({ status: 500, json: { status: 'failed', error: 'cancelled', retryable: false } })
    expect(whys()).toEqual(['cancelled'])
    expect((await call('DELETE', `${it.url}/task/${encodeURIComponent('test.ä/1')}`)).status).toBe(404)
  })
})

describe('what a handler throws or returns', () => {
  const own = Object.assign(new Error('closed account'), { retryable: false })
  test.each<[string, unknown, number, object]>([
    ['an Error', new Error('no such row'), 500, { error: 'no such row' }],
    ['an Error without words', new RangeError(''), 500, { error: 'RangeError' }],
    ['a NonRetryableError', new NonRetryableError('no such account'), 422, { error: 'no such account', retryable: false }],
    ['an error of its own that is final', own, 422, { error: 'closed account', retryable: false }],
    ['a string', 'out of paper', 500, { error: 'out of paper' }],
    ['an object', { code: 7 }, 500, { error: 'work threw { code: 7 }' }],
    ['undefined', undefined, 500, { error: 'work threw undefined' }],
    ['something nasty', { get message() { throw new Error('x') } }, 500, { error: expect.stringContaining('work threw') }], // prettier-ignore
  ])('throwing %s', async (_name, thrown, status, json) => {
    await using it = await startAgent({ work: () => { throw thrown } }) // prettier-ignore
    const answer = await it.send('work')
    expect([answer.status, answer.json]).toEqual([status, { task_id: 'test.1', status: 'failed', ...json }])
    expect(it.logs.find((l) => l.message === 'work failed')?.fields['error']).toBe(thrown)
  })

  test('an error has bounds, and its stack stays at home', async () => {
    await using it = await startAgent({ work: () => Promise.reject(new Error('x'.repeat(100_000))) })
    const answer = await it.send('work')
    expect(answer.json.error.length).toBe(4000)
    expect(answer.text).not.toContain('sdk-agent.test')
    expect(it.logs.find((l) => l.message === 'work failed')?.fields['error']).toMatchObject({ stack: expect.stringContaining('sdk-agent.test') })
  })

  test('a logger that throws costs neither a place nor the process', async () => {
    const fail = (): never => { throw new Error('no log') } // prettier-ignore
    await using it = await startAgent({ work: () => fail() }, { logger: { debug: fail, info: fail, warn: fail, error: fail } })
    expect((await it.send('work')).json).toMatchObject({ status: 'failed', error: 'no log' })
    expect(it.agent.running).toBe(0)
  })

  const cycle: Record<string, unknown> = {}
  cycle['self'] = cycle
  test.each<[string, unknown, RegExp]>([
    ['a BigInt', 1n, /^what work returned is no JSON: .*BigInt/],
    ['NaN', NaN, /^what work returned is no JSON: its member "result" is NaN/],
    ['an Infinity deep in it', { a: [1, { b: -Infinity }] }, /^what work returned is no JSON: its member "b" is -Infinity/],
    ['a function', () => 1, /^what work returned is no JSON: its member "result" is a function/],
    ['a function within', { a: [{ then_do: () => 1 }] }, /its member "then_do" is a function/],
    ['a symbol', Symbol('x'), /is a symbol/],
    ['a cycle', cycle, /^what work returned is no JSON: .*circular/],
    ['more than 1 MiB', 'x'.repeat(MIB), /^what work returned is 10486\d\d bytes as JSON; at most 1 MiB/],
  ])('returning %s fails for good, and says what did', async (_name, result, error) => {
    await using it = await startAgent({ work: () => result })
    expect(await it.send('work')).toMatchObject({ status: 500, json: { task_id: 'test.1', status: 'failed', error: expect.stringMatching(error), retryable: false } })
    expect(it.said('error').join()).toMatch(error)
  })

  test.each<[unknown, unknown]>([[undefined, null], [null, null], [0, 0], ['', ''], [[1, 'ä\u2028'], [1, 'ä\u2028']], [new Date(0), '1970-01-01T00:00:00.000Z']])('returning %j gives %j', async (result, read) => {
    await using it = await startAgent({ work: async () => result })
    const { json } = await it.send('work')
    expect(Object.hasOwn(json, 'result')).toBe(true)
    expect(json.result).toEqual(read)
  })
})

describe('signatures', () => {
  // The example that the Standard Webhooks libraries share.
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  const other = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
  const message = { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', timestamp: '1614265330', body: '{"test": 2432232314}' }
  const now = () => Math.floor(Date.now() / 1000)

  test('are those of Standard Webhooks', () => {
    expect(sign([readSecret(secret)], message)).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=')
  })

  const signed = (body: string, by: string[], at = now(), id = 'task_1') => ({ 'webhook-id': id, 'webhook-timestamp': String(at), 'webhook-signature': sign(by.map(readSecret), { id, timestamp: String(at), body }) })
  const body = JSON.stringify({ task_id: 't', task_type: 'work', parameters: { text: 'ä' } })
  const mended = (headers: Record<string, string>, name: string, value: string) => ({ ...headers, [name]: value })
  test.each<[string, number, () => Record<string, string>]>([
    ['signed with the secret', 200, () => signed(body, [secret])],
    ['signed with the other of two secrets', 200, () => signed(body, [other])],
    ['with a right signature behind others', 200, () => mended(signed(body, [secret]), 'webhook-signature', `v1,AAAA v1a,xyz ${sign([readSecret(secret)], { id: 'task_1', timestamp: String(now()), body })}`)],
    ['four minutes old', 200, () => signed(body, [secret], now() - 240)],
    ['not signed', 401, () => ({})],
    ['without an id', 401, () => mended(signed(body, [secret]), 'webhook-id', '')],
    ['of another body', 401, () => signed(`${body} `, [secret])],
    ['of another id', 401, () => mended(signed(body, [secret]), 'webhook-id', 'task_2')],
    ['signed as a cancellation', 401, () => signed(body, [secret], now(), 'stop_1')],
    ['with another secret', 401, () => signed(body, [`whsec_${Buffer.alloc(24).toString('base64')}`])],
    ['six minutes old', 401, () => signed(body, [secret], now() - 360)],
    ['from in six minutes', 401, () => signed(body, [secret], now() + 360)],
    ['with a time that is none', 401, () => mended(signed(body, [secret]), 'webhook-timestamp', 'NaN')],
  ])('a task %s is %i', async (_name, status, headers) => {
    let done = 0
    await using it = await startAgent({ work: () => ++done }, { secret: [secret, other] })
    expect((await call('POST', `${it.url}/task`, body, headers())).status).toBe(status)
    expect(done).toBe(status === 200 ? 1 : 0)
  })

  test('how old one may be can be said', async () => {
    await using it = await startAgent({ work: () => 1 }, { secret, toleranceSeconds: 60 })
    expect([(await call('POST', `${it.url}/task`, body, signed(body, [secret], now() - 90))).status, (await call('POST', `${it.url}/task`, body, signed(body, [secret], now() - 20))).status]).toEqual([401, 200])
  })

  test('a cancellation needs one too, health does not', async () => {
    const { handler, calls } = gate()
    await using it = await startAgent({ wait: handler }, { secret })
    const task = JSON.stringify({ task_id: 't', task_type: 'wait', parameters: {} })
    const answer = call('POST', `${it.url}/task`, task, signed(task, [secret]))
    await until('it runs', () => calls.length === 1)
    expect((await call('DELETE', `${it.url}/task/t`)).status).toBe(401)
    for (const [id, of] of [['task_t', {}], ['stop_u', {}], ['stop_t', { 'switchyard-attempt': 'u' }], ['stop_u', {}]] as const) expect((await call('DELETE', `${it.url}/task/t`, undefined, { ...signed('', [secret], now(), id), ...of })).status).toBe(401)
    expect((await call('DELETE', `${it.url}/task/t`, task, signed(task, [secret]))).status).toBe(401)
    expect(calls[0]!.ctx.signal.aborted).toBe(false)
    expect((await call('DELETE', `${it.url}/task/t`, undefined, signed('', [secret], now(), 'stop_t'))).status).toBe(200)
    expect((await answer).json.error).toBe('cancelled')
    expect((await it.get('/health')).status).toBe(200)
  })
})

describe('settings', () => {
  const read = (options: Partial<AgentOptions>, env: Record<string, string> = {}) => readSettings({ capabilities: {}, ...options }, env)

  test('an option beats the environment, which beats what fits most', () => {
    const env = { AGENT_NAME: 'n', AGENT_HOST: 'h', AGENT_PORT: '81', AGENT_BIND: '0.0.0.0', AGENT_ID: 'i', SWITCHYARD_URL: 'http://r:1/', SWITCHYARD_API_KEY: 'k', AGENT_SECRET: `whsec_${'A'.repeat(32)}  whsec_${'B'.repeat(32)}` }
    expect(read({}, env)).toMatchObject({ name: 'n', host: 'h', port: 81, bind: '0.0.0.0', agentId: 'i', url: 'http://r:1', apiKey: 'k', secrets: [expect.any(Buffer), expect.any(Buffer)] })
    const options = { name: 'N', host: 'H', port: 0, bind: '::', agentId: 'I', url: 'https://R', apiKey: 'K', secret: `whsec_${'C'.repeat(32)}` }
    expect(read(options, env)).toMatchObject({ name: 'N', host: 'H', port: 0, bind: '::', agentId: 'I', url: 'https://R', apiKey: 'K', secrets: [expect.any(Buffer)] })
    const none = read({ type: 'cost' }, { AGENT_NAME: '', AGENT_PORT: '', SWITCHYARD_URL: '' })
    expect(none).toMatchObject({ name: 'cost-agent', url: 'http://127.0.0.1:8080', host: '127.0.0.1', bind: '127.0.0.1', port: 0, maxConcurrency: 10, ttlSeconds: 60, drainMs: 25_000, register: true, secrets: [], verifies: true, toleranceSeconds: 300 })
    expect([read({}, { AGENT_VERIFY: 'false' }).verifies, read({ verify: true }, { AGENT_VERIFY: 'false' }).verifies, read({ toleranceSeconds: 60 }).toleranceSeconds]).toEqual([false, true, 60])
    expect(() => read({}, { AGENT_VERIFY: 'no' })).toThrow('AGENT_VERIFY must be true or false')
    expect(() => read({ verify: false, secret: `whsec_${'C'.repeat(32)}` })).toThrow('leave one of them out')
  })

  test('all that is wrong is said at once, and no secret with it', () => {
    const wrong = () => createAgent({ name: '', type: 'a b', url: 'ftp://x', port: 70_000, maxConcurrency: 0, ttlSeconds: 1, agentId: '.', apiKey: 'a\nb', secret: 'whsec_short', capabilities: { 'a b': () => 1, c: 7 as never } })
    expect(wrong).toThrow(TypeError)
    for (const name of ['name', 'type', 'url', 'port', 'maxConcurrency', 'ttlSeconds', 'agentId', 'apiKey', 'secret', '"a b"', 'capability c']) expect(wrong).toThrow(name)
    expect(wrong).not.toThrow('short')
    expect(() => read({}, { AGENT_PORT: 'http' })).toThrow('AGENT_PORT must be a port, 0 to 65535; not "http"')
    expect(() => read({ secret: [] })).toThrow('secret holds no secret')
    for (const secret of ['C'.repeat(32), `whsec_${'C'.repeat(28)}`, `whsec_${'C'.repeat(88)}`]) expect(() => read({ secret })).toThrow('whsec_')
  })

  test.each([
    ['http://127.0.0.1:8080', undefined, '127.0.0.1'],
    ['http://localhost:8080', undefined, '127.0.0.1'],
    ['http://[::1]:8080', undefined, '::1'],
    ['http://router:8080', undefined, undefined],
    ['http://router:8080', '127.0.0.1', undefined],
    ['http://127.0.0.1:8080', 'host.docker.internal', undefined],
    ['http://127.0.0.1:8080', '[::1]:81', '::1'],
  ])('for a router at %s, told of the host %s, it listens at %s', (url, host, bind) => {
    expect(bindFor(url, host)).toBe(bind)
  })

  test('a port that is taken is said in plain words, and only by start', async () => {
    await using first = await startAgent({})
    const second = createAgent({ name: 'second', register: false, handleSignals: false, port: first.agent.port, capabilities: {} })
    await expect(second.start()).rejects.toThrow(`cannot listen at 127.0.0.1, port ${first.agent.port}: the port is taken. Set AGENT_PORT`)
    expect(second.port).toBeUndefined()
    await second.stop()
    await expect(second.registered).rejects.toThrow('told not to register')
  })

  test('an agent that was stopped stays so, and stopping one that never began is nothing', async () => {
    const agent = createAgent({ register: false, handleSignals: false, capabilities: {} })
    await agent.stop()
    await expect(agent.start()).rejects.toThrow('was stopped')
  })

  test('logs a line an event: JSON for machines, readable on a terminal, and only what LOG_LEVEL lets through', async () => {
    const lines: string[] = []
    const { log } = console
    console.log = (line: string) => void lines.push(line)
    try {
      createLogger('it', 'info', false).error('went wrong\nbadly', { task_id: 't', error: new Error('x'), n: 1n })
      createLogger('it', 'info', true).info('fine', { task_id: 't' })
      for (const tty of [false, true]) createLogger('it', 'info', tty).error('odd', { error: Object.create(null) })
      createLogger('it', readLevel('WARN'), false).info('unsaid')
      createLogger('it', readLevel('silent'), false).error('unsaid')
    } finally {
      console.log = log
    }
    expect(lines.length).toBe(4)
    expect([JSON.parse(lines[2]!).msg, lines[3]!.split('\n')[1]]).toEqual(['odd', '{}'])
    expect(lines[0]).not.toContain('\n')
    expect(JSON.parse(lines[0]!)).toMatchObject({ level: 'error', agent: 'it', msg: 'went wrong\nbadly', task_id: 't', n: '1', error: expect.stringContaining('Error: x\n    at'), time: expect.stringMatching(/Z$/) })
    // oxlint-disable-next-line no-control-regex
    expect(lines[1]!.replace(/\x1b\[\d+m/g, '')).toMatch(/^\d\d:\d\d:\d\d INFO {2}it: fine task_id=t$/)
  })
})
