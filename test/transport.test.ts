/** The HTTP transport against real servers on port 0: what agents do, and the outcome it comes to. */
import { createServer as createHttpServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, test } from 'vitest'
import { createHostPolicy } from '../src/contracts/host.ts'
import { createConnections } from '../src/transports/connections.ts'
import { createHttpTransport } from '../src/transports/http.ts'
import { createTransports } from '../src/transports/index.ts'
import type { DeliveryRequest, Outcome, Transport } from '../src/transports/transport.ts'
import { atBest, until } from './system.ts'

const TASK_ID = 'cost.0199b1c0-0000-7000-8000-000000000001'
const policy = createHostPolicy({ cidrs: [] })

const cleanups: (() => unknown)[] = []
const unhandled: unknown[] = []
const note = (reason: unknown): void => void unhandled.push(reason)
process.on('unhandledRejection', note)
process.on('uncaughtException', note)

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  expect(unhandled).toEqual([])
})

/** A server, the sockets it has open, and how many it has ever had. */
const listening = async <S extends Server>(server: S, host = '127.0.0.1', port = 0) => {
  const sockets = new Set<Socket>()
  const seen = { connections: 0, bytes: 0 }
  server.on('connection', (socket: Socket) => {
    seen.connections += 1
    sockets.add(socket)
    socket.on('data', (chunk: Buffer) => void (seen.bytes += chunk.length))
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((done) => server.listen(port, host, done))
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy()
    return new Promise((done) => server.close(done))
  })
  return { port: (server.address() as AddressInfo).port, sockets, seen }
}
const agent = (listener: RequestListener) => listening(createHttpServer(listener))
/** An agent that speaks bytes: `talk` is called when a whole request has come. */
const tcpAgent = (talk: (socket: Socket) => void) =>
  listening(
    createServer((socket) => {
      let text = ''
      socket.on('data', (chunk) => {
        text += chunk.toString('latin1')
        const head = text.indexOf('\r\n\r\n')
        const length = Number(/content-length: (\d+)/i.exec(text)?.[1])
        if (head < 0 || text.length < head + 4 + length) return
        text = ''
        talk(socket)
      })
    }),
  )
const answering = (status: number, body: string | Buffer, headers: Record<string, string> = {}) => agent((_req, res) => void res.writeHead(status, headers).end(body))

const textOf = async (req: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

const newTransport = (deps: Partial<Parameters<typeof createHttpTransport>[0]> = {}): Transport => {
  const transport = createHttpTransport({ policy, ...deps })
  cleanups.push(() => transport.close())
  return transport
}
const delivery = (port: number, more: Partial<DeliveryRequest> & { host?: string } = {}): DeliveryRequest => {
  const { host = '127.0.0.1', ...rest } = more
  return {
    target: { agentId: 'a', name: 'A', host, port, keys: [] },
    taskId: TASK_ID,
    taskType: 'analyze',
    attempt: 1,
    attemptId: 'attempt-1',
    timeMs: Date.now(),
    parameters: '{}',
    metadata: '{}',
    priority: 5,
    timeoutMs: 10_000,
    ...rest,
  }
}
const post = (port: number, more: Parameters<typeof delivery>[1] = {}, transport = newTransport()): Promise<Outcome> => transport.send(delivery(port, more)).outcome
const completed = (result: string): string => `{"task_id":"${TASK_ID}","status":"completed","result":${result},"execution_time_ms":12.5}`
const timers = (): number => process.getActiveResourcesInfo().filter((r) => r === 'Timeout').length
const timed = async <T>(work: () => Promise<T>): Promise<[T, number]> => {
  const began = performance.now()
  return [await work(), performance.now() - began]
}

describe('what is sent', () => {
  test('is a POST to /task with the task, its raw parameters and metadata, and the attempt', async () => {
    let request: { url: string | undefined; method: string | undefined; headers: IncomingMessage['headers']; body: string } | undefined
    const { port } = await agent(async (req, res) => {
      request = { url: req.url, method: req.method, headers: req.headers, body: await textOf(req) }
      res.end(completed('1'))
    })
    const parameters = '{ "n" : 12345678901234567890,"list":[],"text":"é\\u0000😀", "f":1.0 }'
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    await post(port, { parameters, metadata: '{"m":1e0}', attempt: 3, attemptId: 'x"y', priority: 10, timeoutMs: 1500, traceparent })
    expect(request?.method).toBe('POST')
    expect(request?.url).toBe('/task')
    expect(request?.body).toBe(`{"task_id":"${TASK_ID}","task_type":"analyze","parameters":${parameters},"timeout_seconds":1.5,"priority":10,"metadata":{"m":1e0},"attempt":3,"attempt_id":"x\\"y"}`)
    expect(request?.headers).toMatchObject({
      host: `127.0.0.1:${port}`,
      'content-type': 'application/json',
      'accept-encoding': 'identity',
      'idempotency-key': TASK_ID,
      'switchyard-attempt': '3',
      traceparent,
    })
  })

  test('leaves out a malformed trace context rather than fail', async () => {
    let seen: unknown = 'none'
    const { port } = await agent((req, res) => void (seen = req.headers.traceparent, res.end(completed('1'))))
    expect(await post(port, { traceparent: 'bad\r\nx: y' })).toMatchObject({ kind: 'completed' })
    expect(seen).toBeUndefined()
  })
})

describe('a completed answer', () => {
  test.each(['{"big":12345678901234567890,"f":1.0,"e":1E400}', '[]', '{}', 'null', '"é\\u00e9😀"', ' [ 1 , { "a" : [] } ] '.trim(), 'true', '-0'])('keeps the bytes of the result %s', async (result) => {
    const { port } = await answering(200, completed(result))
    expect(await post(port)).toEqual({ kind: 'completed', result, statusCode: 200, executionTimeMs: 12.5 })
  })

  test('without a result has the result null, and execution_time_ms counts only as a number', async () => {
    const { port } = await answering(201, '{"status":"completed","execution_time_ms":"5"}')
    expect(await post(port)).toEqual({ kind: 'completed', result: 'null', statusCode: 201, executionTimeMs: null })
  })

  test('may come in single bytes, chunked, up to the cap exactly', async () => {
    const body = completed(`"${'é'.repeat(2000)}"`)
    const { port } = await agent((_req, res) => {
      for (const byte of Buffer.from(body)) res.write(Buffer.of(byte))
      res.end()
    })
    const maxBodyBytes = Buffer.byteLength(body)
    expect(await post(port, {}, newTransport({ maxBodyBytes }))).toMatchObject({ kind: 'completed', result: `"${'é'.repeat(2000)}"` })
    expect(await post(port, {}, newTransport({ maxBodyBytes: maxBodyBytes - 1 }))).toMatchObject({ kind: 'failed', error: expect.stringContaining('larger than') })
  })

  test('may be HTTP/1.0, ended by closing', async () => {
    const { port } = await tcpAgent((socket) => socket.end(`HTTP/1.0 200 OK\r\n\r\n${completed('7')}`))
    expect(await post(port)).toMatchObject({ kind: 'completed', result: '7' })
  })

  test('is completed whatever it says of retrying', async () => {
    const { port } = await answering(200, '{"status":"completed","retryable":false,"task_id":null,"error":null}')
    expect(await post(port)).toMatchObject({ kind: 'completed' })
  })
})

describe('an answer that is no success', () => {
  const rows: [number, string, Record<string, string>, Partial<Outcome>][] = [
    [202, '', {}, { kind: 'accepted', statusCode: 202 }],
    [202, 'ok', {}, { kind: 'accepted', statusCode: 202 }],
    [202, '{"status":"accepted"}', {}, { kind: 'accepted', statusCode: 202 }],
    [200, '{"status":"failed","error":"no such region"}', {}, { kind: 'failed', error: 'no such region', statusCode: 200 }],
    [200, '{"status":"failed","error":{"code":7}}', {}, { kind: 'failed', error: '{"code":7}' }],
    [200, '{"status":"failed"}', { 'retry-after': '3' }, { kind: 'failed', error: 'the agent said that it failed, and not why', retryAfterMs: 3000 }],
    [200, '{"status":"failed","error":"x","retryable":false}', {}, { kind: 'rejected', error: 'x', statusCode: 200 }],
    [200, '{"status":"done"}', {}, { kind: 'failed', error: expect.stringContaining('neither completed nor failed') as unknown as string }],
    [200, '{"result":1}', {}, { kind: 'failed' }],
    [200, '', {}, { kind: 'failed', error: 'the agent answered 200, but it has no body' }],
    [204, '', {}, { kind: 'failed', error: 'the agent answered 204, but it has no body', statusCode: 204 }],
    [200, '<html><body>Welcome</body></html>', { 'content-type': 'text/html' }, { kind: 'failed', error: 'the agent answered 200, but its body is not JSON: <html><body>Welcome</body></html>' }],
    [200, '{"status":"completed"', {}, { kind: 'failed', error: expect.stringContaining('not JSON') as unknown as string }],
    [200, '[1]', {}, { kind: 'failed', error: expect.stringContaining('no object') as unknown as string }],
    [200, 'null', {}, { kind: 'failed', error: expect.stringContaining('no object') as unknown as string }],
    [200, '{"status":"completed","task_id":"cost.other"}', {}, { kind: 'failed', error: 'the agent answered 200 for another task: "cost.other"' }],
    [200, '{"status":"completed","task_id":7}', {}, { kind: 'failed', error: 'the agent answered 200 for another task: 7' }],
    [202, '{"task_id":"cost.other"}', {}, { kind: 'failed', statusCode: 202 }],
    [404, '{"task_id":"cost.other","error":"x"}', {}, { kind: 'failed', statusCode: 404 }],
    [400, '{"error":"bad region"}', {}, { kind: 'rejected', error: 'bad region', statusCode: 400 }],
    [404, '', {}, { kind: 'rejected', error: 'the agent answered 404 and did not say why' }],
    [422, '{"detail":[{"loc":["body"]}]}', {}, { kind: 'rejected', error: '[{"loc":["body"]}]' }],
    [409, '{"error":"busy","retryable":true}', { 'retry-after': '2' }, { kind: 'failed', error: 'busy', statusCode: 409, retryAfterMs: 2000 }],
    [409, '{"error":"busy","retryable":"true"}', {}, { kind: 'rejected' }],
    [408, '', {}, { kind: 'failed', statusCode: 408 }],
    [425, '', {}, { kind: 'failed', statusCode: 425 }],
    [500, 'Traceback\n  boom', {}, { kind: 'failed', error: 'the agent answered 500: Traceback boom', statusCode: 500, retryAfterMs: undefined }],
    [502, '', { 'retry-after': '7' }, { kind: 'failed', retryAfterMs: 7000 }],
    [500, '{"error":"hopeless","retryable":false}', {}, { kind: 'rejected', error: 'hopeless', statusCode: 500 }],
    [503, '{"retryable":false,"error":"gone"}', {}, { kind: 'rejected', error: 'gone' }],
    [429, '', {}, { kind: 'no_room', statusCode: 429, retryAfterMs: 1000 }],
    [503, '{"error":"full"}', { 'retry-after': '2.5' }, { kind: 'no_room', error: 'full', retryAfterMs: 2500 }],
    [503, '', { 'retry-after': 'soon 2099' }, { kind: 'no_room', retryAfterMs: 1000 }],
    [503, '', { 'retry-after': '-5' }, { kind: 'no_room', retryAfterMs: 1000 }],
    [429, '', { 'retry-after': '0' }, { kind: 'no_room', retryAfterMs: 50 }],
    [429, '', { 'retry-after': '99999999999999999999' }, { kind: 'no_room', retryAfterMs: 300_000 }],
    [429, '', { date: 'Tue, 01 Jan 2030 00:00:00 GMT', 'retry-after': 'Tue, 01 Jan 2030 00:00:09 GMT' }, { kind: 'no_room', retryAfterMs: 9000 }],
    [429, '', { date: 'Tue, 01 Jan 2030 00:00:00 GMT', 'retry-after': 'Tue Jan  1 00:00:08 2030' }, { kind: 'no_room', retryAfterMs: 8000 }],
    [429, '', { 'retry-after': 'Mon, 01 Jan 2001 00:00:00 GMT' }, { kind: 'no_room', retryAfterMs: 50 }],
  ]
  test.each(rows)('%i %j with %j is understood', async (status, body, headers, expected) => {
    const { port } = await answering(status, body, headers)
    expect(await post(port)).toMatchObject(expected)
  })

  test.each([301, 302, 303, 307, 308])('%i is failed, and no byte reaches where it points', async (status) => {
    const elsewhere = await agent((_req, res) => void res.end(completed('1')))
    const { port } = await answering(status, '', { location: `http://127.0.0.1:${elsewhere.port}/task` })
    expect(await post(port)).toMatchObject({ kind: 'failed', statusCode: status, error: expect.stringContaining('redirects are never followed') })
    await new Promise((r) => setTimeout(r, 20))
    expect(elsewhere.seen).toEqual({ connections: 0, bytes: 0 })
  })

  test('with 20 KB of headers is failed', async () => {
    const { port } = await answering(200, completed('1'), { 'x-large': 'x'.repeat(20_000) })
    expect(await post(port)).toMatchObject({ kind: 'failed', error: expect.stringContaining('too large headers') })
  })

  test('that is compressed is failed, and not inflated', async () => {
    const { port } = await answering(200, gzipSync(completed('1')), { 'content-encoding': 'gzip' })
    expect(await post(port)).toMatchObject({ kind: 'failed', error: expect.stringContaining('compressed') })
    const unlabelled = await answering(200, gzipSync(completed('1')))
    expect(await post(unlabelled.port)).toMatchObject({ kind: 'failed', error: expect.stringContaining('not UTF-8') })
  })

  test('that is not UTF-8 is failed', async () => {
    const { port } = await answering(200, Buffer.from(completed('"é"'), 'latin1'))
    expect(await post(port)).toMatchObject({ kind: 'failed', error: expect.stringContaining('not UTF-8') })
  })

  test('that is nested deeper than 512 levels is failed, and 512 are not', async () => {
    const nested = (depth: number): string => completed('['.repeat(depth - 1) + ']'.repeat(depth - 1))
    expect(await post((await answering(200, nested(512))).port)).toMatchObject({ kind: 'completed' })
    expect(await post((await answering(200, nested(513))).port)).toMatchObject({ kind: 'failed', error: expect.stringContaining('deeper') })
    expect(await post((await answering(200, nested(400_000))).port)).toMatchObject({ kind: 'failed', error: expect.stringContaining('deeper') })
  })

  test('that is not HTTP is failed', async () => {
    const { port } = await tcpAgent((socket) => socket.end('SSH-2.0-OpenSSH_9.6\r\n'))
    expect(await post(port)).toMatchObject({ kind: 'failed', error: expect.stringContaining('not HTTP') })
  })

  test('has its words bounded and its control characters made harmless', async () => {
    const { port } = await answering(500, JSON.stringify({ error: `a\r\nb\u001b[31m\0\u202e${'x'.repeat(10_000)}` }))
    const outcome = await post(port)
    if (outcome.kind !== 'failed') throw new Error(outcome.kind)
    expect(outcome.error).toHaveLength(3999) // CR LF became one
    expect(outcome.error.startsWith('a\nb\ufffd[31m\ufffd\ufffdxxx')).toBe(true)
    const split = await post((await answering(500, JSON.stringify({ error: `${'x'.repeat(3998)}😀y` }))).port)
    expect(split.kind === 'failed' && split.error.isWellFormed()).toBe(true)
  })
})

describe('the deadline', () => {
  const ends = async (talk: (socket: Socket) => void, error: string): Promise<void> => {
    const { port, sockets } = await tcpAgent(talk)
    // What is promised: the timeout and a second.
    const took = await atBest(1150, async () => {
      const [outcome, ms] = await timed(() => post(port, { timeoutMs: 150 }))
      expect(outcome).toEqual({ kind: 'timeout', error: expect.stringContaining(error) })
      expect(ms).toBeGreaterThan(148) // Node's timers count whole milliseconds
      return ms
    })
    expect(took).toBeLessThan(1150)
    await until(() => sockets.size === 0)
  }
  const every = (ms: number, socket: Socket, text: string): void => {
    const timer = setInterval(() => socket.write(text), ms)
    socket.on('close', () => clearInterval(timer))
  }

  test('ends an attempt that is never answered', () => ends(() => {}, 'no answer'))
  test('ends an answer that hangs after its headers', () => ends((s) => s.write('HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n'), 'not finished'))
  test('ends headers that dribble', () => ends((s) => (s.write('HTTP/1.1 200 OK\r\nx: '), every(5, s, 'y')), 'no answer'))
  test('ends a body that dribbles', () => ends((s) => (s.write('HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n'), every(5, s, ' ')), 'not finished'))
  test('ends endless 103s', () => ends((s) => every(2, s, 'HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n'), 'no answer'))
  test('ends a hang after 202', () => ends((s) => s.write('HTTP/1.1 202 Accepted\r\ncontent-length: 9\r\n\r\n'), 'not finished'))

  test('ends a look-up that hangs, and others are unhurt', async () => {
    const { port } = await answering(200, completed('1'))
    let lookups = 0
    const before = timers()
    const transport = newTransport({ resolve: (name) => (lookups++, name === 'slow.test' ? new Promise(() => {}) : Promise.resolve([{ address: '127.0.0.1', family: 4 }])) })
    const slow = Array.from({ length: 5 }, () => transport.send(delivery(port, { host: 'slow.test', timeoutMs: 100 })).outcome)
    expect(await post(port, { host: 'fast.test' }, transport)).toMatchObject({ kind: 'completed' })
    for (const outcome of await Promise.all(slow)) expect(outcome).toMatchObject({ kind: 'timeout', error: expect.stringContaining('no connection') })
    expect(lookups).toBe(2)
    await transport.close()
    await until(() => timers() <= before, { timeoutMs: 5000 }) // neither a socket nor its connect timer, of 10 s, stays behind
  })

  test('leaves nothing behind when the answer is in time', async () => {
    const { port } = await answering(200, completed('1'))
    const before = timers()
    await Promise.all(Array.from({ length: 20 }, () => post(port, { timeoutMs: 60_000 })))
    await until(() => timers() <= before) // there may be others in this process, but not for a minute
  })
})

describe('the cap on answers', () => {
  test('refuses 5 GB by its content-length, before the body', async () => {
    const { port, sockets } = await tcpAgent((s) => s.write(`HTTP/1.1 200 OK\r\ncontent-length: ${5 * 1024 ** 3}\r\n\r\n`))
    expect(await post(port)).toEqual({ kind: 'failed', error: "the agent's answer is larger than 1048576 bytes", statusCode: 200 }) // and no timeout
    await until(() => sockets.size === 0)
  })

  test('stops an endless body', async () => {
    let sent = 0
    const { port, sockets } = await tcpAgent((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      const chunk = Buffer.alloc(65_536, 'x')
      const more = (): void => {
        while (!socket.destroyed && socket.write(chunk)) sent += chunk.length
      }
      socket.on('drain', more)
      more()
    })
    expect(await post(port)).toMatchObject({ kind: 'failed', error: expect.stringContaining('larger than') })
    await until(() => sockets.size === 0)
    expect(sent).toBeGreaterThan(1024 ** 2)
    expect(sent).toBeLessThan(30 * 1024 ** 2)
  })
})

describe('a broken connection', () => {
  const failed = { kind: 'failed', statusCode: null, error: expect.stringContaining('closed the connection') }

  test.each<[string, (socket: Socket) => unknown]>([
    ['closed before the answer', (s) => s.end()],
    ['reset before the answer', (s) => s.resetAndDestroy()],
    ['closed in the headers', (s) => s.end('HTTP/1.1 200 OK\r\ncontent-le')],
    ['closed in the body', (s) => s.end(`HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n${completed('1')}`)],
    ['closed in a chunked body', (s) => s.end('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"sta')],
    ['reset in the body', (s) => s.write('HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"status"', () => setTimeout(() => s.resetAndDestroy(), 10))],
  ])('%s is failed, after one POST', async (_how, talk) => {
    let posts = 0
    const { port } = await tcpAgent((socket) => (posts++, talk(socket)))
    expect(await post(port)).toMatchObject(failed)
    expect(posts).toBe(1)
  })

  test('reset after the answer leaves that answer as it is, and the agent reachable', async () => {
    const { port } = await tcpAgent((s) => s.write(`HTTP/1.1 200 OK\r\ncontent-length: ${completed('1').length}\r\n\r\n${completed('1')}`, () => s.resetAndDestroy()))
    const transport = newTransport()
    expect(await post(port, {}, transport)).toMatchObject({ kind: 'completed' })
    // The next one may meet the reset under its POST; it may not take the agent for gone.
    for (let i = 0; i < 5; i += 1) expect(['completed', 'failed']).toContain((await post(port, {}, transport)).kind)
  })

  test.each<[string, (socket: Socket) => unknown, boolean]>([
    ['closed under the POST', (s) => s.resetAndDestroy(), true],
    ['closed while the agent works', (s) => setTimeout(() => s.resetAndDestroy(), 400), false],
    ['closed amid the answer', (s) => s.end('HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"sta'), false],
  ])('that was kept alive and is %s is failed, after one POST; excused only when it was so at once', async (_how, talk, excused) => {
    let posts = 0
    const { port } = await tcpAgent((socket) => {
      posts += 1
      if (posts === 1) socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${completed('1').length}\r\n\r\n${completed('1')}`)
      else talk(socket)
    })
    const transport = newTransport()
    expect(await post(port, {}, transport)).toMatchObject({ kind: 'completed' })
    expect(await post(port, {}, transport)).toMatchObject({ ...failed, excused })
    expect(await post(port, {}, transport)).toMatchObject({ ...failed, excused: false }) // on a new connection
    expect(posts).toBe(3)
  })

  test('that was kept alive is not for what was sent before: it may be closed again', async () => {
    const { port, seen } = await answering(200, completed('1'))
    const transport = newTransport()
    for (const attempt of [1, 1, 2]) expect(await post(port, { attempt }, transport)).toMatchObject({ kind: 'completed' })
    expect(seen.connections).toBe(2)
  })

  test('that the agent closed while it was idle is replaced', async () => {
    const { port, sockets, seen } = await answering(200, completed('1'))
    const transport = newTransport()
    expect(await post(port, {}, transport)).toMatchObject({ kind: 'completed' })
    for (const socket of sockets) socket.end()
    await until(() => sockets.size === 0)
    expect(await post(port, {}, transport)).toMatchObject({ kind: 'completed' })
    expect(seen.connections).toBe(2)
  })

  test('that carries a second, unasked answer never gives it to the next task', async () => {
    const answer = (result: string): string => `HTTP/1.1 200 OK\r\ncontent-length: ${completed(result).length}\r\n\r\n${completed(result)}`
    const { port } = await tcpAgent((s) => s.write(answer('"mine"') + answer('"smuggled"')))
    const transport = newTransport()
    for (let i = 0; i < 5; i += 1) expect(await post(port, {}, transport)).not.toMatchObject({ result: '"smuggled"' })
  })
})

describe('an agent that cannot be reached', () => {
  test('because it refuses is unreachable', async () => {
    const { port } = await listening(createServer())
    await cleanups.pop()?.()
    expect(await post(port)).toEqual({ kind: 'unreachable', error: `connect ECONNREFUSED 127.0.0.1:${port}` })
  })

  test('because its name does not resolve is unreachable', async () => {
    const transport = newTransport({ resolve: () => Promise.reject(new Error('getaddrinfo ENOTFOUND nowhere.test')) })
    expect(await post(80, { host: 'nowhere.test' }, transport)).toEqual({ kind: 'unreachable', error: 'getaddrinfo ENOTFOUND nowhere.test' })
    expect(await post(80, { host: 'nowhere.test' }, newTransport({ resolve: async () => [] }))).toMatchObject({ kind: 'unreachable' })
  })

  test('for want of something of ours has nothing to do with it', async () => {
    const none = Object.assign(new Error('connect EMFILE 10.0.0.5:80 - Local (undefined:undefined)'), { code: 'EMFILE' })
    expect(await post(80, { host: 'far.test' }, newTransport({ resolve: () => Promise.reject(none) }))).toEqual({ kind: 'unsent', error: none.message })
  })

  test('at any of its addresses is unreachable, and the error names each', async () => {
    const { port } = await listening(createServer())
    await cleanups.pop()?.()
    const both = newTransport({ resolve: async () => [{ address: '127.0.0.1', family: 4 }, { address: '127.0.0.2', family: 4 }] })
    const outcome = await post(port, { host: 'two.test' }, both)
    expect(outcome).toMatchObject({ kind: 'unreachable', error: expect.stringContaining('127.0.0.1') })
    expect(outcome).toMatchObject({ error: expect.stringContaining('127.0.0.2') })
  })

  test.each(['169.254.169.254', '0.0.0.0', '2130706433', '0x7f.1', '::ffff:7f00:1', '::ffff:a9fe:a9fe', 'fe80::1', 'metadata.google.internal', 'h/x', 'u@h', 'h\r\nx'])('because %j may not be posted to is unreachable, with no connection made', async (host) => {
    const { port, seen } = await answering(200, completed('1'))
    const outcome = await post(port, { host })
    expect(outcome).toMatchObject({ kind: 'unreachable', error: expect.not.stringContaining('connect ') })
    expect(seen.connections).toBe(0)
  })

  test('because its name resolves to a forbidden address only is unreachable, with no connection made', async () => {
    const { port, seen } = await answering(200, completed('1'))
    const strict = createHostPolicy({ cidrs: ['10.0.0.0/8'] })
    const transport = newTransport({ policy: strict, resolve: async () => [{ address: '127.0.0.1', family: 4 }, { address: '169.254.169.254', family: 4 }] })
    expect(await post(port, { host: 'rebound.test' }, transport)).toEqual({
      kind: 'unreachable',
      error: expect.stringMatching(/^rebound\.test resolves only to addresses that are not allowed: 127\.0\.0\.1, 169\.254\.169\.254; .*; 127\.0\.0\.1 is outside the ranges that agents are limited to \(AGENT_CIDRS\)$/),
    })
    expect(seen.connections).toBe(0)
  })

  test('at a forbidden address is reached at its allowed one', async () => {
    const { port } = await answering(200, completed('1'))
    const transport = newTransport({ resolve: async () => [{ address: '169.254.169.254', family: 4 }, { address: '127.0.0.1', family: 4 }] })
    expect(await post(port, { host: 'mixed.test' }, transport)).toMatchObject({ kind: 'completed' })
  })

  test('at ::1 under the name localhost is reached at 127.0.0.1', async () => {
    const { port } = await answering(200, completed('1'))
    const transport = newTransport({ resolve: async () => [{ address: '::1', family: 6 }, { address: '127.0.0.1', family: 4 }] })
    expect(await post(port, { host: 'localhost' }, transport)).toMatchObject({ kind: 'completed' })
    expect(await post(port, { host: 'localhost' })).toMatchObject({ kind: 'completed' })
  })

  test('is reached at an IPv6 literal where it listens there', async () => {
    const { port } = await listening(createHttpServer((_req: IncomingMessage, res: ServerResponse) => void res.end(completed('1'))), '::1')
    expect(await post(port, { host: '::1' })).toMatchObject({ kind: 'completed' })
  })
})

describe('abort', () => {
  test('ends an attempt and its connection at once', async () => {
    let arrived = false
    const { port, sockets } = await tcpAgent(() => void (arrived = true))
    const sending = newTransport().send(delivery(port, { timeoutMs: 60_000 }))
    await until(() => arrived)
    sending.abort()
    expect(await sending.outcome).toEqual({ kind: 'aborted' })
    await until(() => sockets.size === 0)
  })

  test('before the connection is made sends nothing, ever', async () => {
    const { port, seen } = await answering(200, completed('1'))
    const sending = newTransport().send(delivery(port))
    sending.abort()
    sending.abort()
    expect(await sending.outcome).toEqual({ kind: 'aborted' })
    await new Promise((r) => setTimeout(r, 50))
    expect(seen.bytes).toBe(0)
  })

  test('after the end changes nothing, nor hurts the next attempt on that connection', async () => {
    const { port, seen } = await answering(200, completed('1'))
    const transport = newTransport()
    const sending = transport.send(delivery(port))
    expect(await sending.outcome).toMatchObject({ kind: 'completed' })
    const next = transport.send(delivery(port))
    sending.abort()
    expect(await next.outcome).toMatchObject({ kind: 'completed' })
    expect(seen.connections).toBe(1)
  })
})

describe('connections', () => {
  test('are kept and used again, as many as attempts at once', async () => {
    const { port, seen } = await answering(200, completed('1'))
    const transport = newTransport()
    for (let i = 0; i < 10; i += 1) await Promise.all(Array.from({ length: 8 }, () => post(port, {}, transport)))
    expect(seen.connections).toBe(8)
  })

  test('end when the agent says so', async () => {
    const { port, sockets } = await answering(200, completed('1'), { connection: 'close' })
    const transport = newTransport()
    for (let i = 0; i < 3; i += 1) expect(await post(port, {}, transport)).toMatchObject({ kind: 'completed' })
    await until(() => sockets.size === 0)
  })

  test('that fall idle close by themselves, and nothing is kept of their agent', async () => {
    const { port, sockets } = await agent((_req, res) => void res.setHeader('keep-alive', 'timeout=2').end(completed('1'))) // we leave a second earlier
    const connections = createConnections({ policy })
    const link = connections.take('127.0.0.1', port)
    await new Promise<void>((done, fail) => {
      link.client.dispatch({ path: '/task', method: 'POST', body: '{}' }, { onRequestStart() {}, onResponseStart() {}, onResponseData() {}, onResponseEnd: () => done(), onResponseError: (_c, error) => fail(error) })
    })
    connections.give(link)
    expect([sockets.size, connections.count()]).toEqual([1, 1])
    await until(() => sockets.size === 0, { timeoutMs: 4500 }) // the server would end it after 5 s
    await until(() => connections.count() === 0)
  })

  test('end promptly on close when idle, and after their answer when not', async () => {
    let answer: () => void = () => {}
    const { port, sockets } = await agent((req, res) => {
      if (req.headers['switchyard-attempt'] === '2') answer = () => void res.end(completed('2'))
      else res.end(completed('1'))
    })
    const transport = createHttpTransport({ policy })
    const busy = transport.send(delivery(port, { attempt: 2 }))
    await post(port, {}, transport)
    await until(() => sockets.size === 2)
    const [, took] = await timed(() => transport.close())
    expect(took).toBeLessThan(5000) // the other's timeout is 10 s
    await until(() => sockets.size === 1)
    answer()
    expect(await busy.outcome).toMatchObject({ kind: 'completed', result: '2' })
    await until(() => sockets.size === 0)
  })
})

test('transports are found by their scheme', async () => {
  const transports = createTransports({ policy })
  const { port } = await answering(200, completed('1'))
  expect(await transports.http.send(delivery(port)).outcome).toMatchObject({ kind: 'completed' })
  await transports.http.close()
})
