/** The worker's side of namespaces: each is served as if it were alone, but for the places of the process, which go round. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Registration } from '../src/contracts/agent.ts'
import { newTaskSchema } from '../src/contracts/task.ts'
import type { Parts } from '../src/core.ts'
import { uuidv7 } from '../src/redis/ids.ts'
import { createPlaces, type Guest } from '../src/workers/places.ts'
import { startCore } from './core.ts'
import { sleep, startSystem, until, type System, type TestAgent } from './system.ts'

const PLACES = 2
const NewTask = newTaskSchema(300)

let system: System
let core: Awaited<ReturnType<typeof startCore>>
beforeAll(async () => {
  system = await startSystem({ env: { WORKER_CONCURRENCY: String(PLACES), LOG_LEVEL: 'debug' } })
  core = await startCore(system)
})
afterAll(async () => {
  await core[Symbol.asyncDispose]()
  await system[Symbol.asyncDispose]()
})

const begin = (namespace: string, usedMs = Date.now()) => system.redis.zadd(core.keys.namespaces, usedMs, namespace)
const register = (to: Parts, agent: TestAgent, id: string, type: string) =>
  to.registry.register(Registration.parse({ agent_id: id, name: id, type, host: '127.0.0.1', port: agent.port, capabilities: ['echo'], max_concurrency: 10, ttl_seconds: 60 }), { host: '127.0.0.1', port: agent.port }, [])
const submit = async (to: Parts, type: string, more: object = {}): Promise<string> => {
  const id = `${type}.${uuidv7()}`
  await to.tasks.submit(NewTask.parse({ task_type: 'echo', agent_type: type, ...more }), type, { id, parameters: '{}', metadata: '{}' })
  return id
}
const ended = (of: Parts, id: string) => until(async () => { const t = await of.tasks.get(id); return t?.status === 'completed' ? t : null }, { what: `the end of ${id}` })

describe('a worker', () => {
  test('gives each namespace’s tasks to its own agents, though ids and types are the same', async () => {
    const acme = await core.of('acme')
    const [ours, theirs] = [await system.agent({ type: 'elsewhere' }), await system.agent({ type: 'elsewhere' })]
    await begin('acme')
    await register(core, ours, 'same', 'both')
    await register(acme, theirs, 'same', 'both')
    const mine = await Promise.all(Array.from({ length: 5 }, () => submit(core, 'both')))
    const other = await Promise.all(Array.from({ length: 7 }, () => submit(acme, 'both')))
    await Promise.all([...mine.map((id) => ended(core, id)), ...other.map((id) => ended(acme, id))])
    expect(ours.runs.map((r) => r.taskId).sort()).toEqual(mine.sort())
    expect(theirs.runs.map((r) => r.taskId).sort()).toEqual(other.sort())
    expect(await core.tasks.get(other[0]!)).toBeNull()
    expect(await acme.tasks.get(mine[0]!)).toBeNull()
    expect((await acme.registry.list({ limit: 10 })).agents.map((a) => a.port)).toEqual([theirs.port])
  })

  test('lets none wait for another’s queue', async () => {
    const busy = await core.of('busy')
    const [ours, theirs] = [await system.agent({ type: 'elsewhere' }), await system.agent({ type: 'elsewhere', handle: () => sleep(30).then(() => 'done') })]
    await begin('busy')
    await register(busy, theirs, 'b', 'turns')
    await register(core, ours, 'a', 'turns')
    const many = await Promise.all(Array.from({ length: 60 }, () => submit(busy, 'turns')))
    await until(() => theirs.runs.length > 4)
    const few = await Promise.all(Array.from({ length: 5 }, () => submit(core, 'turns')))
    await Promise.all(few.map((id) => ended(core, id)))
    expect(theirs.runs.length).toBeLessThan(many.length)
    await Promise.all(many.map((id) => ended(busy, id)))
    expect(theirs.peak()).toBe(PLACES)
  })

  test('forgets one that nobody has used for an hour, and serves it again when it is back', async () => {
    const worker = system.worker[0]!
    const said = (what: string) => worker.log.join('').split('\n').filter((line) => line.includes('"brief"') && line.includes(what)).length
    await begin('brief', Date.now() - 3_601_000)
    await until(() => said('"dispatching"') === 1)
    await until(() => said('is forgotten') === 1)
    expect(await system.redis.zscore(core.keys.namespaces, 'brief')).toBeNull()
    // Named by a key it is kept, however long nothing has come of it.
    await system.redis.hset(core.keys.access, 'key:xxxxxxxxxxxx', JSON.stringify({ name: 'n', namespace: 'named', roles: [], digest: '', createdMs: 0, expiresMs: 1, requestsPerSecond: null }))
    await begin('named', 1)
    await begin('brief')
    const brief = await core.of('brief')
    await register(brief, await system.agent({ type: 'elsewhere' }), 'a', 'again')
    await ended(brief, await submit(brief, 'again'))
    await until(() => said('"dispatching"') === 2)
    await until(async () => Number(await system.redis.zscore(core.keys.namespaces, 'named')) > 1)
  })
})

describe('places', () => {
  const guest = (waits = true) => {
    const one = { served: 0, waits: () => waits, serve: () => void one.served++ }
    return one satisfies Guest & { served: number }
  }

  test('asked for are kept until it is known what for, and those of a share that is dropped are free', () => {
    const places = createPlaces(4)
    const [a, b] = [places.share(), places.share()]
    expect([a.ask(3), b.ask(3), b.ask(1)]).toEqual([3, 1, 0])
    places.enter()
    a.answered(3)
    expect([places.taken(), a.ask(8)]).toEqual([1, 2])
    a.drop()
    a.answered(2)
    expect(b.ask(8)).toBe(2)
  })

  test('that come free are offered to those who wait, each first in its turn', () => {
    const places = createPlaces(1)
    const [a, b, idle] = [guest(), guest(), guest(false)]
    const order: string[] = []
    const share = places.share()
    const takes = (one: ReturnType<typeof guest>, name: string) => () => share.ask(1) === 1 && order.push(name) && (places.enter(), share.answered(1))
    for (const [one, name] of [[a, 'a'], [b, 'b'], [idle, 'idle']] as const) places.join({ waits: one.waits, serve: takes(one, name) })
    places.freed()
    for (let i = 0; i < 5; i++) places.leave()
    expect(order).toEqual(['a', 'b', 'a', 'b', 'a', 'b'])
  })
})
