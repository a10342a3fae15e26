/**
 * What is sent through us is told to those it is for, and to nobody else: no line of a log, at the finest level, holds any of it, nor does any
 * problem that is answered. Everything that may be private is marked here and sent wherever it can be, in requests that are taken and in some
 * that are refused, by clients, agents and receivers of webhooks; then the logs and the problems are searched for the marks.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { exchange, type Exact } from './exact.ts'
import { SECRET, startReceiver, type Receiver } from './receiver.ts'
import { accepts, startProcess, startSystem, until, type Handler, type System, type TestAgent } from './system.ts'

/** For what hangs. */
const TIMEOUT_MS = 30_000

/** Whatever must not be found: the mark, and where it was put. */
const marks = new Map<string, string>()
/** A text of its own for a place, such as nobody else would write. */
const mark = (place: string): string => {
  const text = `MARK${marks.size}x${Math.random().toString(36).slice(2, 10)}`
  marks.set(text, place)
  return text
}
marks.set(SECRET.slice('whsec_'.length), 'WEBHOOK_SECRET')

let system: System
let receiver: Receiver
let agents: TestAgent[]
beforeAll(async () => {
  system = await startSystem({ ownRedis: true, env: { LOG_LEVEL: 'trace', WEBHOOK_CIDRS: '127.0.0.0/8', WEBHOOK_SECRET: SECRET } })
  receiver = await startReceiver((_came, res) => void res.writeHead(500, { 'set-cookie': mark('a cookie of a receiver'), location: `http://u:${mark('userinfo in a receiver’s Location')}@x/` }).end(mark('what a receiver answers')))
  // One for each: it would be taken out if all failed at one.
  agents = await Promise.all(Object.entries(ANSWERS).map(([type, handle]) => system.agent({ type: 'private', capabilities: [type], handle })))
})
afterAll(async () => {
  await receiver.close()
  await system[Symbol.asyncDispose]()
})

const answers =
  (status: number, body: (task: any) => string, headers: Record<string, string> = {}): Handler =>
  (task, { res }) =>
    void res.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body(task))
/** What an agent may come up with, by task type; whatever it says is the client's. */
const ANSWERS: Record<string, Handler> = {
  good: (task) => ({ echo: task.parameters, more: mark('a result') }),
  metadata: answers(200, (task) => JSON.stringify({ status: 'completed', result: 1, metadata: { x: mark('metadata in an answer') }, task_id: task.task_id }), { 'set-cookie': mark('a cookie of an agent'), 'x-mine': mark('a header of an agent') }),
  failed: answers(200, () => JSON.stringify({ status: 'failed', error: mark('the error of a failed attempt') })),
  final: answers(200, () => JSON.stringify({ status: 'failed', retryable: false, error: mark('the error of a final failure') })),
  refused: answers(422, () => JSON.stringify({ detail: mark('a detail of an agent’s refusal') })),
  html: answers(500, () => `<h1>${mark('a page of an agent')}</h1>`, { 'content-type': 'text/html' }),
  broken: answers(200, () => `{"status":${mark('broken JSON of an agent')}`),
  foreign: answers(200, () => JSON.stringify({ task_id: mark('a foreign task_id'), status: 'completed', result: 1 })),
  elsewhere: answers(302, () => '', { location: `http://u:${mark('userinfo in an agent’s Location')}@127.0.0.1:9/?${mark('a query in an agent’s Location')}` }),
  coded: answers(200, () => '{}', { 'content-encoding': mark('the coding of an answer') }),
  full: answers(503, () => mark('what a full agent says'), { 'retry-after': '1' }),
  later: accepts,
  nothttp: (_task, { res }) => void res.socket!.end(`${mark('what is no HTTP')}\r\n\r\n`),
}

/** Each of a request's headers that may be private; a place is named by what it is sent with. */
const headers = (of: string) => ({ authorization: `Bearer ${mark(`Authorization of ${of}`)}`, cookie: `session=${mark(`a cookie of ${of}`)}`, 'proxy-authorization': mark(`Proxy-Authorization of ${of}`), 'x-api-key': mark(`X-Api-Key of ${of}`) })
const problems: string[] = []
/** Sends it with such headers; a problem is kept. */
const send = async (of: string, method: string, path: string, body?: unknown, more: Record<string, string> = {}): Promise<{ status: number; json: any }> => {
  const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
  const about = text === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)) }
  const sent: Exact = { method, path, body: text, headers: Object.entries({ host: 'localhost', ...about, ...headers(of), ...more }) }
  const got = await exchange(system.url(), sent)
  if (!got) throw new Error(`no answer to ${of}`)
  if (got.status >= 400) problems.push(got.text)
  return { status: got.status, json: got.text.startsWith('{') ? JSON.parse(got.text) : null }
}
const refuse = async (status: number, ...request: Parameters<typeof send>): Promise<void> => expect((await send(...request)).status, request[0]).toBe(status)

const task = (of: string, more: object = {}) => ({
  agent_type: 'private',
  task_type: 'good',
  max_retries: 0,
  parameters: { x: mark(`parameters of ${of}`), [mark(`a name in the parameters of ${of}`)]: 1 },
  metadata: { x: mark(`metadata of ${of}`) },
  callback_url: `${receiver.url}/${mark(`the path of the callback_url of ${of}`)}?token=${mark(`the query of the callback_url of ${of}`)}`,
  ...more,
})
const key = (of: string) => ({ 'idempotency-key': mark(`the Idempotency-Key of ${of}`) })

test('of tasks that agents perform, in whatever way that goes', async () => {
  const submit = async (task_type: string): Promise<string> => (await send(task_type, 'POST', '/tasks', task(task_type, { task_type }), key(task_type))).json.task_id
  const ids = await Promise.all(Object.keys(ANSWERS).map(submit))
  const later = await until(() => agents.flatMap(({ runs }) => runs).find((run) => run.taskType === 'later'), { timeoutMs: TIMEOUT_MS, what: 'the task whose result comes later' })
  const { taskId, attemptId: attempt_id } = later
  expect((await send('progress', 'POST', `/tasks/${taskId}/progress`, { attempt_id, message: mark('a message'), data: { x: mark('data of progress') } })).status).toBe(200)
  expect((await send('result', 'POST', `/tasks/${taskId}/result`, { attempt_id, status: 'failed', error: mark('the error of a later result'), metadata: { x: mark('metadata of a later result') } })).status).toBe(200)
  await refuse(409, 'a late result', 'POST', `/tasks/${taskId}/result`, { attempt_id: mark('an attempt id'), status: 'completed', result: mark('a late result') })
  await until(() => agents.every(({ runs }) => runs.length > 0), { timeoutMs: TIMEOUT_MS, what: 'a task at each agent' })
  // It would wait for room, again and again.
  const full = ids[Object.keys(ANSWERS).indexOf('full')]!
  await until(async () => (await send('a cancel', 'DELETE', `/tasks/${full}`)).status === 409, { timeoutMs: TIMEOUT_MS, what: 'the end of a task that waits for room' })
  await Promise.all(ids.map((id) => system.ended(id, TIMEOUT_MS)))
  await until(() => receiver.came.length >= ids.length, { timeoutMs: TIMEOUT_MS, what: 'webhooks' })
  // So many that the agent is found to be sick.
  for (let i = 0; i < 5; i++) await submit('failed')
  for (const [verb, path] of [['POST', `/tasks/${ids[0]}/retry`], ['POST', `/tasks/${ids[0]}/webhooks/redeliver`], ['GET', `/tasks/${ids[0]}`], ['GET', `/tasks/${ids[0]}/explain`], ['GET', `/dead-letters?error=${mark('an error that is looked for')}`], ['GET', '/dead-letters/summary'], ['GET', '/tasks'], ['GET', `/nowhere?x=${mark('a query to nowhere')}`]] as const) await send(path, verb, path)
  await send('many retried', 'POST', '/dead-letters/retry', { error: mark('an error to be retried') })
})

test('of batches, schedules, registrations and heartbeats', async () => {
  const batch = await send('a batch', 'POST', '/tasks/batch', { tasks: [task('a batch', { idempotency_key: mark('an idempotency_key') }), { ...task('a bad one of a batch'), priority: mark('a priority in a batch') }] })
  expect(batch.json).toMatchObject({ accepted: 1, refused: 1 })
  problems.push(JSON.stringify(batch.json))
  expect((await send('a schedule', 'PUT', '/schedules/private', { every_seconds: 1, task: task('a schedule', { task_type: 'html' }) })).status).toBe(201)
  const metadata = { x: mark('metadata of an agent') }
  const registered = await send('a registration', 'POST', '/agents/register', { name: 'a', type: 'other', host: '127.0.0.1', port: 9, metadata, instance_id: mark('an instance_id') })
  expect(registered.status).toBe(201)
  await send('a heartbeat', 'POST', registered.json.heartbeat_url, { metadata: { y: mark('metadata of a heartbeat') }, running: [mark('a running attempt')] })
  await until(async () => (await system.get('/schedules/private')).json.runs > 0, { timeoutMs: TIMEOUT_MS, what: 'a run of the schedule' })
  await send('a schedule', 'DELETE', '/schedules/private')
})

test('of requests that are refused', async () => {
  const once = key('a reused key')
  expect((await send('its first use', 'POST', '/tasks', task('the first use of a key'), once)).status).toBe(201)
  await refuse(422, 'its second use', 'POST', '/tasks', task('the second use of a key'), once)
  await refuse(400, 'a wrong key', 'POST', '/tasks', task('one with a wrong key'), { 'idempotency-key': `${mark('a wrong Idempotency-Key')} ä` })
  await refuse(400, 'a wrong time for a key', 'POST', '/tasks', task('one with a wrong time for a key'), { 'idempotency-key-seconds': mark('wrong Idempotency-Key-Seconds') })
  for (const broken of [`{"parameters":${mark('broken JSON')}}`, `{"parameters":"${mark('unended JSON')}`, `${mark('no JSON at all')}`, `{"a":"${mark('JSON with something behind it')}"}x`, `{"a":"${mark('JSON with a control character')}\n"}`, `[${'"abc",'.repeat(50)}${mark('deep in broken JSON')}]`]) {
    await refuse(400, 'broken JSON', 'POST', '/tasks', broken)
    await refuse(400, 'broken JSON', 'POST', '/tasks/batch', `{"tasks":[${broken}]}`)
  }
  const members = ['task_type', 'agent_type', 'agent_id', 'parameters', 'metadata', 'priority', 'timeout_seconds', 'max_retries', 'backoff', 'run_at', 'callback_url', 'expires_in_seconds']
  for (const member of members) await refuse(422, member, 'POST', '/tasks', task(`one with a bad ${member}`, { [member]: ` ${mark(`a bad ${member}`)}` }))
  await refuse(422, 'userinfo', 'POST', '/tasks', task('one with userinfo', { callback_url: `https://${mark('a user')}:${mark('a password')}@app.example/?${mark('a query beside userinfo')}` }))
  await refuse(403, 'a private host', 'POST', '/tasks', task('one to a private host', { callback_url: `https://10.0.0.1/${mark('the path of a refused callback_url')}?${mark('the query of a refused callback_url')}` }))
  await refuse(422, 'a host with userinfo', 'POST', '/agents/register', { name: 'a', host: `${mark('a user in a host')}@h`, port: 9, metadata: { x: mark('metadata of a refused registration') } })
  await refuse(415, 'text', 'POST', '/tasks', mark('a body that is text'), { 'content-type': 'text/plain' })
  await refuse(413, 'a large body', 'POST', '/tasks', `{"a":"${mark('a large body').repeat(100_000)}"}`)
  await refuse(405, 'a wrong method', 'PUT', '/tasks', mark('the body of a wrong method'))
  await refuse(422, 'a wrong query', 'GET', `/tasks?status=${mark('a wrong status')}&cursor=${mark('a wrong cursor')}`)
  await refuse(422, 'an id of an event', 'GET', '/events', undefined, { 'last-event-id': mark('an id of an event') })
  await refuse(431, 'large headers', 'GET', '/tasks', undefined, { 'x-large': mark('a large header').repeat(2_000) })
  for (const bytes of [`${mark('no HTTP')}\r\n\r\n`, `GET /tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${mark('Authorization of what is no HTTP')}\u0000\r\n\r\n`]) problems.push((await exchange(system.url(), bytes))!.text)
})

test('of what fails on our side, too: a store that is full, and a record that is broken', async () => {
  const broken = (await send('one to be broken', 'POST', '/tasks', task('one to be broken', { task_type: 'never' }))).json.task_id
  await system.redis.set(system.keys.task('private', broken), mark('a broken record'))
  for (const path of ['', '/explain']) await refuse(500, 'a broken record', 'GET', `/tasks/${broken}${path}`)
  await system.redis.config('SET', 'maxmemory', '1')
  await refuse(503, 'a full store', 'POST', '/tasks', task('one that the store had no room for'), key('one that the store had no room for'))
  await system.redis.config('SET', 'maxmemory', '0')
})

test('of a process that dies of a bug of ours: it says where, and not with what', async () => {
  const text = mark('what was sent to Redis')
  const died = await startProcess('test/fixtures/bug.ts', { REDIS_URL: system.redisUrl, REDIS_PREFIX: system.prefix, MARK: text })
  died.child.send('now')
  expect(await died.exited).toBe(1)
  await until(() => died.log.join('').includes('this should not have happened'), { timeoutMs: TIMEOUT_MS })
  expect(died.log.join('')).toContain("wrong number of arguments for 'hset'")
  expect(died.log.join('')).not.toContain(text)
})

test('of who pastes a key into the page, or is led to it', async () => {
  const key = mark('ADMIN_KEY').padEnd(32, 'x')
  const { url } = await system.addApi({ ADMIN_KEY: key })
  const typed = mark('a wrong key in a form')
  const to = mark('where a form leads')
  const post = (body: string, more: Record<string, string> = {}) => exchange(url, { method: 'POST', path: `/login?${mark('a query of a form')}`, body, headers: Object.entries({ host: 'localhost', 'content-type': 'application/x-www-form-urlencoded', 'content-length': String(body.length), ...headers('a form'), ...more }) })
  const wrong = await post(`key=${typed}&next=/${to}`)
  expect([wrong!.status, wrong!.text.includes(typed)]).toEqual([401, false])
  const right = await post(`key=${key}&next=/${to}`)
  expect([right!.status, right!.text]).toEqual([303, ''])
  const session = /switchyard_session=([^;]+)/.exec(right!.headers['set-cookie'] ?? '')?.[1] ?? /switchyard_session=([^;]+)/.exec((await fetch(`${url}/login`, { method: 'POST', redirect: 'manual', body: new URLSearchParams({ key }) })).headers.getSetCookie()[0]!)![1]!
  marks.set(session, 'a session')
  const ask = (path: string, more: Record<string, string>) => exchange(url, { method: 'GET', path, headers: Object.entries({ host: 'localhost', accept: 'text/html', ...more }) })
  expect((await ask('/agents', { cookie: `switchyard_session=${session}` }))!.status).toBe(200)
  expect((await ask(`/tasks?cursor=${mark('a query that is led to the login')}`, { cookie: `switchyard_session=${session}x` }))!.status).toBe(303)
  for (const got of [await post(`key=${mark('the key in a form that is none')}`, { 'content-type': 'text/plain' }), await post(`key=${mark('the key in a form of another site')}`, { 'sec-fetch-site': 'cross-site' }), await post(`key=${mark('the key in a long form')}${'x'.repeat(5_000)}`), await ask('/keys', { cookie: `switchyard_session=${session}` })]) problems.push(got!.text)
})

test('no log and no problem has any of it', async () => {
  const read = () => [...system.api, ...system.worker].map(({ log }) => log.join(''))
  // They say enough to be worth searching.
  for (const said of ['"level":"debug"', 'a request failed', 'webhook pending', '"status_code":422', '"reason":"5 different tasks in a row failed there', `"error":"the agent's answer is not HTTP`]) {
    await until(() => read().join('').includes(said), { timeoutMs: TIMEOUT_MS, what: `${said} in the logs` })
  }
  const logs = read()
  expect(problems.length).toBeGreaterThan(30)
  expect(marks.size).toBeGreaterThan(300)
  const found = (texts: string[]) => [...marks].flatMap(([text, place]) => texts.flatMap((t) => t.split('\n')).filter((line) => line.includes(text)).slice(0, 1).map((line) => `${place}: ${line.slice(0, 400)}`))
  expect(found(logs)).toEqual([])
  expect(found(problems)).toEqual([])
})
