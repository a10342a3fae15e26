import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Registration } from '../src/contracts/agent.ts'
import { partsOf } from '../src/redis/batch.ts'
import { loadScript } from '../src/redis/scripts.ts'
import { becomesQuiet } from './quiet.ts'
import { startCore } from './core.ts'
import { call, median, sleep, startAgent, startSystem, until, type AgentOptions, type Handler, type System, type TestAgent } from './system.ts'

let system: System
beforeAll(async () => {
  system = await startSystem()
})
afterAll(() => system[Symbol.asyncDispose]())

/** A type of its own for each test: they share the system and nothing else. */
let types = 0
const setting = () => {
  const type = `r${++types}`
  return {
    type,
    agent: (o: AgentOptions = {}) => system.agent({ type, ...o }),
    submit: (task: Record<string, unknown> = {}) => system.submit({ agent_type: type, ...task }),
  }
}
const view = async (agent: { id: string }) => (await system.get(`/agents/${agent.id}`)).json
const register = (body: Record<string, unknown>) => system.post('/agents/register', { name: 'a', host: '127.0.0.1', port: 9, capabilities: ['echo'], ...body })
const redisNow = async (): Promise<number> => {
  const [s, us] = await system.redis.time()
  return Number(s) * 1000 + Math.floor(Number(us) / 1000)
}

/** Tasks wait at the agent until they are let go. */
const gate = () => {
  let open = () => {}
  const opened = new Promise<void>((resolve) => (open = resolve))
  return { open: () => open(), handle: (async (task) => (await opened, { echo: task.parameters })) as Handler }
}
const attemptsAt = (agent: TestAgent): string[] => agent.runs.map((r) => r.attemptId)

describe('registering', () => {
  test.concurrent('makes an agent, and again with its id changes nothing but what was said', async () => {
    const { type } = setting()
    const first = await register({ type, version: '1', metadata: { a: 1 }, ttl_seconds: 30, max_concurrency: 3, instance_id: 'x' })
    expect(first.status).toBe(201)
    expect(first.headers.get('location')).toBe(`/agents/${first.json.id}`)
    expect(first.json).toMatchObject({ agent_id: first.json.id, agent_name: 'a', status: 'healthy', in_flight: 0, is_alive: true, generation: 1, version: '1', ttl_seconds: 30, max_concurrency: 3, metadata: { a: 1 }, heartbeat_url: `/agents/${first.json.id}/heartbeat`, heartbeat_interval_seconds: 10 })
    await sleep(20)
    const again = await register({ type, agent_id: first.json.id, instance_id: 'x', max_concurrency: 4, metadata: { b: 2 } })
    expect(again.status).toBe(200)
    expect(again.json).toMatchObject({ id: first.json.id, generation: 1, registered_at: first.json.registered_at, max_concurrency: 4, metadata: { b: 2 }, version: null })
    expect(again.json.metadata).toEqual({ b: 2 })
    expect(Date.parse(again.json.last_seen)).toBeGreaterThan(Date.parse(first.json.last_seen))
    expect((await system.get(`/agents/type/${type}`)).json.count).toBe(1)
  })

  test.concurrent('again leaves what runs its slot; under another instance_id or port it is a new generation, and its leases end', async () => {
    const { type, agent, submit } = setting()
    const held = gate()
    const a = await agent({ handle: held.handle, maxConcurrency: 2 })
    const ids = [await submit(), await submit()]
    await until(() => a.running() === 2)
    await a.register()
    expect(await view(a)).toMatchObject({ generation: 1, in_flight: 2 })
    const body = { type, agent_id: a.id, port: a.port, max_concurrency: 2 }
    expect((await register({ ...body, instance_id: 'one' })).json).toMatchObject({ generation: 2, in_flight: 0 })
    expect((await register({ ...body, instance_id: 'one' })).json).toMatchObject({ generation: 2 })
    expect((await register(body)).json).toMatchObject({ generation: 2 })
    expect((await register({ ...body, instance_id: 'two' })).json).toMatchObject({ generation: 3 })
    expect((await register({ ...body, instance_id: 'two', host: 'localhost' })).json).toMatchObject({ generation: 4, host: 'localhost' })
    expect((await a.beat({ running: attemptsAt(a) })).json.lost.sort()).toEqual(attemptsAt(a).sort())
    held.open()
    for (const id of ids) expect((await system.ended(id)).status).toBe('completed')
  })

  test.concurrent('under the id of a living agent of another type is 409; of a dead or gone one it is taken', async () => {
    const { type } = setting()
    const { json } = await register({ type })
    const other = await register({ type: `${type}b`, agent_id: json.id })
    expect(other.status).toBe(409)
    expect(other.json).toMatchObject({ agent_type: type, error: expect.any(String) })
    expect(await view(json)).toMatchObject({ type })
    await system.redis.hset(system.keys.agent(type, json.id), 'seen', (await redisNow()) - 61_000)
    expect(await register({ type: `${type}b`, agent_id: json.id })).toMatchObject({ status: 201, json: { type: `${type}b`, generation: 1 } })
    expect(await view(json)).toMatchObject({ type: `${type}b` })
    expect((await system.get(`/agents?type=${type}&include_dead=true`)).json.count).toBe(0)
    await system.call('DELETE', `/agents/${json.id}`)
    expect(await register({ type, agent_id: json.id })).toMatchObject({ status: 201 })
  })

  test.concurrent('with other capabilities leaves the old queues and serves the new ones', async () => {
    const { type, agent, submit } = setting()
    const a = await agent({ capabilities: ['old', 'both'] })
    const body = { type, agent_id: a.id, port: a.port }
    const fresh = await submit({ task_type: 'new' })
    expect((await system.task(fresh)).status).toBe('queued')
    await register({ ...body, capabilities: ['both', 'new'] })
    expect(await system.redis.exists(system.keys.pool(type, 'old'))).toBe(0)
    expect((await system.post('/tasks?require_agent=true', { task_type: 'old', agent_type: type })).status).toBe(503)
    expect(await system.ended(fresh)).toMatchObject({ status: 'completed' })
    const old = await submit({ task_type: 'old' })
    expect(await system.ended(await submit({ task_type: 'both' }))).toMatchObject({ status: 'completed' })
    await sleep(1200)
    expect(await system.task(old)).toMatchObject({ status: 'queued', attempts: [] })
    await register({ ...body, capabilities: ['old'] })
    expect(await system.ended(old)).toMatchObject({ status: 'completed' })
  })

  test.concurrent('brings a refused agent back, at its new port, and what the old one still comes to does it no harm', async () => {
    const { type, agent, submit } = setting()
    let decline = () => {}
    const old = await agent({ maxConcurrency: 1, handle: (_task, { res }) => void (decline = () => res.writeHead(429, { 'retry-after': '60' }).end()) })
    const id = await submit()
    await until(() => old.runs.length === 1)
    const now = await agent({ id: old.id, maxConcurrency: 1 })
    expect(await view(now)).toMatchObject({ port: now.port, generation: 2, in_flight: 0, type })
    decline()
    expect(await system.ended(id)).toMatchObject({ status: 'completed', attempts: [{ outcome: 'no_room' }, { outcome: 'completed' }] })
    await now.beat()
    expect(await system.ended(await submit())).toMatchObject({ status: 'completed' })
    expect(now.runs).toHaveLength(2)
  })
})

describe('unregistering', () => {
  test.concurrent('is idempotent; nothing new comes, what runs may end', async () => {
    const { agent, submit } = setting()
    const held = gate()
    const a = await agent({ handle: held.handle })
    const running = await submit()
    await until(() => a.running() === 1)
    expect((await system.post(`/agents/${a.id}/unregister`)).json).toMatchObject({ agent_id: a.id, unregistered: true })
    expect(await system.post(`/agents/${a.id}/unregister`)).toMatchObject({ status: 200, json: { unregistered: false } })
    expect(await system.call('DELETE', `/agents/${a.id}`)).toMatchObject({ status: 200 })
    expect((await system.get(`/agents/${a.id}`)).status).toBe(404)
    expect((await a.beat()).status).toBe(404)
    const waits = await submit()
    await sleep(1200)
    expect((await system.task(waits)).status).toBe('queued')
    held.open()
    expect(await system.ended(running)).toMatchObject({ status: 'completed', agent_id: a.id })
    expect(a.runs).toHaveLength(1)
    await a.register()
    expect(await system.ended(waits)).toMatchObject({ status: 'completed' })
  })

  test.concurrent('leaves the tasks pinned to an agent waiting until it comes back', async () => {
    const { agent, submit } = setting()
    const a = await agent({ capabilities: [], status: 'draining' })
    await agent()
    const pinned = await submit({ agent_id: a.id })
    await system.call('DELETE', `/agents/${a.id}`)
    await sleep(1200)
    expect(await system.task(pinned)).toMatchObject({ status: 'queued', agent_id: a.id, attempts: [] })
    await a.register()
    await a.beat({ status: 'healthy' })
    expect(await system.ended(pinned)).toMatchObject({ status: 'completed', agent_id: a.id })
  })
})

describe('a heartbeat', () => {
  test.concurrent('that lists what runs frees the slots of what does not, if it began before the previous beat', async () => {
    const { agent, submit } = setting()
    const held = gate()
    const a = await agent({ maxConcurrency: 3, handle: held.handle, beats: false })
    const ids = [await submit(), await submit()]
    await until(() => a.running() === 2)
    await sleep(20)
    expect((await a.beat({ running: [] })).json).toMatchObject({ cancel: [], lost: [] })
    expect((await view(a)).in_flight).toBe(2) // both younger than the beat before
    await sleep(20)
    ids.push(await submit())
    await until(() => a.running() === 3)
    await a.beat()
    expect((await view(a)).in_flight).toBe(3) // says nothing of what runs
    const [one] = attemptsAt(a)
    await a.beat({ running: [one] })
    expect((await view(a)).in_flight).toBe(1)
    expect((await a.beat({ running: attemptsAt(a) })).json.lost.sort()).toEqual(attemptsAt(a).slice(1).sort())
    const next = await submit() // the slots are really free
    await until(() => a.running() === 4)
    held.open()
    for (const id of [...ids, next]) expect((await system.ended(id)).status).toBe('completed')
  })

  test.concurrent('leaves a hold alone, and is told what is not its own', async () => {
    const { type, agent } = setting()
    const a = await agent()
    const leases = system.keys.leases(type, a.id)
    const now = await redisNow()
    await system.redis.zadd(leases, now + 60_000, 'h.someone', now + 60_000, `${now - 5000}.leaked`)
    expect((await a.beat()).json).toMatchObject({ received: true, next_interval_seconds: 20, cancel: [], lost: [], drain: false })
    expect(await system.redis.zrange(leases, '0', '-1')).toHaveLength(2)
    expect((await a.beat({ running: ['foreign', `${now - 5000}.leaked`] })).json.lost).toEqual(['foreign'])
    await a.beat({ running: ['foreign'] })
    expect(await system.redis.zrange(leases, '0', '-1')).toEqual(['h.someone'])
    await system.redis.del(leases)
  })

  test.concurrent('is answered for itself, though many go to Redis together', async () => {
    const { type, agent } = setting()
    const [a, b] = [await agent({ beats: false }), await agent({ beats: false })]
    const beat = (id: string, body: object) => system.post(`/agents/${id}/heartbeat`, body)
    const [ofA, ofB, ofNobody, unfit, again] = await Promise.all([
      beat(a.id, { status: 'draining', running: ['not ours', '1.x'], metadata: { x: 1 } }),
      beat(b.id, { running: [] }),
      beat('nobody', {}),
      beat(b.id, { metadata: Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`m${n}`, n])) }),
      beat(b.id, { metadata: { y: 2 } }),
    ])
    expect(ofA).toMatchObject({ status: 200, json: { drain: true, lost: ['not ours', '1.x'] } })
    expect(ofB).toMatchObject({ status: 200, json: { drain: false, lost: [] } })
    expect([ofNobody.status, unfit.status, again.status]).toEqual([404, 422, 200])
    expect(await view(a)).toMatchObject({ type, status: 'draining', metadata: { x: 1 } })
    expect(await view(b)).toMatchObject({ status: 'healthy', metadata: { y: 2 } })
  })

  test.concurrent('goes to Redis with no more others than a function takes arguments, however much they all list', async () => {
    const beats = Array.from({ length: 64 }, () => Array.from({ length: 2000 }, () => '1'))
    const parts = [...partsOf(beats, (beat) => beat)]
    expect(parts.flat()).toEqual(beats)
    for (const part of parts) expect(part.flat().length).toBeLessThan(20_000) // V8's stack has room for some 100,000
  })

  test.concurrent('is heard where the agent is now, once it has come back under another type, and that elsewhere', async () => {
    const [was, is] = [setting(), setting()]
    const a = await was.agent({ beats: false })
    await using another = await startCore(system)
    await using knows = await startCore(system)
    const life = await knows.registry.lifeOf(a.id)
    await a.beat()
    await another.registry.unregister(a.id)
    const { agent: back } = await another.registry.register(Registration.parse({ name: 'a', host: '127.0.0.1', port: 9, agent_id: a.id, type: is.type, status: 'draining' }), { host: '127.0.0.1', port: 9 }, [])
    expect(await a.beat({ status: 'healthy' })).toMatchObject({ status: 200 })
    expect(await view(a)).toMatchObject({ type: is.type, status: 'healthy' })
    const now = await knows.registry.lifeOf(a.id)
    expect(now).toEqual({ generation: 1, registeredMs: Date.parse(back.registered_at) })
    expect(now).not.toEqual(life)
    await another.registry.unregister(a.id)
    expect((await a.beat()).status).toBe(404)
    expect(await knows.registry.lifeOf(a.id)).toBeNull()
  })

  test.concurrent('of an agent that is settled leaves it where it stands, and moves the look at it; its record is kept for a day from then', async () => {
    const { type, agent } = setting()
    const a = await agent({ beats: false, maxConcurrency: 4 })
    const [pool, watch, record] = [system.keys.pool(type, 'echo'), system.keys.watch(type), system.keys.agent(type, a.id)]
    const nextLook = async () => Number(await system.redis.zscore(watch, a.id))
    // Whatever is found out by a look is not found out by such a beat.
    await system.redis.zadd(pool, 12345, a.id)
    await until(async () => (await redisNow()) > Number(await system.redis.hget(record, 'seen')))
    await system.redis.pexpire(record, 1000)
    const before = await nextLook()
    expect((await a.beat({ status: 'healthy', max_concurrency: 4, running: [] })).status).toBe(200)
    expect(await system.redis.zscore(pool, a.id)).toBe('12345')
    expect(await nextLook()).toBeGreaterThan(before)
    expect(await nextLook()).toBe(Number(await system.redis.hget(record, 'seen')) + 45_000)
    expect(await system.redis.pttl(record)).toBeGreaterThan(86_400_000)
    // With something new to say, in trouble, or with a lease, it is looked at.
    const isLookedAt = async (body: object) => {
      await system.redis.zadd(pool, 12345, a.id)
      await a.beat(body)
      return (await system.redis.zscore(pool, a.id)) !== '12345'
    }
    expect(await isLookedAt({ status: 'degraded' })).toBe(true)
    expect(await isLookedAt({ status: 'degraded' })).toBe(false)
    expect(await isLookedAt({ max_concurrency: 3 })).toBe(true)
    for (const [field, value] of [['trial', '0'], ['out', 'refused'], ['rest', String((await redisNow()) + 60_000)], ['seen', String((await redisNow()) - 50_000)]] as const) {
      await system.redis.hset(record, field, value)
      expect(await isLookedAt({}), field).toBe(true)
      await system.redis.hdel(record, 'trial')
    }
    // The beat behind a rest sees that it is over.
    await system.redis.hset(record, 'rest', Number(await system.redis.hget(record, 'seen')) + 1)
    await until(async () => (await redisNow()) > Number(await system.redis.hget(record, 'rest')))
    expect(await isLookedAt({})).toBe(true)
    expect(await isLookedAt({})).toBe(false)
    const leased = (await redisNow()) + 5000
    await system.redis.zadd(system.keys.leases(type, a.id), leased, 'h.someone')
    expect(await isLookedAt({})).toBe(true)
    expect(await nextLook()).toBe(leased + 1)
    await system.redis.del(system.keys.leases(type, a.id))
  })

  test.concurrent('frees nothing that began behind it, should it come late and be overtaken by another', async () => {
    const { type, agent } = setting()
    const a = await agent()
    const leases = system.keys.leases(type, a.id)
    const began = await redisNow()
    const attempt = `${began}.young`
    await system.redis.zadd(leases, began + 60_000, attempt)
    await until(async () => (await redisNow()) > began)
    await a.beat({ running: [attempt] })
    const heartbeat = loadScript(system.redis, new URL('../src/registry/heartbeat.lua', import.meta.url))
    const beatOf = (cameMs: number) => heartbeat(system.keys.base(type), 7, a.id, 60_000, '', '', 100, cameMs, 0)
    await beatOf(began - 1)
    expect(await system.redis.zrange(leases, '0', '-1')).toEqual([attempt])
    await beatOf(began + 1)
    expect(await system.redis.zrange(leases, '0', '-1')).toEqual([])
  })

  test.concurrent('frees nothing that began behind the answer that it names, though it comes much later', async () => {
    const { type, agent } = setting()
    const a = await agent()
    const before = (await a.beat()).json.timestamp as string
    const began = Date.parse(before) + 1
    const leases = system.keys.leases(type, a.id)
    await until(async () => (await redisNow()) > began)
    await system.redis.zadd(leases, began + 60_000, `${began}.young`)
    const { timestamp } = (await a.beat({ running: [`${began}.young`], timestamp: before })).json
    await a.beat({ running: [], timestamp: before }) // held up on its way, and the one before has overtaken it
    expect(await system.redis.zrange(leases, '0', '-1')).toEqual([`${began}.young`])
    await a.beat({ running: [], timestamp })
    expect(await system.redis.zrange(leases, '0', '-1')).toEqual([])
    expect((await a.beat({ timestamp: 'yesterday' })).status).toBe(422)
  })

  test.concurrent('lists the attempts to stop, until they have stopped', async () => {
    const { agent, submit } = setting()
    const held = gate()
    const a = await agent({ maxConcurrency: 1, handle: held.handle })
    const id = await submit()
    await until(() => a.running() === 1)
    const running = attemptsAt(a)
    await sleep(20)
    await a.beat({ running })
    expect((await system.call('DELETE', `/tasks/${id}`)).status).toBe(202)
    await system.becomes(id, 'cancelled')
    for (let i = 0; i < 2; i++) expect((await a.beat({ running })).json).toMatchObject({ cancel: running, lost: [] })
    expect((await view(a)).in_flight).toBe(1)
    expect((await a.beat({ running: [] })).json).toMatchObject({ cancel: [], lost: [] })
    expect((await view(a)).in_flight).toBe(0)
    expect((await a.beat({ running })).json).toMatchObject({ cancel: [], lost: running })
    held.open()
    expect((await system.ended(await submit())).status).toBe('completed')
  })

  test.concurrent('changes max_concurrency at once, up and down', async () => {
    const { agent, submit } = setting()
    const held = gate()
    const a = await agent({ maxConcurrency: 1, handle: held.handle })
    const ids = await Promise.all(Array.from({ length: 8 }, () => submit()))
    await until(() => a.running() === 1)
    // One by one: if nobody were told, each but the first would wait a whole second for the next look.
    const took: number[] = []
    for (const most of [2, 3, 4]) {
      const began = performance.now()
      await a.beat({ max_concurrency: most })
      await until(() => a.running() === most, { everyMs: 5 })
      took.push(performance.now() - began)
    }
    expect(median(took)).toBeLessThan(500)
    await a.beat({ max_concurrency: 2 })
    expect(await view(a)).toMatchObject({ max_concurrency: 2, in_flight: 4 })
    a.state.peak = 0
    held.open()
    for (const id of ids) await system.ended(id)
    expect(a.peak()).toBeLessThanOrEqual(3) // it counts an answered one until the answer has left
  })

  test.concurrent('merges metadata, and its values keep their bytes', async () => {
    const { type } = setting()
    const text = (n: string) => `{"name":"a","type":"${type}","host":"127.0.0.1","port":9,"metadata":${n}}`
    const { json } = await system.post('/agents/register', text('{"big":12345678901234567890,"x":{"deep":1.10},"y":"é\\u0000"}'))
    await system.post(`/agents/${json.id}/heartbeat`, '{"metadata":{"x":[1e999],"z":null}}')
    const { text: seen } = await system.get(`/agents/${json.id}`)
    const metadata = /"metadata":(\{.*?\})/.exec(seen)![1]!
    expect(metadata).toContain('"big":12345678901234567890')
    expect(metadata).toContain('"x":[1e999]')
    expect(metadata).toContain('"y":"é\\u0000"')
    expect(metadata).toContain('"z":null')
  })

  test.concurrent('drains an agent, and it is told so at each beat', async () => {
    const { agent, submit } = setting()
    const a = await agent()
    expect((await a.beat({ status: 'draining' })).json.drain).toBe(true)
    expect((await a.beat()).json.drain).toBe(true)
    const id = await submit()
    await sleep(1200)
    expect(a.runs).toEqual([])
    expect((await a.beat({ status: 'healthy' })).json.drain).toBe(false)
    expect((await system.ended(id)).status).toBe('completed')
  })

  test.concurrent('from an id never registered is 404', async () => {
    expect((await system.post('/agents/nobody/heartbeat')).status).toBe(404)
  })
})

describe('silence', () => {
  test.concurrent('makes an agent unreachable at three quarters of its TTL and dead at the end; then its slots are free, and a beat brings it back', async () => {
    const { type, agent, submit } = setting()
    const held = gate()
    const a = await agent({ ttlSeconds: 5, beats: false, maxConcurrency: 1, handle: held.handle })
    const id = await submit({ timeout_seconds: 30 })
    await until(() => a.running() === 1)
    const seen = Date.parse((await view(a)).last_seen)
    const quiet = await until(async () => { const v = await view(a); return v.status === 'unreachable' ? v : null })
    expect(Date.now() - seen).toBeGreaterThanOrEqual(3750)
    expect(quiet).toMatchObject({ is_alive: true, in_flight: 1 })
    const waits = await submit()
    await until(async () => (await view(a)).status === 'dead')
    expect(Date.now() - seen).toBeGreaterThanOrEqual(5000)
    await until(async () => (await system.redis.exists(system.keys.pool(type, 'echo'), system.keys.pool(type, `@${a.id}`), system.keys.leases(type, a.id))) === 0)
    expect(Date.now() - seen).toBeLessThan(10_000) // what is promised: the TTL and 5 s
    expect(await view(a)).toMatchObject({ is_alive: false, in_flight: 0 })
    expect(await system.redis.pttl(system.keys.agent(type, a.id))).toBeGreaterThan(23 * 3_600_000)
    expect((await system.get(`/agents?type=${type}`)).json.agents).toEqual([])
    expect((await system.get(`/agents?type=${type}&include_dead=true`)).json.agents).toMatchObject([{ id: a.id, status: 'dead' }])
    expect((await system.get(`/agents?type=${type}&status=dead`)).json.count).toBe(1)
    const none = await system.post('/tasks?require_agent=true', { task_type: 'echo', agent_type: type })
    expect(none.status).toBe(503)
    expect(a.runs).toHaveLength(1)
    expect((await a.beat({ running: attemptsAt(a) })).json.lost).toEqual(attemptsAt(a))
    expect(await view(a)).toMatchObject({ status: 'healthy', is_alive: true, generation: 1 })
    await until(() => a.runs.length === 2)
    held.open()
    for (const t of [id, waits]) expect((await system.ended(t)).status).toBe('completed')
  })

  test.concurrent('ends a generation: who registers again after it is a new one', async () => {
    const { type } = setting()
    const { json } = await register({ type, ttl_seconds: 5 })
    await system.redis.hset(system.keys.agent(type, json.id), 'seen', (await redisNow()) - 5001)
    expect(await register({ type, agent_id: json.id, ttl_seconds: 5 })).toMatchObject({ status: 200, json: { generation: 2, status: 'healthy' } })
  })

  // By itself: it removes the dead of all types.
  test('is measured by each agent’s own TTL, and the dead can be removed at once', async () => {
    const { type } = setting()
    const [short, long] = [(await register({ type, ttl_seconds: 10 })).json, (await register({ type, ttl_seconds: 3600 })).json]
    for (const a of [short, long]) await system.redis.hset(system.keys.agent(type, a.id), 'seen', (await redisNow()) - 20_000)
    expect([(await view(short)).status, (await view(long)).status]).toEqual(['dead', 'healthy'])
    expect((await system.post('/agents/cleanup')).json.removed).toBeGreaterThanOrEqual(1)
    expect((await system.get(`/agents/${short.id}`)).status).toBe(404)
    expect((await view(long)).status).toBe('healthy')
  })

  test.concurrent('of 0.75 of the TTL takes an agent out of rotation, a beat puts it back', async () => {
    const { type, agent, submit } = setting()
    const a = await agent()
    const b = await agent()
    await system.redis.hset(system.keys.agent(type, a.id), 'seen', (await redisNow()) - 46_000)
    await system.redis.zadd(system.keys.watch(type), 0, a.id)
    await until(async () => (await system.redis.hget(system.keys.agent(type, a.id), 'out')) === 'silent')
    for (let i = 0; i < 4; i++) expect((await system.ended(await submit())).agent_id).toBe(b.id)
    await a.beat()
    for (let i = 0; i < 10 && a.runs.length === 0; i++) await system.ended(await submit())
    expect(a.runs.length).toBeGreaterThan(0)
  })
})

describe('a leaked slot', () => {
  test.concurrent('of an attempt whose dispatcher is gone comes back at its deadline', async () => {
    const { type, agent, submit } = setting()
    const a = await agent({ maxConcurrency: 1 })
    const end = (await redisNow()) + 2500
    await system.redis.zadd(system.keys.leases(type, a.id), end, `${end - 3000}.gone`)
    await a.beat() // it is seen to be full
    expect((await view(a)).in_flight).toBe(1)
    const id = await submit()
    const task = await system.ended(id)
    expect(Date.parse(task.attempts[0].sent_at)).toBeGreaterThanOrEqual(end)
    expect(Date.parse(task.attempts[0].sent_at)).toBeLessThan(end + 5000)
  })

  test.concurrent('that was due before anyone looked is free for the next task', async () => {
    const { type, agent, submit } = setting()
    const a = await agent({ maxConcurrency: 1 })
    await system.redis.zadd(system.keys.leases(type, a.id), (await redisNow()) - 1, 'gone')
    await a.beat()
    expect((await system.ended(await submit())).status).toBe('completed')
  })

  test.concurrent('that was held for a job comes back when the hold has lasted its 10 s', async () => {
    const { type, agent, submit } = setting()
    const a = await agent({ maxConcurrency: 1, status: 'draining' })
    const id = await submit()
    await a.beat({ status: 'healthy', max_concurrency: 1 })
    await system.ended(id)
    // As a dispatcher does that dies right after it reserved.
    const until10 = (await redisNow()) + 10_000
    await system.redis.zadd(system.keys.leases(type, a.id), until10, 'h.dead')
    await system.redis.zadd(system.keys.watch(type), 'LT', until10, a.id)
    await a.beat()
    const task = await system.ended(await submit(), 20_000)
    expect(Date.parse(task.attempts[0].sent_at)).toBeGreaterThanOrEqual(until10)
    expect(Date.parse(task.attempts[0].sent_at)).toBeLessThan(until10 + 5000)
  })

  test.concurrent('of a killed dispatcher’s short attempt comes back at that attempt’s deadline', async () => {
    await using own = await startSystem({ workers: 1 })
    const a = await own.agent({ maxConcurrency: 1, handle: () => new Promise(() => {}) })
    await own.submit({ timeout_seconds: 2, max_retries: 0 })
    await until(() => a.running() === 1)
    const free = Date.now() + 2000 + 1000
    await own.worker[0]!.kill('SIGKILL')
    await own.addWorker()
    const since = Math.max(free, Date.now())
    a.state.handle = () => 'fine'
    const next = await own.ended(await own.submit({ priority: 15 }))
    expect(next).toMatchObject({ status: 'completed', result: 'fine' })
    expect(Date.parse(next.attempts[0].sent_at)).toBeLessThan(since + 5000)
    expect(a.peak()).toBeLessThanOrEqual(2)
  })
})

describe('what is left of an agent', () => {
  const hourAgo = async () => (await redisNow()) - 3_600_001

  test.concurrent('leaves the index of ids when its record has expired', async () => {
    const { type } = setting()
    const { id } = (await register({ type })).json
    const indexed = () => system.redis.hget(system.keys.agentTypes, id)
    expect(await indexed()).toBe(type)
    // As a day after it died.
    await system.redis.del(system.keys.agent(type, id))
    await system.redis.zadd(system.keys.watch(type), 0, id)
    await until(async () => (await indexed()) === null)
    expect(await system.redis.zscore(system.keys.agents(type), id)).toBeNull()
  })

  test.concurrent('is not there for a reader who comes first: no task is pinned to it', async () => {
    const { type } = setting()
    const leave = async () => {
      const { id } = (await register({ type })).json
      await system.redis.del(system.keys.agent(type, id))
      return id as string
    }
    const asks: ((id: string) => Promise<{ status: number }>)[] = [(id) => system.post('/tasks', { task_type: 'echo', agent_id: id }), (id) => system.get(`/agents/${id}`), (id) => system.post(`/agents/${id}/heartbeat`)]
    for (const ask of asks) {
      const id = await leave()
      expect((await ask(id)).status).toBe(404)
      expect(await system.redis.hget(system.keys.agentTypes, id)).toBeNull()
    }
  })

  test.concurrent('does not take the index away from one that registers again at that moment', async () => {
    await using own = await startSystem({ apis: 0, workers: 0 })
    await using registering = await startCore(own)
    await using reading = await startCore(own)
    const register = (id: string) => registering.registry.register({ name: 'a', type: 'again', agent_id: id, host: '127.0.0.1', capabilities: [], ttl_seconds: 60, max_concurrency: 1 }, { host: '127.0.0.1', port: 9 }, [])
    // Read between the index and the record.
    const { redis } = registering
    const hset = redis.hset.bind(redis)
    redis.hset = (async (...args: Parameters<typeof hset>) => {
      redis.hset = hset
      await hset(...args)
      expect(await reading.registry.typeOf('one')).toBeNull()
      expect(await own.redis.hget(own.keys.agentTypes, 'one')).toBeNull()
    }) as never
    await register('one')
    expect(await reading.registry.typeOf('one')).toBe('again')
    // Registered between a reader's look at the record and what it does to the index.
    await own.redis.hset(own.keys.agentTypes, 'two', 'again')
    const exists = reading.redis.exists.bind(reading.redis)
    reading.redis.exists = (async (key: string) => {
      reading.redis.exists = exists
      const found = await exists(key)
      await register('two')
      return found
    }) as never
    await reading.registry.typeOf('two')
    expect(await reading.registry.typeOf('two')).toBe('again')
  })

  test.concurrent('leaves its type, which is forgotten an hour later with all that was under it; and comes up again', { timeout: 60_000 }, async () => {
    await using own = await startSystem({ workers: 1 })
    const agent = await own.agent({ type: 'used' })
    const passing = await own.agent({ type: 'passing' })
    await own.call('DELETE', `/agents/${passing.id}`)
    const waits = await own.submit({ agent_type: 'waits' })
    for (const type of ['used', 'passing', 'waits']) await until(() => own.redis.exists(own.keys.dispatchers(type)))
    await own.worker[0]!.kill()
    for (const type of ['used', 'passing', 'waits']) await own.redis.zadd(own.keys.types, await hourAgo(), type)
    const worker = await own.addWorker() // it has not looked at them yet
    await until(async () => (await own.redis.zrange(own.keys.types, '0', '-1')).length === 2)
    await until(async () => (await own.redis.zcount(own.keys.types, (await hourAgo()) + 3_000_000, '+inf')) === 2)
    expect((await own.redis.zrange(own.keys.types, '0', '-1')).sort()).toEqual(['used', 'waits'])
    expect(await own.redis.pttl(own.keys.dispatchers('used'))).toBe(-1)
    for await (const found of own.redis.scanStream({ match: `${own.keys.base('passing')}*` })) {
      for (const key of found as string[]) {
        expect([key, await own.redis.pttl(key)]).toEqual([key, expect.toSatisfy((ms: number) => ms > 0 && ms <= 3_600_000)])
      }
    }
    const api = await own.addApi() // the other one has named it less than a minute ago
    const back = await startAgent(() => api.url, { type: 'passing' })
    own.agents.push(back)
    const { json } = await call('POST', `${api.url}/tasks`, { agent_type: 'passing', task_type: 'echo' })
    expect((await own.ended(json.task_id)).status).toBe('completed')
    await until(async () => (await own.redis.pttl(own.keys.dispatchers('passing'))) === -1)
    expect([agent.runs.length, (await own.task(waits)).status, worker.child.exitCode]).toEqual([0, 'queued', null])
  })

  test.concurrent('leaves a type that is not forgotten while someone has just named it', async () => {
    await using own = await startSystem({ apis: 0, workers: 0 })
    await using core = await startCore(own)
    await core.types.ensure('named')
    await core.types.seen('named', false)
    expect(await core.types.list()).toEqual(['named'])
    await own.redis.zadd(own.keys.types, await hourAgo(), 'named')
    await using other = await startCore(own)
    await Promise.all([other.types.seen('named', false), other.types.ensure('named')])
    expect(await core.types.list()).toEqual(['named'])
  })
})

describe('the list of agents', () => {
  test.concurrent('is filtered and comes in pages', async () => {
    const { type } = setting()
    const ids: string[] = []
    for (let i = 0; i < 5; i++) ids.push((await register({ type, agent_id: `${type}-${i}`, capabilities: i % 2 ? ['odd'] : ['even'], status: i === 4 ? 'degraded' : 'healthy' })).json.id)
    const seen: string[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page: any = (await system.get(`/agents?type=${type}&limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`)).json
      seen.push(...page.agents.map((a: any) => a.id))
      expect(page.count).toBe(page.agents.length)
      cursor = page.next_cursor
    }
    expect(seen).toEqual(ids)
    expect((await system.get(`/agents?type=${type}&capability=odd`)).json.agents.map((a: any) => a.id)).toEqual([ids[1], ids[3]])
    expect((await system.get(`/agents?type=${type}&status=degraded`)).json.agents.map((a: any) => a.id)).toEqual([ids[4]])
  })
})

test('nothing is left behind', () => becomesQuiet(system))
