/** Results that could not be told in time, as Redis or all of us were away then. At the scripts, where time can be turned. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadScript } from '../src/redis/scripts.ts'
import { startCore, slotTokens } from './core.ts'
import { startSystem, type System } from './system.ts'

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

/** Seconds that a result may still be told when we are back; those of a test lie clear of it. */
const GRACE = 6
let types = 0
const nowMs = async (): Promise<number> => {
  const [seconds, micros] = await system.redis.time()
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
}

/** A task parked at an agent, of a type of its own, whose times are set relative to now, in seconds. */
const parked = async () => {
  const type = `away${++types}`
  const queue = `${type}.echo`
  const base = system.keys.base(type)
  const agent = await system.agent({ type, beats: false })
  const id = await system.submit({ agent_type: type, timeout_seconds: 30 })
  const lane = core.queues.lane(type, queue)
  const [slot] = await core.tasks.reserve(type, queue, 'me', 0, slotTokens(1))
  const begun = await core.tasks.begin(id, slot!, 'me')
  if (begun.verdict !== 'go') throw new Error(begun.verdict)
  expect(await core.tasks.park(type, id, begun.attemptId, slot!.lock)).toMatchObject({ verdict: 'parked' })
  const record = system.keys.task(type, id)
  const bull = `${system.keys.bullPrefix(type)}:${queue}:${id}`
  return {
    type, agent, id, lane, attemptId: begun.attemptId,
    deadline: async (inSeconds: number) => {
      const sending = (await system.redis.hget(record, 'sending'))!.split('\t')
      sending[3] = String((await nowMs()) + inSeconds * 1000)
      await system.redis.hset(record, 'sending', sending.join('\t'))
    },
    /** A dispatcher's last look was so long ago, and if there were one it would look now. */
    lastLook: async (secondsAgo: number) => system.redis.hset(`${base}sweep`, 'tick', (await nowMs()) - secondsAgo * 1000),
    /** The lock on its job has run out. */
    unlocked: () => system.redis.del(`${bull}:lock`),
    excuseIsOver: async () => system.redis.hset(record, 'parked', (await nowMs()) - 1),
    survey: (broken: boolean) => loadScript(core.redis, new URL('../src/workers/survey.lua', import.meta.url))(base, 'me', 0, core.webhooks.maxKept, core.webhooks.maxBytes, ...core.tasks.kept.flat(), base, broken ? 1 : 0),
    /** What the look at its record comes to. */
    look: async () => {
      await system.redis.zadd(system.keys.timers(type), 0, id)
      const { due } = await core.tasks.tick(type)
      return due.find((d) => 'id' in d && d.id === id) ?? null
    },
    nextLookIn: async () => (Number(await system.redis.zscore(system.keys.timers(type), id)) - (await nowMs())) / 1000,
    tell: () => core.tasks.callback(id, begun.attemptId, { outcome: 'completed', result: '1', error: '', executionMs: null }),
  }
}

test('a deadline that passed while we were away leaves time to tell the result', async () => {
  const p = await parked()
  await p.deadline(-100)
  await p.lastLook(120)
  await p.unlocked()
  expect(await p.look()).toBe(null)
  expect(await p.nextLookIn()).toBeGreaterThan(GRACE - 2)
  expect(await system.task(p.id)).toMatchObject({ status: 'running', attempts: [{ outcome: null }] })
  expect(await p.tell()).toBe('completed')
  expect(await system.task(p.id)).toMatchObject({ status: 'completed', retry_count: 0, redeliveries: 0, attempts: [{ outcome: 'completed' }] })
})

test('when none is told then, the attempt is lost and goes again: it costs the task nothing', async () => {
  const p = await parked()
  await p.deadline(-1)
  await p.lastLook(10)
  await p.unlocked()
  expect(await p.look()).toBe(null)
  // Another absence, longer than the excuse: the first one counts, and it is given once.
  await p.excuseIsOver()
  await p.lastLook(10)
  const due = await p.look()
  if (due?.what !== 'came_back') throw new Error(JSON.stringify(due))
  expect(due).toMatchObject({ attemptId: p.attemptId, to: { status: 'queued', error: 'we were away at its deadline' } })
  await core.tasks.cameBack(p.type, due.queue, p.id, due.attemptId, { ...due.to, waitMs: 0 })
  expect(await p.lane.take('other')).toBe(p.id)
  expect(await system.task(p.id)).toMatchObject({ status: 'queued', retry_count: 0, redeliveries: 1, attempts: [{ outcome: 'lost', error: 'we were away at its deadline' }] })
  await expect(p.tell()).rejects.toThrow('not the current attempt')
})

test('a deadline right behind our return is excused as well', async () => {
  const p = await parked()
  await p.deadline(GRACE - 3)
  await p.lastLook(10)
  expect(await p.look()).toBe(null)
  expect(await p.nextLookIn()).toBeGreaterThan(GRACE - 2)
})

test('an agent that knows nothing of the attempt is believed at once', async () => {
  const p = await parked()
  await p.deadline(-1)
  await p.lastLook(10)
  expect(await p.look()).toBe(null)
  await system.post(`/agents/${p.agent.id}/heartbeat`, { running: [] })
  await system.post(`/agents/${p.agent.id}/heartbeat`, { running: [] })
  expect(await p.look()).toMatchObject({ what: 'came_back', to: { error: 'the agent no longer knew of the attempt' } })
})

test('a deadline that passed while we were there is one', async () => {
  for (const [deadline, lastLook] of [[-1, 0.5], [-12, 10], [-0.5, 1]] as const) {
    const p = await parked()
    await p.deadline(deadline)
    await p.lastLook(lastLook)
    expect(await p.look(), `${deadline} ${lastLook}`).toMatchObject({ what: 'time_out' })
    await core.tasks.timeOut(p.id)
    expect(await system.task(p.id)).toMatchObject({ status: 'retrying', retry_count: 1, attempts: [{ outcome: 'timeout' }] })
  }
})

test('a short absence counts where a dispatcher’s connection broke', async () => {
  for (const [broken, what] of [[true, undefined], [false, 'time_out']] as const) {
    const p = await parked()
    await p.deadline(-0.5)
    await p.lastLook(1)
    await p.survey(broken)
    // Others that come back behind it do not shorten it.
    await p.survey(broken)
    expect((await p.look())?.what).toBe(what)
  }
})
