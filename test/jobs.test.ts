/** What our scripts do to jobs, held against what BullMQ's own would have done: the same is left of them in Redis. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { newTaskSchema } from '../src/contracts/task.ts'
import { createLogger } from '../src/logger.ts'
import type { TaskJob } from '../src/queues/job.ts'
import type { Lane } from '../src/queues/lane.ts'
import type { NewJob } from '../src/queues/queues.ts'
import { createLocks } from '../src/workers/locks.ts'
import { startCore, slotTokens } from './core.ts'
import { startSystem, until, type System } from './system.ts'

let system: System
let core: Awaited<ReturnType<typeof startCore>>
beforeAll(async () => {
  system = await startSystem({ workers: 0 })
  core = await startCore(system)
})
afterAll(async () => {
  await core[Symbol.asyncDispose]()
  await system[Symbol.asyncDispose]()
})

const NewTask = newTaskSchema(300)
const TIMES = new Set(['timestamp', 'processedOn', 'finishedOn'])

/** All that stands in Redis of a type's queue; times as whether they are now, ids and names without the type. */
const left = async (type: string) => {
  const near = (at: unknown) => Math.abs(Number(at) - Date.now()) < 60_000
  const at = `${system.keys.base(type)}${type}.echo`
  const plain = (text: string) => text.replaceAll(type, 'T')
  const read = async (key: string, name: string): Promise<unknown> => {
    const kind = await system.redis.type(key)
    if (kind === 'hash') {
      const { opts, ...fields } = await system.redis.hgetall(key)
      const { jobId: _, ...options } = JSON.parse(opts ?? '{}') // which is said by the key
      return { ...Object.fromEntries(Object.entries(fields).map(([field, value]) => [field, TIMES.has(field) ? near(value) : value])), options }
    }
    if (kind === 'zset') {
      const scored = await system.redis.zrange(key, '0', '-1', 'WITHSCORES')
      return scored.map((cell, i) => (i % 2 === 0 ? plain(cell) : name === ':completed' ? near(cell) : name === ':delayed' || scored[i - 1] === '1' ? near(Number(cell) / 0x1000 - 60_000) : cell))
    }
    if (kind === 'list') return (await system.redis.lrange(key, 0, -1)).map(plain)
    if (kind === 'set') return (await system.redis.smembers(key)).map(plain).sort()
    return name.endsWith(':lock') ? 'held' : system.redis.get(key)
  }
  const found: Record<string, unknown> = {}
  for (const key of await system.redis.keys(`${at.replace(/[{}]/g, '?')}*`)) {
    const name = key.slice(at.length).replaceAll(type, 'T')
    // Nobody reads the events, nor the count of all jobs ever; what BullMQ notes of a queue it notes when it first has to do with it.
    if (name !== ':events' && name !== ':id' && name !== ':meta') found[name] = await read(key, name)
  }
  return found
}

const PRIORITIES = [5, 15, 1, 5, 9]
const DELAYED = 3
const idOf = (type: string, n: number) => `${type}.00000000-0000-7000-8000-00000000000${n}`
const jobOf = (type: string, n: number): NewJob => ({ id: idOf(type, n), type, queue: `${type}.echo`, taskType: 'echo', priority: PRIORITIES[n]!, maxRetries: n, delayMs: n === DELAYED ? 60_000 : 0 })
const submitOf = (type: string, n: number) => ({
  task: NewTask.parse({ task_type: 'echo', agent_type: type, priority: PRIORITIES[n], max_retries: n, ...(n === DELAYED ? { delay_seconds: 60 } : {}) }),
  type,
  extra: { id: idOf(type, n), parameters: '{}', metadata: '{}' },
})

test('a job put in line, taken and done is, at each step, what BullMQ would have made of it', async () => {
  const [ours, theirs] = ['ours', 'theirs']
  const same = async (what: string) => expect(await left(ours), what).toEqual(await left(theirs))
  await core.tasks.submitMany(PRIORITIES.map((_, n) => submitOf(ours, n)))
  await core.tasks.submitMany(PRIORITIES.map((_, n) => submitOf(ours, n))) // twice is once
  for (const [n] of PRIORITIES.entries()) await core.queues.add(jobOf(theirs, n))
  await same('added')
  expect(Object.keys(await left(ours)).sort()).toEqual(expect.arrayContaining([':delayed', ':marker', ':pc', ':prioritized']))

  const { agent } = await core.registry.register({ name: 'a', type: ours, host: '127.0.0.1', port: 9, capabilities: ['echo'], max_concurrency: 10, ttl_seconds: 60 }, { host: '127.0.0.1', port: 9 }, [])
  const slots = await core.tasks.reserve(ours, `${ours}.echo`, 'me', 0, slotTokens(2))
  const lane = core.queues.lane(theirs, `${theirs}.echo`)
  const jobs: TaskJob[] = []
  for (const _ of slots) jobs.push((await lane.takeWhole('lock'))!)
  expect(slots.map(({ job }) => job)).toEqual([idOf(ours, 1), idOf(ours, 4)])
  await same('taken')

  for (const keep of [true, false]) {
    const slot = slots.shift()!
    const begun = await core.tasks.begin(slot.job!, slot, 'me')
    if (begun.verdict !== 'go') throw new Error(begun.verdict)
    await core.tasks.finish(ours, { taskId: slot.job!, attemptId: begun.attemptId, agentId: agent.id, outcome: 'completed', statusCode: 200, error: '', result: '1', executionMs: null, retryInMs: 0, restMs: 0, maxRetries: 3 }, { queue: slot.queue, lock: slot.lock, keep, dispatcher: 'me', next: null })
    const job = jobs.shift()!
    if (!keep) job.opts.removeOnComplete = true
    await job.moveToCompleted(null as never, 'lock', false)
    await same(`done, and ${keep ? 'kept' : 'not kept'}`)
  }

  // Behind what came back from a dead worker, which goes first; and nothing is left then.
  for (const type of [ours, theirs]) await system.redis.rpush(`${system.keys.base(type)}${type}.echo:wait`, idOf(type, 2)).then(() => system.redis.zrem(`${system.keys.base(type)}${type}.echo:prioritized`, idOf(type, 2)))
  for (const n of [2, 0]) {
    expect(await core.queues.lane(ours, `${ours}.echo`).take('lock')).toBe(idOf(ours, n))
    expect((await lane.takeWhole('lock'))!.id).toBe(idOf(theirs, n))
    await same('taken')
  }
  expect([await core.queues.lane(ours, `${ours}.echo`).take('lock'), await lane.takeWhole('lock')]).toEqual([null, undefined])
  await same('empty')
})

test('jobs kept for the Board are the last 200 of a queue', async () => {
  const type = 'board'
  const done = `${system.keys.base(type)}${type}.echo`
  await system.redis.zadd(`${done}:completed`, ...Array.from({ length: 203 }, (_, n) => [n, `old${n}`]).flat())
  for (let n = 0; n < 203; n++) await system.redis.hset(`${done}:old${n}`, 'name', 'echo')
  await core.tasks.submitMany([submitOf(type, 0)])
  await core.registry.register({ agent_id: 'b', name: 'b', type, host: '127.0.0.1', port: 9, capabilities: ['echo'], max_concurrency: 10, ttl_seconds: 60 }, { host: '127.0.0.1', port: 9 }, [])
  const [slot] = await core.tasks.reserve(type, `${type}.echo`, 'me', 0, slotTokens(1))
  const begun = await core.tasks.begin(slot!.job!, slot!, 'me')
  if (begun.verdict !== 'go') throw new Error(begun.verdict)
  await core.tasks.finish(type, { taskId: slot!.job!, attemptId: begun.attemptId, agentId: 'b', outcome: 'completed', statusCode: 200, error: '', result: '1', executionMs: null, retryInMs: 0, restMs: 0, maxRetries: 3 }, { queue: slot!.queue, lock: slot!.lock, keep: true, dispatcher: 'me', next: null })
  const kept = await system.redis.zrange(`${done}:completed`, '0', '-1')
  expect([kept.length, kept[0], kept.at(-1)]).toEqual([200, 'old4', idOf(type, 0)])
  expect((await system.redis.keys(`${done.replace(/[{}]/g, '?')}:old*`)).length).toBe(199)
})

const register = (type: string, id: string, capabilities: string[], max = 10) =>
  core.registry.register({ agent_id: id, name: id, type, host: '127.0.0.1', port: 9, capabilities, max_concurrency: max, ttl_seconds: 60 }, { host: '127.0.0.1', port: 9 }, [])
const submit = async (type: string, taskType: string): Promise<string> =>
  (await core.tasks.submit(NewTask.parse({ task_type: taskType, agent_type: type }), type, { parameters: '{}', metadata: '{}' })).task_id
const lockOf = (type: string, queue: string, id: string) => system.redis.get(`${system.keys.base(type)}${queue}:${id}:lock`)

test('each slot of a reserve has the tokens that its job was taken with, though a pool names an agent that is no more, or a record is spoilt', async () => {
  const type = 'ghost'
  await register(type, 'gone', ['echo'])
  await register(type, 'here', ['echo'])
  await system.redis.del(system.keys.agent(type, 'gone'))
  await submit(type, 'echo')
  const spoilt = await submit(type, 'echo')
  await submit(type, 'echo')
  await system.redis.del(system.keys.task(type, spoilt))
  await system.redis.set(system.keys.task(type, spoilt), 'no hash')
  const slots = await core.tasks.reserve(type, `${type}.echo`, 'me', 0, slotTokens(3))
  expect(slots.map(({ begun }) => begun !== null)).toEqual([true, false, true])
  for (const slot of slots) {
    expect(await lockOf(type, slot.queue, slot.job!)).toBe(slot.lock)
    if (slot.begun) expect(slot.begun[1]).toMatch(new RegExp(`${slot.token}$`))
  }
})

test.for([['qa', 'qb'], ['qb', 'qa']])('an end that is said again hands over what it did the first time, from queues %s and %s', async (order, { expect }) => {
  const type = `order-${order[0]}`
  await register(type, type, order, 1)
  const [first, second] = [await submit(type, 'qa'), await submit(type, 'qb')]
  const [slot] = await core.tasks.reserve(type, `${type}.qa`, 'me', 0, slotTokens(1))
  expect(slot!.job).toBe(first)
  const begun = await core.tasks.begin(first, slot!, 'me')
  if (begun.verdict !== 'go') throw new Error(begun.verdict)
  const end = { taskId: first, attemptId: begun.attemptId, agentId: type, outcome: 'failed' as const, statusCode: null, error: 'no', result: '', executionMs: null, retryInMs: 5000, restMs: 0, maxRetries: 3 }
  const held = { queue: slot!.queue, lock: slot!.lock, keep: false, dispatcher: 'me', next: { ...slotTokens(1)[0]!, lock: slot!.lock } }
  expect((await core.tasks.finish(type, end, held)).next).toMatchObject({ job: second, begun: expect.anything() })
  expect((await core.tasks.finish(type, end, { ...held, again: true })).next).toMatchObject({ job: second, agentId: type, begun: null })
})

test('a lock is let go of by who holds it, and not by who held it before', async () => {
  const locks = createLocks({ log: createLogger('test', 'silent') })
  const renewed: string[] = []
  const lane = { name: 'q', renew: async (jobs: { id: string; token: string }[]) => { renewed.push(...jobs.map(({ token }) => token)); return [] } } as unknown as Lane
  locks.hold('x', lane, 'old')
  locks.hold('x', lane, 'new')
  locks.letGo('x', 'old')
  await until(() => renewed.length > 0)
  expect(new Set(renewed)).toEqual(new Set(['new']))
  locks.stop()
})
