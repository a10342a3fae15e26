/** Waiting for a task's end, and watching what happens: over one log, from any API process. */
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startCore, tasksAdding } from './core.ts'
import { atBest, call, startSystem, until, type System, type TestAgent } from './system.ts'

let system: System
let agent: TestAgent
beforeAll(async () => {
  system = await startSystem({ apis: 2, ownRedis: true })
  agent = await system.agent({ maxConcurrency: 1000 })
})
afterAll(() => system[Symbol.asyncDispose]())

type Told = { id: string; event: string; data: any }
/** A client of server-sent events that does not reconnect by itself. */
const watch = async (url: string, lastEventId?: string) => {
  const cut = new AbortController()
  const res = await fetch(url, { headers: lastEventId === undefined ? {} : { 'last-event-id': lastEventId }, signal: cut.signal })
  const told: Told[] = []
  let over = false
  const reading = (async () => {
    let text = ''
    for await (const chunk of res.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk
      const blocks = text.split('\n\n')
      text = blocks.pop()!
      for (const block of blocks) {
        const field = (name: string) => block.split('\n').find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2)
        if (field('event')) told.push({ id: field('id') ?? '', event: field('event')!, data: JSON.parse(field('data')!) })
      }
    }
  })().catch(() => {}).finally(() => (over = true))
  return { status: res.status, told, over: () => over, ended: () => reading, stop: () => { cut.abort(); return reading } }
}
const names = (told: Told[]) => told.map((t) => t.event)
/** Records read so far, by anyone. */
const reads = async () => [...(await system.redis.info('commandstats')).matchAll(/cmdstat_hgetall:calls=(\d+)/g)].reduce((sum, [, calls]) => sum + Number(calls), 0)
/** An agent's answers that wait to be let go. */
const held = () => {
  const gate = Promise.withResolvers<void>()
  agent.state.handle = async (task) => { await gate.promise; return task.parameters }
  return { go: () => { gate.resolve(); agent.state.handle = async (task) => task.parameters } }
}

test('a wait is answered when the task ends, at any API process', async () => {
  const took = await atBest(400, async () => {
    const gate = held()
    const id = await system.submit()
    await system.becomes(id, 'sent')
    const waits = system.api.map(async (api) => {
      const answer = await call('GET', `${api.url}/tasks/${id}?wait=30`)
      return { status: answer.json.status, at: performance.now() }
    })
    await until(async () => (await numSubscribed()) === 2, { what: 'both processes listening' })
    const from = performance.now()
    gate.go()
    const answers = await Promise.all(waits)
    expect(answers.map((a) => a.status)).toEqual(['completed', 'completed'])
    return Math.max(...answers.map((a) => a.at)) - from
  })
  expect(took, 'ms from the end to the answer').toBeLessThan(400)
})

const numSubscribed = async () => Number((await system.redis.pubsub('NUMSUB', system.keys.eventsChannel('test')))[1])

test('a wait ends with its time and tells the task as it is', async () => {
  const gate = held()
  const id = await system.submit()
  await system.becomes(id, 'sent')
  const from = performance.now()
  const answer = await system.get(`/tasks/${id}?wait=0.3`)
  expect(performance.now() - from).toBeGreaterThanOrEqual(295)
  expect(answer.json.status).toBe('sent')
  gate.go()
  await system.ended(id)
  expect((await system.get(`/tasks/${id}?wait=60`)).json.status).toBe('completed')
  expect((await system.get(`/tasks/test.0192f0c1-0000-7000-8000-000000000000?wait=5`)).status).toBe(404)
  for (const wait of ['61', '-1', 'x', '1e1', '']) expect((await system.get(`/tasks/${id}?wait=${wait}`)).status, wait).toBe(422)
})

test('a task that expires while nobody dispatches it ends the wait for it', async () => {
  const id = await system.submit({ agent_type: 'nobody', expires_in_seconds: 0.5 })
  expect((await system.get(`/tasks/${id}?wait=20`)).json).toMatchObject({ status: 'timeout', error: 'expired' })
})

test('a thousand waiters ask Redis for nothing while they wait, and all hear of the end', async () => {
  const gate = held()
  const ids = await Promise.all(Array.from({ length: 20 }, () => system.submit()))
  await Promise.all(ids.map((id) => system.becomes(id, 'sent')))
  const api = system.api[0]!.url
  const before = await reads()
  const waits = Array.from({ length: 1000 }, async (_, i) => {
    // Longer than the machine may take to let them all in.
    const answer = await fetch(`${api}/tasks/${ids[i % ids.length]}?wait=60`)
    return { status: ((await answer.json()) as { status: string }).status }
  })
  await until(async () => (await reads()) - before >= 2000, { what: 'all waiting', timeoutMs: 30_000 })
  const waiting = await reads()
  // So long they wait: until another task has come and gone twice.
  for (const type of ['other', 'other']) await system.submit({ agent_type: type, expires_in_seconds: 0.3 }).then((id) => call('GET', `${system.api[1]!.url}/tasks/${id}?wait=10`))
  expect((await reads()) - waiting, 'reads while a thousand wait').toBeLessThan(20)
  gate.go()
  const answers = await Promise.all(waits)
  expect(new Set(answers.map((a) => a.status))).toEqual(new Set(['completed']))
})

test('a wait for a task that runs on past the time by which it had to start asks Redis for nothing either', async () => {
  const gate = held()
  const id = await system.submit({ expires_in_seconds: 0.2 })
  const task = await system.becomes(id, 'sent')
  await until(() => Date.now() > Date.parse(task.created_at) + 250)
  const before = await reads()
  expect((await system.get(`/tasks/${id}?wait=1`)).json.status).toBe('sent')
  expect((await reads()) - before).toBeLessThan(20)
  gate.go()
  await system.ended(id)
})

test('a type first heard of by who watches all is listened to by itself, for who waits longer than that', async () => {
  const all = await watch(`${system.api[0]!.url}/events`)
  const id = await system.submit({ agent_type: 'met', expires_in_seconds: 0.5 })
  await until(() => all.told.some((t) => t.data.task_id === id))
  await until(async () => Number((await system.redis.pubsub('NUMSUB', system.keys.eventsChannel('met')))[1]) === 1, { what: 'a subscription of its own' })
  await system.ended(id)
  await all.stop()
})

test('a task is watched from its beginning to its end, and its stream ends with it', async () => {
  const gate = held()
  const id = await system.submit({ max_retries: 1, retry_delay_seconds: 0.01 })
  await system.becomes(id, 'sent')
  const seen = await watch(`${system.url()}/tasks/${id}/events`)
  await until(() => seen.told.length === 2, { what: 'history' })
  gate.go()
  agent.state.handle = async () => { throw new Error('not\tnow') }
  await seen.ended()
  expect(names(seen.told)).toEqual(['task.queued', 'task.sent', 'task.completed'])
  expect(seen.told[2]!.data).toMatchObject({ task_id: id, agent_type: 'test', type: 'task.completed', attempt: 1, agent_id: agent.id, outcome: 'completed', error: null, progress: null })

  const failing = await system.submit({ max_retries: 1, retry_delay_seconds: 0.01 })
  const live = await watch(`${system.url()}/tasks/${failing}/events`)
  await live.ended()
  await system.ended(failing)
  expect(names(live.told)).toEqual(['task.queued', 'task.sent', 'task.retrying', 'task.sent', 'task.failed'])
  expect(live.told.map((t) => t.data.error)).toEqual([null, null, 'not now', null, 'not now'])
  // Told again later, from the record, it is the same.
  const again = await watch(`${system.url()}/tasks/${failing}/events`)
  await again.ended()
  expect(again.told).toEqual(live.told)
  agent.state.handle = async (task) => task.parameters

  // From each place on, at any process: what is behind it, and no more; 204 when that is nothing.
  for (const [i, { id: at }] of live.told.entries()) {
    const rest = await watch(`${system.url()}/tasks/${failing}/events`, at)
    await rest.ended()
    expect(rest.told.map((t) => t.id)).toEqual(live.told.slice(i + 1).map((t) => t.id))
    expect(rest.status).toBe(i === 4 ? 204 : 200)
  }
})

/** Submits so many tasks of a type, in turns, and sees them end. */
const load = async (types: string[], rounds: number): Promise<void> => {
  for (let i = 0; i < rounds; i++) {
    const ids = await Promise.all(Array.from({ length: 20 }, (_, n) => system.submit({ agent_type: types[n % types.length] })))
    await Promise.all(ids.map((id) => system.get(`/tasks/${id}?wait=10`)))
  }
}
const completed = (told: Told[]) => told.filter((t) => t.event === 'task.completed').length
const logOf = async (type: string) => (await system.redis.xrange(system.keys.events(type), '-', '+')).map(([at]) => `${type}.${at}`)

/** Watches until so many tasks have completed, and comes back again and again, each time at the other process. */
const watchInPieces = async (path: string, most: number, from: Told): Promise<{ told: Told[]; turns: number }> => {
  const told = [from]
  for (let turns = 1; ; turns++) {
    const stream = await watch(system.api[turns % 2]!.url + path, told.at(-1)!.id)
    await until(() => stream.told.length >= 1 + ((turns * 7) % 23) || completed(told) + completed(stream.told) >= most, { what: 'more events', timeoutMs: 30_000 })
    await stream.stop()
    told.push(...stream.told)
    if (completed(told) >= most) return { told, turns }
  }
}

test('a type is watched through reconnects at either process without a gap or a repeat', async () => {
  await system.agent({ type: 'busy', maxConcurrency: 20 })
  const first = await watch(`${system.url()}/events?agent_type=busy`)
  const loading = load(['busy'], 10)
  await until(() => first.told.length > 0, { what: 'a first event' })
  await first.stop()
  const { told, turns } = await watchInPieces('/events?agent_type=busy', 200, first.told[0]!)
  await loading
  const log = await logOf('busy')
  expect(log).toHaveLength(600)
  expect(turns).toBeGreaterThan(10)
  expect(told.map((t) => t.id)).toEqual(log.slice(log.indexOf(told[0]!.id)))
})

test('all types are watched through reconnects, a new one too, without a gap or a repeat', async () => {
  for (const type of ['left', 'right', 'third']) await system.agent({ type, maxConcurrency: 20 })
  const first = await watch(`${system.url()}/events`)
  await load(['left', 'right'], 1)
  await until(() => completed(first.told) === 20, { what: 'the first' })
  await first.stop()
  const loading = load(['left', 'right', 'third'], 8)
  const { told } = await watchInPieces('/events', 161, first.told.at(-1)!)
  await loading
  expect(new Set(told.map((t) => t.data.id)).size, 'a repeat').toBe(told.length)
  for (const type of ['left', 'right', 'third']) {
    const ids = told.map((t) => t.data.id as string).filter((id) => id.startsWith(`${type}.`))
    const log = await logOf(type)
    const before = first.told.filter((t) => t.data.agent_type === type).length
    expect(ids.slice(first.told.at(-1)!.data.agent_type === type ? 1 : 0), type).toEqual(log.slice(before))
  }
})

test('a break of the connection to Redis loses no event and tells none twice', async () => {
  await system.agent({ type: 'broken', maxConcurrency: 20 })
  const stream = await watch(`${system.api[0]!.url}/events?agent_type=broken`)
  const all = await watch(`${system.api[0]!.url}/events`)
  const loading = load(['broken'], 10)
  for (let i = 1; i <= 5; i++) {
    await until(() => completed(stream.told) >= i * 20, { what: `round ${i}` })
    await system.redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
  }
  await loading
  const log = await logOf('broken')
  await until(() => completed(stream.told) === 200 && completed(all.told) >= 200, { what: 'the rest' })
  expect(stream.told.map((t) => t.id)).toEqual(log)
  expect(all.told.filter((t) => t.data.agent_type === 'broken').map((t) => t.data.id)).toEqual(log)
  expect(stream.told.filter((t) => t.event === 'gap')).toEqual([])
})

test('a long log is told whole to who reads it, and who reads nothing is cut off', async () => {
  const written = system.redis.pipeline()
  for (let i = 1; i <= 10_000; i++) written.xadd(system.keys.events('long'), `${i}-0`, 'e', `long.0192f0c1-0000-7000-8000-000000000000\tfailed\t1\tsome-agent\tfailed\t${'x'.repeat(200)}`)
  await written.exec()
  const whole = await watch(`${system.url()}/events?agent_type=long`, 'long.1-0')
  const { hostname, port } = new URL(system.api[0]!.url)
  const silent = connect(Number(port), hostname)
  silent.write('GET /events?agent_type=long HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await until(() => whole.told.length === 9_999, { what: 'all', timeoutMs: 30_000 })
  expect(whole.told.every((t, i) => t.id === `long.${i + 2}-0`)).toBe(true)
  await whole.stop()
  // What happens now is more than one may leave unread.
  const cut = new Promise((closed) => silent.once('close', closed))
  for (let n = 0; n < 150 && !silent.closed; n++) {
    const more = system.redis.pipeline()
    for (let i = 1; i <= 400; i++) more.publish(system.keys.eventsChannel('long'), `${50_000 + n * 400 + i}-0\tlong.0192f0c1-0000-7000-8000-000000000000\tfailed\t1\tsome-agent\tfailed\t${'x'.repeat(400)}`)
    await more.exec()
  }
  silent.on('error', () => {}).resume()
  await cut
})

test('who comes back when the log has forgotten what was missed is told of the gap', async () => {
  const stream = await watch(`${system.url()}/events?agent_type=test`)
  await system.ended(await system.submit())
  await until(() => completed(stream.told) === 1, { what: 'its end' })
  await stream.stop()
  for (let i = 0; i < 3; i++) await system.ended(await system.submit())
  await system.redis.xtrim(system.keys.events('test'), 'MAXLEN', 2)
  const back = await watch(`${system.url()}/events?agent_type=test`, stream.told.at(-1)!.id)
  await until(() => completed(back.told) >= 1 && back.told.at(-1)!.event === 'task.completed', { what: 'what is left' })
  // A process that has listened so far has what the log has not.
  expect(names(back.told)[0]).toBe('gap')
  await back.stop()
  for (const bad of ['x', 'test.1', 'test.1-2,', `${'t'.repeat(65)}.1-1`, 'test.1-9999999999999999']) {
    const answer = await call('GET', `${system.url()}/events?agent_type=test`, undefined, { 'last-event-id': bad })
    expect([answer.status, answer.json?.errors?.[0].pointer], bad).toEqual([422, 'Last-Event-ID'])
  }
  expect((await system.get('/tasks/test.0192f0c1-0000-7000-8000-000000000000/events')).status).toBe(404)
  expect((await system.get('/events?nonsense=1')).status).toBe(422)
})

test('a submit that was taken back is told of as that', async () => {
  await using core = await startCore(system)
  const stream = await watch(`${system.url()}/events?agent_type=refused`)
  const tasks = tasksAdding(core, () => Promise.reject(new Error('no job')))
  const newTask = { task_type: 'echo', agent_type: 'refused', delay_seconds: 60, priority: 5, timeout_seconds: 30, max_retries: 3, retry_delay_seconds: 1, backoff: 'fixed', expires_in_seconds: 60 } as const
  await expect(tasks.submit(newTask, 'refused', { parameters: '{}', metadata: '{}' })).rejects.toThrow('no job')
  await until(() => stream.told.length === 2, { what: 'both events' })
  expect(names(stream.told)).toEqual(['task.pending', 'task.withdrawn'])
  await stream.stop()
})

test('a process that stops answers who waits and ends its streams', async () => {
  const api = await system.addApi()
  const gate = held()
  const id = await system.submit()
  await system.becomes(id, 'sent')
  const stream = await watch(`${api.url}/events`)
  const task = await watch(`${api.url}/tasks/${id}/events`)
  await until(() => task.told.length === 2, { what: 'watching' })
  const before = await reads()
  const wait = call('GET', `${api.url}/tasks/${id}?wait=60`)
  await until(async () => (await reads()) - before >= 2, { what: 'waiting' })
  const from = performance.now()
  await api.kill('SIGTERM')
  expect((await wait).json.status).toBe('sent')
  await Promise.all([stream.ended(), task.ended()])
  expect(performance.now() - from).toBeLessThan(5000) // then all connections are closed
  gate.go()
})
