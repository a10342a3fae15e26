import type { ServerResponse } from 'node:http'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { queueName } from '../src/redis/keys.ts'
import { becomesQuiet } from './quiet.ts'
import { atBest, median, sleep, startSystem, until, type AgentOptions, type Handler, type System, type TestAgent } from './system.ts'

let system: System
beforeAll(async () => {
  system = await startSystem({ workers: 2 })
})
afterAll(() => system[Symbol.asyncDispose]())

/** A type of its own for each test: they share the system and nothing else. */
let types = 0
const setting = () => {
  const type = `d${++types}`
  return {
    type,
    agent: (o: AgentOptions = {}) => system.agent({ type, ...o }),
    submit: (task: Record<string, unknown> = {}) => system.submit({ agent_type: type, ...task }),
    view: async (agent: TestAgent) => (await system.get(`/agents/${agent.id}`)).json,
  }
}

/** Tasks wait at the agent until they are let go. */
const gate = () => {
  let open = () => {}
  const opened = new Promise<void>((resolve) => (open = resolve))
  return { open: () => open(), handle: (async (task) => (await opened, { echo: task.parameters })) as Handler }
}
const answer = (res: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): undefined =>
  void res.writeHead(status, { 'content-type': 'application/json', ...headers }).end(typeof body === 'string' ? body : JSON.stringify(body))

/** Ms from one attempt's end to the next one's start, by Redis time. */
const gaps = (task: any): number[] => task.attempts.slice(1).map((a: any, i: number) => Date.parse(a.sent_at) - Date.parse(task.attempts[i].ended_at))

test.concurrent('a task goes to an agent and comes back with its result', async () => {
  const { agent, submit } = setting()
  const a = await agent()
  const id = await submit({ parameters: { a: 1 } })
  expect(await system.ended(id)).toMatchObject({ status: 'completed', agent_id: a.id, result: { echo: { a: 1 } }, error: null, retry_count: 0, attempts: [{ attempt: 1, agent_id: a.id, outcome: 'completed', status_code: 200, error: null }] })
})

test.concurrent('the first task of a new agent type goes out as fast as any', async () => {
  const took = await atBest(500, async () => {
    const five: number[] = []
    for (let i = 0; i < 5; i++) {
      const { agent, submit } = setting()
      const a = await agent()
      const began = Date.now()
      await submit()
      await until(() => a.runs.length === 1, { everyMs: 5 })
      five.push(Date.now() - began)
    }
    return median(five)
  })
  // Right behind a look of once a second, if that is what finds it: the next one is almost a second away.
  expect(took).toBeLessThan(500)
})

describe('order', () => {
  test.concurrent('a burst goes out in order of priority, and never over max_concurrency', async () => {
    const { agent, submit, view } = setting()
    const ids: string[] = []
    for (let i = 0; i < 45; i++) ids.push(await submit({ priority: 1 + (i % 15), parameters: { i, priority: 1 + (i % 15) } }))
    const a = await agent({ maxConcurrency: 1 })
    for (const id of ids) expect((await system.ended(id)).status).toBe('completed')
    const order = a.runs.map((r) => r.parameters.i as number)
    expect(order).toEqual([...order].sort((x, y) => (y % 15) - (x % 15) || x - y))
    expect(a.peak()).toBe(1)
    await until(async () => (await view(a)).in_flight === 0)
  })

  test.concurrent('priority holds across all queues that an agent serves, its own included; ties go to the oldest', async () => {
    const { agent, submit } = setting()
    const a = await agent({ maxConcurrency: 1, capabilities: ['a', 'b', 'c.d'], status: 'draining' })
    const ids: string[] = []
    for (let i = 0; i < 32; i++) {
      const to = [{ task_type: 'a' }, { task_type: 'b' }, { task_type: 'c.d' }, { agent_id: a.id, task_type: 'z' }][(i * 7) % 4]
      ids.push(await submit({ ...to, priority: [5, 15, 1, 5, 10][i % 5], parameters: { i } }))
    }
    expect(a.runs).toEqual([])
    await a.beat({ status: 'healthy' })
    for (const id of ids) expect((await system.ended(id)).status).toBe('completed')
    const rank = (i: number) => [5, 15, 1, 5, 10][i % 5]!
    expect(a.runs.map((r) => r.parameters.i)).toEqual([...ids.keys()].sort((x, y) => rank(y) - rank(x) || x - y))
  })

  test.concurrent('a delayed task that has come due joins by its priority', async () => {
    const { type, agent, submit } = setting()
    const held = gate()
    const a = await agent({ maxConcurrency: 1, handle: held.handle })
    const ids = [await submit({ parameters: { n: 'first' } })]
    await until(() => a.runs.length === 1)
    for (const n of ['x', 'y']) ids.push(await submit({ parameters: { n } }))
    ids.push(await submit({ priority: 'low', delay_seconds: 0.2, parameters: { n: 'low' } }))
    ids.push(await submit({ priority: 'critical', delay_seconds: 0.2, parameters: { n: 'critical' } }))
    ids.push(await submit({ priority: 'critical', delay_seconds: 20, parameters: { n: 'not yet' } }))
    // Due by their records first, and in line a moment later.
    await until(async () => (await system.redis.zcard(`${system.keys.base(type)}${queueName(type, 'echo')}:prioritized`)) === 4)
    for (const id of ids.slice(3, 5)) expect((await system.task(id)).status).toBe('queued')
    held.open()
    for (const id of ids.slice(0, 5)) await system.ended(id)
    expect(a.runs.map((r) => r.parameters.n)).toEqual(['first', 'critical', 'x', 'y', 'low'])
    expect((await system.call('DELETE', `/tasks/${ids[5]}`)).status).toBe(200)
  })

  test.concurrent('an agent that comes back serves all of its queues at once', async () => {
    // One dispatcher: two would look twice a second.
    await using own = await startSystem()
    const { agent, submit, ended } = own
    const held = gate()
    const a = await agent({ capabilities: ['a', 'b', 'c'], maxConcurrency: 50, handle: held.handle, status: 'draining' })
    const ids = [await submit({ task_type: 'a', priority: 9 }), await submit({ task_type: 'b' }), await submit({ task_type: 'c' }), await submit({ task_type: 'c' })]
    const took = await atBest(500, async () => {
      const three: number[] = []
      for (let i = 0; i < 3; i++) {
        await sleep(200)
        const began = Date.now()
        await a.beat({ status: 'healthy' })
        await until(() => a.runs.length === ids.length)
        three.push(Date.now() - began)
        await a.beat({ status: 'draining' })
        for (const t of 'abc') ids.push(await submit({ task_type: t }))
      }
      return median(three)
    })
    await a.beat({ status: 'healthy' })
    held.open()
    for (const id of ids) await ended(id)
    expect(took).toBeLessThan(500) // by the look of once a second it would be about 750
  })

  test.concurrent('many tasks through many agents: each goes out once, and no agent has more than it can take', async () => {
    const { agent, submit } = setting()
    const full = gate()
    const handle: Handler = async (task, exchange) => (await full.handle(task, exchange), await sleep(5 + Math.random() * 20), 1)
    const agents = [await agent({ maxConcurrency: 1, handle }), await agent({ maxConcurrency: 3, handle }), await agent({ maxConcurrency: 7, capabilities: ['echo', 'other'], handle })]
    const ids = await Promise.all(Array.from({ length: 150 }, (_, i) => submit(i % 3 === 0 ? { task_type: 'other' } : {})))
    await until(() => agents.reduce((n, a) => n + a.running(), 0) === 11)
    full.open()
    for (const id of ids) expect(await system.ended(id)).toMatchObject({ status: 'completed', redeliveries: 0 })
    expect(agents.flatMap((a) => a.runs.map((r) => r.taskId)).sort()).toEqual([...ids].sort())
    expect(agents.map((a) => a.peak())).toEqual([1, 3, 7])
  })
})

describe('which agent', () => {
  test.concurrent('agents of different sizes fill evenly', async () => {
    const { agent, submit, view } = setting()
    const held = gate()
    const agents = [await agent({ maxConcurrency: 4, handle: held.handle }), await agent({ maxConcurrency: 8, handle: held.handle }), await agent({ maxConcurrency: 12, handle: held.handle })]
    const loads = () => agents.map((a) => a.running())
    const ids: string[] = []
    const more = async (n: number) => {
      for (let i = 0; i < n; i++) {
        ids.push(await submit())
        // One by one: a slot held for a moment by a dispatcher that finds no job counts as load, too.
        const busy = Math.min(ids.length, 24)
        await until(async () => loads().reduce((x, y) => x + y) === busy && (await Promise.all(agents.map(view))).reduce((sum, a) => sum + a.in_flight, 0) === busy)
      }
    }
    await more(12)
    // 2, 4 and 6; but two dispatchers may look at the same moment, and the one that holds the better slot finds no job. By number, not by
    // share, it would be 4, 4 and 4.
    for (const [i, load] of loads().entries()) expect(Math.abs(load - [2, 4, 6][i]!), `loads: ${loads()}`).toBeLessThanOrEqual(1)
    await more(13)
    expect(loads()).toEqual([4, 8, 12])
    expect(await system.task(ids.at(-1)!)).toMatchObject({ status: 'queued', agent_id: null })
    held.open()
    for (const id of ids) await system.ended(id)
    expect(agents.map((a) => a.peak())).toEqual([4, 8, 12])
  })

  test.concurrent('among equals the one that has waited longest is next', async () => {
    const { agent, submit } = setting()
    for (let i = 0; i < 3; i++) await agent()
    const order: string[] = []
    for (let i = 0; i < 39; i++) order.push((await system.ended(await submit())).agent_id)
    expect(new Set(order).size).toBe(3)
    // In turn; but a dispatcher that looks in vain holds a slot for a moment, and the turn changes now and then, which costs up to three.
    // By chance it is 12 of 36.
    expect(order.slice(3).filter((id, i) => id === order[i]).length).toBeGreaterThanOrEqual(24)
  })

  test.concurrent('a degraded agent works only while no healthy one has room; unhealthy and draining ones never', async () => {
    const { agent, submit, view } = setting()
    const held = gate()
    const degraded = await agent({ maxConcurrency: 4, status: 'degraded' })
    const healthy = await agent({ maxConcurrency: 10, handle: held.handle })
    const never = [await agent({ status: 'unhealthy' }), await agent({ status: 'draining' })]
    // A dispatcher that looks in vain holds a slot for a moment. So the healthy one has room for more than what it does, until it is to be full.
    const ids: string[] = []
    for (let n = 1; n <= 3; n++) {
      ids.push(await submit())
      await until(async () => healthy.runs.length === n && (await view(healthy)).in_flight === n, { what: `task ${n} at the healthy one` })
    }
    await healthy.beat({ max_concurrency: 3 })
    for (let i = 0; i < 3; i++) expect(await system.ended(await submit())).toMatchObject({ agent_id: degraded.id })
    held.open()
    for (const id of ids) expect(await system.ended(id)).toMatchObject({ agent_id: healthy.id })
    await healthy.beat({ max_concurrency: 10 })
    for (let i = 0; i < 5; i++) expect(await system.ended(await submit())).toMatchObject({ agent_id: healthy.id })
    await healthy.beat({ status: 'unhealthy' })
    await degraded.beat({ status: 'draining' })
    const waits = await submit()
    await sleep(1300)
    expect(await system.task(waits)).toMatchObject({ status: 'queued' })
    for (const a of never) {
      expect((await view(a)).status).toMatch(/unhealthy|draining/)
      expect(a.runs).toEqual([])
    }
    await healthy.beat({ status: 'degraded' })
    expect(await system.ended(waits)).toMatchObject({ agent_id: healthy.id })
  })

  test.concurrent('a refused connection takes an agent out until its next beat', async () => {
    const { agent, submit, view } = setting()
    const a = await agent()
    await a.die()
    const first = await submit({ max_retries: 5, retry_delay_seconds: 0.05 })
    await until(async () => (await view(a)).status === 'unreachable')
    const other = await agent()
    expect(await system.ended(first)).toMatchObject({ status: 'completed', agent_id: other.id, retry_count: 1, attempts: [{ agent_id: a.id, outcome: 'unreachable', status_code: null, error: expect.stringContaining('ECONNREFUSED') }, { agent_id: other.id }] })
    await other.beat({ status: 'draining' })
    const second = await submit()
    await sleep(1300)
    expect(await system.task(second)).toMatchObject({ status: 'queued', attempts: [] })
    await a.listenAgain()
    await a.beat()
    expect(await system.ended(second)).toMatchObject({ status: 'completed', agent_id: a.id })
    expect((await view(a)).status).toBe('healthy')
  })
})

describe('retries', () => {
  test.concurrent('back off exponentially, at least half of each step, and tell each try', async () => {
    const { agent, submit } = setting()
    let n = 0
    const handle: Handler = (_task, { res }) => (++n <= 3 ? answer(res, 500, { error: `no ${n}\tand\nmore` }) : 'done')
    const a = await agent({ name: 'Flaky Joe', handle })
    const task = await system.ended(await submit({ max_retries: 3, retry_delay_seconds: 0.4 }))
    expect(task).toMatchObject({ status: 'completed', result: 'done', retry_count: 3, error: null })
    expect(task.attempts).toHaveLength(4)
    expect(task.attempts.slice(0, 3)).toMatchObject([1, 2, 3].map((i) => ({ attempt: i, agent_id: a.id, agent_name: 'Flaky Joe', outcome: 'failed', status_code: 500, error: `no ${i}\tand\nmore` })))
    for (const [i, gap] of gaps(task).entries()) {
      expect(gap).toBeGreaterThanOrEqual(200 * 2 ** i)
      expect(gap).toBeLessThan(400 * 2 ** i + 5000)
    }
    for (const t of task.attempts) expect(Date.parse(t.ended_at)).toBeGreaterThanOrEqual(Date.parse(t.sent_at))
    expect(a.runs.map((r) => r.attempt)).toEqual([1, 2, 3, 4])
    expect(new Set(a.runs.map((r) => r.attemptId)).size).toBe(4)
  })

  test.concurrent('of fixed backoff come at the same distance; in between the task is retrying and says when', async () => {
    const { agent, submit } = setting()
    await agent({ handle: () => { throw new Error('never') } })
    const id = await submit({ max_retries: 2, retry_delay_seconds: 1, backoff: 'fixed' })
    const between = await system.becomes(id, 'retrying')
    expect(Date.parse(between.run_at) - Date.parse(between.attempts[0].ended_at)).toBeGreaterThanOrEqual(900)
    expect(between).toMatchObject({ error: 'never', completed_at: null })
    const task = await system.ended(id)
    expect(task).toMatchObject({ status: 'failed', error: 'never', retry_count: 2, run_at: null })
    for (const gap of gaps(task)) {
      expect(gap).toBeGreaterThanOrEqual(900)
      expect(gap).toBeLessThan(1000 + 5000)
    }
    expect(task.attempts).toHaveLength(3)
  })

  test.concurrent('go out when their time comes, not when a dispatcher looks next', async () => {
    const { agent, submit } = setting()
    await agent({ handle: (_, { res }) => answer(res, 500, { error: 'no' }) })
    // By the look of once a second of two dispatchers it would be 400 ms at best.
    const late = await atBest(250, async () => median(gaps(await system.ended(await submit({ max_retries: 5, retry_delay_seconds: 0.1, backoff: 'fixed' })))))
    expect(late).toBeLessThan(250)
  })

  test.concurrent('prefer an agent that has not failed the task, even a busier one, and return to it when there is no other', async () => {
    const { agent, submit } = setting()
    const held = gate()
    const busy: TestAgent = await agent({ maxConcurrency: 3, handle: held.handle })
    const blocker = await submit()
    await until(() => busy.runs.length === 1)
    busy.state.handle = () => 'ok'
    const bad = await agent({ handle: () => { throw new Error('bad') } })
    const task = await system.ended(await submit({ max_retries: 1, retry_delay_seconds: 0 }))
    expect(task.attempts.map((t: any) => t.agent_id)).toEqual([bad.id, busy.id])
    expect(task).toMatchObject({ status: 'completed', agent_id: busy.id })
    await busy.beat({ status: 'draining' })
    const alone = await system.ended(await submit({ max_retries: 2, retry_delay_seconds: 0 }))
    expect(alone.attempts.map((t: any) => t.agent_id)).toEqual([bad.id, bad.id, bad.id])
    held.open()
    await system.ended(blocker)
  })

  test.concurrent('none with max_retries 0', async () => {
    const { agent, submit } = setting()
    const a = await agent({ handle: () => { throw new Error('once') } })
    expect(await system.ended(await submit({ max_retries: 0 }))).toMatchObject({ status: 'failed', error: 'once', retry_count: 0, attempts: [{ outcome: 'failed', status_code: 500 }] })
    await sleep(300)
    expect(a.runs).toHaveLength(1)
  })

  test.concurrent.each<[string, number, object, number, string]>([
    ['a 4xx ends the task', 422, { error: 'bad input' }, 1, 'rejected'],
    ['a 4xx with "retryable": true is tried again', 422, { error: 'later', retryable: true }, 2, 'failed'],
    ['a 5xx with "retryable": false ends it', 500, { error: 'hopeless', retryable: false }, 1, 'rejected'],
    ['a 200 that says failed is tried again', 200, { status: 'failed', error: 'sorry' }, 2, 'failed'],
    ['a 200 that says failed and "retryable": false ends it', 200, { status: 'failed', error: 'sorry', retryable: false }, 1, 'rejected'],
    ['a 408 is tried again', 408, { error: 'slow' }, 2, 'failed'],
  ])('%s', async (_what, status, body, tries, outcome) => {
    const { agent, submit } = setting()
    const a = await agent({ handle: (_task, { res }) => answer(res, status, body) })
    const task = await system.ended(await submit({ max_retries: 1, retry_delay_seconds: 0 }))
    expect(task).toMatchObject({ status: 'failed', error: (body as { error: string }).error })
    expect(task.attempts.map((t: any) => [t.outcome, t.status_code])).toEqual(Array.from({ length: tries }, () => [outcome, status]))
    expect(a.runs).toHaveLength(tries)
  })

  test.concurrent('wait as long as the agent asks with Retry-After', async () => {
    const { agent, submit } = setting()
    let n = 0
    await agent({ handle: (_task, { res }) => (++n === 1 ? answer(res, 500, { error: 'x' }, { 'retry-after': '1' }) : 1) })
    const task = await system.ended(await submit({ max_retries: 1, retry_delay_seconds: 0 }))
    expect(task.status).toBe('completed')
    expect(gaps(task)[0]).toBeGreaterThanOrEqual(1000)
    expect(gaps(task)[0]).toBeLessThan(1000 + 5000)
  })
})

describe('an agent without room', () => {
  test.concurrent('costs the task no attempt, and another agent gets it at once', async () => {
    const { agent, submit, view } = setting()
    const full = await Promise.all(Array.from({ length: 6 }, () => agent({ handle: (_task, { res }) => answer(res, 429, { error: 'full' }, { 'retry-after': '60' }) })))
    const free = await agent()
    const hits: number[] = []
    for (let i = 0; i < 10; i++) {
      const task = await system.ended(await submit({ max_retries: 0 }))
      expect(task).toMatchObject({ status: 'completed', agent_id: free.id, retry_count: 0, redeliveries: 0 })
      for (const t of task.attempts.slice(0, -1)) expect(t).toMatchObject({ outcome: 'no_room', status_code: 429, error: 'full' })
      hits.push(...gaps(task))
    }
    expect(hits).toHaveLength(6)
    expect(median(hits)).toBeLessThan(500) // by the look of once a second most would be almost a second
    for (const a of full) expect([a.runs.length, (await view(a)).status]).toEqual([1, 'healthy'])
  })

  test.concurrent('rests as long as it asks and no longer, and then gets the task that waited for it', async () => {
    const { agent, submit } = setting()
    let n = 0
    const a = await agent({ maxConcurrency: 1, handle: (_task, { res }) => (++n === 1 ? answer(res, 503, { error: 'busy' }, { 'retry-after': '2' }) : n) })
    const first = await submit({ max_retries: 0 })
    await until(() => a.runs[0]?.endedAt)
    const second = await submit({ max_retries: 0, priority: 1 })
    const seen = async () => (await system.get(`/agents/${a.id}`)).json
    const resting = await until(async () => (await seen()).resting_until)
    // The router may read the answer before the agent has noted that it was sent; but not before the task came.
    expect(Date.parse(resting) - a.runs[0]!.startedAt).toBeGreaterThanOrEqual(1990)
    expect(Date.parse(resting) - a.runs[0]!.endedAt!).toBeLessThan(2000 + 2000)
    expect((await seen()).status).toBe('healthy')
    for (const id of [first, second]) expect(await system.ended(id)).toMatchObject({ status: 'completed', retry_count: 0 })
    expect(a.runs.map((r) => r.taskId)).toEqual([first, first, second])
    const rested = gaps(await system.task(first))[0]
    expect(rested).toBeGreaterThanOrEqual(2000)
    expect(rested).toBeLessThan(2000 + 2000)
    expect((await seen()).resting_until).toBeNull()
  })

  test.concurrent('gets nothing while it rests, and its share again after', async () => {
    const { agent, submit } = setting()
    let n = 0
    const a = await agent({ handle: (_task, { res }) => (++n === 1 ? answer(res, 429, { error: 'full' }, { 'retry-after': '2' }) : n) })
    await agent()
    const from = Date.now()
    while (a.runs.length < 2 && Date.now() < from + 12_000) {
      await system.ended(await submit())
      await sleep(20)
    }
    expect(a.runs.length).toBe(2)
    const rested = a.runs[1]!.startedAt - a.runs[0]!.endedAt!
    expect(rested).toBeGreaterThanOrEqual(1990)
    expect(rested).toBeLessThan(2000 + 5000)
  })
})

describe('the timeout', () => {
  const dribble: Handler = (_task, { res }) => {
    res.writeHead(200, { 'content-type': 'application/json' })
    const timer = setInterval(() => res.write(' '), 40)
    res.once('close', () => clearInterval(timer))
  }
  const silence: Handler = () => new Promise(() => {})
  const headersOnly: Handler = (_task, { res }) => void res.writeHead(200).flushHeaders()

  test.concurrent.each<[string, Handler]>([
    ['that dribbles', dribble],
    ['that never answers', silence],
    ['that stops after its headers', headersOnly],
  ])('is a total deadline, also for an agent %s', async (_what, handle) => {
    const { agent, submit, view } = setting()
    const a = await agent({ maxConcurrency: 1, handle })
    const id = await submit({ timeout_seconds: 0.6, max_retries: 1, retry_delay_seconds: 0 })
    const task = await system.ended(id)
    expect(task).toMatchObject({ status: 'timeout', retry_count: 1, error: expect.stringContaining('0.6 s'), attempts: [{ outcome: 'timeout' }, { outcome: 'timeout' }] })
    const took = task.attempts.map((t: any) => Date.parse(t.ended_at) - Date.parse(t.sent_at))
    for (const ms of took) {
      expect(ms).toBeGreaterThanOrEqual(590)
      expect(ms).toBeLessThan(5000)
    }
    expect(Math.min(...took)).toBeLessThan(1600) // what is promised: the timeout and a second
    await until(async () => (await view(a)).in_flight === 0)
    a.state.handle = () => 'back'
    expect(await system.ended(await submit())).toMatchObject({ status: 'completed', result: 'back' })
    await until(() => a.running() === 0, { what: 'the end of its connections' })
  })
})

describe('an answer that is none', () => {
  const good = (id: string) => ({ task_id: id, status: 'completed', result: 1 })
  test.concurrent.each<[string, Handler]>([
    ['no JSON', (_task, { res }) => answer(res, 200, '{"status":')],
    ['HTML', (_task, { res }) => answer(res, 200, '<html><body>Hello</body></html>', { 'content-type': 'text/html' })],
    ['204', (_task, { res }) => void res.writeHead(204).end()],
    ['an array', (_task, { res }) => answer(res, 200, '[]')],
    ['without a status', (_task, { res }) => answer(res, 200, '{}')],
    ['of another task', (_task, { res }) => answer(res, 200, good('test.01890000-0000-7000-8000-000000000000'))],
    ['a redirect', (_task, { res }) => answer(res, 307, '', { location: 'http://127.0.0.1:1/task' })],
    ['cut off', (_task, { res }) => void res.socket!.destroy()],
  ])('is a failed attempt, and tried again: %s', async (_what, handle) => {
    const { agent, submit } = setting()
    const a = await agent({ handle: (task, exchange) => (a.runs.length === 1 ? handle(task, exchange) : 'good') })
    const task = await system.ended(await submit({ max_retries: 1, retry_delay_seconds: 0 }))
    expect(task).toMatchObject({ status: 'completed', result: 'good', retry_count: 1, attempts: [{ outcome: 'failed', error: expect.stringMatching(/./) }, { outcome: 'completed' }] })
  })
})

test.concurrent('whatever agents do, each task has one end, each delivery is told of, and no agent gets more than it can take', { timeout: 120_000 }, async () => {
  const { agent, submit } = setting()
  const said = new Map<string, number>()
  const handle: Handler = async (task, { res }) => {
    await sleep(Math.random() * 15)
    const dice = Math.random()
    if (dice < 0.1) throw new Error('dice')
    if (dice < 0.2) return answer(res, 429, {}, { 'retry-after': '0' })
    if (dice < 0.25) return new Promise(() => {})
    if (dice < 0.3) return answer(res, 200, '<html>')
    if (dice < 0.35) return void res.socket?.destroy()
    if (dice < 0.4) return answer(res, 200, { task_id: task.task_id, status: 'failed', error: 'no' })
    said.set(task.task_id, (said.get(task.task_id) ?? 0) + 1)
    return dice
  }
  const agents = [await agent({ maxConcurrency: 2, handle }), await agent({ maxConcurrency: 5, capabilities: ['echo', 'b'], handle }), await agent({ maxConcurrency: 9, capabilities: ['b', 'c'], handle })]
  const cancelled = new Map<string, number>()
  const one = async (i: number): Promise<string> => {
    const to = [{}, { task_type: 'b' }, { task_type: 'c' }, { agent_id: agents[i % 3]!.id }][i % 4]
    const id = await submit({ ...to, priority: 1 + (i % 15), max_retries: 20, retry_delay_seconds: 0.02, timeout_seconds: 1, ...(i % 5 === 0 ? { delay_seconds: Math.random() * 0.3 } : {}) })
    if (i % 7 === 0) {
      await sleep(Math.random() * 150)
      cancelled.set(id, (await system.call('DELETE', `/tasks/${id}`)).status)
    }
    return id
  }
  const ids = await Promise.all(Array.from({ length: 240 }, (_, i) => one(i)))
  for (const id of ids) {
    const task = await system.ended(id, 90_000) // those that hang take the slots of others, for a second each
    const wasCancelled = cancelled.get(id) !== undefined && cancelled.get(id) !== 409
    expect(task).toMatchObject({ status: wasCancelled ? 'cancelled' : 'completed', redeliveries: 0 })
    // An answer that came too late, as on a machine that stood still, is said and does not count.
    if (!wasCancelled) expect(said.get(id)).toBeGreaterThanOrEqual(1)
    if (!wasCancelled) expect(said.get(id)).toBeLessThanOrEqual(1 + task.attempts.filter((t: any) => t.outcome === 'timeout').length)
    if (!wasCancelled) expect(task.attempts.at(-1)).toMatchObject({ outcome: 'completed' })
    for (const t of task.attempts) expect(t.outcome).not.toBeNull()
  }
  const sent = agents.flatMap((a) => a.runs).map((r) => r.taskId)
  for (const id of ids) {
    const { attempts } = await system.task(id)
    const reached = sent.filter((s) => s === id).length
    // An attempt that was cut off may not have reached its agent.
    expect(reached).toBeLessThanOrEqual(attempts.length)
    expect(reached).toBeGreaterThanOrEqual(attempts.filter((t: any) => t.outcome !== 'cancelled').length)
  }
  expect(sent.length).toBeGreaterThan(240)
  for (const [i, max] of [2, 5, 9].entries()) expect(agents[i]!.peak()).toBeLessThanOrEqual(max)
})

describe('what an agent gets', () => {
  test.concurrent('is exactly what the protocol says', async () => {
    const { agent, type } = setting()
    const a = await agent()
    const parameters = '{"big":12345678901234567890,"e":1e999,"z":0.10,"a":[],"__proto__":{"x":1}}'
    const { json } = await system.post('/tasks', `{"task_type":"echo","agent_type":"${type}","parameters":${parameters},"metadata":{"m":1.0},"priority":"high","timeout_seconds":2.5}`)
    await system.ended(json.task_id)
    const run = a.runs[0]!
    expect(Object.keys(JSON.parse(run.body)).sort()).toEqual(['attempt', 'attempt_id', 'metadata', 'parameters', 'priority', 'task_id', 'task_type', 'timeout_seconds'])
    expect(JSON.parse(run.body)).toMatchObject({ task_id: json.task_id, task_type: 'echo', timeout_seconds: 2.5, priority: 10, attempt: 1 })
    expect(run.body).toContain(`"parameters":${parameters}`)
    expect(run.body).toContain('"metadata":{"m":1.0}')
    expect(run.headers).toMatchObject({ 'content-type': 'application/json', 'idempotency-key': json.task_id, 'switchyard-attempt': '1' })
    expect(run.headers).not.toHaveProperty('traceparent')
  })

  test.concurrent('counts the attempts, under one Idempotency-Key, and passes the trace on', async () => {
    const { agent, type } = setting()
    const a = await agent({ handle: () => { if (a.runs.length === 1) throw new Error('x'); return 1 } })
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    const { json } = await system.post('/tasks', { task_type: 'echo', agent_type: type, retry_delay_seconds: 0 }, { traceparent })
    await system.ended(json.task_id)
    expect(a.runs.map((r) => [r.headers['idempotency-key'], r.headers['switchyard-attempt'], r.headers.traceparent])).toEqual([[json.task_id, '1', traceparent], [json.task_id, '2', traceparent]])
    const { json: other } = await system.post('/tasks', { task_type: 'echo', agent_type: type }, { traceparent: 'what?' })
    expect(await system.ended(other.task_id)).toMatchObject({ status: 'completed' })
    expect(a.runs[2]!.headers).not.toHaveProperty('traceparent')
  })
})

test.concurrent('a busy agent type does not keep another one waiting, however few places a dispatcher has', async () => {
  await using small = await startSystem({ env: { WORKER_CONCURRENCY: '2' } })
  const busy = await small.agent({ type: 'busy', maxConcurrency: 4, handle: async () => (await sleep(50), 1) })
  const calm = await small.agent({ type: 'calm' })
  const ids = await Promise.all(Array.from({ length: 200 }, () => small.submit({ agent_type: 'busy' })))
  await until(() => busy.runs.length > 10)
  for (let i = 0; i < 3; i++) {
    const began = Date.now()
    await small.ended(await small.submit({ agent_type: 'calm' }))
    expect(Date.now() - began).toBeLessThan(5000)
  }
  expect(busy.runs.length).toBeLessThan(180)
  expect(calm.runs).toHaveLength(3)
  for (const id of ids) await small.ended(id)
  await becomesQuiet(small)
})

test.concurrent('tasks that are always declined do not keep the ones behind them from going', async () => {
  const { agent, submit } = setting()
  const a = await agent({ maxConcurrency: 1, handle: (task, { res }) => (task.parameters.declined ? answer(res, 503, { error: 'no room' }, { 'retry-after': '0' }) : 'done') })
  const declined = [await submit({ parameters: { declined: true } }), await submit({ parameters: { declined: true } })]
  const others = [await submit(), await submit(), await submit()]
  for (const id of others) expect((await system.ended(id)).status).toBe('completed')
  expect(a.runs.length).toBeGreaterThan(6)
  for (const id of declined) await system.call('DELETE', `/tasks/${id}`)
  for (const id of declined) expect(await system.ended(id)).toMatchObject({ status: 'cancelled', retry_count: 0 })
})

test('nothing is left behind', () => becomesQuiet(system))
