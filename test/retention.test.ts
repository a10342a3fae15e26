/** What is kept of ended tasks, and what gives way to what: by bytes, by Redis's memory. By age and number: tasks.test.ts. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Registration } from '../src/contracts/agent.ts'
import { createLogger } from '../src/logger.ts'
import { uuidv7 } from '../src/redis/ids.ts'
import { loadScript } from '../src/redis/scripts.ts'
import { createWebhooks } from '../src/tasks/webhooks/webhooks.ts'
import { startCore } from './core.ts'
import { accepts, startRedis, startSystem, until, type System } from './system.ts'

type Ended = { bytes?: number; /** ms ago. */ ended?: number; created?: number }
const ENDS = ['completed', 'failed', 'timeout', 'cancelled']
const HOUR = 3_600_000

let system: System
beforeAll(async () => {
  system = await startSystem({ apis: 0, workers: 0 })
})
afterAll(() => system[Symbol.asyncDispose]())

const trimmer = async (env: Record<string, string>, at: Pick<System, 'redisUrl' | 'prefix'> = system) => startCore(at, { RETENTION_COMPLETED_SECONDS: '86400', ...env })
/** Whether a dispatcher's look at a type says that there may be something to forget. */
const mayBeTrimmed = async ({ redis, keys, tasks, webhooks }: Awaited<ReturnType<typeof trimmer>>, type: string): Promise<boolean> => {
  const survey = loadScript(redis, new URL('../src/workers/survey.lua', import.meta.url))
  const [cells] = (await survey(keys.base(type), 'me', 0, webhooks.maxKept, webhooks.maxBytes, ...tasks.kept.flat(), keys.base(type), 0)) as unknown[][]
  return cells!.at(-1) === 1
}
/** As often as it takes until nothing changes any more: one trim is bounded. */
const trimAll = async ({ tasks, redis, keys }: Awaited<ReturnType<typeof trimmer>>, type: string): Promise<void> => {
  const state = async () => JSON.stringify(await Promise.all([redis.hgetall(keys.weight(type)), ...ENDS.map((status) => redis.zcard(keys.tasks(type, status)))]).then(([weight, ...counts]) => [ENDS.map((status) => weight[status]), counts]))
  for (let before = '', now = await state(); now !== before; now = await state()) {
    before = now
    await tasks.trim(type)
  }
}
let types = 0
/** Ended records of a type of its own. */
const setting = ({ redis, keys }: Pick<System, 'redis' | 'keys'> = system) => {
  const type = `kept${types++}`
  const list = (status = 'completed') => redis.zrange(keys.tasks(type, status), '0', '-1')
  return {
    type,
    list,
    /** Writes as many as are given, in the order of their ids. */
    put: async (all: readonly Ended[], { status = 'completed', ids = all.map(() => `${type}.${uuidv7()}`) } = {}): Promise<string[]> => {
      const now = Date.now()
      const writing = redis.pipeline()
      for (const [i, { bytes = 100, ended = HOUR, created = ended + 1000 }] of all.entries()) {
        writing.hset(keys.task(type, ids[i]!), { status, created: now - created, ended: now - ended, spec: 'x'.repeat(60), parameters: 'x'.repeat(bytes), result: '1' })
        writing.zadd(keys.tasks(type, status), 0, ids[i]!)
      }
      await writing.exec()
      return ids
    },
    /** As Redis itself says: the records and the list. */
    taken: async (status = 'completed'): Promise<number> => {
      const asking = redis.pipeline()
      for (const id of await list(status)) asking.memory('USAGE', keys.task(type, id), 'SAMPLES', 0)
      asking.memory('USAGE', keys.tasks(type, status), 'SAMPLES', 0)
      return ((await asking.exec()) ?? []).reduce((sum, [, bytes]) => sum + Number(bytes ?? 0), 0)
    },
    weighed: async (status = 'completed'): Promise<number> => Number(await redis.hget(keys.weight(type), status)),
    stretches: () => redis.zcard(keys.stretches(type, 'completed')),
  }
}
const sizes = (count: number, sizeOf: (i: number) => number): Ended[] => Array.from({ length: count }, (_, i) => ({ bytes: sizeOf(i) }))
const isNear = (n: number, of: number, share: number): void => {
  expect(n).toBeGreaterThan(of * (1 - share))
  expect(n).toBeLessThan(of * (1 + share))
}

describe('the bytes of ended records', () => {
  test('are what they take of Redis’s memory, also when some have gone or ended late', async () => {
    await using core = await trimmer({})
    const { type, put, list, taken, weighed, stretches } = setting()
    const ids = Array.from({ length: 6000 }, () => `${type}.${uuidv7()}`)
    const part = (from: number, step: number) => ids.filter((_, i) => i % step === from)
    // Every third ends first, and these are small; the others later, and are large.
    await put(sizes(2000, () => 50), { ids: part(0, 3) })
    await trimAll(core, type)
    isNear(await weighed(), await taken(), 0.03)
    await put(sizes(2000, () => 3000), { ids: part(1, 3) })
    await put(sizes(2000, (i) => (i % 100 === 0 ? 100_000 : 10)), { ids: part(2, 3) })
    await trimAll(core, type)
    isNear(await weighed(), await taken(), 0.05)
    expect(await stretches()).toBeLessThan(40)

    await put(ids.slice(0, 2500).map(() => ({ ended: 2 * 24 * HOUR })), { ids: ids.slice(0, 2500) })
    await trimAll(core, type)
    expect(await list()).toEqual(ids.slice(2500))
    isNear(await weighed(), await taken(), 0.05)
  })

  test('are right also when the newest has gone before one that ended later', async () => {
    await using core = await trimmer({ RETENTION_COMPLETED_BYTES: '1000000' })
    const { type, put, list, taken, weighed } = setting()
    const [first, last] = (await put([{ created: 96 * HOUR, bytes: 70_000 }, { bytes: 70_000 }])) as [string, string]
    await trimAll(core, type)
    await put([{ ended: 48 * HOUR, bytes: 70_000 }], { ids: [last] })
    await trimAll(core, type)
    await core.tasks.trim(type)
    expect(await list()).toEqual([first])
    isNear(await weighed(), await taken(), 0.05)
  })

  test('go from the oldest on, also behind a look that ended among others that stay for now', async () => {
    await using core = await trimmer({ RETENTION_COMPLETED_SECONDS: '3600', RETENTION_COMPLETED_COUNT: '1000' })
    const { type, put, list } = setting()
    // A backlog of two hours, which has ended within the last 50 minutes.
    const ids = await put(Array.from({ length: 1000 }, (_, i) => ({ created: 2 * HOUR, ended: 3_000_000 - i * 2900 })))
    await core.tasks.trim(type)
    expect(await list()).toEqual(ids)
    const more = await put(Array.from({ length: 100 }, () => ({ created: 2 * HOUR, ended: 11_000 })))
    await trimAll(core, type)
    expect(await list()).toEqual([...ids, ...more].slice(100))
  })

  test('are measured again of a list at rest, as results that come late make records grow', async () => {
    await using core = await trimmer({ RETENTION_COMPLETED_BYTES: '10000000' })
    const { type, put, list, taken } = setting()
    const ids = await put(sizes(500, () => 10))
    await trimAll(core, type)
    await Promise.all(ids.map((id) => core.redis.hset(core.keys.task(type, id), 'r1', 'x'.repeat(40_000))))
    // Two hours go by.
    const [stretches, before] = [core.keys.stretches(type, 'completed'), String(Date.now() - 2 * HOUR)]
    const known = await core.redis.zrange(stretches, '0', '-1')
    await core.redis.del(stretches)
    await core.redis.zadd(stretches, ...known.flatMap((text) => [0, text.replace(/\d+$/, before)]))
    await core.redis.hset(core.keys.weight(type), 'completed:looked', before)
    expect(await mayBeTrimmed(core, type)).toBe(true)
    await trimAll(core, type)
    expect(await taken()).toBeLessThan(11_000_000)
    expect(await list()).toEqual(ids.slice(-(await list()).length))
    expect(await mayBeTrimmed(core, type)).toBe(false)
  })

  test('are bounded, of each status: the oldest go first', async () => {
    await using core = await trimmer({ RETENTION_COMPLETED_BYTES: '4000000', RETENTION_FAILED_BYTES: '1000000' })
    const { type, put, list, taken } = setting()
    const failed = await put(sizes(300, () => 1000), { status: 'failed' })
    const ids = await put(sizes(6000, (i) => 200 + (i % 10) * 200))
    const timeouts = await put(sizes(2000, () => 1000), { status: 'timeout' })
    await trimAll(core, type)
    const left = await list()
    expect(left).toEqual(ids.slice(-left.length))
    isNear(await taken(), 4_000_000, 0.05)
    expect(await list('failed')).toEqual(failed)
    isNear(await taken('timeout'), 1_000_000, 0.08)
    expect(await list('timeout')).toEqual(timeouts.slice(-(await list('timeout')).length))
    // More come, and as many go.
    const more = await put(sizes(500, () => 2000))
    await trimAll(core, type)
    isNear(await taken(), 4_000_000, 0.05)
    expect((await list()).slice(-500)).toEqual(more)
  })

  test('are no reason to forget one within 10 s of its end, nor do such hold up others', async () => {
    await using core = await trimmer({ RETENTION_COMPLETED_BYTES: '0', RETENTION_FAILED_COUNT: '10' })
    const { type, put, list } = setting()
    const now = await put([{ ended: 0 }, { ended: 8000 }])
    await core.tasks.trim(type)
    expect(await list()).toEqual(now)
    // Submitted long ago, as after a delay, and ended just now: more than are looked at in one step.
    const late = await put(Array.from({ length: 600 }, () => ({ ended: 0, created: HOUR })), { status: 'failed' })
    const others = await put(sizes(1500, () => 10), { status: 'failed' })
    await until(async () => (await core.tasks.trim(type), (await list('failed')).length <= 610), { what: 'the trim' })
    expect(await list('failed')).toEqual([...late, ...others.slice(-10)].slice(0, (await list('failed')).length))
  })

  test('leave nothing behind where none is kept', async () => {
    await using core = await trimmer({ RETENTION_COMPLETED_SECONDS: '60' })
    const { type, put } = setting()
    await put(sizes(700, () => 10))
    await trimAll(core, type)
    expect(await system.redis.keys(`${system.keys.base(type)}*`)).toEqual([])
  })
})

test('a task that is kept for its webhook alone is counted with those, which have a bound in bytes of their own', async () => {
  await using core = await trimmer({ RETENTION_COMPLETED_SECONDS: '1' })
  const { redis, keys } = core
  const type = 'told'
  const webhooks = createWebhooks({ ...core, maxBytes: 15_000, maxKept: 1000, log: createLogger('test', 'silent') })
  const end = async (): Promise<string> => {
    const { task_id: id } = await core.tasks.submit({ task_type: 'x', agent_type: type, callback_url: 'https://a.example/1', priority: 5, timeout_seconds: 1, max_retries: 0, retry_delay_seconds: 0, backoff: 'fixed', expires_in_seconds: 60 }, type, { parameters: `{"x":"${'x'.repeat(5000)}"}`, metadata: '{}' })
    await core.tasks.cancel(id)
    await redis.hset(keys.task(type, id), 'ended', Date.now() - HOUR, 'created', Date.now() - HOUR)
    return id
  }
  const ids = [await end(), await end(), await end(), await end()]
  await core.tasks.trim(type)
  const kept = async () => (await Promise.all(ids.map((id) => redis.exists(keys.webhookTask(type, id))))).join('')
  const bytes = async () => Number((await redis.hget(keys.weight(type), 'webhooks')) ?? 0)
  expect([await kept(), await bytes()]).toEqual(['1111', expect.toSatisfy((n: number) => n > 20_000 && n < 40_000)])
  const { claimed } = await webhooks.claim(type, 't', { total: 9, each: 9, origins: [] })
  await webhooks.settle(claimed.find(({ taskId }) => taskId === ids[3])!, { what: 'delivered', statusCode: 200, error: '', durationMs: 1, notBeforeMs: 0, restMs: 0 })
  expect(await kept()).toBe('1110')
  await webhooks.trim(type)
  expect([await kept(), await bytes()]).toEqual(['0110', expect.toSatisfy((n: number) => n > 10_000 && n <= 15_000)])
  expect(await redis.hget(keys.stats(type), 'webhooks:dropped')).toBe('1')
  for (const one of claimed) await webhooks.settle(one, { what: 'delivered', statusCode: 200, error: '', durationMs: 1, notBeforeMs: 0, restMs: 0 })
  expect([await kept(), await redis.hexists(keys.weight(type), 'webhooks')]).toEqual(['0000', 0])
})

test('a type has so many agents at most; those that are known go on', async () => {
  await using core = await trimmer({})
  const register = (agent_id?: string) => core.registry.register({ ...Registration.parse({ name: 'a', type: 'crowd', host: '127.0.0.1', port: 1, capabilities: ['x'] }), agent_id }, { host: '127.0.0.1', port: 1 }, [])
  const { agent } = await register()
  await core.redis.eval("for i = 1, 99999 do redis.call('ZADD', KEYS[1], 0, 'agent-' .. i) end", 1, core.keys.agents('crowd'))
  await expect(register()).rejects.toMatchObject({ type: 'too-many-agents', extra: { limit: 100_000 } })
  await expect(register('of-its-own')).rejects.toMatchObject({ type: 'too-many-agents' })
  expect((await register(agent.agent_id)).created).toBe(false)
})

describe('a Redis that fills up', () => {
  let own: System
  let store: Awaited<ReturnType<typeof startRedis>>
  beforeAll(async () => {
    store = await startRedis({ settings: { appendonly: 'no' } })
    own = await startSystem({ store: store.url })
  })
  afterAll(async () => {
    await own?.[Symbol.asyncDispose]()
    await store?.close()
  })
  const used = async () => Number(/used_memory:(\d+)/.exec(await own.redis.info('memory'))![1])
  /** Sets the limit so that this part of it is used. */
  const useUp = async (part: number): Promise<number> => {
    const limit = Math.round((await used()) / part)
    await own.redis.config('SET', 'maxmemory', limit)
    return limit
  }

  test('has old ended records give way before work is refused: completed ones first, dead letters then, and none within 10 s of its end', async () => {
    const { type, put, list } = setting(own)
    await put(Array.from({ length: 1500 }, () => ({ bytes: 5000 })), { status: 'failed' })
    const ids = await put(Array.from({ length: 1500 }, () => ({ bytes: 5000 })))
    const now = await put([{ ended: 0, bytes: 5000 }])
    let limit = await useUp(0.73)
    const reaches = async (part: number, of: string) => {
      await using core = await trimmer({ RETENTION_FAILED_SECONDS: '86400' }, own)
      const before = (await list(of)).length
      await until(async () => (await core.tasks.trim(type), (await used()) < part * limit), { what: `room to ${part}` })
      expect((await list(of)).length).toBeLessThan(before)
    }
    await reaches(0.7, 'completed')
    const left = await list()
    expect(left).toEqual([...ids, ...now].slice(-left.length))
    expect(left.length).toBeGreaterThan(1000)
    expect((await list('failed')).length).toBe(1500)
    // So little room that the completed ones alone would not do.
    limit = Math.round(limit * 0.5)
    await own.redis.config('SET', 'maxmemory', limit)
    await reaches(0.75, 'failed')
    expect((await list()).at(-1)).toBe(now[0])
    await own.redis.config('SET', 'maxmemory', 0)
  })

  test('refuses new work before it breaks, lets what is in hand end, and takes work again by itself once records have gone', async () => {
    const agent = await own.agent({ handle: accepts })
    const waits = await own.submit({ delay_seconds: 3600 })
    for (let i = 0; i < 2; i++) await own.submit()
    const [one, two] = [await agent.delivery(1), await agent.delivery(2)]
    const large = { task_type: 'large', agent_type: 'large', parameters: { x: 'x'.repeat(200_000) } }
    const limit = await useUp(0.4)
    const taken: string[] = []
    await until(async () => {
      const answer = await own.post('/tasks', large)
      if (answer.status === 201) taken.push(answer.json.task_id)
      else expect([answer.status, answer.json.type]).toEqual([503, expect.stringMatching(/store-full$/)])
      return answer.status === 503
    }, { what: 'the refusal', everyMs: 100 })
    expect((await used()) / limit).toBeGreaterThan(0.75)
    expect((await used()) / limit).toBeLessThan(0.99)
    expect((await agent.beat()).status).toBe(200)
    expect((await own.post(`/tasks/${one.taskId}/progress`, { attempt_id: one.attemptId, percent: 1 })).status).toBe(200)
    for (const run of [one, two]) expect((await own.post(`/tasks/${run.taskId}/result`, { attempt_id: run.attemptId, status: 'completed', result: 1 })).status).toBe(200)
    expect((await own.ended(one.taskId)).status).toBe('completed')
    expect((await own.call('DELETE', `/tasks/${waits}`)).status).toBe(200)
    // Cancelled, they are kept an hour by their age; but Redis is short of memory.
    for (const id of taken) expect((await own.call('DELETE', `/tasks/${id}`)).status).toBe(200)
    await until(async () => (await own.post('/tasks', large)).status === 201, { what: 'a submit', timeoutMs: 30_000, everyMs: 250, mostMs: 500 })
    expect((await own.get(`/tasks/${taken[0]}`)).status).toBe(404)
    expect((await used()) / limit).toBeLessThan(0.8)
  })

  test('a type notes so many dispatchers at most, those of them with least in hand', async () => {
    await own.agent()
    const list = own.keys.dispatchers('test')
    await until(async () => (await own.redis.zcard(list)) === 1, { what: 'the dispatcher' })
    const [living] = await own.redis.zrange(list, '0', '-1')
    await own.redis.zadd(list, ...Array.from({ length: 1200 }, (_, i) => [1000 + i, `killed-${i}`]).flat())
    await until(async () => (await own.redis.zcard(list)) === 1000, { what: 'the others gone' })
    expect(await own.redis.zrange(list, '0', '1')).toEqual([living, 'killed-0'])
  })
})
