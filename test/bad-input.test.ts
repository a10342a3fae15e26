/**
 * Bad input: every route of the API's document by every class of it that the route can be asked with, so that a new route is tried on the
 * day it is described. Each request is answered with a problem of the expected status; nothing is stored, nothing else is changed, good
 * requests pass behind it, and neither the answer nor the log holds what it should not.
 */
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MAX_DEPTH } from '../src/api/input.ts'
import type { Schema } from '../src/api/openapi.ts'
import { PROBLEMS } from '../src/api/problem.ts'
import { MAX_RESULT_DEPTH } from '../src/contracts/words.ts'
import type { ProblemType } from '../src/errors.ts'
import { document, filled, known, routes, type Route } from './api-document.ts'
import { exchange, type Exact, type Got } from './exact.ts'
import { UNDECODABLE_IDS, WRONG_HEADERS, WRONG_IDS, wrongFor, wrongInQuery } from './hostile.ts'
import { startSystem, until, type System } from './system.ts'

/** Some of what is good makes keys, and one is needed then. */
const KEY = 'k'.repeat(32)
const NO_KEY = '0'.repeat(12)
let system: System
let agentId: string
let waiting: string
let ended: string
let before: string
beforeAll(async () => {
  // No worker, and a Redis of its own: whatever changes there was a request's doing.
  system = await startSystem({ workers: 0, ownRedis: true, key: KEY })
  agentId = (await system.post('/agents/register', agentBody({ ttl_seconds: 3600 }))).json.id
  waiting = await system.submit({ agent_type: 'cost' })
  ended = await system.submit({ agent_type: 'cost' })
  await system.call('DELETE', `/tasks/${ended}`)
  await system.call('PUT', '/schedules/nightly', { cron: '0 3 * * *', task: taskBody() })
  // Counts for /metrics are written once a second.
  let [last, since] = ['', 0]
  before = await until(async () => {
    const seen = await stored()
    if (seen !== last) [last, since] = [seen, Date.now()]
    return Date.now() - since > 1200 ? seen : null
  })
})
afterAll(() => system[Symbol.asyncDispose]())

const agentBody = (more: object = {}) => ({ name: 'a', type: 'cost', host: '127.0.0.1', port: 9, capabilities: ['analyze'], ...more })
const taskBody = (more: object = {}) => ({ task_type: 'analyze', agent_type: 'cost', ...more })

/** All that Redis holds, as one line. */
const DIGEST = `local keys, all = redis.call('KEYS', '*'), {}
table.sort(keys)
for _, key in ipairs(keys) do
  all[#all + 1] = key
  all[#all + 1] = redis.call('DUMP', key)
end
return redis.call('DBSIZE') .. ' keys, ' .. redis.sha1hex(table.concat(all, ' '))`
const stored = async (): Promise<string> => String(await system.redis.eval(DIGEST, 0))

/** A request, its headers as people write them: the usual ones are added, and `none` takes one of them away. */
type Sent = { method: string; path: string; body?: string | Buffer | undefined; headers?: Record<string, string> }
const exact = ({ method, path, body, headers = {} }: Sent): Exact => {
  const usual = { host: 'x', authorization: `Bearer ${KEY}`, ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }) }
  return { method, path, body, headers: Object.entries({ ...usual, ...headers }).filter(([, value]) => value !== 'none') }
}
const rawly = (bytes: string): Promise<Got | null> => exchange(system.url(), bytes.replace('Host: x\r\n', `Host: x\r\nAuthorization: Bearer ${KEY}\r\n`))
const send = async (sent: Sent): Promise<Got> => {
  const got = await exchange(system.url(), exact(sent))
  if (!got) throw new Error(`no answer to ${sent.method} ${sent.path.slice(0, 100)}`)
  return got
}

/** Neither where in our code it happened, nor what would move a terminal; but a pointer names what was sent, as it was sent. */
const NOT_TOLD = /node_modules|\.ts:\d|\.js:\d| at \w+ \(|\\[rn]|\\u00[01]|[\u007f-\u009f\u2028-\u202e]/
const expectHarmless = (text: string, said: string): void => expect(text.replace(/"pointer":"(?:[^"\\]|\\.)*"/g, ''), said).not.toMatch(NOT_TOLD)

const expectProblem = (got: Got, type: ProblemType, said: string, path: string): void => {
  expect(got.status, said).toBe(PROBLEMS[type].status)
  expect(got.headers['content-type'], said).toMatch(/^application\/problem\+json/)
  const problem = JSON.parse(got.text)
  expect(problem, said).toMatchObject({ type: `/docs/errors#${type}`, title: PROBLEMS[type].title, status: got.status, detail: expect.stringMatching(/./), instance: path.split('?')[0], error: problem.detail })
  if (type === 'invalid-request') expect(problem.errors, said).toContainEqual({ pointer: expect.any(String), detail: expect.stringMatching(/./) })
  expectHarmless(got.text, said)
}
const inShort = ({ method, path, body, headers }: Sent): string => `${method} ${path.slice(0, 200)} ${headers === undefined ? '' : JSON.stringify(headers).slice(0, 300)} ${String(body ?? '').slice(0, 300)}`

const expectUnchanged = async (said: string): Promise<void> => {
  const [was, is] = [before, await stored()]
  before = is // one that changes something is one failure, not that of all tests behind it
  expect(is, `${said} changed what is stored`).toBe(was)
}

/** The oracle, for one request; that good ones pass behind it is said once for those of a test. */
const refused = async (type: ProblemType, sent: Sent): Promise<Got> => {
  const got = await send(sent)
  const said = `${inShort(sent)} → ${got.status} ${got.text.slice(0, 500)}`
  expectProblem(got, type, said, sent.path)
  await expectUnchanged(said)
  return got
}
const goodPasses = async (): Promise<void> => expect((await send({ method: 'GET', path: `/tasks/${waiting}` })).status).toBe(200)

/** What stands for a `{name}` in a path: something that is there. A name that is new must be told here what that is. */
const thingFor = (path: string, name: string): string => {
  if (name === 'type') return 'cost'
  const thing = new Map([['tasks', ended], ['agents', agentId], ['schedules', 'nightly'], ['keys', NO_KEY]]).get(path.split('/')[1]!)
  if (name !== 'id' || thing === undefined) throw new Error(`what is {${name}} in ${path}?`)
  return thing
}
const pathOf = (route: Route): string => filled(route.path, (name) => thingFor(route.path, name))
const goodBody = ({ body }: Route): string | undefined => (body ? JSON.stringify(body.example) : undefined)
const good = (route: Route): Sent => ({ method: route.method, path: pathOf(route), body: goodBody(route) })

/** One way in which a request can be bad, and the routes that can be asked so. `try` makes the requests. */
type BadClass = { name: string; concerns: (route: Route) => boolean; try: (route: Route) => Promise<unknown> }
const readsBody = (route: Route): boolean => route.body !== null
const readsStore = (route: Route): boolean => route.answers.includes('422')
const always = (): boolean => true

const eachBody = async (route: Route, type: ProblemType, bodies: readonly (string | Buffer | Pick<Sent, 'body' | 'headers'>)[]) => {
  for (const it of bodies) await refused(type, { method: route.method, path: pathOf(route), ...(typeof it === 'string' || Buffer.isBuffer(it) ? { body: it } : it) })
}

const NO_OBJECT = ['{"a":', 'null', '5', '"x"', '[]', 'true', 'NaN', "{'a':1}", '{}{}', '{"a":1,}', '{"a":NaN}', '{"a":01}', '\u0000', '\ufeff{}', ' ', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), Buffer.from('{}', 'utf16le')]
const syntax = async (route: Route) => {
  await eachBody(route, 'invalid-json', NO_OBJECT)
  if (route.body!.required) await eachBody(route, 'invalid-json', ['', { body: undefined }])
}

const TYPES = ['none', 'text/plain', 'application/x-www-form-urlencoded', 'application/json; charset=latin1', 'application/json; charset=utf-16', 'application/jsonp', 'multipart/form-data; boundary=x', ';', 'application/json, text/plain']
const media = async (route: Route) => {
  const body = goodBody(route)
  await eachBody(route, 'unsupported-media-type', TYPES.map((type) => ({ body, headers: { 'content-type': type } })))
  await eachBody(route, 'unsupported-media-type', ['compress', 'foo', 'gzip, gzip'].map((coding) => ({ body, headers: { 'content-encoding': coding } })))
  await eachBody(route, 'malformed-request', [gzipSync('{}').subarray(0, 12), '{}'].map((b) => ({ body: b, headers: { 'content-encoding': 'gzip' } })))
}

const MIB = 1024 * 1024
const bombs = new Map<number, Buffer>()
/** Four times as much as may come, in a few kilobytes. */
const bombOf = (most: number): Buffer => {
  const bomb = bombs.get(most) ?? gzipSync(Buffer.concat([Buffer.from('{"metadata":"'), Buffer.alloc(4 * most, 'x'), Buffer.from('"}')]), { level: 1 })
  bombs.set(most, bomb)
  return bomb
}
const size = async (route: Route) => {
  const headers = { 'x-big': 'x'.repeat(20 * 1024) }
  for (const sent of [{ ...good(route), headers }, { ...good(route), path: `${pathOf(route)}?${'x'.repeat(20 * 1024)}` }]) {
    const got = await send(sent)
    expectProblem(got, 'headers-too-large', inShort(sent), '')
    expect(got.headers.connection).toBe('close')
  }
  await expectUnchanged(route.name)
  if (!route.body) return
  const most = route.path === '/tasks/batch' ? 10 * MIB : MIB
  await eachBody(route, 'payload-too-large', [`{"metadata":"${'x'.repeat(most)}"}`, { body: bombOf(most), headers: { 'content-encoding': 'gzip' } }, { body: '{"a"', headers: { 'content-length': '5000000000' } }])
}

const isBatch = (route: Route): boolean => route.path === '/tasks/batch'
const nested = (levels: number, open = '{"a":', close = '}') => `${open.repeat(levels)}1${close.repeat(levels)}`
const depth = async (route: Route) => {
  const most = route.path.endsWith('/result') ? MAX_RESULT_DEPTH : MAX_DEPTH
  const deep = [nested(most), nested(2000), nested(300_000, '[', ']')]
  if (isBatch(route)) return refusedInBatch(route, deep.map((d) => member(taskBody(), 'metadata', `{"a":${d}}`)))
  await eachBody(route, 'invalid-request', deep.map((d) => member(route.body!.example, 'metadata', d)))
}

/** A good body with one member as this JSON text; undefined leaves it out. */
const member = (body: Record<string, unknown>, name: string, text: string | undefined): string => {
  const { [name]: _, ...rest } = body
  const others = JSON.stringify(rest).slice(1)
  return text === undefined ? `{${others}` : `{${JSON.stringify(name)}:${text}${others === '}' ? '' : ','}${others}`
}

/** Tasks of a batch are refused each by itself, as it would be alone. */
const refusedInBatch = async (route: Route, items: string[]): Promise<any[]> => {
  const sent = { method: route.method, path: pathOf(route), body: `{"tasks":[${items.join(',')}]}` }
  const got = await send(sent)
  const said = `${inShort(sent)} → ${got.status} ${got.text.slice(0, 500)}`
  expect(got.status, said).toBe(200)
  const { accepted, tasks } = JSON.parse(got.text)
  expect([accepted, tasks.length], said).toEqual([0, items.length])
  for (const [i, { error }] of tasks.entries()) expect(error, items[i]!.slice(0, 300)).toMatchObject({ type: '/docs/errors#invalid-request', status: 422, errors: expect.any(Array), error: error.detail })
  expectHarmless(got.text, said)
  await expectUnchanged(said)
  return tasks.map((t: any) => t.error.errors)
}

const expectPointer = (errors: { pointer: string; detail: string }[], at: string, said: string) => expect(errors.map(({ pointer }) => pointer).join(' '), said).toContain(at)

/** A good body without what cannot stand beside this member, as `cron` beside `every_seconds`. */
const besides = (schema: Schema, example: Record<string, unknown>, name: string): Record<string, unknown> => {
  const alternatives = (schema.anyOf ?? []).flatMap((one) => one.required ?? [])
  return alternatives.includes(name) ? Object.fromEntries(Object.entries(example).filter(([n]) => !alternatives.includes(n))) : example
}

/** Every member of a body, and of the task within it, with every value that it must not have; and without what it must have. */
const members = async (route: Route) => {
  const { schema, example } = route.body!
  if (isBatch(route)) return membersInBatch(route)
  await withoutNeeded(schema, example, async (body, at) => expectPointer(JSON.parse((await refused('invalid-request', { ...good(route), body })).text).errors, at, body))
  for (const [name, of] of Object.entries(schema.properties ?? {})) {
    for (const { text } of wrongFor(name, of, route.path)) {
      const body = member(besides(schema, example, name), name, text)
      expectPointer(JSON.parse((await refused('invalid-request', { ...good(route), body })).text).errors, `/${name}`, body.slice(0, 300))
    }
    const inner = known(of).properties
    // That every wrong value is refused is said where the task stands alone: here, that it is looked at.
    for (const [innerName, innerOf] of Object.entries(inner ?? {})) {
      for (const { text } of wrongFor(innerName, innerOf, route.path).slice(0, 2)) {
        const body = member(example, name, member(besides(known(of), example[name] as Record<string, unknown>, innerName), innerName, text))
        expectPointer(JSON.parse((await refused('invalid-request', { ...good(route), body })).text).errors, `/${name}/${innerName}`, body.slice(0, 300))
      }
    }
  }
}
const withoutNeeded = async (schema: Schema, example: Record<string, unknown>, refuse: (body: string, at: string) => Promise<void>) => {
  for (const name of schema.required ?? []) await refuse(member(example, name, undefined), `/${name}`)
  const [first, ...others] = (schema.anyOf ?? []).flatMap((one) => one.required ?? [])
  if (first !== undefined) await refuse(others.reduce((body, name) => member(JSON.parse(body), name, undefined), member(example, first, undefined)), `/${first}`)
}
const membersInBatch = async (route: Route) => {
  const { tasks } = route.body!.schema.properties!
  for (const { text } of wrongFor('tasks', tasks!, route.path)) {
    if (JSON.parse(text) instanceof Array && JSON.parse(text).length <= 1000) expect(await refusedInBatch(route, JSON.parse(text).map((v: unknown) => JSON.stringify(v)))).not.toContain(null)
    else await refused('invalid-request', { ...good(route), body: `{"tasks":${text}}` })
  }
  const item = known(known(tasks!).items!)
  await withoutNeeded(item, taskBody(), async (body, at) => expectPointer((await refusedInBatch(route, [body]))[0], at, body))
  for (const [name, of] of Object.entries(item.properties!)) {
    const bodies = wrongFor(name, of, route.path).map(({ text }) => member(besides(item, taskBody(), name), name, text))
    for (const [i, errors] of (await refusedInBatch(route, bodies)).entries()) expectPointer(errors, `/${name}`, bodies[i]!.slice(0, 300))
  }
}

const UNKNOWN = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'id', '', 'max_retires', 'a/b~c', '\u202e']
const keys = async (route: Route) => {
  const pointer = (name: string) => `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`
  const bodyWith = (name: string, example: Record<string, unknown>) => `{${JSON.stringify(name)}:{"polluted":1},${JSON.stringify(example).slice(1)}`.replace(',}', '}')
  for (const name of UNKNOWN) {
    const got = await refused('invalid-request', { ...good(route), body: bodyWith(name, route.body!.example) })
    expect(JSON.parse(got.text).errors).toContainEqual({ pointer: pointer(name), detail: 'is not known here' })
  }
  await refused('invalid-request', { ...good(route), body: `{"${'x'.repeat(200_000)}":1}` })
  if (!isBatch(route)) return
  const all = await refusedInBatch(route, UNKNOWN.map((name) => bodyWith(name, taskBody())))
  for (const [i, errors] of all.entries()) expect(errors).toContainEqual({ pointer: pointer(UNKNOWN[i]!), detail: 'is not known here' })
}

const UNKNOWN_PARAMETERS = ['a[b]=1', 'x=1', 'x=1&x=2', '__proto__=1', 'constructor=1', `q=${'x'.repeat(5000)}`, '%00=1', '%E0%A4%A=1', '=', 'toString', '%0d%0aSet-Cookie:x=1']
/** Cursors that would be of the right form, if they were not somebody's own. */
const FORGED = ['../..', 'cost/..%2f', '{x}/y', 'a/b/c', '', ' 01980a1c-6f0e-7c3a-9d2b-1f6a2b3c4d5e', '(', 'a b'].map((at) => Buffer.from(at).toString('base64url'))
const query = async (route: Route) => {
  const refuse = async (parameters: string) => {
    const got = await refused('invalid-request', { ...good(route), path: `${pathOf(route)}?${parameters}` })
    expect(JSON.parse(got.text).errors[0].detail).toMatch(/./)
  }
  for (const parameters of UNKNOWN_PARAMETERS) await refuse(parameters)
  for (const { name, schema } of route.parameters('query')) {
    for (const value of [...wrongInQuery(name, schema), ...(name === 'cursor' ? FORGED : [])]) await refuse(`${name}=${value}`)
    const fine = String(schema.default ?? schema.enum?.[0] ?? 'a')
    for (const parameters of [`${name}=${fine}&${name}=${fine}`, `${name}[]=${fine}`, `${name}.x=1`]) await refuse(parameters)
  }
}

const ids = async (route: Route) => {
  for (const { name } of route.parameters('path')) {
    const sent = (id: string): Sent => ({ ...good(route), path: filled(route.path, (n) => (n === name ? id : thingFor(route.path, n))) })
    // Where an id is made by being named, one that cannot be is a fault of the request's; elsewhere it is simply not there.
    const type = route.method === 'PUT' ? 'invalid-request' : 'not-found'
    for (const id of WRONG_IDS) await refused(type, sent(id))
    for (const id of UNDECODABLE_IDS) await refused('malformed-request', sent(id))
  }
}

const headers = async (route: Route) => {
  for (const { name } of route.parameters('header')) {
    const wrong = WRONG_HEADERS[name]
    if (!wrong) throw new Error(`what is wrong for the header ${name}? Tell test/hostile.ts`)
    // No id of an event is as good as an empty one: browsers send that.
    for (const value of wrong) await refused(name === 'Last-Event-ID' ? 'invalid-request' : 'malformed-request', { ...good(route), headers: { [name]: value } })
  }
}

const broken = async (route: Route) => {
  const head = `${route.method} ${pathOf(route)} HTTP/1.1\r\nHost: x\r\n`
  const body = goodBody(route) ?? ''
  const cases = [
    `${head}Bad Header: x\r\n\r\n`,
    `${head}X: a\u0000b\r\n\r\n`,
    `${head}Idempotency-Key: a\rb\r\n\r\n`,
    `${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    `${head}Content-Length: -1\r\n\r\n`,
    `${head}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`,
    `${head.replace(' HTTP', '\u0000 HTTP')}\r\n`,
    ...(body === '' ? [] : [`${head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n${body}`]),
  ]
  for (const bytes of cases) {
    const got = await rawly(bytes)
    expectProblem(got!, 'malformed-request', JSON.stringify(bytes.slice(0, 300)), got!.text.includes('Host') ? pathOf(route) : '')
    expect(got!.headers.connection).toBe('close')
  }
  const noHost = await rawly(`${route.method} ${pathOf(route)} HTTP/1.1\r\nContent-Length: 0\r\n\r\n`)
  expectProblem(noHost!, 'malformed-request', 'no Host', pathOf(route))
  await expectUnchanged(route.name)
}

const CLASSES: BadClass[] = [
  { name: 'syntax: what is no JSON object is 400', concerns: readsBody, try: syntax },
  { name: 'media: what is not application/json in UTF-8 is 415, and what cannot be inflated 400', concerns: readsBody, try: media },
  { name: 'size: 413 as sent, inflated or merely promised; 431', concerns: always, try: size },
  { name: 'depth: deeper than it may be is 422, however deep', concerns: readsBody, try: depth },
  { name: 'members: numbers, names, unicode, hosts, ports and times that cannot be are 422', concerns: readsBody, try: members },
  { name: 'keys: unknown members are 422 and named, those of prototypes too', concerns: readsBody, try: keys },
  { name: 'query: unknown, doubled and wrong parameters are 422', concerns: readsStore, try: query },
  { name: 'ids: those that cannot be ours are 404, those that cannot be decoded 400', concerns: (route) => route.parameters('path').length > 0, try: ids },
  { name: 'headers that mean something and are wrong are 400 or 422', concerns: (route) => route.parameters('header').length > 0, try: headers },
  { name: 'what is hardly HTTP is 400, and the connection ends', concerns: always, try: broken },
]

for (const route of routes) {
  describe(route.name, () => {
    for (const bad of CLASSES.filter(({ concerns }) => concerns(route))) {
      test(bad.name, async () => {
        await bad.try(route)
        await goodPasses()
      })
    }
  })
}

test('the table is of the document that is served', async () => {
  const served = (await system.get('/openapi.json')).json
  expect(Object.keys(served.paths)).toEqual(Object.keys(document.paths))
  expect(served.components).toEqual(document.components)
})

const alone = (path: string, body: object): Sent => ({ method: 'POST', path, body: JSON.stringify(body) })

describe('what only several members together, or what is there, make wrong', () => {
  test('of a task', async () => {
    await refused('invalid-request', alone('/tasks', taskBody({ delay_seconds: 1, run_at: '2026-01-01T00:00:00Z' })))
    // Pinned to an agent of another type, and to one that is not there.
    await refused('invalid-request', alone('/tasks', taskBody({ agent_id: agentId, agent_type: 'other' })))
    await refused('not-found', alone('/tasks', taskBody({ agent_id: 'nobody' })))
    await refused('no-agent', alone('/tasks?require_agent=true', taskBody({ task_type: 'unheard-of' })))
    expect(WRONG_HEADERS['Idempotency-Key']).toContain('')
    await refused('malformed-request', { ...alone('/tasks/batch', { tasks: [taskBody()] }), headers: { 'idempotency-key': 'a' } })
  })

  test('of a schedule', async () => {
    for (const more of [{ cron: '* * * * *', every_seconds: 5 }, { every_seconds: 5, tz: 'UTC' }, { every_seconds: 5, task: taskBody({ delay_seconds: 1 }) }, { every_seconds: 5, task: taskBody({ run_at: '2026-01-01T00:00:00Z' }) }, { every_seconds: 5, task: taskBody({ parameters: { x: 'x'.repeat(70_000) } }) }]) {
      await refused('invalid-request', { ...alone('/schedules/new', { task: taskBody(), ...more }), method: 'PUT' })
    }
    await refused('host-not-allowed', { ...alone('/schedules/new', { every_seconds: 5, task: taskBody({ callback_url: 'https://10.0.0.1/' }) }), method: 'PUT' })
  })

  test('a callback_url that is not public is 403', async () => {
    const port = new URL(system.api[0]!.url).port
    for (const callback_url of ['https://127.0.0.1/', `http://127.0.0.1:${port}/agents/cleanup`, 'https://169.254.169.254/latest/meta-data', 'https://10.0.0.1', 'https://[::1]/', 'https://[fd00::1]/', 'https://localhost/', 'http://app.example/']) {
      await refused('host-not-allowed', alone('/tasks', taskBody({ callback_url })))
    }
  })

  test('of a registration: no port, and hosts that are never posted to, ourselves among them', async () => {
    await refused('invalid-request', alone('/agents/register', agentBody({ port: undefined })))
    await refused('invalid-request', alone('/agents/register', agentBody({ host: 'a.example:80', port: 81 })))
    const port = Number(new URL(system.api[0]!.url).port)
    const hosts = ['169.254.169.254', '169.254.1.1', '0.0.0.0', '0.1.2.3', '224.0.0.1', '255.255.255.255', '100.100.100.200', '[::]', '::', 'fe80::1', 'ff02::1', 'fd00:ec2::254', 'metadata', 'METADATA.google.internal', 'metadata.google.internal.']
    for (const host of hosts) await refused('host-not-allowed', alone('/agents/register', agentBody({ host })))
    for (const host of ['127.0.0.1', 'localhost', '127.9.9.9', '::1', `localhost:${port}`]) await refused('host-not-allowed', alone('/agents/register', agentBody({ host, port })))
  })

  test('an id in use by a living agent of another type is 409', () => refused('agent-type-conflict', alone('/agents/register', agentBody({ agent_id: agentId, type: 'other' }))))

  test('ids that are paths of the API are no agent’s: it could neither be read nor beat', async () => {
    for (const id of ['register', 'cleanup', 'type']) {
      const got = await refused('invalid-request', alone('/agents/register', agentBody({ agent_id: id })))
      expect(JSON.parse(got.text).errors).toEqual([{ pointer: '/agent_id', detail: 'must be none of register, cleanup, type: they are paths of the API' }])
    }
  })

  test('ids of our form that nothing has are not found', async () => {
    // What makes or forgets things under the id it is given is none of these.
    for (const route of routes.filter(({ path, method }) => path.includes('{id}') && method !== 'PUT' && !(method === 'DELETE' && !path.startsWith('/tasks')) && !path.endsWith('/unregister'))) {
      const id = route.path.startsWith('/tasks') ? 'cost.01980a1c-6f0e-7c3a-9d2b-1f6a2b3c4d5e' : route.path.startsWith('/keys') ? NO_KEY : 'nobody'
      await refused('not-found', { ...good(route), path: filled(route.path, () => id) })
    }
    // One character of the type, or of the id, is another task.
    for (const path of [`/tasks/${waiting}0`, `/tasks/${waiting.toUpperCase()}`, `/tasks/x${waiting}`, `/tasks/${waiting.slice(5)}`]) await refused('not-found', { method: 'GET', path })
  })
})

/** Beside those of the document: what is behind the Board's. */
const METHODS = Map.groupBy([...routes.map(({ method, path }) => ({ method, path })), { method: 'GET', path: '/queues/api/queues' }], ({ path }) => path)

test.each([...METHODS])('%s: a wrong method is 405 with Allow, OPTIONS says the same, HEAD goes with GET', async (template, those) => {
  const path = filled(template, (name) => thingFor(template, name))
  const methods = new Set(those.flatMap(({ method }) => (method === 'GET' ? ['GET', 'HEAD'] : [method])).concat('OPTIONS'))
  const allowed = (header: string | undefined) => new Set(header?.split(', '))
  for (const method of ['TRACE', 'PUT', 'PATCH', 'PROPFIND', 'POST', 'DELETE', 'GET'].filter((m) => !methods.has(m))) {
    expect(allowed((await refused('method-not-allowed', { method, path })).headers.allow), `${method} ${path}`).toEqual(methods)
  }
  const options = await send({ method: 'OPTIONS', path })
  expect([options.status, allowed(options.headers.allow), options.text]).toEqual([204, methods, ''])
  if (!methods.has('HEAD') || path === '/metrics') return
  const [get, head] = [await send({ method: 'GET', path }), await send({ method: 'HEAD', path })]
  expect([head.status, head.text, head.headers['content-type'], head.headers['content-length']], path).toEqual([get.status, '', get.headers['content-type'], get.headers['content-length']])
  await expectUnchanged(path)
})

test('methods that are none, CONNECT, and paths that are nowhere', async () => {
  for (const method of ['GET', 'POST', 'TRACE', 'PUT']) for (const path of ['/nothing', '/tasks/a/b/c', '/agents/a/b', '//tasks', '/queues/api/nothing', '/tasks/../agents/register', '/%2e%2e/tasks']) await refused(method !== 'GET' && path.startsWith('/queues') ? 'method-not-allowed' : 'not-found', { method, path })
  for (const bytes of ['GARBAGE\r\n\r\n', 'get /tasks HTTP/1.1\r\nHost: x\r\n\r\n', 'FETCH /tasks HTTP/1.1\r\nHost: x\r\n\r\n', 'GET /tasks HTTP/9.9\r\nHost: x\r\n\r\n', '\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003']) {
    expectProblem((await rawly(bytes))!, 'malformed-request', bytes, '')
  }
  // No proxy: whoever asks to be connected elsewhere is not.
  const connected = await rawly('CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n')
  expect(connected === null || connected.status >= 400).toBe(true)
  await expectUnchanged('all that')
  await goodPasses()
})

test('who asks before sending too large a body is spared that; an unknown expectation is ignored; HTTP/1.0 is served', async () => {
  const post = (more: string, body = '') => `POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${more}\r\n${body}`
  expect(await rawly('GET /health/live HTTP/1.0\r\n\r\n')).toMatchObject({ status: 200 })
  expect(await rawly(post('Expect: 100-continue\r\nContent-Length: 5000000000\r\n'))).toMatchObject({ status: 413, headers: { connection: 'close' } })
  expect(await rawly(post('Expect: 100-continue\r\nContent-Length: 2\r\n', '{}'))).toMatchObject({ status: 422 })
  expect(await rawly(post('Expect: the-unexpected\r\nContent-Length: 2\r\n', '{}'))).toMatchObject({ status: 422 })
  await expectUnchanged('all that')
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
