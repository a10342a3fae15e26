/** The TypeScript client, against a real router; and against servers that misbehave as no router would. */
import { readdir, readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { inspect } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createAgent } from '../sdk/typescript/agent.ts'
import * as sdk from '../sdk/typescript/client.ts'
import { createClient, type Client, type Task } from '../sdk/typescript/client.ts'
import { createOperations } from '../src/api/operations.ts'
import { PROBLEMS } from '../src/api/problem.ts'
import { startSystem, until, type System } from './system.ts'

let system: System
let client: Client
/** `METHOD path` of every request of `client`. */
const asked: string[] = []
beforeAll(async () => {
  system = await startSystem()
  client = createClient({
    url: system.url(),
    fetch: (url, init) => {
      asked.push(`${init!.method} ${new URL(url as string).pathname}`)
      return fetch(url, init)
    },
  })
})
afterAll(() => system[Symbol.asyncDispose]())

const failure = (promise: Promise<unknown>): Promise<any> => promise.then((value) => expect.fail(`it should have failed, and gave ${JSON.stringify(value)}`), (error: unknown) => error)
const task = (more: Partial<sdk.NewTask> = {}): sdk.NewTask => ({ agent_type: 'test', task_type: 'echo', ...more })

test('has a method for every route but the pages for people', async () => {
  const agent = await client.agents.register({ name: 'a', type: 'routes', host: '127.0.0.1', port: 9 })
  const { id } = await client.tasks.submit({ agent_type: 'nobody', task_type: 'echo' })
  await client.tasks.get(id)
  expect((await client.tasks.explain(id)).reason).toBe('no_agent_registered')
  await client.tasks.list().page()
  await failure(client.tasks.result(id, { attempt_id: 'none', status: 'completed' }))
  await client.tasks.submitBatch([])
  await failure(client.tasks.progress(id, { attempt_id: 'none', percent: 1 }))
  await client.tasks.cancel(id)
  for await (const event of client.tasks.events(id)) expect(event.type).toMatch(/^task\.(queued|cancelled)$/)
  for await (const _ of client.events({ agentType: 'nobody', lastEventId: 'nobody.1-0' })) break
  await client.tasks.retry(id)
  await failure(client.tasks.redeliver(id))
  await client.deadLetters.list().page()
  expect(await client.deadLetters.summary({ agent_type: 'nobody' })).toEqual({ groups: [], count: 0, complete: true })
  expect(await client.deadLetters.retry({ agent_type: 'nobody' })).toEqual({ retried: 0, skipped: 0, task_ids: [], more: false, next_cursor: null, error: null })
  await client.agents.heartbeat(agent.agent_id)
  await client.agents.get(agent.agent_id)
  await client.agents.list().page()
  expect((await client.agents.listType('routes').page()).agents.map((a) => a.id)).toEqual([agent.id])
  expect(await client.agents.rotateSecret(agent.id, 60)).toEqual({ agent_id: agent.id, old_secret_until: expect.any(String) })
  expect(await client.agents.unregister(agent.agent_id)).toEqual({ agent_id: agent.id, unregistered: true })
  expect(await client.agents.cleanup()).toEqual({ removed: expect.any(Number) })
  const sid = (await client.schedules.put('nightly', { cron: '0 3 * * *', task: task({ agent_type: 'nobody' }) })).schedule_id
  await client.schedules.get(sid)
  await client.schedules.pause(sid)
  expect((await client.schedules.resume(sid)).paused).toBe(false)
  expect((await client.schedules.list().page()).schedules.map((s) => s.schedule_id)).toEqual([sid])
  expect(await client.schedules.delete(sid)).toEqual({ schedule_id: sid, deleted: true })
  expect((await client.health()).status).toBe('ready')
  expect((await client.ready()).dispatchers).toBe(1)
  expect(await client.live()).toEqual({ status: 'live' })
  expect(await client.metrics()).toContain('# TYPE')
  expect((await client.openapi())['openapi']).toMatch(/^3\.1/)

  // Keys are in force as long as there is one.
  const { key, key_id: kid } = await client.keys.create({ name: 'me', roles: ['admin'] })
  expect(await failure(client.tasks.list().page())).toBeInstanceOf(sdk.Unauthorized)
  const keyed = createClient({ url: system.url(), apiKey: key, fetch: (url, init) => (asked.push(`${init!.method} ${new URL(url as string).pathname}`), fetch(url, init)) })
  const { key_id: second } = await keyed.keys.rotate(kid)
  expect((await keyed.keys.list()).keys.map((k) => [k.name, k.roles, k.expires_at === null])).toEqual([['me', ['admin'], false], ['me', ['admin'], true]])
  expect(await keyed.keys.revoke(second)).toEqual({ key_id: second, revoked: true })
  await keyed.keys.revoke(kid)

  const patterns = asked.map((a) => a.replace(id, '{id}').replace(agent.id, '{id}').replace(sid, '{id}').replace(kid, '{id}').replace(second, '{id}').replace('/type/routes', '/type/{type}'))
  const forPeople = ([, { answers }]: [string, { answers: Record<number, { contentType?: string }> }]) => answers[200]?.contentType === 'text/html'
  const routes = Object.entries(createOperations(300)).filter((o) => !forPeople(o)).map(([route]) => route)
  // The same as DELETE /agents/{id}, for clients that cannot send that.
  expect([...new Set(patterns), 'POST /agents/{id}/unregister'].sort()).toEqual(routes.sort())
})

test('has a class for every problem type, and an error carries what the problem says', async () => {
  expect(Object.keys(sdk.ERRORS).sort()).toEqual(Object.keys(PROBLEMS).sort())
  expect(new Set(Object.values(sdk.ERRORS)).size).toBe(Object.keys(PROBLEMS).length)

  const invalid = await failure(client.tasks.submit(task({ max_retries: -1, priority: 99 })))
  expect(invalid).toBeInstanceOf(sdk.InvalidRequest)
  expect(invalid).toBeInstanceOf(sdk.SwitchyardError)
  expect(invalid).toMatchObject({ name: 'InvalidRequest', type: 'invalid-request', status: 422, title: PROBLEMS['invalid-request'].title, retryAfterSeconds: undefined })
  expect(invalid.errors.map((e: sdk.Fault) => e.pointer).sort()).toEqual(['/max_retries', '/priority'])
  expect(invalid.body.detail).toBe(invalid.message)

  expect(await failure(client.tasks.get('../../etc'))).toBeInstanceOf(sdk.NotFound)
  const noAgent = await failure(client.tasks.submit({ agent_type: 'nobody', task_type: 'x' }, { requireAgent: true }))
  expect(noAgent).toBeInstanceOf(sdk.NoAgent)
  expect(noAgent.retryAfterSeconds).toBe(5)
  const { id } = await client.tasks.submit({ agent_type: 'nobody', task_type: 'x' })
  expect((await failure(client.tasks.retry(id))).taskStatus).toBe('queued')
  await client.tasks.cancel(id)
  const ended = await failure(client.tasks.cancel(id))
  expect(ended).toBeInstanceOf(sdk.TaskEnded)
  expect([ended.taskId, ended.taskStatus]).toEqual([id, 'cancelled'])
  const again = await client.tasks.retry(id)
  expect(again.submitted.retry_of).toBe(id)
  const twice = await failure(client.tasks.retry(id))
  expect(twice).toBeInstanceOf(sdk.AlreadyRetried)
  expect(twice.taskId).toBe(again.id)
  const agent = await system.agent({ type: 'conflict' })
  expect((await failure(client.agents.register({ name: 'b', type: 'other', agent_id: agent.id, host: '127.0.0.1', port: 9 }))).agentType).toBe('conflict')
  expect(await failure(client.agents.register({ name: 'b', host: '169.254.169.254', port: 80 }))).toBeInstanceOf(sdk.HostNotAllowed)
})

test('a submit whose answer is lost on the way is one task; a key of one’s own holds longer than the call', async () => {
  let lost = 0
  const losing = createClient({
    url: system.url(),
    fetch: async (to, init) => {
      const answer = await fetch(to, init)
      if (init!.method === 'POST' && lost++ % 2 === 0) throw new TypeError('fetch failed', { cause: Object.assign(new Error(), { code: 'ECONNRESET' }) })
      return answer
    },
  })
  const { id } = await losing.tasks.submit({ agent_type: 'once', task_type: 'echo' })
  const { tasks } = await losing.tasks.submitBatch([{ agent_type: 'once', task_type: 'echo' }, { agent_type: 'once', task_type: 'echo', priority: 99 }, { agent_type: 'once', task_type: 'echo' }])
  expect(lost).toBe(4)
  expect(tasks.map((answer) => ('error' in answer ? answer.error.errors![0]!.pointer : answer.replayed))).toEqual([true, '/priority', true])
  expect((await client.tasks.list({ agent_type: 'once' }).page()).tasks.map((t) => t.task_id).sort()).toEqual([id, ...tasks.flatMap((answer) => ('error' in answer ? [] : [answer.task_id]))].sort())
  const mine = await client.tasks.submit(task({ agent_type: 'once' }), { idempotencyKey: 'mine' })
  expect((await client.tasks.submit(task({ agent_type: 'once' }), { idempotencyKey: 'mine' })).id).toBe(mine.id)
  const reused = await failure(client.tasks.submit(task({ agent_type: 'once', priority: 1 }), { idempotencyKey: 'mine' }))
  expect([reused.constructor, reused.taskId]).toEqual([sdk.IdempotencyKeyReused, mine.id])
})

describe('wait', () => {
  test('gives the task at its end, and tells of every change on the way', async () => {
    let go = () => {}
    const held = new Promise<void>((resolve) => (go = resolve))
    await system.agent({ type: 'held', handle: async () => (await held, { seen: true }) })
    const changes: string[] = []
    const waiting = client.tasks.submit({ agent_type: 'held', task_type: 'echo' }).wait({ timeoutSeconds: 60, onChange: (t) => changes.push(t.status) })
    await until(() => changes.includes('sent'), { what: 'sent' })
    go()
    const ended: Task = await waiting
    expect(ended).toMatchObject({ status: 'completed', result: { seen: true } })
    expect(changes.at(-1)).toBe('completed')
    expect(changes).toEqual([...new Set(changes)])
  })

  test('also gives a task that failed', async () => {
    await system.agent({ type: 'fails', handle: () => { throw new Error('no') } })
    const ended = await client.tasks.submit({ agent_type: 'fails', task_type: 'echo', max_retries: 0 }).wait()
    expect(ended).toMatchObject({ status: 'failed', error: expect.stringContaining('no') })
  })

  test('ends with its time or its signal, and the task goes on', async () => {
    const handle = await client.tasks.submit({ agent_type: 'nobody', task_type: 'echo' })
    const late = await failure(handle.wait({ timeoutSeconds: 0.2 }))
    expect(late).toBeInstanceOf(sdk.TimedOut)
    expect(late.task).toMatchObject({ task_id: handle.id, status: 'queued' })
    const stop = new AbortController()
    const waiting = failure(client.tasks.wait(handle.id, { signal: stop.signal, onChange: () => stop.abort('enough') }))
    expect(await waiting).toBe('enough')
    expect((await handle.get()).status).toBe('queued')
    expect((await handle.cancel()).status).toBe('cancelled')
    expect((await handle.wait()).status).toBe('cancelled')
  })
})

test('a list goes through all pages, and page gives one', async () => {
  const ids: string[] = []
  for (let i = 0; i < 5; i++) ids.unshift((await client.tasks.submit({ agent_type: 'paged', task_type: 'echo' })).id)
  const list = client.tasks.list({ agent_type: 'paged', limit: 2 })
  const seen: string[] = []
  for await (const t of list) seen.push(t.task_id)
  expect(seen).toEqual(ids)
  const first = await list.page()
  const second = await list.page(first.next_cursor)
  expect([...first.tasks, ...second.tasks].map((t) => t.task_id)).toEqual(ids.slice(0, 4))
  const none: Task[] = []
  for await (const t of client.tasks.list({ agent_type: 'paged', status: 'failed' })) none.push(t)
  expect(none).toEqual([])
})

test('a list whose last page leads to itself ends there', async () => {
  const { url, requests } = await scripted(json({ tasks: [{ task_id: 'a' }], next_cursor: 'x' }), json({ tasks: [{ task_id: 'b' }], next_cursor: 'x' }))
  const seen: string[] = []
  for await (const t of createClient({ url }).tasks.list()) if (seen.push(t.task_id) > 9) break
  expect(seen).toEqual(['a', 'b'])
  expect(requests).toHaveLength(2)
})

test('with a JSON reader of one’s own, numbers keep their digits', async () => {
  await system.agent({ type: 'digits', handle: (_, { res, run }) => void res.writeHead(200, { 'content-type': 'application/json' }).end(`{"status":"completed","task_id":"${run.taskId}","result":12345678901234567890}`) })
  const exact = createClient({ url: system.url(), parseJson: (text) => JSON.parse(text.replace(/\b\d{17,}\b/g, '"$&"')) })
  expect((await exact.tasks.submit({ agent_type: 'digits', task_type: 'echo' }).wait()).result).toBe('12345678901234567890')
})

/** A server that does what a test says, request by request; the last word is repeated. */
type Act = (res: ServerResponse, req: IncomingMessage) => void
const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})
test('CLIENT.md shows the faults that are answered', async () => {
  const shown = /console\.log\(error\.errors\) \/\/ (.*)$/m.exec(await readFile(new URL('../sdk/typescript/CLIENT.md', import.meta.url), 'utf8'))![1]
  const error = await client.tasks.submit({ agent_type: 'text', task_type: 'word_count', priority: 99 }).catch((thrown: unknown) => thrown)
  expect(inspect((error as sdk.SwitchyardError).errors, { breakLength: Infinity })).toBe(shown)
})

test.each(['ftp://router', 'router:8080', 'http://me:hush@router', 'http://router?a=1', 'http://router#a'])('the url %s is refused, by client and agent alike, and no password told', (url) => {
  for (const make of [() => createClient({ url }), () => createAgent({ url, capabilities: {} })]) {
    expect(make).toThrow(TypeError)
    expect(make).toThrow(/url must (begin with http|hold no)/)
    expect(make).not.toThrow('hush')
  }
})

const scripted = async (...acts: Act[]) => {
  const requests: { request: string; at: number; headers: IncomingMessage['headers'] }[] = []
  const server = createServer((req, res) => {
    const act = acts[Math.min(requests.length, acts.length - 1)]!
    requests.push({ request: `${req.method} ${req.url}`, at: performance.now(), headers: req.headers })
    req.resume().once('end', () => act(res, req))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => new Promise((resolve) => (server.closeAllConnections(), server.close(() => resolve()))))
  const url = `http://127.0.0.1:${(server.address() as { port: number }).port}`
  return { url, requests }
}
const json = (body: object, status = 200, headers = {}): Act => (res) => void res.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
const problem = (type: string, status: number, headers = {}): Act => json({ type: `/docs/errors#${type}`, title: 't', status, detail: 'd', instance: '/', error: 'd' }, status, headers)
const broken: Act = (res) => res.socket!.destroy()
const silent: Act = () => {}
const submitted = json({ task_id: 'test.1', status: 'queued', agent_id: null, created_at: '2026-01-01T00:00:00.000Z', status_url: '/tasks/test.1' }, 201)

describe('sent again', () => {
  test('is what changes nothing when repeated, after a broken connection', async () => {
    const { url, requests } = await scripted(broken, broken, json({ status: 'live' }))
    expect(await createClient({ url }).live()).toEqual({ status: 'live' })
    expect(requests).toHaveLength(3)
  })

  test('is a submit whose connection broke, with the same key each time, kept for about as long as the call may last', async () => {
    const { url, requests } = await scripted(broken, broken, submitted)
    expect((await createClient({ url }).tasks.submit(task(), { timeoutSeconds: 20 })).id).toBe('test.1')
    await createClient({ url }).tasks.submit(task(), { idempotencyKey: 'mine' })
    const [first, second, third, mine] = requests.map(({ headers }) => [headers['idempotency-key'], headers['idempotency-key-seconds']])
    expect(first).toEqual([expect.stringMatching(/^[0-9a-f-]{36}$/), '80'])
    expect([second, third]).toEqual([first, first])
    expect(mine).toEqual(['mine', undefined])
    expect(await failure(createClient({ url }).tasks.submit(task(), { idempotencyKey: 'ü' }))).toBeInstanceOf(TypeError)
  })

  test('is not a retry whose connection broke: it may have been taken', async () => {
    const { url, requests } = await scripted(broken, submitted)
    const error = await failure(createClient({ url }).tasks.retry('test.1'))
    expect(error).toBeInstanceOf(sdk.ConnectionFailed)
    expect(error.refused).toBe(false)
    expect(requests).toHaveLength(1)
  })

  test('is a submit whose connection was refused', async () => {
    const { url } = await scripted(submitted)
    let calls = 0
    // Nothing listens on port 2.
    const fetchLate: typeof fetch = (to, init) => fetch(calls++ === 0 ? (to as string).replace(/:\d+\//, ':2/') : to, init)
    expect((await createClient({ url, fetch: fetchLate }).tasks.submit(task())).id).toBe('test.1')
    expect(calls).toBe(2)
  })

  test.each([429, 503])('is a submit that was answered %s, after the pause that was asked for', async (status) => {
    const { url, requests } = await scripted(problem(status === 429 ? 'too-many-queues' : 'store-unavailable', status, { 'retry-after': '1' }), submitted)
    expect((await createClient({ url }).tasks.submit(task())).id).toBe('test.1')
    expect(requests[1]!.at - requests[0]!.at).toBeGreaterThan(990)
  })

  test('is nothing a fourth time', async () => {
    const { url, requests } = await scripted(problem('store-unavailable', 503))
    expect(await failure(createClient({ url }).tasks.get('test.1'))).toBeInstanceOf(sdk.StoreUnavailable)
    expect(requests).toHaveLength(3)
  })

  test.each([
    ['a pause that is too long', problem('too-many-queues', 429, { 'retry-after': '16' }), sdk.TooManyQueues],
    ['no agent, which is an answer', problem('no-agent', 503, { 'retry-after': '1' }), sdk.NoAgent],
    ['a fault of the request', problem('invalid-request', 422), sdk.InvalidRequest],
    ['a fault of the router', problem('internal', 500), sdk.InternalError],
  ])('is nothing after %s', async (_, act, Class) => {
    const { url, requests } = await scripted(act)
    expect(await failure(createClient({ url }).tasks.submit(task()))).toBeInstanceOf(Class)
    expect(requests).toHaveLength(1)
  })
})

test('a wait goes on when the router is away for a while', async () => {
  const state = (status: string) => json({ task_id: 'test.1', status })
  const { url, requests } = await scripted(submitted, state('queued'), broken, broken, broken, broken, broken, state('completed'))
  expect((await createClient({ url }).tasks.submit(task()).wait()).status).toBe('completed')
  expect(requests).toHaveLength(8)
})

test('no call lasts longer than its time, nor than its signal', async () => {
  const { url } = await scripted(silent)
  expect(await failure(createClient({ url, timeoutSeconds: 0.1 }).live())).toBeInstanceOf(sdk.TimedOut)
  expect(await failure(createClient({ url }).live({ timeoutSeconds: 0.1 }))).toBeInstanceOf(sdk.TimedOut)
  const reason = new Error('enough')
  expect(await failure(createClient({ url }).live({ signal: AbortSignal.abort(reason) }))).toBe(reason)
  const stop = new AbortController()
  setTimeout(() => stop.abort(reason), 50)
  expect(await failure(createClient({ url }).live({ signal: stop.signal }))).toBe(reason)
})

test('what no router answers is said so', async () => {
  const page = await scripted((res) => void res.writeHead(502, { 'content-type': 'text/html' }).end('<h1>Bad gateway</h1>'))
  expect(await failure(createClient({ url: page.url }).live())).toMatchObject({ name: 'UnexpectedAnswer', status: 502, body: '<h1>Bad gateway</h1>' })
  const elsewhere = await scripted((res) => void res.writeHead(301, { location: 'https://example.org/' }).end())
  expect((await failure(createClient({ url: elsewhere.url }).tasks.submit(task()))).message).toContain('leads to https://example.org/; use that as url')
  const text = await scripted((res) => void res.end('hello'))
  expect(await failure(createClient({ url: text.url }).live())).toBeInstanceOf(sdk.UnexpectedAnswer)
  for (const odd of ['null', '7', '{"hello":1}', '[]']) {
    const other = createClient({ url: (await scripted((res) => void res.end(odd))).url })
    const answers = [other.tasks.submit(task()), other.tasks.wait('x', { timeoutSeconds: 5 }), other.tasks.list().page(), other.agents.get('x'), other.agents.list().page()].map(failure)
    for (const error of await Promise.all(answers)) expect(error, odd).toBeInstanceOf(sdk.UnexpectedAnswer)
  }
  const faults = await scripted(json({ type: '#invalid-request', detail: 'd', errors: [1, null, { pointer: 3 }, { pointer: '/a', detail: 'b' }] }, 422))
  expect((await failure(createClient({ url: faults.url }).tasks.submit(task()))).errors).toEqual([{ pointer: '/a', detail: 'b' }])
  const newer = await scripted(problem('from-the-future', 418))
  expect(await failure(createClient({ url: newer.url }).live())).toMatchObject({ name: 'SwitchyardError', type: 'from-the-future', status: 418, detail: 'd' })
})

test('takes url and key from the environment, and refuses a url that is none', async () => {
  const { url, requests } = await scripted(json({ status: 'live' }))
  const before = { ...process.env }
  try {
    Object.assign(process.env, { SWITCHYARD_URL: `${url}/behind/a/path/`, SWITCHYARD_API_KEY: 'k1' })
    await createClient().live()
    await createClient({ apiKey: 'k2' }).live()
    process.env['SWITCHYARD_API_KEY'] = ''
    await createClient().live()
  } finally {
    process.env = before
  }
  expect(requests.map((r) => [r.request, r.headers.authorization])).toEqual([
    ['GET /behind/a/path/health/live', 'Bearer k1'],
    ['GET /behind/a/path/health/live', 'Bearer k2'],
    ['GET /behind/a/path/health/live', undefined],
  ])
  for (const bad of ['hush\nhush', 'hush hush', 'hüsh']) {
    expect(() => createClient({ url, apiKey: bad })).toThrow(TypeError)
    expect(() => createClient({ url, apiKey: bad })).not.toThrow(/h.sh/)
  }
  for (const bad of ['localhost:8080', 'ftp://a', '', 'http://me:secret@a']) expect(() => createClient({ url: bad }), bad).toThrow(TypeError)
})

test('needs nothing but Node', async () => {
  const folder = new URL('../sdk/typescript/', import.meta.url)
  const read = new Set(['client.ts'])
  const packages = new Set<string>()
  for (const file of read) {
    for (const [, name] of (await readFile(new URL(file, folder), 'utf8')).matchAll(/^(?:im|ex)port .*from '(.+)'$/gm)) {
      if (name!.startsWith('./')) read.add(name!.slice(2))
      else packages.add(name!)
    }
  }
  expect([...read].sort()).toEqual(expect.arrayContaining(['http.ts', 'tasks.ts', 'wire.ts']))
  expect(await readdir(folder)).toEqual(expect.arrayContaining([...read]))
  expect([...packages].filter((name) => !name.startsWith('node:'))).toEqual([])
})
