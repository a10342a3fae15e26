/**
 * Bad input, route by route and class by class. Each is answered with a problem of the expected status; nothing is stored, nothing else
 * is changed, the next good request passes, and neither the answer nor the log holds what it should not.
 */
import { createHash } from 'node:crypto'
import { request } from 'node:http'
import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PROBLEMS } from '../src/api/problem.ts'
import type { ProblemType } from '../src/errors.ts'
import { sleep, startSystem, until, type System } from './system.ts'

type Sent = { method: string; path: string; body?: string | Buffer | undefined; headers?: Record<string, string> }
type Got = { status: number; headers: Record<string, string | string[] | undefined>; text: string }

let system: System
let agentId: string
let waiting: string
let ended: string
let before: string
beforeAll(async () => {
  // No worker, and a Redis of its own: whatever changes there was a request's doing.
  system = await startSystem({ workers: 0, ownRedis: true })
  agentId = (await system.post('/agents/register', agentBody())).json.id
  waiting = await system.submit({ agent_type: 'cost' })
  ended = await system.submit({ agent_type: 'cost' })
  await system.call('DELETE', `/tasks/${ended}`)
  // Counts for /metrics are written once a second.
  before = await until(async () => {
    const seen = await stored()
    await sleep(1200)
    return (await stored()) === seen ? seen : null
  })
})
afterAll(() => system[Symbol.asyncDispose]())

const agentBody = (more: object = {}) => ({ name: 'a', type: 'cost', host: '127.0.0.1', port: 9, capabilities: ['analyze'], ...more })
const taskBody = (more: object = {}) => ({ task_type: 'analyze', agent_type: 'cost', ...more })

/** All that Redis holds, as one line. */
const stored = async (): Promise<string> => {
  const keys = (await system.redis.keys('*')).sort()
  const hash = createHash('sha256')
  for (const key of keys) hash.update(key).update((await system.redis.dumpBuffer(key)) ?? '')
  return `${await system.redis.dbsize()} keys, ${hash.digest('hex')}`
}

const standardHeaders = (body: string | Buffer | undefined): Record<string, string> => (body === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) })

/** Sends exactly this: no client that mends paths or headers. */
const send = ({ method, path, body, headers = standardHeaders(body) }: Sent): Promise<Got> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(system.api[0]!.url)
    const req = request({ hostname, port, method, path, agent: false, headers }, (res) => {
      const chunks: Buffer[] = []
      res.on('data', (c: Buffer) => chunks.push(c))
      res.on('error', reject)
      res.on('end', () => resolve({ status: res.statusCode!, headers: res.headers, text: Buffer.concat(chunks).toString() }))
    })
    req.on('error', reject)
    req.end(body)
  })

/** With some headers other than usual; `none` is without. */
const withHeaders = ({ headers = {}, ...sent }: Sent): Sent => ({ ...sent, headers: Object.fromEntries(Object.entries({ ...standardHeaders(sent.body), ...headers }).filter(([, v]) => v !== 'none')) })

const expectProblem = (got: Got, type: ProblemType, sent: string, path: string): void => {
  const said = `${sent} ${path.slice(0, 100)} → ${got.status} ${got.text.slice(0, 500)}`
  expect(got.status, said).toBe(PROBLEMS[type].status)
  expect(got.headers['content-type'], said).toMatch(/^application\/problem\+json/)
  const problem = JSON.parse(got.text)
  expect(problem, said).toMatchObject({ type: `/docs/errors#${type}`, title: PROBLEMS[type].title, status: got.status, detail: expect.stringMatching(/./), instance: path.split('?')[0], error: problem.detail })
  if (type === 'invalid-request') expect(problem.errors, said).toContainEqual({ pointer: expect.any(String), detail: expect.stringMatching(/./) })
  expect(got.text, said).not.toMatch(/node_modules|\.ts:\d|\.js:\d| at \w+ \(|\\r|\\n/)
}

/** The whole oracle, for one request. */
const refused = async (type: ProblemType, sent: Sent): Promise<Got> => {
  const got = await send(sent)
  const [was, is] = [before, await stored()]
  before = is // one that changes something is one failure, not that of all tests behind it
  expectProblem(got, type, `${sent.method} ${JSON.stringify(sent.headers ?? {})}`, sent.path)
  expect(is, `${sent.method} ${sent.path.slice(0, 100)} ${String(sent.body).slice(0, 100)} changed what is stored`).toBe(was)
  const next = await send({ method: 'GET', path: `/tasks/${waiting}` })
  expect(next.status).toBe(200)
  return got
}

/** Every route that reads a body; `optional`: it may be left out. */
const bodyRoutes = (): { path: string; good: object; optional?: true }[] => [
  { path: '/tasks', good: taskBody() },
  { path: '/agents/register', good: agentBody() },
  { path: `/agents/${agentId}/heartbeat`, good: {}, optional: true },
  { path: '/agents/cleanup', good: {}, optional: true },
  { path: `/tasks/${ended}/retry`, good: {}, optional: true },
]
const everyBodyRoute = async (type: ProblemType, bodies: (string | Buffer | Omit<Sent, 'method' | 'path'>)[], only: (r: { optional?: true }) => boolean = () => true) => {
  for (const route of bodyRoutes().filter(only)) {
    for (const it of bodies) {
      const sent = typeof it === 'string' || Buffer.isBuffer(it) ? { body: it } : it
      await refused(type, withHeaders({ method: 'POST', path: route.path, ...sent }))
    }
  }
}

describe('bodies, on every route that reads one', () => {
  test('what is no JSON object is 400', async () => {
    await everyBodyRoute('invalid-json', ['{"a":', 'null', '5', '"x"', '[]', 'true', 'NaN', "{'a':1}", '{}{}', '{"a":1,}', '\u0000', '\ufeff{}', ' ', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), Buffer.from('{}', 'utf16le')])
    await everyBodyRoute('invalid-json', [''], (r) => !r.optional)
    for (const path of ['/tasks', '/agents/register']) await refused('invalid-json', { method: 'POST', path })
  })

  test('what is not application/json in UTF-8 is 415', async () => {
    const types = ['none', 'text/plain', 'application/x-www-form-urlencoded', 'application/json; charset=latin1', 'application/json; charset=utf-16', 'application/jsonp', 'multipart/form-data; boundary=x', ';', 'application/json, text/plain']
    await everyBodyRoute('unsupported-media-type', types.map((type) => ({ body: '{}', headers: { 'content-type': type } })))
    await everyBodyRoute('unsupported-media-type', ['compress', 'foo', 'gzip, gzip'].map((coding) => ({ body: '{}', headers: { 'content-encoding': coding } })))
  })

  test('more than 1 MiB is 413, as sent and inflated, and so is the mere promise of it', async () => {
    const big = JSON.stringify({ metadata: { x: 'x'.repeat(1024 * 1024) } })
    await everyBodyRoute('payload-too-large', [big, { body: gzipSync(`{"metadata":{"x":"${'x'.repeat(40 * 1024 * 1024)}"}}`), headers: { 'content-encoding': 'gzip' } }])
    for (const { path } of bodyRoutes()) {
      expect(await rawly(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000000000\r\nConnection: close\r\n\r\n{"a"`)).toMatch(/^HTTP\/1.1 413 /)
    }
  })

  test('a compressed body that is broken is 400', () => everyBodyRoute('malformed-request', [{ body: gzipSync('{}').subarray(0, 12), headers: { 'content-encoding': 'gzip' } }, { body: '{}', headers: { 'content-encoding': 'gzip' } }]))

  test('deeper than 32 levels is 422, however deep', async () => {
    const nested = (levels: number) => `{"metadata":${'{"a":'.repeat(levels - 1)}1${'}'.repeat(levels - 1)}}`
    await everyBodyRoute('invalid-request', [nested(33), nested(2000), `{"metadata":{"a":${'['.repeat(300_000)}${']'.repeat(300_000)}}}`])
  })

  test('unknown members are 422 and named, those of prototypes too', async () => {
    for (const { path, good } of bodyRoutes()) {
      for (const name of ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'id', '', 'max_retires', 'a/b~c', '\u202e']) {
        const body = `{${JSON.stringify(name)}:{"polluted":1},${JSON.stringify(good).slice(1)}`.replace(',}', '}')
        const got = await refused('invalid-request', { method: 'POST', path, body })
        expect(JSON.parse(got.text).errors).toContainEqual({ pointer: `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`, detail: 'is not known here' })
      }
      await refused('invalid-request', { method: 'POST', path, body: `{"${'x'.repeat(200_000)}":1}` })
    }
  })
})

/** Wrong values by member: each alone makes a good body bad. */
const refusedMembers = async (path: string, good: object, wrong: Record<string, unknown[]>) => {
  for (const [member, values] of Object.entries(wrong)) {
    for (const value of values) {
      // `raw` is a JSON text that JSON.stringify would not write.
      const text = typeof value === 'object' && value !== null && 'raw' in value ? String(value.raw) : JSON.stringify(value)
      const body = value === undefined ? JSON.stringify({ ...good, [member]: undefined }) : JSON.stringify({ ...good, [member]: 0 }).replace(new RegExp(`("${member}":)0`), (_, key: string) => key + text)
      const got = await refused('invalid-request', { method: 'POST', path, body })
      expect(JSON.parse(got.text).errors.map((e: { pointer: string }) => e.pointer).join(' '), `${member}: ${text}`).toMatch(new RegExp(`^/${member}`))
    }
  }
}
const many = <T>(n: number, make: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => make(i))
const badNames = ['', 'a:b', '{x}', '.a', '-a', '_a', 'a b', 'ä', 'a\n', '\na', 'a\u0000', 'a/b', '@x', '__proto__', 'x'.repeat(65), 5, null, [], {}, true]
const badTexts = ['', 'x'.repeat(257), 'a\u0000b', 'a\nb', 'a\u0085b', '\u007f', { raw: '"\\ud800"' }, 5, null, [], {}]
const badCounts = [-1, 0.5, '5', null, { raw: '9007199254740993' }, { raw: '1e999' }, { raw: '-0.1' }, 1e9, true, [], {}]

describe('members', () => {
  test('of a task', () =>
    refusedMembers('/tasks', taskBody(), {
      task_type: [undefined, ...badNames],
      agent_type: [undefined, ...badNames, 'a.b'],
      agent_id: [...badNames, '../x', 'x'.repeat(129)],
      parameters: [[], 'x', null, 5, true],
      metadata: [[], 'x', null, 5],
      priority: [...badCounts, 0, 16, 'urgent', 'toString', '__proto__'],
      timeout_seconds: [0, -1, 1e12, 300.5, '5', null, { raw: '1e999' }, { raw: '-1e999' }, { raw: '1e-999' }],
      max_retries: [...badCounts, 101],
      retry_delay_seconds: [-1, 3601, 1e15, '5', null],
      backoff: ['linear', '', null, 1],
      delay_seconds: [-1, 1e15, { raw: '1e999' }, '5', null],
      run_at: ['tomorrow', '2026-02-30T00:00:00Z', '2026-01-01', '2026-01-01T00:00:00', '9999-12-31T23:59:59Z', '+275760-09-13T00:00:00Z', 5, null],
      expires_in_seconds: [0, -1, 1e15, null],
      callback_url: ['', 'app.example', 'ftp://a.example/', 'https://u:p@a.example/', 'https://2130706433/', 'https://a.example/#x', 'https://[::ffff:127.0.0.1]/', 'https://a.example/\r\nx: y', `https://a.example/${'x'.repeat(2048)}`, 5, null, [], {}],
    }))

  test('a callback_url that is not public is 403', async () => {
    const port = new URL(system.api[0]!.url).port
    for (const callback_url of ['https://127.0.0.1/', `http://127.0.0.1:${port}/agents/cleanup`, 'https://169.254.169.254/latest/meta-data', 'https://10.0.0.1', 'https://[::1]/', 'https://[fd00::1]/', 'https://localhost/', 'http://app.example/']) {
      await refused('host-not-allowed', { method: 'POST', path: '/tasks', body: JSON.stringify(taskBody({ callback_url })) })
    }
  })

  test('of a task, together', async () => {
    await refused('invalid-request', { method: 'POST', path: '/tasks', body: JSON.stringify(taskBody({ delay_seconds: 1, run_at: '2026-01-01T00:00:00Z' })) })
    // Pinned to an agent of another type, and to one that is not there.
    await refused('invalid-request', { method: 'POST', path: '/tasks', body: JSON.stringify(taskBody({ agent_id: agentId, agent_type: 'other' })) })
    await refused('not-found', { method: 'POST', path: '/tasks', body: JSON.stringify(taskBody({ agent_id: 'nobody' })) })
    await refused('no-agent', { method: 'POST', path: '/tasks?require_agent=true', body: JSON.stringify(taskBody({ task_type: 'unheard-of' })) })
  })

  test('of a registration', () =>
    refusedMembers('/agents/register', agentBody(), {
      name: [undefined, ...badTexts],
      agent_name: badTexts,
      version: badTexts,
      type: [...badNames, 'a.b'],
      agent_id: [...badNames, '..', 'x'.repeat(129)],
      capabilities: ['x', null, {}, ...badNames.filter((n) => n !== undefined).map((n) => [n]), many(65, (i) => `c${i}`), many(10_000, (i) => `c${i}`), many(65, () => 'same')],
      port: [undefined, ...badCounts, 0, 65536, 80.5, '80'],
      status: ['dead', 'unreachable', '', 'Healthy', null, 5],
      ttl_seconds: [0, 4, -1, 3601, 1e12, '60', null, { raw: '1e999' }],
      max_concurrency: [...badCounts, 0, 1001],
      instance_id: ['', 'x'.repeat(129), 5, null],
      metadata: [[], 'x', null, 5, Object.fromEntries(many(65, (i) => [`k${i}`, i])), { raw: '{"\\ud800":1}' }],
    }))

  test('of a heartbeat', () =>
    refusedMembers(`/agents/${agentId}/heartbeat`, {}, {
      status: ['dead', 'unreachable', '', null, 5],
      running: ['x', null, {}, [''], [5], [null], ['x'.repeat(129)], many(2001, (i) => `a${i}`)],
      max_concurrency: [...badCounts, 0, 1001],
      metadata: [[], 'x', null, 5, Object.fromEntries(many(65, (i) => [`k${i}`, i])), { raw: '{"\\udfff":1}' }],
    }))

  test('hosts of no usual spelling are 422', () =>
    refusedMembers('/agents/register', agentBody(), {
      host: [
        undefined, '', ' ', '2130706433', '0x7f.1', '0177.0.0.1', '①②⑦.0.0.1', '127.1', '127.0.0.1.', '169.254.169.254.', '256.1.1.1', '::127.0.0.1', '::ffff:127.0.0.1', '64:ff9b::7f00:1', 'fe80::1%lo', '[::1', 'u@h', 'u:p@h', 'h#', 'h/', 'h?', 'h\\', 'h h',
        'h\r\nx: y', 'h\u0000', 'http://h', 'h:0', 'h:65536', 'h:080', 'h:', 'h:9:9', 'h:x', '..', 'a..b', '-a', 'ℎost', '\u212aelvin', 'x'.repeat(301), 5, null, [], {},
      ],
    }))

  test('hosts that are never posted to are 403, ourselves among them', async () => {
    const port = Number(new URL(system.api[0]!.url).port)
    const hosts = ['169.254.169.254', '169.254.1.1', '0.0.0.0', '0.1.2.3', '224.0.0.1', '255.255.255.255', '100.100.100.200', '[::]', '::', 'fe80::1', 'ff02::1', 'fd00:ec2::254', 'metadata', 'METADATA.google.internal', 'metadata.google.internal.']
    for (const host of hosts) await refused('host-not-allowed', { method: 'POST', path: '/agents/register', body: JSON.stringify(agentBody({ host })) })
    for (const host of ['127.0.0.1', 'localhost', '127.9.9.9', '::1', `localhost:${port}`]) await refused('host-not-allowed', { method: 'POST', path: '/agents/register', body: JSON.stringify(agentBody({ host, port })) })
  })

  test('an id in use by a living agent of another type is 409', () =>
    refused('agent-type-conflict', { method: 'POST', path: '/agents/register', body: JSON.stringify(agentBody({ agent_id: agentId, type: 'other' })) }))
})

const idRoutes = (id: string): Sent[] => [
  { method: 'GET', path: `/tasks/${id}` },
  { method: 'DELETE', path: `/tasks/${id}` },
  { method: 'POST', path: `/tasks/${id}/retry` },
  { method: 'GET', path: `/agents/${id}` },
  { method: 'DELETE', path: `/agents/${id}` },
  { method: 'POST', path: `/agents/${id}/heartbeat` },
  { method: 'POST', path: `/agents/${id}/unregister` },
  { method: 'GET', path: `/agents/type/${id}` },
]

test('ids in paths that cannot be ours are not found, and those that cannot be decoded are 400', async () => {
  for (const id of ['..%2f..', '%2e%2e', '%00', '%0d%0a', 'a%0d%0aSet-Cookie:%20x', 'x'.repeat(5120), '%7bx%7d', 'a%3ab', '%40x', '%F0%9F%92%A9', 'a%20b', '*']) {
    for (const route of idRoutes(id)) await refused('not-found', route)
  }
  for (const id of ['%E0%A4%A', '%', '%zz', '%c0%af', '%ff']) {
    for (const route of idRoutes(id)) await refused('malformed-request', route)
  }
})

test('ids of our form that nothing has are not found', async () => {
  const id = `cost.01980a1c-6f0e-7c3a-9d2b-1f6a2b3c4d5e`
  for (const route of idRoutes(id).filter(({ path }) => path.startsWith('/tasks'))) await refused('not-found', route)
  for (const route of [{ method: 'GET', path: '/agents/nobody' }, { method: 'POST', path: '/agents/nobody/heartbeat' }]) await refused('not-found', route)
  // One character of the type, or of the id, is another task.
  for (const path of [`/tasks/${waiting}0`, `/tasks/${waiting.toUpperCase()}`, `/tasks/x${waiting}`, `/tasks/${waiting.slice(5)}`]) await refused('not-found', { method: 'GET', path })
})

test('queries: unknown, doubled and wrong parameters are 422, on routes without any too', async () => {
  const everywhere = ['a[b]=1', 'x=1', 'x=1&x=2', '__proto__=1', 'constructor=1', `q=${'x'.repeat(5000)}`, '%00=1', '%E0%A4%A=1', '=', 'limit']
  const takes: Sent[] = [
    ...idRoutes('x').map((r): Sent => ({ ...r, path: r.path.replace('/x', `/${r.path.startsWith('/tasks') ? ended : r.path.includes('type') ? 'cost' : agentId}`) })),
    { method: 'GET', path: '/tasks' }, { method: 'GET', path: '/agents' }, { method: 'POST', path: '/agents/cleanup' },
    { method: 'POST', path: '/tasks', body: JSON.stringify(taskBody()) }, { method: 'POST', path: '/agents/register', body: JSON.stringify(agentBody()) },
  ]
  for (const route of takes) for (const q of everywhere) await refused('invalid-request', { ...route, path: `${route.path}?${q}` })
  const forged = (text: string) => Buffer.from(text).toString('base64url')
  const cursors = ['cursor=', 'cursor=x', 'cursor=%00', `cursor=${'A'.repeat(301)}`, ...['../..', 'cost/..%2f', '{x}/y', 'a/b/c', 'a', '', '01980a1c-6f0e-7c3a-9d2b', '('].map((c) => `cursor=${forged(c)}`), `cursor=${forged('cost/a')}=`]
  const limits = ['limit=1&limit=2', 'limit=-1', 'limit=1e9', 'limit=0', 'limit=201', 'limit=', 'limit=1.5', 'limit=0x10', 'limit=%201', 'limit=%D9%A1', 'limit=99999999999999999999', 'limit[]=1']
  for (const q of [...cursors, ...limits, 'status=gone', 'status=', 'status=queued&status=failed', 'agent_type=a:b', 'agent_type=a.b', 'task_type=%00', 'agent_id=..%2f..', 'type=cost']) await refused('invalid-request', { method: 'GET', path: `/tasks?${q}` })
  for (const q of [...cursors, ...limits, 'status=gone', 'type=a:b', 'type=', 'capability={x}', 'include_dead=yes', 'include_dead=', 'include_dead=1', 'agent_type=cost']) await refused('invalid-request', { method: 'GET', path: `/agents?${q}` })
  await refused('invalid-request', { method: 'GET', path: '/agents/type/cost?type=cost' })
  for (const q of ['require_agent=1', 'require_agent=yes', 'require_agent=', 'require_agent=true&require_agent=true']) await refused('invalid-request', { method: 'POST', path: `/tasks?${q}`, body: JSON.stringify(taskBody()) })
})

test('methods: a wrong one is 405 with Allow, OPTIONS says the same, HEAD goes with GET', async () => {
  const allowed: Record<string, string> = {
    '/tasks': 'GET, HEAD, POST, OPTIONS',
    [`/tasks/${waiting}`]: 'GET, HEAD, DELETE, OPTIONS',
    [`/tasks/${waiting}/retry`]: 'POST, OPTIONS',
    '/agents': 'GET, HEAD, OPTIONS',
    '/agents/register': 'POST, OPTIONS',
    '/agents/cleanup': 'POST, OPTIONS',
    '/agents/type/cost': 'GET, HEAD, OPTIONS',
    [`/agents/${agentId}`]: 'GET, HEAD, DELETE, OPTIONS',
    [`/agents/${agentId}/heartbeat`]: 'POST, OPTIONS',
    [`/agents/${agentId}/unregister`]: 'POST, OPTIONS',
    '/health': 'GET, HEAD, OPTIONS',
    '/health/live': 'GET, HEAD, OPTIONS',
    '/health/ready': 'GET, HEAD, OPTIONS',
    '/metrics': 'GET, HEAD, OPTIONS',
    '/': 'GET, HEAD, OPTIONS',
    '/docs': 'GET, HEAD, OPTIONS',
    '/docs/errors': 'GET, HEAD, OPTIONS',
    '/openapi.json': 'GET, HEAD, OPTIONS',
    '/queues': 'GET, HEAD, OPTIONS',
    '/queues/api/queues': 'GET, HEAD, OPTIONS',
  }
  for (const [path, allow] of Object.entries(allowed)) {
    for (const method of ['TRACE', 'PUT', 'PATCH', 'PROPFIND', 'POST', 'DELETE', 'GET'].filter((m) => !allow.split(', ').includes(m))) {
      expect((await refused('method-not-allowed', { method, path })).headers.allow, `${method} ${path}`).toBe(allow)
    }
    const options = await send({ method: 'OPTIONS', path })
    expect([options.status, options.headers.allow, options.text], path).toEqual([204, allow, ''])
    if (!allow.includes('HEAD') || path === '/metrics') continue
    const [get, head] = [await send({ method: 'GET', path }), await send({ method: 'HEAD', path })]
    expect([head.status, head.text, head.headers['content-type'], head.headers['content-length']], path).toEqual([get.status, '', get.headers['content-type'], get.headers['content-length']])
  }
  for (const method of ['GET', 'POST', 'TRACE', 'PUT']) for (const path of ['/nothing', '/tasks/a/b/c', '/agents/a/b', '//tasks', '/queues/api/nothing']) await refused(method !== 'GET' && path.startsWith('/queues') ? 'method-not-allowed' : 'not-found', { method, path })
})

/** Sends bytes as they are and gives back all that comes until the other side closes. */
const rawly = (bytes: string): Promise<string> =>
  new Promise((resolve) => {
    const { hostname, port } = new URL(system.api[0]!.url)
    const socket = connect(Number(port), hostname, () => socket.write(bytes))
    let got = ''
    socket.on('data', (chunk: Buffer) => {
      got += chunk.toString()
      // Some answers leave the connection open: what their length says is the end, too.
      const head = got.indexOf('\r\n\r\n')
      if (head > 0 && Buffer.byteLength(got.slice(head + 4)) >= Number(/content-length: (\d+)/i.exec(got)?.[1] ?? Infinity)) socket.destroy()
    })
    socket.on('error', () => {})
    socket.on('close', () => resolve(got))
  })

test('what is hardly HTTP gets a problem too, and the connection ends', async () => {
  const cases: [ProblemType, string][] = [
    ['headers-too-large', `GET /tasks HTTP/1.1\r\nHost: x\r\nX-Big: ${'x'.repeat(20 * 1024)}\r\n\r\n`],
    ['headers-too-large', `GET /tasks?${'x'.repeat(20 * 1024)} HTTP/1.1\r\nHost: x\r\n\r\n`],
    ['malformed-request', 'GARBAGE\r\n\r\n'],
    ['malformed-request', 'GET /tasks HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n'],
    ['malformed-request', 'POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['malformed-request', 'POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n'],
    ['malformed-request', 'GET /tasks\u0000 HTTP/1.1\r\nHost: x\r\n\r\n'],
  ]
  for (const [type, bytes] of cases) {
    const [head = '', text = ''] = (await rawly(bytes)).split('\r\n\r\n')
    const [line = '', ...headers] = head.split('\r\n')
    expectProblem({ status: Number(line.split(' ')[1]), headers: Object.fromEntries(headers.map((h) => [h.split(': ')[0]!.toLowerCase(), h.split(': ')[1]])), text }, type, '', '')
    expect(headers).toContain('Connection: close')
  }
  expect(await stored()).toBe(before)
})

test('a missing Host is a problem too; who asks before sending too large a body is spared that; an unknown expectation is ignored', async () => {
  const post = (headers: string, body = '') => `POST /tasks HTTP/1.1\r\n${headers}Content-Type: application/json\r\n\r\n${body}`
  const [head = '', text = ''] = (await rawly('GET /tasks HTTP/1.1\r\n\r\n')).split('\r\n\r\n')
  expectProblem({ status: Number(head.split(' ')[1]), headers: { 'content-type': /Content-Type: (.*)/.exec(head)?.[1] }, text }, 'malformed-request', '', '/tasks')
  expect(await rawly('GET /health/live HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 /)
  const tooLarge = await rawly(post('Host: x\r\nExpect: 100-continue\r\nContent-Length: 5000000000\r\n'))
  expect(tooLarge).toMatch(/^HTTP\/1\.1 413 /)
  expect(tooLarge).toContain('\r\nConnection: close\r\n')
  expect(await rawly(post('Host: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n', '{}'))).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 422 /)
  expect(await rawly(post('Host: x\r\nExpect: the-unexpected\r\nContent-Length: 2\r\n', '{}'))).toMatch(/^HTTP\/1\.1 422 /)
  expect(await stored()).toBe(before)
})

test('ids that are paths of the API are no agent’s: it could neither be read nor beat', async () => {
  for (const id of ['register', 'cleanup', 'type']) {
    const got = await refused('invalid-request', { method: 'POST', path: '/agents/register', body: JSON.stringify(agentBody({ agent_id: id })) })
    expect(JSON.parse(got.text).errors).toEqual([{ pointer: '/agent_id', detail: 'must be none of register, cleanup, type: they are paths of the API' }])
  }
  await refused('invalid-request', { method: 'POST', path: '/tasks', body: JSON.stringify(taskBody({ run_at: `2026-01-01T00:00:00.${'0'.repeat(1000)}Z` })) })
})

test('after all this good requests pass, and every line of the log is one JSON object that tells of no failure', async () => {
  const { log } = system.api[0]!
  const lines = log.join('').trim().split('\n')
  expect(lines.length).toBeGreaterThan(3)
  for (const line of lines) expect(['info', 'warn'], line).toContain(JSON.parse(line).level)
  expect(log.join('')).not.toMatch(/polluted|Set-Cookie|\r/)
  expect((await system.post('/tasks', taskBody())).status).toBe(201)
  expect((await system.post('/agents/register', agentBody({ name: 'עברית مرحبا 🚂', metadata: { ['__proto__']: 1, constructor: { prototype: 1 } } }))).status).toBe(201)
  expect(await stored()).not.toBe(before)
})
