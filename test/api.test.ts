/** The API as its clients use it: two families of existing agents, request by request, and what people ask of tasks and agents. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { call, startSystem, until, type System } from './system.ts'

let system: System
beforeAll(async () => {
  system = await startSystem({ apis: 2 })
})
afterAll(() => system[Symbol.asyncDispose]())

/** A server for POST /task, closed with its test. */
const startServer = async (answer: (task: any, res: ServerResponse, req: IncomingMessage, body: string) => void) => {
  const server = createServer((req, res) => {
    const chunks: Buffer[] = []
    req.on('data', (c: Buffer) => chunks.push(c))
    req.on('end', () => {
      const body = Buffer.concat(chunks).toString()
      answer(JSON.parse(body), res, req, body)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as { port: number }).port,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
const answerJson = (res: ServerResponse, status: number, body: object) => void res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))

/** The agent is silent since so long, by Redis's clock; returns when the sweeper has seen it. */
const silentFor = async (type: string, id: string, ms: number) => {
  await system.redis.hset(system.keys.agent(type, id), 'seen', Date.now() - ms)
  await system.redis.zadd(system.keys.watch(type), 0, id)
  await until(async () => (await system.redis.hget(system.keys.agent(type, id), 'out')) === 'dead', { what: 'its death' })
}

describe('the first family of agents', () => {
  /** As its library does it. */
  const startFirst = async (type: string, handlers: Record<string, (parameters: any) => unknown>, more: object = {}) => {
    const server = await startServer((task, res, req) => {
      if (req.method !== 'POST' || req.url !== '/task') return answerJson(res, 404, {})
      const handler = handlers[task.task_type]
      if (!handler) return answerJson(res, 400, { error: `No handler for task type: ${task.task_type}` })
      try {
        answerJson(res, 200, { task_id: task.task_id, status: 'completed', result: handler(task.parameters), execution_time_ms: 12.5 })
      } catch (error) {
        answerJson(res, 500, { task_id: task.task_id, status: 'failed', error: (error as Error).message })
      }
    })
    const registered = await system.post('/agents/register', { name: 'Cost Agent', type, host: '127.0.0.1', port: server.port, capabilities: ['analyze', 'broken', 'missing'], version: '1.0.0', metadata: { region: 'eu', nested: { a: [1] } }, ...more })
    return { ...server, registered, id: registered.json.agent_id as string }
  }
  const run = async (task: object) => system.ended(await system.submit({ ...task, agent_id: undefined }))

  test('registers with 201, and reads its id and how often to beat', async () => {
    await using agent = await startFirst('first-a', {})
    expect(agent.registered.status).toBe(201)
    expect(agent.registered.json).toMatchObject({ agent_id: expect.stringMatching(/^[0-9a-f-]{36}$/), heartbeat_interval_seconds: 20, status: 'healthy', version: '1.0.0', metadata: { region: 'eu', nested: { a: [1] } } })
  })

  test('beats with status and metadata, and leaves without a body; twice is no error', async () => {
    await using agent = await startFirst('first-b', {})
    const beat = await system.post(`/agents/${agent.id}/heartbeat`, { status: 'healthy', metadata: {} })
    expect([beat.status, beat.json]).toEqual([200, { received: true, next_interval_seconds: 20, timestamp: expect.stringMatching(/Z$/), cancel: [], lost: [], drain: false, signing_secret_id: expect.stringMatching(/^[0-9a-f]{16}$/) }])
    for (const was of [true, false]) {
      const left = await system.post(`/agents/${agent.id}/unregister`)
      expect([left.status, left.json]).toEqual([200, { agent_id: agent.id, unregistered: was }])
    }
    expect((await system.post(`/agents/${agent.id}/heartbeat`, { status: 'healthy', metadata: {} })).status).toBe(404)
  })

  test('may give its port within host', async () => {
    const { status, json } = await system.post('/agents/register', { name: 'c', type: 'first-c', host: 'cost-agent:8001', capabilities: ['x'], version: '1', metadata: {} })
    expect([status, json.host, json.port]).toEqual([201, 'cost-agent', 8001])
  })

  test('after an outage longer than its TTL its next heartbeat simply works, and it gets tasks again', async () => {
    await using agent = await startFirst('first-d', { analyze: () => 'back' })
    await silentFor('first-d', agent.id, 3_600_000)
    expect((await system.get(`/agents/${agent.id}`)).json).toMatchObject({ is_alive: false, status: 'dead' })
    const id = await system.submit({ agent_type: 'first-d', task_type: 'analyze' })
    const beat = await system.post(`/agents/${agent.id}/heartbeat`, { status: 'healthy', metadata: {} })
    expect(beat.status).toBe(200)
    expect((await system.get(`/agents/${agent.id}`)).json).toMatchObject({ is_alive: true, status: 'healthy' })
    expect(await system.ended(id)).toMatchObject({ status: 'completed', result: 'back' })
  })

  test('its 200 completes a task, its 500 fails an attempt, its 400 fails the task for good, each in its own words', async () => {
    let tries = 0
    await using agent = await startFirst('first-e', {
      analyze: (p) => ({ total: p.days * 2 }),
      broken: () => {
        tries++
        throw new Error('division by zero')
      },
    })
    expect(await run({ agent_type: 'first-e', task_type: 'analyze', parameters: { days: 15 } })).toMatchObject({ status: 'completed', result: { total: 30 }, error: null, execution_time_ms: 12.5, agent_id: agent.id, retry_count: 0 })
    expect(await run({ agent_type: 'first-e', task_type: 'broken', max_retries: 1, retry_delay_seconds: 0 })).toMatchObject({
      status: 'failed', error: 'division by zero', result: null, retry_count: 1,
      attempts: [{ attempt: 1, outcome: 'failed', status_code: 500, error: 'division by zero', agent_name: 'Cost Agent' }, { attempt: 2, outcome: 'failed' }],
    })
    expect(tries).toBe(2)
    expect(await run({ agent_type: 'first-e', task_type: 'missing', max_retries: 3, retry_delay_seconds: 0 })).toMatchObject({ status: 'failed', error: 'No handler for task type: missing', retry_count: 0, attempts: [{ outcome: 'rejected', status_code: 400 }] })
  })

  test('reads errors as a string', async () => {
    const { json } = await system.post('/agents/register', { name: 'x' })
    expect(json.error).toMatch(/host/)
  })
})

describe('the second family of agents', () => {
  const body = (id: string, port = 9) => ({ agent_id: id, agent_name: 'Second', host: '127.0.0.1', port, ttl_seconds: 30, metadata: { zone: 1 } })

  test('registers under its own id, at will and idempotently', async () => {
    const first = await system.post('/agents/register', body('second.a'))
    expect(first.status).toBe(201)
    expect(first.json).toMatchObject({ agent_id: 'second.a', agent_name: 'Second', host: '127.0.0.1', port: 9, is_alive: true, last_heartbeat: expect.stringMatching(/Z$/), registered_at: expect.stringMatching(/Z$/), type: 'default', capabilities: [], generation: 1 })
    for (let i = 0; i < 3; i++) {
      const again = await system.post('/agents/register', body('second.a'))
      expect([again.status, again.json.registered_at, again.json.generation]).toEqual([200, first.json.registered_at, 1])
    }
    expect((await system.get('/agents?type=default')).json.agents.filter((a: any) => a.id === 'second.a')).toHaveLength(1)
  })

  test('beats with neither body nor content type', async () => {
    await system.post('/agents/register', body('second.b'))
    const before = (await system.get('/agents/second.b')).json.last_heartbeat
    // fetch sends no content type with no body; and a content type without a body is no fault either.
    for (const headers of [{}, { 'content-type': 'application/json' }, { 'content-type': 'text/plain' }]) {
      const beat = await system.call('POST', '/agents/second.b/heartbeat', undefined, headers)
      expect([beat.status, beat.json.received, beat.json.next_interval_seconds]).toEqual([200, true, 10])
    }
    const after = (await system.get('/agents/second.b')).json
    expect(Date.parse(after.last_heartbeat)).toBeGreaterThanOrEqual(Date.parse(before))
    expect(after.metadata).toEqual({ zone: 1 })
  })

  test('leaves with DELETE, and comes back by registering', async () => {
    await system.post('/agents/register', body('second.c'))
    expect((await system.call('DELETE', '/agents/second.c')).status).toBe(200)
    expect((await system.get('/agents/second.c')).status).toBe(404)
    expect((await system.call('DELETE', '/agents/second.c')).status).toBe(200)
    expect((await system.post('/agents/register', body('second.c'))).status).toBe(201)
  })

  test('finds the dead with include_dead, and only then', async () => {
    await system.post('/agents/register', body('second.d'))
    await silentFor('default', 'second.d', 31_000)
    const ids = async (query: string) => (await system.get(`/agents${query}`)).json.agents.map((a: any) => [a.agent_id, a.is_alive])
    expect(await ids('?include_dead=true')).toContainEqual(['second.d', false])
    expect(await ids('')).not.toContainEqual(['second.d', false])
    expect(await ids('?include_dead=false')).not.toContainEqual(['second.d', false])
  })

  test('gets tasks that are pinned to it, though it offers nothing', async () => {
    await using server = await startServer((task, res) => answerJson(res, 200, { task_id: task.task_id, status: 'completed', result: task.task_type }))
    await system.post('/agents/register', body('second.e', server.port))
    const id = await system.submit({ task_type: 'anything', agent_id: 'second.e' })
    expect(await system.ended(id)).toMatchObject({ status: 'completed', result: 'anything', agent_type: 'default', agent_id: 'second.e' })
  })
})

describe('agents', () => {
  test('are listed by type and id, by page, and by what is asked', async () => {
    const make = (type: string, id: string, more: object = {}) => system.post('/agents/register', { agent_id: id, name: id, type, host: '127.0.0.1', port: 9, capabilities: ['a'], ...more })
    for (const [type, id] of [['list-b', 'l3'], ['list-a', 'l2'], ['list-c', 'l5'], ['list-a', 'l1'], ['list-b', 'l4']]) await make(type!, id!)
    await make('list-a', 'l0', { capabilities: ['b'], status: 'degraded' })
    const pages: string[][] = []
    let cursor = ''
    do {
      const { json } = await system.get(`/agents?limit=2${cursor}`)
      expect(json.count).toBe(json.agents.length)
      pages.push(json.agents.map((a: any) => `${a.type}/${a.id}`))
      cursor = json.next_cursor === null ? '' : `&cursor=${json.next_cursor}`
    } while (cursor !== '')
    const mine = pages.flat().filter((a) => a.startsWith('list-'))
    expect(mine).toEqual(['list-a/l0', 'list-a/l1', 'list-a/l2', 'list-b/l3', 'list-b/l4', 'list-c/l5'])
    expect(pages.slice(0, -1).every((p) => p.length === 2)).toBe(true)
    const ids = async (path: string) => (await system.get(path)).json.agents.map((a: any) => a.id)
    expect(await ids('/agents?type=list-b')).toEqual(['l3', 'l4'])
    expect(await ids('/agents/type/list-b')).toEqual(['l3', 'l4'])
    expect(await ids('/agents/type/list-nobody')).toEqual([])
    expect(await ids('/agents?type=list-a&capability=b')).toEqual(['l0'])
    expect(await ids('/agents?type=list-a&status=healthy')).toEqual(['l1', 'l2'])
    expect(await ids('/agents/type/list-a?status=degraded&limit=1')).toEqual(['l0'])
  })

  test('the dead are removed when that is asked', async () => {
    await system.post('/agents/register', { agent_id: 'dead.1', name: 'd', type: 'dying', host: '127.0.0.1', port: 9 })
    await system.post('/agents/register', { agent_id: 'alive.1', name: 'd', type: 'dying', host: '127.0.0.1', port: 9 })
    await silentFor('dying', 'dead.1', 3_600_000)
    expect((await system.post('/agents/cleanup')).json.removed).toBeGreaterThanOrEqual(1)
    expect((await system.get('/agents?type=dying&include_dead=true')).json.agents.map((a: any) => a.id)).toEqual(['alive.1'])
    expect((await system.post('/agents/dead.1/heartbeat')).status).toBe(404)
  })

  test('metadata is replaced by a registration, merged by a heartbeat, and keeps its bytes', async () => {
    const register = (metadata: string) => system.post('/agents/register', `{"agent_id":"meta.1","name":"m","host":"127.0.0.1","port":9,"metadata":${metadata}}`)
    expect((await register('{"big": 9007199254740993, "gone":1}')).text).toContain('"metadata":{"big":9007199254740993,"gone":1}')
    await register('{"big":12345678901234567890,"list":[ 1, 2 ],"e":{}}')
    await system.post('/agents/meta.1/heartbeat', '{"metadata":{"list":[],"n":1e2}}')
    const { text, json } = await system.get('/agents/meta.1')
    expect(json.metadata).toEqual({ big: Number('12345678901234567890'), list: [], e: {}, n: 100 })
    for (const raw of ['"big":12345678901234567890', '"list":[]', '"e":{}', '"n":1e2']) expect(text).toContain(raw)
  })
})

describe('tasks', () => {
  test('a submit answers 201 with where to look, and the task is there in full', async () => {
    const { status, headers, json } = await system.post('/tasks', { task_type: 'x', agent_type: 'full', parameters: { a: 1 }, priority: 'high', metadata: { m: 1 } })
    expect(status).toBe(201)
    expect(json).toEqual({ task_id: expect.stringMatching(/^full\.[0-9a-f-]{36}$/), status: 'queued', agent_id: null, created_at: expect.stringMatching(/Z$/), status_url: `/tasks/${json.task_id}` })
    expect(headers.get('location')).toBe(json.status_url)
    expect((await system.get(json.status_url)).json).toMatchObject({ status: 'queued', task_type: 'x', agent_type: 'full', parameters: { a: 1 }, metadata: { m: 1 }, priority: 10, result: null, error: null, started_at: null, completed_at: null, timeout_seconds: 30, max_retries: 3, retry_count: 0, attempts: [] })
  })

  test('parameters, metadata and result keep their bytes: big integers, [], unicode, white space, doubled keys', async () => {
    const parameters = '{ "big": 12345678901234567890123, "neg":-0, "exp":1.0E+2, "empty":[], "none":{} ,\n\t"uni":"ü\\u00fc\\ud83d\\ude82🚂 \\/", "a":1, "a":2, "__proto__":{"x":1}, "deep":[[[{}]]] }'
    const metadata = '{"n":9007199254740993,"s":" \\u0000 "}'
    const result = '[ 18446744073709551616, 1e400, [], {}, "\\u2028ß\\ud800", {"b":1,"a":2} ]'
    const received: string[] = []
    await using server = await startServer((task, res, _req, body) => {
      received.push(body)
      res.writeHead(200, { 'content-type': 'application/json' }).end(`{"task_id":"${task.task_id}", "result" : ${result} ,"status":"completed"}`)
    })
    await system.post('/agents/register', { agent_id: 'raw.1', name: 'r', type: 'raw', host: '127.0.0.1', port: server.port, capabilities: ['x'] })
    const { json, status } = await system.post('/tasks', `{"task_type":"x","agent_type":"raw","metadata":${metadata},"parameters": ${parameters} }`)
    expect(status).toBe(201)
    await system.ended(json.task_id)
    expect(received).toHaveLength(1)
    expect(received[0]).toContain(`"parameters":${parameters}`)
    expect(received[0]).toContain(`"metadata":${metadata}`)
    for (const path of [`/tasks/${json.task_id}`, '/tasks?agent_type=raw']) {
      const { text } = await system.get(path)
      for (const raw of [`"parameters":${parameters},`, `"metadata":${metadata},`, `"result":${result},`]) expect(text).toContain(raw)
    }
  })

  test('are listed newest first over all types, by page, each once, and by what is asked', async () => {
    const ids: string[] = []
    for (let i = 0; i < 11; i++) ids.unshift(await call('POST', `${system.api[0]!.url}/tasks`, { task_type: i % 2 ? 'odd' : 'even', agent_type: `pages-${i % 3}` }).then((a) => a.json.task_id))
    await system.call('DELETE', `/tasks/${ids[4]}`)
    const walk = async (query: string) => {
      const found: string[] = []
      let cursor = ''
      do {
        const { json } = await system.get(`/tasks?${query}${cursor}`)
        found.push(...json.tasks.map((t: any) => t.task_id))
        cursor = json.next_cursor === null ? '' : `&cursor=${json.next_cursor}`
      } while (cursor !== '')
      return found
    }
    expect((await walk('limit=3')).filter((id) => id.startsWith('pages-'))).toEqual(ids)
    expect(await walk('limit=2&agent_type=pages-1')).toEqual(ids.filter((id) => id.startsWith('pages-1.')))
    expect((await walk('limit=4&task_type=odd')).filter((id) => id.startsWith('pages-'))).toEqual(ids.filter((_, i) => i % 2 === 1))
    expect(await walk('status=cancelled&agent_type=pages-0')).toEqual([ids[4]].filter((id) => id!.startsWith('pages-0')))
    expect((await walk('limit=1&status=cancelled')).filter((id) => id.startsWith('pages-'))).toEqual([ids[4]])
    expect(await walk('status=completed&agent_type=pages-0')).toEqual([])
    expect((await system.get('/tasks?limit=2')).json).toMatchObject({ count: 2, next_cursor: expect.any(String) })
  })

  test('require_agent refuses what nobody alive can do, and takes what somebody can', async () => {
    const submit = (task_type: string) => system.post('/tasks?require_agent=true', { task_type, agent_type: 'required' })
    const refused = await submit('x')
    expect([refused.status, refused.json.type, refused.headers.get('retry-after')]).toEqual([503, '/docs/errors#no-agent', '5'])
    expect((await system.get('/tasks?agent_type=required')).json.count).toBe(0)
    await system.agent({ type: 'required', capabilities: ['x'] })
    const taken = await submit('x')
    expect(taken.status).toBe(201)
    expect(await system.ended(taken.json.task_id)).toMatchObject({ status: 'completed' })
    expect((await submit('y')).status).toBe(503)
    expect((await system.post('/tasks?require_agent=false', { task_type: 'y', agent_type: 'required' })).status).toBe(201)
  })

  test('a pinned task goes to its agent alone, by a queue of its own', async () => {
    const mine = await system.agent({ type: 'pins', capabilities: [] })
    const other = await system.agent({ type: 'pins', capabilities: ['x'] })
    const submit = (more: object) => system.post('/tasks', { task_type: 'x', ...more })
    expect((await submit({ agent_id: 'nobody' })).json).toMatchObject({ status: 404, type: '/docs/errors#not-found' })
    expect((await submit({ agent_id: mine.id, agent_type: 'elsewhere' })).json).toMatchObject({ status: 422, errors: [{ pointer: '/agent_type' }] })
    for (const more of [{ agent_id: mine.id }, { agent_id: mine.id, agent_type: 'pins' }]) {
      const { status, json } = await submit(more)
      expect([status, json.agent_id]).toEqual([201, mine.id])
      expect(await system.ended(json.task_id)).toMatchObject({ status: 'completed', agent_id: mine.id, agent_type: 'pins' })
    }
    expect([mine.runs.length, other.runs.length]).toEqual([2, 0])
    expect(await system.redis.zrange(system.keys.queues('pins'), '0', '-1')).toEqual([`pins.@${mine.id}`])
  })

  test('cancel: 200 while it waits, 202 while it runs, 409 when it has ended', async () => {
    const waiting = await system.submit({ agent_type: 'cancels' })
    const cancelled = await system.call('DELETE', `/tasks/${waiting}`)
    expect([cancelled.status, cancelled.json]).toEqual([200, { task_id: waiting, status: 'cancelled', cancel_requested: true }])
    expect(await system.task(waiting)).toMatchObject({ status: 'cancelled', error: 'cancelled', attempts: [] })
    const again = await system.call('DELETE', `/tasks/${waiting}`)
    expect([again.status, again.json]).toMatchObject([409, { status: 409, task_id: waiting, task_status: 'cancelled' }])

    await system.agent({ type: 'cancels', handle: () => undefined })
    const running = await system.submit({ agent_type: 'cancels' })
    await system.becomes(running, 'sent')
    const requested = await system.call('DELETE', `/tasks/${running}`)
    expect([requested.status, requested.json]).toEqual([202, { task_id: running, status: 'sent', cancel_requested: true }])
    expect(await system.ended(running)).toMatchObject({ status: 'cancelled', attempts: [{ outcome: 'cancelled' }] })
    expect((await system.call('DELETE', `/tasks/${running}`)).status).toBe(409)
  })

  test('retry: an ended task once, as a new one', async () => {
    const old = await system.submit({ agent_type: 'retries', parameters: { a: [] }, priority: 9, max_retries: 7, metadata: { m: 1 } })
    expect((await system.post(`/tasks/${old}/retry`)).json).toMatchObject({ status: 409, type: '/docs/errors#task-not-ended', task_status: 'queued' })
    await system.call('DELETE', `/tasks/${old}`)
    const retried = await system.post(`/tasks/${old}/retry`)
    expect([retried.status, retried.json.retry_of, retried.headers.get('location')]).toEqual([201, old, `/tasks/${retried.json.task_id}`])
    const next = retried.json.task_id
    expect(next).not.toBe(old)
    expect(await system.task(next)).toMatchObject({ status: 'queued', parameters: { a: [] }, priority: 9, max_retries: 7, metadata: { m: 1 }, retry_of: old, retried_as: null })
    expect(await system.task(old)).toMatchObject({ status: 'cancelled', retried_as: next })
    expect((await system.post(`/tasks/${old}/retry`)).json).toMatchObject({ status: 409, type: '/docs/errors#already-retried', task_id: next })
    expect((await system.get('/tasks?agent_type=retries')).json.count).toBe(2)
  })

  test('wait for their time when they have one', async () => {
    const delayed = await system.post('/tasks', { task_type: 'x', agent_type: 'later', delay_seconds: 3600 })
    expect(delayed.json.status).toBe('pending')
    const { run_at, expires_at, created_at } = await system.task(delayed.json.task_id)
    expect(Date.parse(run_at) - Date.parse(created_at)).toBe(3_600_000)
    expect(Date.parse(expires_at) - Date.parse(run_at)).toBe(86_400_000)
    expect((await system.post('/tasks', { task_type: 'x', agent_type: 'later', run_at: '2020-01-01T00:00:00+02:00' })).json.status).toBe('queued')
  })

  test('show when they may go while that is to come, and no time that has passed', async () => {
    // Nobody offers it, so it waits whatever its time.
    const id = await system.submit({ agent_type: 'due', delay_seconds: 3600 })
    const record = system.keys.task('due', id)
    for (const status of ['pending', 'retrying']) {
      await system.redis.hset(record, 'status', status, 'not_before', Date.now() + 60_000)
      expect((await system.task(id)).run_at).toMatch(/Z$/)
      await system.redis.hset(record, 'status', status, 'not_before', Date.now() - 1)
      expect(await system.task(id)).toMatchObject({ status, run_at: null })
    }
  })
})
