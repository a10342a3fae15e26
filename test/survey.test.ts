/** A dispatcher's looks at agent types: many by few scripts, each for itself, and nothing done where there is nothing to do. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createLogger } from '../src/logger.ts'
import { createSurvey, type SurveyDeps } from '../src/workers/survey.ts'
import { startCore } from './core.ts'
import { isClusterUrl } from './store.ts'
import { startSystem, type System } from './system.ts'

const log = createLogger('test', 'silent')

let system: System
let core: Awaited<ReturnType<typeof startCore>>
beforeAll(async () => {
  system = await startSystem({ workers: 0, env: { WEBHOOK_CIDRS: '127.0.0.0/8' } })
  core = await startCore(system)
})
afterAll(async () => {
  await core[Symbol.asyncDispose]()
  await system[Symbol.asyncDispose]()
})

/** One by hand, that notes what it has come to. */
const startSurvey = (of: Partial<SurveyDeps> = {}) => {
  const did: string[] = []
  const looked: string[] = []
  const failed = new Map<string, string>()
  const does = (what: string) => async (type: string): Promise<void> => void did.push(`${what} ${type}`)
  const survey = createSurvey({
    ...core, id: 'by hand', load: () => 0, isStopping: () => false, listen: async () => {}, listenOnlyTo: () => {},
    pump: (_type, queue) => void did.push(`pump ${queue}`), dueIn: () => {}, deliverer: { look: () => {} }, scheduler: { due: () => {} },
    sweeper: { agents: does('agents'), records: does('records'), trim: does('trim') },
    watchdog: { looked: (type) => void looked.push(type), failed: (type, error) => void failed.set(type, String(error)), forget: () => {}, reason: () => null, stop: () => {} },
    log, ...of,
  })
  return { survey, did, looked, failed }
}
/** What a connection sends while something is done. */
const sentBy = async (work: () => Promise<unknown>): Promise<number> => {
  const { redis } = core
  const send = redis.sendCommand
  let sent = 0
  redis.sendCommand = (...args) => (sent++, send.apply(redis, args))
  await work().finally(() => void (redis.sendCommand = send))
  return sent
}

test('three hundred types are looked at by few scripts, each for itself; one that somebody has tampered with spoils no other', async () => {
  const types = Array.from({ length: 300 }, (_, n) => `many-${n}`)
  for (const type of types) await core.types.ensure(type)
  await system.agent({ type: 'many-7', beats: false })
  await system.submit({ agent_type: 'many-7' })
  await system.submit({ agent_type: 'many-299' }) // nobody is there who would do it
  await system.redis.zadd(system.keys.watch('many-150'), 1, 'somebody')
  await system.redis.set(system.keys.queues('many-8'), 'no zset')
  const { survey, did, looked, failed } = startSurvey()
  await survey.now()
  expect(new Set(looked)).toEqual(new Set(types.filter((type) => type !== 'many-8')))
  expect([...failed]).toEqual([['many-8', expect.stringContaining('WRONGTYPE')]])
  expect(did.toSorted()).toEqual(['agents many-150', 'pump many-7.echo'])
  expect([...survey.known()].toSorted()).toEqual(types.toSorted())
  for (const type of ['many-0', 'many-299']) expect(await system.redis.zscore(system.keys.dispatchers(type), 'by hand')).toBe('0')

  const before = looked.length
  const sent = await sentBy(() => survey.now())
  expect(looked.length - before).toBe(299)
  if (!isClusterUrl(system.redisUrl)) expect(sent).toBeLessThanOrEqual(8) // six scripts, and one that says that we are there
  await system.redis.del(...types.map((type) => system.keys.queues(type)), system.keys.types)
})

test('a type with many queues in use is as much as many types: the others are looked at by the next script', async () => {
  const busy = ['busy-1', 'busy-2', 'busy-3']
  for (const type of busy) {
    await system.post('/tasks/batch', { tasks: Array.from({ length: 120 }, (_, n) => ({ agent_type: type, task_type: `task-${n}` })) })
  }
  const { survey, looked } = startSurvey()
  await survey.now()
  expect(looked.toSorted()).toEqual(busy)
  const sent = await sentBy(() => survey.now())
  expect(sent).toBe(4) // a script each, and one that says that we are there
  await system.redis.del(system.keys.types)
})

test('ended records and webhooks are trimmed where there may be some to trim, and not where all are young and few', async () => {
  const type = 'trimmed'
  const cancelled = async (): Promise<string> => {
    const id = await system.submit({ agent_type: type, delay_seconds: 60, callback_url: 'http://127.0.0.1:1/hook' })
    await system.call('DELETE', `/tasks/${id}`)
    return id
  }
  const first = await cancelled()
  await cancelled()
  const trims = async (of: Partial<SurveyDeps> = {}): Promise<boolean> => {
    const { survey, did } = startSurvey(of)
    await survey.now()
    return did.includes(`trim ${type}`)
  }
  expect(await trims()).toBe(true) // not measured yet
  await core.tasks.trim(type)
  expect(await trims()).toBe(false)
  const isShort = async () => false
  const keptTo = (most: number, bytes: number) => core.tasks.kept.map(([status, ms]) => [status, ms, status === 'cancelled' ? most : 1000, status === 'cancelled' ? bytes : 1e9] as const)
  expect(await trims({ tasks: { kept: keptTo(2, 1e9), isShort } })).toBe(false)
  expect(await trims({ tasks: { kept: keptTo(1, 1e9), isShort } })).toBe(true) // too many
  expect(await trims({ tasks: { kept: keptTo(2, 500), isShort } })).toBe(true) // too much
  expect(await trims({ tasks: { kept: core.tasks.kept, isShort: async () => true } })).toBe(true) // Redis's memory is short
  expect(await trims({ webhooks: { maxKept: 1, maxBytes: 1e9 } })).toBe(true)
  await system.redis.hset(system.keys.weight(type), 'webhooks', 1000)
  expect(await trims({ webhooks: { maxKept: 10, maxBytes: 999 } })).toBe(true)
  await system.redis.hdel(system.keys.weight(type), 'webhooks')
  const record = system.keys.task(type, first)
  await system.redis.hset(record, 'created', 1)
  expect(await trims()).toBe(true) // too old
  await system.redis.del(record)
  expect(await trims()).toBe(true) // gone
  await system.redis.zrem(system.keys.tasks(type, 'cancelled'), first)
  expect(await trims()).toBe(true) // counted still
  await core.tasks.trim(type)
  expect(await trims()).toBe(false)
  await system.redis.zadd(system.keys.webhooks(type), 1, first)
  expect(await trims()).toBe(true)
})

test('types that are used at once are named together', async () => {
  const types = Array.from({ length: 50 }, (_, n) => `named-${n}`)
  await Promise.all(types.map((type) => core.types.ensure(type)))
  await using other = await startCore(system)
  let sent = 0
  const send = other.redis.sendCommand
  other.redis.sendCommand = (...args) => (sent++, send.apply(other.redis, args))
  await Promise.all(types.map((type) => other.types.seen(type, true)))
  expect(sent).toBeLessThan(10)
  expect((await other.types.list()).filter((type) => type.startsWith('named-'))).toHaveLength(50)
})
