/** Why a task waits: every reason seen where it is true, and what is foretold comes true. */
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { AgentReason, ExplainReason, type Explanation } from '../src/contracts/explain.ts'
import { createExplain } from '../src/tasks/explain.ts'
import { startCore, slotTokens } from './core.ts'
import { accepts, call, startSystem, until, type AgentOptions, type System, type TestAgent } from './system.ts'

/** One with a worker; and one without, where the test takes the dispatcher's steps and stops between them. */
let system: System
let still: System
type Core = Awaited<ReturnType<typeof startCore>>
let stillCore: Core
beforeAll(async () => {
  ;[system, still] = await Promise.all([startSystem(), startSystem({ workers: 0 })])
  stillCore = await startCore(still)
})
afterAll(async () => {
  await stillCore[Symbol.asyncDispose]()
  await Promise.all([system, still].map((s) => s[Symbol.asyncDispose]()))
})

let types = 0
const newType = () => `why${++types}`
const hangs = () => undefined
const rests: AgentOptions['handle'] = (_task, { res }) => void res.writeHead(429, { 'retry-after': '60' }).end()
const fails = () => {
  throw new Error('boom')
}
const explain = async (id: string, of = system): Promise<Explanation> => {
  if (of === still) await stillCore.presence.note('by hand')
  const { status, json, text } = await of.get(`/tasks/${id}/explain`)
  expect(status, text).toBe(200)
  return json
}
const agentOf = (e: Explanation, agent: TestAgent) => e.agents.find((a) => a.agent_id === agent.id)
/** Explains again until it is so: some of it is the work of a moment. */
const becomes = (id: string, reason: ExplainReason) => until(async () => { const e = await explain(id); return e.reason === reason ? e : null }, { what: reason }).catch(async () => { throw new Error(`not ${reason}: ${JSON.stringify(await explain(id))}`) })
/** Has an agent be silent for longer than that part of its TTL (a minute), and noticed. */
const silence = async (type: string, agent: TestAgent, what: 'silent' | 'dead'): Promise<void> => {
  agent.stopBeating()
  const [now] = await system.redis.time()
  await system.redis.hset(system.keys.agent(type, agent.id), 'seen', (Number(now) - (what === 'dead' ? 90 : 50)) * 1000)
  await system.redis.zadd(system.keys.watch(type), 0, agent.id)
  await until(async () => (await system.redis.hget(system.keys.agent(type, agent.id), 'out')) === what, { what })
}
/** Has a time of a task come, and be noticed. */
const ages = async (type: string, id: string, field: 'not_before' | 'expires', of = system): Promise<void> => {
  const [now] = await of.redis.time()
  await of.redis.hset(of.keys.task(type, id), field, (Number(now) - 1) * 1000)
  await of.redis.zadd(of.keys.timers(type), 0, id)
}
/** A slot and the next job of a queue, as a dispatcher takes them. */
const take = async (type: string, queue = `${type}.echo`) => {
  const [slot] = await stillCore.tasks.reserve(type, queue, 'by hand', 0, slotTokens(1))
  return { slot: slot!, id: slot!.job! }
}
/** Takes a job and begins an attempt, as a dispatcher does just before it posts. */
const begin = async (type: string) => {
  const { slot, id } = await take(type)
  const begun = await stillCore.tasks.begin(id, slot, 'by hand')
  if (begun.verdict !== 'go') throw new Error(begun.verdict)
  return { id, slot: begun.movedTo ?? slot, attemptId: begun.attemptId }
}
type Begun = Awaited<ReturnType<typeof begin>>
const finish = (type: string, b: Begun, outcome: 'failed' | 'no_room', retryInMs: number) =>
  stillCore.tasks.finish(type, { taskId: b.id, attemptId: b.attemptId, agentId: b.slot.agentId, outcome, statusCode: outcome === 'failed' ? 500 : 429, error: 'boom', result: '', executionMs: null, retryInMs, restMs: 0, maxRetries: 3 })

describe('a task is', () => {
  const setting = (of = system) => {
    const type = newType()
    return { type, of, agent: (o: AgentOptions = {}) => of.agent({ type, ...o }), submit: (more: object = {}) => of.submit({ agent_type: type, ...more }) }
  }
  /** Makes each state, and says which words tell it. */
  const states: Record<ExplainReason, () => Promise<[Explanation, words: RegExp, more?: object]>> = {
    not_due: async () => {
      const { submit } = setting()
      const e = await explain(await submit({ delay_seconds: 3600 }))
      return [e, /^Its time comes in \d+ min/, { status: 'pending', position: null, may_go_at: expect.any(String), agents_considered: { total: 0, by_reason: {}, not_looked_at: 0 } }]
    },
    retry_delay: async () => {
      const { agent, submit } = setting()
      const a = await agent({ handle: fails, name: 'failing' })
      const id = await submit({ retry_delay_seconds: 60, backoff: 'fixed' })
      return [await becomes(id, 'retry_delay'), /^Its attempt 1 at failing \(failed, HTTP 500: boom\) did not succeed; retry 1 of 3 goes in \d+ s, to another agent if one has room\.$/, { status: 'retrying', avoids: [a.id], attempt: null, last_attempt: { outcome: 'failed', error: 'boom' }, may_go_at: (await system.task(id)).run_at }]
    },
    retry_postponed: async () => {
      const { type, agent, submit } = setting()
      await agent({ handle: fails, name: 'failing' })
      const [now] = await system.redis.time()
      await system.redis.hset(system.keys.retryBudget(type), 'line', (Number(now) + 70) * 1000)
      const id = await submit({ retry_delay_seconds: 1, backoff: 'fixed' })
      return [await becomes(id, 'retry_postponed'), /^Its attempt 1 at failing .* did not succeed, and so much of type why\d+ fails that retries wait for their turn; it goes again in \d+ s\.$/, { status: 'retrying', may_go_at: (await system.task(id)).run_at }]
    },
    redelivery_delay: async () => {
      const { type, agent, submit } = setting(still)
      await agent()
      const id = await submit()
      const { slot } = await begin(type)
      await still.redis.hset(still.keys.task(type, id), 'redeliveries', 4)
      const [second] = await stillCore.tasks.reserve(type, `${type}.echo`, 'other', 0, slotTokens(1))
      expect(second).toBeUndefined() // nothing waits: the job that comes round is taken with a slot of its own
      expect((await stillCore.tasks.begin(id, { ...slot, begun: null, token: 'other', lease: await hold(type, slot.agentId) }, 'other')).verdict).toBe('later')
      return [await explain(id, still), /^A dispatcher stopped answering .* sent again in \d+ s, which costs it no retry/, { status: 'queued', may_go_at: expect.any(String), last_attempt: { outcome: 'lost' } }]
    },
    stepped_aside: async () => {
      const { type, agent, submit } = setting(still)
      await agent({ name: 'crowded' })
      const id = await submit()
      await finish(type, await begin(type), 'no_room', 60_000)
      return [await explain(id, still), /^Agents had no room .*\(the last was crowded\).* in \d+ s\.$/, { status: 'queued' }]
    },
    no_dispatcher: async () => {
      const { submit } = setting(still)
      const id = await submit()
      await stillCore.presence.leave('by hand')
      return [(await still.get(`/tasks/${id}/explain`)).json, /^No dispatcher is alive, so nothing is sent: start a worker\. No agent of type \w+ is registered/, { dispatchers: 0 }]
    },
    being_queued: async () => {
      const { type, submit } = setting(still)
      const id = await submit()
      await stillCore.queues.remove(type, `${type}.echo`, id)
      return [await explain(id, still), /being put into line/, { position: null }]
    },
    being_sent: async () => {
      const { type, agent, submit } = setting(still)
      await agent()
      const id = await submit()
      expect(await stillCore.queues.lane(type, `${type}.echo`).take('lock')).toBe(id)
      return [await explain(id, still), /^A dispatcher has it in hand/, { status: 'queued', position: null, queue: { name: `${type}.echo`, waiting: 0, delayed: 0, active: 1 } }]
    },
    no_agent_registered: async () => {
      const { type, submit } = setting()
      return [await explain(await submit()), new RegExp(`^No agent of type ${type} is registered: start one that offers echo\\.$`), { agents: [], position: { before: 0, returned: 0, by_priority: [], elsewhere: 0 } }]
    },
    no_agent_capable: async () => {
      const { type, agent, submit } = setting()
      await agent({ capabilities: ['ech'] })
      return [await explain(await submit()), new RegExp(`^No agent of type ${type} offers echo \\(1 is known\\): check task_type`)]
    },
    no_agent_alive: async () => {
      const { type, agent, submit } = setting()
      await agent({ capabilities: ['other'] })
      await silence(type, await agent(), 'dead')
      return [await explain(await submit()), /that offers echo is alive \(1 dead\): start one/, { agents_considered: { total: 2, by_reason: { dead: 1, lacks_capability: 1 }, not_looked_at: 0 } }]
    },
    pinned_agent_absent: async () => {
      const { agent, submit } = setting()
      const a = await agent({ handle: hangs, maxConcurrency: 1 })
      await system.becomes(await submit({ agent_id: a.id }), 'sent')
      const id = await submit({ agent_id: a.id })
      expect(await explain(id)).toMatchObject({ reason: 'waiting_for_slot', summary: expect.stringMatching(`^There is agent ${a.id}, which it is pinned to, but it is full; it is next`) })
      await system.call('DELETE', `/agents/${a.id}`)
      return [await explain(id), /^It is pinned to agent \S+, which is not registered: start that agent/]
    },
    no_agent_usable: async () => {
      const { agent, submit } = setting()
      await agent({ status: 'draining' })
      await agent({ status: 'unhealthy' })
      return [await explain(await submit()), /but none takes work now \(1 draining, 1 unhealthy\)/]
    },
    agents_resting: async () => {
      const { agent, submit } = setting()
      const a = await agent({ handle: rests })
      const e = await becomes(await submit(), 'agents_resting')
      return [e, /asked for a rest \(429 or 503\), for \d+ s at least/, { may_go_at: (await system.get(`/agents/${a.id}`)).json.resting_until }]
    },
    agents_sick: async () => {
      const { type, agent, submit } = setting()
      const a = await agent()
      const [now] = await system.redis.time()
      const until = Number(now) * 1000 + 60_000
      await system.redis.hset(system.keys.agent(type, a.id), { trial: 'sick', streak: '', rest: until, sick: `${until - 60_000}\t${until + 1}\t1\tthe disk is full` })
      await a.beat()
      return [await becomes(await submit(), 'agents_sick'), /are sick: task after task failed there \(1 sick\); it is tried with one task in \d+ s at the latest/, { may_go_at: new Date(until).toISOString() }]
    },
    waiting_for_slot: async () => {
      const { agent, submit } = setting()
      await agent({ handle: hangs, maxConcurrency: 1 })
      await system.becomes(await submit(), 'sent')
      await submit({ priority: 9 })
      return [await explain(await submit()), /that offers echo has a free slot \(1 full\); before it goes 1 task of its queue\./, { position: { before: 1, returned: 0, by_priority: [{ priority: 9, tasks: 1 }], elsewhere: 0 }, may_go_at: null }]
    },
    behind_others: async () => {
      const { agent, submit } = setting(still)
      await agent()
      await submit()
      return [await explain(await submit(), still), /have room; before it goes 1 task of its queue\.$/]
    },
    next_to_go: async () => {
      const { agent, submit } = setting(still)
      await agent({ name: 'ready' })
      return [await explain(await submit(), still), /^ready has room and gets it next, in a moment\.$/]
    },
    at_agent: async () => {
      const { agent, submit } = setting()
      const a = await agent({ handle: hangs, name: 'busy' })
      const id = await submit()
      const { attempts: [attempt] } = await system.becomes(id, 'sent')
      const deadline_at = new Date(Date.parse(attempt.sent_at) + 30_000).toISOString()
      return [await explain(id), /^It has been attempt 1 at busy for \d+ s, which has \d+ s left to answer\.$/, { since: attempt.sent_at, attempt: { attempt: 1, agent_id: a.id, agent_name: 'busy', sent_at: attempt.sent_at, deadline_at, waits_for: 'answer' }, last_attempt: null, agents: [], agents_considered: null }]
    },
    result_pending: async () => {
      const { agent, submit } = setting()
      await agent({ handle: accepts })
      const id = await submit()
      await system.becomes(id, 'running')
      return [await explain(id), /said that the result comes later, and which has \d+ s left to send it\.$/, { attempt: { waits_for: 'callback' } }]
    },
    dispatcher_lost: async () => {
      const { type, agent, submit } = setting(still)
      await agent()
      const id = await submit()
      await begin(type)
      expect((await explain(id, still)).reason).toBe('at_agent')
      await still.redis.del(`${still.keys.base(type)}${type}.echo:${id}:lock`) // it has run out
      return [await explain(id, still), /^Nobody waits for attempt 1 .* sent again soon, within 20 s/, { status: 'sent' }]
    },
    cancelling: async () => {
      const { type, agent, submit } = setting(still)
      await agent()
      const id = await submit()
      await begin(type)
      expect((await still.call('DELETE', `/tasks/${id}`)).status).toBe(202)
      return [await explain(id, still), /^Its cancellation was asked for; it ends cancelled when attempt 1 at \S+ is over, 10 s after the asking at the latest\.$/, { cancel_requested: true }]
    },
    expired: async () => {
      const { submit } = setting()
      const id = await submit({ expires_in_seconds: 0.05 })
      return [await becomes(id, 'expired'), /^It expired \d+ s ago: no agent was alive that offers echo\./, { status: 'timeout', waited_for: 'no_agent_alive', position: null, agents_considered: null }]
    },
    ended: async () => {
      const { agent, submit } = setting()
      await agent({ name: 'able' })
      const id = await submit()
      const { completed_at } = await system.ended(id)
      return [await explain(id), /^Completed \d+ s ago, by able at attempt 1\.$/, { status: 'completed', since: completed_at }]
    },
  }
  /** A hold on a slot, as `reserve` makes one. */
  const hold = async (type: string, agentId: string): Promise<string> => {
    await still.redis.zadd(still.keys.leases(type, agentId), Date.now() + 10_000, 'h.by-hand')
    return 'h.by-hand'
  }

  // One behind the other those that need to know who is there, the rest at once.
  for (const [reason, make] of Object.entries(states)) {
    const run = reason === 'no_dispatcher' ? test : test.concurrent
    run(reason, async () => {
      const [e, words, more = {}] = await make()
      expect(e).toMatchObject({ reason, ...more })
      expect(e.summary).toMatch(words)
      expect(e.since <= e.at, `${e.since} ${e.at}`).toBe(true)
    })
  }
})

describe('an agent', () => {
  const echo = (type: string, more: object = {}) => system.submit({ agent_type: type, ...more })
  const later = { delay_seconds: 3600 } // it stays where it is, whoever has room
  const states: Record<AgentReason, (type: string) => Promise<[id: string, TestAgent, detail: RegExp | null]>> = {
    eligible: async (type) => [await echo(type, later), await system.agent({ type }), null],
    failed_here_before: async (type) => {
      const agent = await system.agent({ type, handle: fails })
      const id = await echo(type, { retry_delay_seconds: 60 })
      await system.becomes(id, 'retrying')
      const alone = agentOf(await explain(id), agent)!
      expect(alone).toMatchObject({ reason: 'eligible', detail: 'it failed this task before, and no other agent has room' })
      await system.agent({ type, status: 'degraded' })
      return [id, agent, /another agent that has room goes first/]
    },
    at_capacity: async (type) => {
      const agent = await system.agent({ type, handle: hangs, maxConcurrency: 1 })
      await system.becomes(await echo(type), 'sent')
      return [await echo(type), agent, null]
    },
    resting: async (type) => {
      const agent = await system.agent({ type, handle: rests })
      const id = await echo(type)
      await becomes(id, 'agents_resting')
      return [id, agent, /^it answered 429 or 503 and rests for \d+ s$/]
    },
    sick: async (type) => {
      const agent = await system.agent({ type, handle: fails })
      await system.agent({ type, status: 'degraded' })
      for (let i = 0; i < 5; i++) await echo(type, { retry_delay_seconds: 60 })
      await until(async () => (await system.get(`/agents/${agent.id}`)).json.sick)
      return [await echo(type, later), agent, /^task after task failed there; it is tried again in \d+ s$/]
    },
    draining: async (type) => [await echo(type, later), await system.agent({ type, status: 'draining' }), /it takes nothing new/],
    unhealthy: async (type) => [await echo(type, later), await system.agent({ type, status: 'unhealthy' }), /it says so itself/],
    refused: async (type) => {
      const agent = await system.agent({ type, beats: false })
      await agent.die()
      const id = await echo(type, { retry_delay_seconds: 60 })
      await system.becomes(id, 'retrying')
      return [id, agent, /^it refused a connection, and gets nothing until its next heartbeat; it failed this task before$/]
    },
    unreachable: async (type) => {
      const agent = await system.agent({ type })
      await silence(type, agent, 'silent')
      return [await echo(type, later), agent, /silent for more than three quarters/]
    },
    dead: async (type) => {
      const agent = await system.agent({ type })
      await silence(type, agent, 'dead')
      return [await echo(type, later), agent, /a heartbeat brings it back/]
    },
    lacks_capability: async (type) => [await echo(type, later), await system.agent({ type, capabilities: ['other'] }), /^it does not offer echo$/],
    not_the_pinned_agent: async (type) => {
      const pinned = await system.agent({ type, capabilities: [] })
      return [await echo(type, { agent_id: pinned.id, ...later }), await system.agent({ type }), new RegExp(`pinned to ${pinned.id}`)]
    },
  }
  for (const [reason, make] of Object.entries(states)) {
    test.concurrent(reason, async () => {
      const [id, agent, detail] = await make(newType())
      const e = await explain(id)
      const told = agentOf(e, agent)
      expect(told?.reason, JSON.stringify(e)).toBe(reason)
      if (detail === null) expect(told!.detail).toBeNull()
      else expect(told!.detail).toMatch(detail)
      expect(e.agents_considered!.by_reason[reason as AgentReason]).toBe(1)
      expect(Object.values(e.agents_considered!.by_reason).reduce((a, b) => a + b)).toBe(e.agents.length)
      const { json } = await system.get(`/agents/${agent.id}`)
      expect(told).toMatchObject({ name: json.name, status: json.status, in_flight: json.in_flight, max_concurrency: json.max_concurrency, load: json.in_flight / json.max_concurrency })
    })
  }
})

test.concurrent('the agent told of first gets the task: of any load, health and history', async () => {
  let [moved, full] = [0, 0]
  for (let round = 0; round < 9; round++) {
    const type = newType()
    const queue = `${type}.echo`
    await Promise.all((['healthy', 'healthy', 'degraded', 'draining'] as const).map((status, i) => still.agent({ type, maxConcurrency: 1 + ((round + i) % 3), status })))
    const id = await still.submit({ agent_type: type, max_retries: 9 })
    // It has failed at some, and some have other work; in the end there is room for nobody.
    for (let i = round % 3; i > 0; i--) {
      const begun = await begin(type)
      await finish(type, begun, 'failed', 1)
      await stillCore.queues.lane(type, queue).settle(begun.id, begun.slot.lock, { status: 'retrying', error: 'boom', waitMs: 0 })
      await until(async () => {
        await stillCore.queues.promote(type, queue, id)
        return (await explain(id, still)).position
      })
    }
    for (let i = round; i > 0; i--) {
      const other = await still.submit({ agent_type: type, priority: 15 })
      const [slot] = await stillCore.tasks.reserve(type, queue, 'by hand', 0, slotTokens(1))
      if (slot) expect(slot.job).toBe(other)
      else await still.call('DELETE', `/tasks/${other}`)
    }
    const e = await explain(id, still)
    expect(e.agents.length).toBe(4)
    const seen = JSON.stringify(e.agents)
    if (e.agents[0]!.reason === 'eligible') {
      expect((await begin(type)).slot.agentId, seen).toBe(e.agents[0]!.agent_id)
      if (e.agents.some((a) => a.reason === 'failed_here_before')) moved++
    } else {
      expect(await stillCore.tasks.reserve(type, queue, 'by hand', 0, slotTokens(1)), seen).toEqual([])
      expect(e.reason).toBe('waiting_for_slot')
      full++
    }
  }
  expect([moved > 0, full > 0]).toEqual([true, true])
})

test.concurrent('one that is due later goes to the agent that was told of first', async () => {
  const type = newType()
  const [busy, idle] = [await system.agent({ type, handle: hangs, maxConcurrency: 4 }), await system.agent({ type, status: 'degraded' })]
  await system.becomes(await system.submit({ agent_type: type }), 'sent')
  const id = await system.submit({ agent_type: type, delay_seconds: 3600 })
  const e = await explain(id)
  expect(e.agents.map((a) => [a.agent_id, a.reason, a.load])).toEqual([[busy.id, 'eligible', 0.25], [idle.id, 'eligible', 0]])
  await ages(type, id, 'not_before')
  await until(() => busy.runs.length === 2, { what: 'the task at the healthy agent' })
  expect(idle.runs).toEqual([])
})

test.concurrent('its place in line is as many tasks as go before it, and comes nearer with each that goes', async () => {
  const type = newType()
  let free = () => {}
  const agent = await system.agent({ type, maxConcurrency: 1, handle: () => new Promise((resolve) => (free = () => resolve({}))) })
  await system.submit({ agent_type: type })
  await until(() => agent.runs.length === 1)
  const priorities = [5, 9, 5, 15, 4, 9, 5]
  const ids: string[] = []
  for (const priority of priorities) ids.push(await system.submit({ agent_type: type, priority }))
  const order = [3, 1, 5, 0, 2, 6, 4].map((i) => ids[i]!)
  for (const [i, id] of order.entries()) expect((await explain(id)).position!.before).toBe(i)
  expect((await explain(ids[4]!)).position).toEqual({ before: 6, returned: 0, by_priority: [{ priority: 15, tasks: 1 }, { priority: 9, tasks: 2 }, { priority: 5, tasks: 3 }], elsewhere: 0 })
  const seen: number[] = []
  for (const [i, id] of order.entries()) {
    seen.push((await explain(order.at(-1)!)).position!.before)
    free()
    await until(() => agent.runs.length === i + 2, { what: 'the next' })
    expect(agent.runs.at(-1)!.taskId).toBe(id)
  }
  expect(seen).toEqual([6, 5, 4, 3, 2, 1, 0])
  expect((await becomes(order.at(-1)!, 'at_agent')).position).toBeNull()
})

test.concurrent('what came back from a dead dispatcher goes first, and what other queues of its agents have is counted by priority', async () => {
  const type = newType()
  await still.agent({ type, capabilities: ['echo', 'other'], maxConcurrency: 2 })
  const [first, second] = [await still.submit({ agent_type: type, priority: 1 }), await still.submit({ agent_type: type, priority: 7 })]
  for (const priority of [6, 7, 8, 9]) await still.submit({ agent_type: type, task_type: 'other', priority })
  expect((await explain(second, still)).position).toEqual({ before: 0, returned: 0, by_priority: [], elsewhere: 2 })
  await still.submit({ agent_type: type, task_type: 'unknown', priority: 15 }) // no agent of theirs
  expect((await explain(first, still)).position).toEqual({ before: 1, returned: 0, by_priority: [{ priority: 7, tasks: 1 }], elsewhere: 4 })
  // The job at hand loses its dispatcher: BullMQ puts it in front.
  const lane = stillCore.queues.lane(type, `${type}.echo`)
  expect(await lane.take('lock')).toBe(second)
  await still.redis.del(`${still.keys.base(type)}${type}.echo:${second}:lock`)
  await until(async () => { await stillCore.redis.del(`${still.keys.base(type)}${type}.echo:stalled-check`); return (await stillCore.queues.recoverStalled(type, `${type}.echo`)) === 1 })
  expect((await explain(second, still)).position).toEqual({ before: 0, returned: 0, by_priority: [], elsewhere: 0 })
  expect((await explain(first, still)).position).toEqual({ before: 1, returned: 1, by_priority: [], elsewhere: 4 })
})

test.concurrent('one that expires has noted what it waited for', async () => {
  /** Submits a task, has it wait for that reason, and expire. */
  const waited = async (reason: ExplainReason, make: (type: string) => Promise<object | void> = async () => {}, of = system) => {
    const type = newType()
    const id = await of.submit({ agent_type: type, retry_delay_seconds: 60, ...(await make(type)) })
    await until(async () => (await explain(id, of)).reason === reason, { what: reason })
    await of.redis.hset(of.keys.task(type, id), 'not_before', reason === 'retry_delay' ? Date.now() + 60_000 : 0)
    await ages(type, id, 'expires', of)
    await of.ended(id)
    const e = await explain(id, of)
    return [e.reason, e.waited_for, e.summary.replace(/^.* ago: |\. It can.*$/g, '')]
  }
  expect(await Promise.all([
    waited('no_agent_registered'),
    waited('waiting_for_slot', async (type) => {
      await system.agent({ type, handle: hangs, maxConcurrency: 1 })
      await system.becomes(await system.submit({ agent_type: type }), 'sent')
    }),
    waited('no_agent_usable', async (type) => void (await system.agent({ type, status: 'draining' }))),
    waited('retry_delay', async (type) => void (await system.agent({ type, handle: fails }))),
    waited('pinned_agent_absent', async (type) => {
      const agent = await system.agent({ type })
      await silence(type, agent, 'dead')
      return { agent_id: agent.id }
    }),
    waited('no_agent_registered', undefined, still),
  ])).toEqual([
    ['expired', 'no_agent_alive', 'no agent was alive that offers echo'],
    ['expired', 'waiting_for_slot', 'all agents that could do it were full'],
    ['expired', 'no_agent_usable', 'no agent that could do it was to be used'],
    ['expired', 'retry_delay', 'the time of its next attempt had not come'],
    ['expired', 'pinned_agent_absent', expect.stringMatching(/^agent \S+, which it is pinned to, was not there$/)],
    ['expired', 'no_dispatcher', 'no dispatcher was alive'],
  ])
})

test.concurrent('each end is told in words', async () => {
  const type = newType()
  const handle: AgentOptions['handle'] = (task, { res }) => {
    if (task.parameters.how === 'fail') return fails()
    if (task.parameters.how === 'refuse') return void res.writeHead(400, { 'content-type': 'application/json' }).end('{"status":"failed","error":"not\\nmine"}')
    return undefined
  }
  await system.agent({ type, name: 'a', handle })
  const end = async (how: string, more: object = {}) => {
    const id = await system.submit({ agent_type: type, parameters: { how }, ...more })
    if (how === 'cancel') await system.call('DELETE', `/tasks/${id}`)
    await system.ended(id)
    return (await explain(id)).summary.replace(/\d+ s ago/, '1 s ago')
  }
  const again = 'It can be submitted again (POST /tasks/{id}/retry).'
  expect(await Promise.all([end('fail', { max_retries: 1, retry_delay_seconds: 0 }), end('refuse'), end('hang', { timeout_seconds: 0.1, max_retries: 0 }), end('cancel', { delay_seconds: 60 })])).toEqual([
    `Failed for good 1 s ago: attempt 2 at a (failed, HTTP 500: boom); 1 of 1 retries are used up. ${again}`,
    `Failed for good 1 s ago: attempt 1 at a (rejected, HTTP 400: not mine); it is not worth another try. ${again}`,
    expect.stringMatching(/^Timed out for good 1 s ago: attempt 1 at a \(timeout: .*\); 0 of 0 retries are used up\./),
    'Cancelled 1 s ago, before it was sent to any agent.',
  ])
})

test.concurrent('with a thousand agents the work is bounded, the counts are right, and what was not looked at is said', async () => {
  const type = newType()
  const register = (n: number, more: object) =>
    Promise.all(Array.from({ length: n }, (_, i) => stillCore.registry.register({ name: `a${i}`, type, host: '127.0.0.1', port: 9, capabilities: ['echo'], ttl_seconds: 3600, max_concurrency: 1, ...more } as never, { host: '127.0.0.1', port: 9 }, [])))
  await register(600, {})
  await register(250, { status: 'unhealthy' })
  await register(40, { capabilities: ['other'] })
  const id = await still.submit({ agent_type: type, delay_seconds: 60 })
  let e = await explain(id, still)
  expect(e.agents_considered).toEqual({ total: 890, by_reason: { eligible: 600, unhealthy: 250, lacks_capability: 40 }, not_looked_at: 0 })
  expect(e.agents.map((a) => a.reason)).toEqual(Array(100).fill('eligible'))
  await register(110, { status: 'unhealthy' })
  e = await explain(id, still)
  expect(e.agents_considered).toEqual({ total: 1000, by_reason: { eligible: 600, unhealthy: 300 }, not_looked_at: 100 })
  expect(e.agents.length).toBe(100)
})

test('reading writes nothing, whatever there is to read', async () => {
  // What a look at an agent would note: that its trial has passed, or begins.
  const type = newType()
  const agent = await still.agent({ type })
  const pinned = await still.submit({ agent_id: agent.id })
  await still.submit({ agent_type: type })
  await still.redis.hset(still.keys.agent(type, agent.id), 'trial', '0')
  expect(agentOf(await explain(pinned, still), agent)!.detail).toBe('it refused connections before and gets one task at first')
  await still.redis.hset(still.keys.agent(type, agent.id), 'trial', '1')
  let read = 0
  createExplain(stillCore)
  const { lua } = (stillCore.redis as unknown as { scriptsSet: Record<string, { lua: string }> }).scriptsSet['sy:tasks/explain.lua']!
  for (const of of [system, still]) {
    for await (const found of of.redis.scanStream({ match: `${of.prefix}:*:task:*`, count: 1000 })) {
      for (const key of found as string[]) {
        const [base, id] = key.split('task:') as [string, string]
        await of.redis.call('EVAL_RO', lua, '1', base, id, '100', '300') // throws when the script would write
        read++
      }
    }
  }
  expect(read).toBeGreaterThan(20)
})

test('is 404 for what is no task, and takes neither other methods nor a query', async () => {
  const id = await system.submit({ agent_type: 'nobody' })
  const gone = id.replace(/.$/, (c) => (c === '0' ? '1' : '0'))
  for (const wrong of ['nobody', gone, '%00', 'a.b.c']) expect([wrong, (await system.get(`/tasks/${wrong}/explain`)).status]).toEqual([wrong, 404])
  expect((await system.post(`/tasks/${id}/explain`, {})).status).toBe(405)
  expect((await system.get(`/tasks/${id}/explain?a=1`)).status).toBe(422)
  expect((await call('GET', `${system.url()}/tasks/${id}/explain`)).json.task_id).toBe(id)
})

test('the page has a row for each reason, and no other, with what to do', async () => {
  const [, ofTasks, ofAgents] = (await readFile(new URL('../docs/explain.md', import.meta.url), 'utf8')).split(/^## Reasons of .*$/m)
  const codes = (text: string) => [...text.matchAll(/^\| `(\w+)` \| \S.* \|.*\|$/gm)].map(([, code]) => code).filter((code) => code !== 'reason')
  expect(codes(ofTasks!)).toEqual(ExplainReason.options)
  expect(codes(ofAgents!)).toEqual(AgentReason.options)
})
