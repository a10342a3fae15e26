/**
 * What keeps failures from spreading: agents taken out and tried again, retries that wait for their turn, and agents kept when most fall silent
 * at once. By the scripts themselves where that shows it, and twice by the whole system.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import type { AttemptEnd } from '../src/tasks/attempt.ts'
import { uuidv7 } from '../src/redis/ids.ts'
import { startCore, slotTokens } from './core.ts'
import { becomesQuiet } from './quiet.ts'
import { openStore, sweepStore } from './store.ts'
import { startSystem, until, type System, type TestAgent } from './system.ts'

let core: Awaited<ReturnType<typeof startCore>>
beforeAll(async () => {
  core = await startCore({ redisUrl: inject('redisUrl'), prefix: `t${randomBytes(5).toString('hex')}` })
})
afterAll(async () => {
  const store = openStore(core.redisUrl)
  await sweepStore(store, core.keys.base('').slice(0, 11))
  store.disconnect()
  await core[Symbol.asyncDispose]()
})

let types = 0
/** A type without a process: agents, and attempts begun and ended by hand. */
const byHand = () => {
  const type = `breaker${++types}`
  const { redis, keys, registry, tasks } = core
  const now = async () => Number((await redis.time())[0]) * 1000
  const field = (agent: string, name: string) => redis.hget(keys.agent(type, agent), name)
  const submit = async (more: object = {}) => {
    const id = `${type}.${uuidv7()}`
    await tasks.submit({ task_type: 'echo', agent_type: type, priority: 5, timeout_seconds: 30, max_retries: 3, retry_delay_seconds: 1, backoff: 'fixed', expires_in_seconds: 3600, ...more } as never, type, { id, parameters: '{}', metadata: '{}' })
    return id
  }
  /** An attempt of a task at that agent, whatever else there is. */
  const begin = async (id: string, agentId: string) => {
    const lease = `h.${randomUUID()}`
    await redis.hset(keys.task(type, id), 'not_before', 0, 'avoid', ' ')
    await redis.zadd(keys.leases(type, agentId), (await now()) + 10_000, lease)
    const begun = await tasks.begin(id, { type, queue: `${type}.echo`, job: id, lock: '', token: randomUUID(), askedAt: 0, begun: null, lease, agentId, name: agentId, host: 'h', port: 1, salts: '' }, 'by hand')
    if (begun.verdict !== 'go') throw new Error(begun.verdict)
    return begun
  }
  const attempt = async (agentId: string, outcome: AttemptEnd['outcome'], o: { id?: string; task?: object; end?: Partial<AttemptEnd> } = {}) => {
    const taskId = o.id ?? (await submit(o.task))
    const begun = await begin(taskId, agentId)
    const statusCode = { completed: 200, failed: 500 }[outcome as string] ?? null
    const fin = await tasks.finish(type, { taskId, attemptId: begun.attemptId, agentId, outcome, statusCode, error: 'boom', result: '1', executionMs: null, retryInMs: 10, restMs: 0, maxRetries: begun.maxRetries, ...o.end })
    return { id: taskId, ...fin }
  }
  return {
    type, now, field, submit, begin, attempt,
    agents: async (n: number, more: object = {}) => {
      const ids: string[] = []
      for (let i = 0; i < n; i++) ids.push((await registry.register({ name: `a${i}`, type, host: '127.0.0.1', port: 9, capabilities: ['echo'], max_concurrency: 10, ttl_seconds: 60, agent_id: `${type}-${i}`, ...more }, { host: '127.0.0.1', port: 9 }, [])).agent.id)
      return ids
    },
    view: async (agent: string) => (await registry.get(agent))!,
    isSick: async (agent: string) => (await field(agent, 'trial')) === 'sick',
    isOver: async (agent: string) => {
      await redis.hset(keys.agent(type, agent), 'rest', '0')
    },
    silent: async (agent: string, part: number) => {
      await redis.hset(keys.agent(type, agent), 'seen', (await now()) - part * 60_000)
      await redis.zadd(keys.watch(type), 0, agent)
    },
    sweep: () => registry.sweep(type),
    out: (agent: string) => field(agent, 'out'),
    stat: async (name: string) => Number((await redis.hget(keys.stats(type), name)) ?? 0),
    reserve: async (n: number) => (await tasks.reserve(type, `${type}.echo`, 'by hand', 0, slotTokens(n))).map((slot) => slot.agentId),
  }
}

describe('an agent is taken out', () => {
  test('when half of 20 attempts within half a minute failed, whatever completes between; not when it is fewer, nor one task again and again', async () => {
    const t = byHand()
    const [a, b, c, d] = (await t.agents(4)) as [string, string, string, string]
    for (let i = 0; i < 19; i++) {
      await t.attempt(a, i % 2 ? 'completed' : 'failed')
      expect(await t.isSick(a)).toBe(false)
    }
    await t.attempt(a, 'failed')
    const { sick } = await t.view(a)
    expect(sick).toMatchObject({ times: 1, reason: '11 of 20 attempts there failed within half a minute; the last: boom' })
    const outMs = Date.parse(sick!.until!) - Date.parse(sick!.since)
    expect(outMs).toBeGreaterThanOrEqual(24_000)
    expect(outMs).toBeLessThanOrEqual(30_000)
    for (let i = 0; i < 30; i++) await t.attempt(b, i % 3 ? 'completed' : 'failed')
    const one = await t.submit({ max_retries: 100 })
    for (let i = 0; i < 24; i++) await t.attempt(c, i % 4 ? 'failed' : 'completed', i % 4 ? { id: one } : {})
    expect([await t.isSick(b), await t.isSick(c)]).toEqual([false, false])
    // What was long ago does not count, and is forgotten with the next that completes.
    await core.redis.hset(core.keys.agent(t.type, b), 'streak', (await t.field(b, 'streak'))!.replace(/^(\d+) \d+/, `$1 ${(await t.now()) - 31_000}`))
    await t.attempt(b, 'completed')
    expect([await t.field(b, 'streak'), await t.field(d, 'streak')]).toEqual([null, null])
  })

  test('and is back when the tasks that showed it fail elsewhere, too: one bad client takes no agent out for long', async () => {
    const t = byHand()
    const [a, b] = (await t.agents(6)) as [string, string]
    const bad: string[] = []
    for (let i = 0; i < 5; i++) bad.push((await t.attempt(a, 'failed')).id)
    expect(await t.isSick(a)).toBe(true)
    expect(await core.tasks.get(bad[0]!)).toMatchObject({ retries: 0, refunds: 1 })
    await t.attempt(b, 'completed', { id: bad[0]! })
    for (const id of bad.slice(1, 3)) await t.attempt(b, 'failed', { id })
    expect(await t.isSick(a)).toBe(true)
    expect(await t.attempt(b, 'failed', { id: bad[3]! })).toMatchObject({ status: 'retrying' })
    expect([await t.isSick(a), (await t.view(a)).status, await t.stat('agents_cleared')]).toEqual([false, 'healthy', 1])
    expect(await t.reserve(12)).toContain(a)
    // What failed at both counts for the task, at each.
    expect(await core.redis.hget(core.keys.task(t.type, bad[3]!), 'failed_by')).toBe(` ${b} ${a} `)
  })

  test('that nothing can replace: only when it completes nothing, for 5 s, and then tried with one task each 5 s that pays nothing', async () => {
    const t = byHand()
    const [only] = (await t.agents(1)) as [string]
    await t.attempt(only, 'failed')
    await t.attempt(only, 'completed')
    for (let i = 0; i < 10; i++) await t.attempt(only, 'failed')
    expect(await t.isSick(only)).toBe(false)
    await core.redis.hdel(core.keys.agent(t.type, only), 'streak')
    for (let i = 0; i < 5; i++) await t.attempt(only, 'failed')
    const outFor = async () => {
      const { sick } = await t.view(only)
      return [Date.parse(sick!.until!) - Date.parse(sick!.since), sick!.times]
    }
    expect(await outFor()).toEqual([5000, 1])
    for (let i = 0; i < 3; i++) await t.submit()
    expect(await t.reserve(3)).toEqual([])
    await t.isOver(only)
    expect(await t.attempt(only, 'failed')).toMatchObject({ status: 'retrying' })
    expect(await outFor()).toEqual([5000, 2])
    await t.isOver(only)
    const probe = await t.attempt(only, 'failed')
    expect(await core.tasks.get(probe.id)).toMatchObject({ status: 'retrying', retries: 0, refunds: 1 })
    // Who wants no retries gets none: it is not sent again and again until the agent is well.
    await t.isOver(only)
    expect(await t.attempt(only, 'failed', { task: { max_retries: 0 } })).toMatchObject({ status: 'failed' })
    await t.isOver(only)
    await t.attempt(only, 'completed')
    expect((await t.view(only)).sick).toBeNull()
    expect(new Set(await t.reserve(3))).toEqual(new Set([only]))
    expect([await t.stat('agents_out'), await t.stat('probes_failed')]).toEqual([1, 3])
  })
})

test('a connection that is closed under the POST costs the task nothing, once, and says nothing of the agent', async () => {
  const t = byHand()
  const [a] = (await t.agents(2)) as [string]
  const end = { statusCode: null, excused: true, retryInMs: 60_000 }
  for (let i = 0; i < 6; i++) {
    const { id, ...fin } = await t.attempt(a, 'failed', { end, task: { max_retries: 0 } })
    expect(fin).toMatchObject({ status: 'retrying', waitMs: 100 })
    expect(await core.tasks.get(id)).toMatchObject({ retries: 0, refunds: 1 })
    if (i === 5) expect(await t.attempt(a, 'failed', { id, end })).toMatchObject({ status: 'failed' })
  }
  expect([await t.isSick(a), await t.field(a, 'streak')]).toEqual([false, null])
})

describe('retries beyond the budget', () => {
  test('wait for their turn, at no cost, and never until they expire; few failures, and other types, go when they are due', async () => {
    const t = byHand()
    const [a] = (await t.agents(1)) as [string]
    await core.redis.hset(core.keys.agent(t.type, a), 'max', 1000)
    const fail = async (n: number, task: object = {}) => {
      const waits: number[] = []
      // With what completes between, so that the agent stays in.
      for (let i = 0; i < n; i++) {
        if (i % 4 === 0) await t.attempt(a, 'completed')
        waits.push((await t.attempt(a, 'failed', { task })).waitMs)
      }
      return waits
    }
    const budget = (more: object) => core.redis.hset(core.keys.retryBudget(t.type), more as Record<string, number>)
    expect(new Set(await fail(20))).toEqual(new Set([10]))
    // All of 10 s is spent: one each 100 ms from now on.
    await budget({ line: (await t.now()) + 12_000 })
    const [first, second, third] = (await fail(3)) as [number, number, number]
    expect(first).toBeGreaterThan(1000)
    expect(third).toBeGreaterThan(second)
    expect(second).toBeGreaterThan(first - 2000)
    expect(await t.stat('postponed')).toBe(3)
    const last = await t.attempt(a, 'failed')
    expect(await core.tasks.get(last.id)).toMatchObject({ status: 'retrying', retries: 1, refunds: 0 })
    const [explained] = [await core.redis.hget(core.keys.task(t.type, last.id), 'postponed')]
    expect(explained).toBe('1')
    // Half of the time that is left until it expires, at most.
    await budget({ line: (await t.now()) + 1_000_000 })
    expect((await fail(1, { expires_in_seconds: 60 }))[0]).toBeLessThanOrEqual(30_000)
    const longest = await fail(5)
    for (const wait of longest) expect(wait).toBeLessThanOrEqual(300_000)
    expect(Math.min(...longest)).toBeGreaterThan(149_000)
    expect(new Set(longest).size).toBeGreaterThan(1)
    // A fifth of 1,000 first attempts a second: the line moves 5 ms, not 100.
    const at = await t.now()
    await budget({ line: at, at: at - 10_000, done: 0, firsts: 0 })
    await core.redis.hset(core.keys.stats(t.type), 'attempts:completed', 10_000)
    await fail(1)
    const line = async () => Number(await core.redis.hget(core.keys.retryBudget(t.type), 'line'))
    await budget({ line: (await t.now()) + 60_000 })
    const before = await line()
    await fail(4)
    expect((await line()) - before).toBeLessThan(60)
    const other = byHand()
    const [b] = (await other.agents(1)) as [string]
    expect((await other.attempt(b, 'failed')).waitMs).toBe(10)
  })
})

describe('mass silence', () => {
  test('of at least half of ten agents keeps them as suspects, tried last and one task at a time; of fewer agents each counts for itself', async () => {
    const few = byHand()
    const nine = await few.agents(9)
    for (const id of nine.slice(0, 6)) await few.silent(id, 0.8)
    expect((await few.sweep()).silence).toBeNull()
    expect(await few.out(nine[0]!)).toBe('silent')

    const t = byHand()
    const all = await t.agents(10, { max_concurrency: 2 })
    const gone = all.slice(0, 6)
    for (const id of gone.slice(0, 2)) await t.silent(id, 0.8)
    expect([(await t.sweep()).silence, await t.out(gone[0]!), (await t.view(gone[0]!)).suspect]).toEqual([null, 'silent', false])
    for (const [i, id] of gone.entries()) await t.silent(id, i < 3 ? 1.1 : 0.6)
    const { died, silence } = await t.sweep()
    expect([died, silence]).toMatchObject([[], { what: 'held', missed: 6, of: 10 }])
    await t.sweep()
    for (const id of gone.slice(0, 3)) expect([await t.out(id), await t.view(id)]).toMatchObject(['suspect', { status: 'unreachable', is_alive: true, suspect: true }])
    expect((await t.sweep()).silence).toBeNull() // said once
    expect(await t.stat('mass_silences')).toBe(1)
    for (const id of gone) await t.silent(id, 1.1)
    expect((await t.sweep()).died).toEqual([])
    // The four that beat come first, with all they have; then each suspect once.
    for (let i = 0; i < 20; i++) await t.submit()
    const order = await t.reserve(20)
    expect(order.slice(0, 8).every((id) => !gone.includes(id))).toBe(true)
    expect(order.slice(8).sort()).toEqual(gone.toSorted())
  })

  test('does not end for the others when those that were given something have answered', async () => {
    const t = byHand()
    const gone = (await t.agents(10)).slice(0, 6)
    for (const id of gone) await t.silent(id, 1.1)
    expect((await t.sweep()).silence).toMatchObject({ what: 'held' })
    for (const id of gone.slice(1)) await t.attempt(id, 'completed')
    await core.redis.zadd(core.keys.watch(t.type), 0, gone[0]!)
    expect(await t.sweep()).toMatchObject({ died: [], silence: null })
    for (const id of gone.slice(1)) await core.registry.heartbeat(id, {}, [])
    await core.redis.zadd(core.keys.watch(t.type), 0, gone[0]!)
    expect(await t.sweep()).toMatchObject({ died: [], silence: { what: 'over', missed: 1 } })
    await core.redis.hset(core.keys.sweep(t.type), 'grace', 0)
    await core.redis.zadd(core.keys.watch(t.type), 0, gone[0]!)
    expect(await t.sweep()).toMatchObject({ died: [gone[0]], silence: null })
  })

  test('ends for each that beats or answers, and for each that cannot be reached at its first task, which pays nothing; else when the hold is over', async () => {
    const t = byHand()
    const all = await t.agents(12)
    const [answers, declines, refuses, mute, beats, ...rest] = all.slice(0, 8) as [string, string, string, string, string, ...string[]]
    for (const id of all.slice(0, 8)) await t.silent(id, 1.1)
    expect((await t.sweep()).silence).toMatchObject({ what: 'held' })
    await t.attempt(answers, 'completed')
    await t.attempt(declines, 'no_room', { end: { statusCode: 429, restMs: 50 } })
    expect([await t.view(answers), await t.view(declines)]).toMatchObject([{ status: 'healthy', suspect: false }, { status: 'healthy', suspect: false }])
    for (const id of [refuses, mute]) {
      const { id: task, ...fin } = await t.attempt(id, id === mute ? 'timeout' : 'unreachable', { end: { retryInMs: 60_000 } })
      expect(fin).toMatchObject({ status: 'retrying', waitMs: 1000 })
      expect(await core.tasks.get(task)).toMatchObject({ retries: 0, refunds: 1 })
      expect([await t.out(id), (await t.view(id)).is_alive]).toEqual(['refused', false])
    }
    expect((await t.sweep()).died.sort()).toEqual([refuses, mute].sort())
    await core.registry.heartbeat(beats, {}, [])
    expect(await t.view(beats)).toMatchObject({ status: 'healthy', suspect: false })
    expect(await t.out(rest[0]!)).toBe('suspect')
    await core.redis.hset(core.keys.sweep(t.type), 'hold', (await t.now()) - 1000)
    for (const id of rest) await core.redis.zadd(core.keys.watch(t.type), 0, id)
    const over = await t.sweep()
    expect(over.died.sort()).toEqual(rest.toSorted())
    for (const id of [answers, declines]) await core.registry.heartbeat(id, {}, [])
    expect((await t.sweep()).silence).toMatchObject({ what: 'over', missed: 0 })
    expect(await core.redis.hexists(core.keys.sweep(t.type), 'hold')).toBe(0)
  })

  test('in which a suspect answers is no beat: an attempt begun since the last one is not over by the next', async () => {
    const t = byHand()
    const all = await t.agents(10)
    for (const id of all) await t.silent(id, 0.9)
    await t.sweep()
    const running = await t.submit()
    const begun = await t.begin(running, all[0]!)
    await t.attempt(all[0]!, 'completed')
    expect(await core.registry.heartbeat(all[0]!, { running: [] }, [])).toBeTruthy()
    expect((await core.redis.zscore(core.keys.leases(t.type, all[0]!), begun.attemptId)) === null).toBe(false)
    await core.registry.heartbeat(all[0]!, { running: [] }, [])
    expect(await core.redis.zscore(core.keys.leases(t.type, all[0]!), begun.attemptId)).toBeNull()
  })
})

describe('the whole system', () => {
  let system: System
  beforeAll(async () => {
    system = await startSystem()
  })
  afterAll(() => system[Symbol.asyncDispose]())
  const logged = () => system.worker.flatMap((w) => w.log).join('')

  test.concurrent('with a sole agent that fails everything tries it each 5 s; all tasks wait, lose nothing, and complete when it is mended', async () => {
    const type = 'sole'
    let broken = true
    const only = await system.agent({ type, maxConcurrency: 4, handle: () => { if (broken) throw new Error('the disk is full'); return 'ok' } })
    const ids = await Promise.all(Array.from({ length: 12 }, () => system.submit({ agent_type: type, retry_delay_seconds: 0.2, backoff: 'fixed' })))
    const sick = await until(async () => (await system.get(`/agents/${only.id}`)).json.sick)
    expect(Date.parse(sick.until) - Date.parse(sick.since)).toBe(5000)
    const e = await until(async () => { const { json } = await system.get(`/tasks/${ids[11]}/explain`); return json.reason === 'agents_sick' ? json : null })
    expect(e.summary).toMatch(/are sick: task after task failed there \(1 sick\); it is tried with one task in \d s at the latest/)
    expect(e.may_go_at).toBe(sick.until)
    const before = only.runs.length
    await until(() => only.runs.length > before)
    const probes = only.runs.slice(before)
    expect(probes).toHaveLength(1)
    expect(probes[0]!.startedAt - Date.parse(sick.since)).toBeGreaterThanOrEqual(4900)
    await until(async () => (await system.get(`/agents/${only.id}`)).json.sick.times === 2)
    broken = false
    for (const id of ids) {
      const task = await system.ended(id)
      expect(task.status).toBe('completed')
      expect(task.retry_count + task.refunds).toBe(task.attempts.length - 1)
    }
    expect((await system.get(`/agents/${only.id}`)).json).toMatchObject({ status: 'healthy', sick: null })
    expect(logged()).toMatch(new RegExp(`"agent":"${only.id}".*"an agent is sick and nothing can replace it`))
  })

  test.concurrent('keeps agents of which most fall silent at once: those that live do the work, those that do not cost no task a retry', async () => {
    const type = 'mass'
    const agents: TestAgent[] = []
    for (let i = 0; i < 10; i++) agents.push(await system.agent({ type, maxConcurrency: 1, handle: () => new Promise((done) => setTimeout(() => done('ok'), 30)) }))
    const silent = agents.slice(0, 6)
    for (const a of silent) a.stopBeating()
    for (const a of silent.slice(0, 2)) await a.die()
    const [now] = await system.redis.time()
    for (const a of silent) await system.redis.hset(system.keys.agent(type, a.id), 'seen', (Number(now) - 58) * 1000)
    for (const a of silent) await system.redis.zadd(system.keys.watch(type), 0, a.id)
    await until(async () => (await system.get(`/agents?type=${type}&status=unreachable`)).json.agents.filter((a: any) => a.suspect).length === 6)
    const ids = await Promise.all(Array.from({ length: 60 }, () => system.submit({ agent_type: type })))
    for (const id of ids) expect(await system.ended(id)).toMatchObject({ status: 'completed', retry_count: 0 })
    expect(silent.slice(2).every((a) => a.runs.length > 0)).toBe(true)
    const { agents: seen } = (await system.get(`/agents?type=${type}&include_dead=true`)).json
    const told = (some: TestAgent[]) => seen.filter((a: any) => some.some((s) => s.id === a.id)).map((a: any) => [a.status, a.suspect])
    expect(told(silent.slice(2))).toEqual(Array(4).fill(['healthy', false]))
    for (const [status, suspect] of told(silent.slice(0, 2))) expect([['unreachable', 'dead'].includes(status), suspect]).toEqual([true, false])
    expect(logged().split('\n').filter((line) => line.includes('most agents fell silent at once') && line.includes(`"${type}"`))).toHaveLength(1)
    const metrics = (await system.get('/metrics')).text
    expect(metrics).toContain(`switchyard_mass_silences_total{agent_type="${type}"} 1`)
    expect(metrics).toContain(`switchyard_agents_suspect{agent_type="${type}"} 0`)
  })

  test('nothing is left behind', () => becomesQuiet(system))
})
