import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { backoffStrategy, MAX_RETRY_DELAY_MS, restMs, RetryLater, retryDelayMs } from '../src/queues/backoff.ts'
import { uuidv7 } from '../src/redis/ids.ts'
import { queueName } from '../src/redis/keys.ts'
import { becomesQuiet } from './quiet.ts'
import { median, sleep, startSystem, until, type AgentOptions, type Handler, type System } from './system.ts'

let system: System
beforeAll(async () => {
  system = await startSystem({ workers: 2 })
})
afterAll(() => system[Symbol.asyncDispose]())

/** A type of its own for each test: they share the system and nothing else. */
let types = 0
const setting = (of: () => System = () => system) => {
  const type = `t${++types}`
  const queue = queueName(type, 'echo')
  const part = (name: string) => `${of().keys.base(type)}${queue}:${name}`
  return {
    type,
    agent: (o: AgentOptions = {}) => of().agent({ type, ...o }),
    submit: (task: Record<string, unknown> = {}) => of().submit({ agent_type: type, ...task }),
    /** Whether the task's job waits, is delayed or is under way. */
    hasJob: async (id: string) =>
      (await of().redis.zscore(part('prioritized'), id)) !== null || (await of().redis.zscore(part('delayed'), id)) !== null || [...(await of().redis.lrange(part('wait'), 0, -1)), ...(await of().redis.lrange(part('active'), 0, -1))].includes(id),
    isDelayed: async (id: string) => (await of().redis.zscore(part('delayed'), id)) !== null,
    /** As if somebody had gone to Redis and deleted it. */
    deleteJob: async (id: string) => {
      await of().redis.zrem(part('prioritized'), id)
      await of().redis.zrem(part('delayed'), id)
      await of().redis.del(part(id))
    },
  }
}
const cancel = (id: string) => system.call('DELETE', `/tasks/${id}`)
const inFlight = async (agent: { id: string }) => (await system.get(`/agents/${agent.id}`)).json.in_flight
/** Ms by which something came after a time that was said. */
const after = (at: string, said: string): number => Date.parse(at) - Date.parse(said)
const hang: Handler = () => new Promise(() => {})

describe('a task that nobody takes', () => {
  test.concurrent('expires: it ends as timeout, at its time, and leaves its queue', async () => {
    const { submit, hasJob } = setting()
    const id = await submit({ expires_in_seconds: 4 })
    const waiting = await system.task(id)
    expect(waiting).toMatchObject({ status: 'queued', started_at: null, completed_at: null })
    expect(after(waiting.expires_at, waiting.created_at)).toBe(4000)
    expect(await hasJob(id)).toBe(true)
    const task = await system.ended(id)
    expect(task).toMatchObject({ status: 'timeout', error: 'expired', attempts: [], retry_count: 0, started_at: null })
    expect(after(task.completed_at, task.expires_at)).toBeGreaterThanOrEqual(0)
    expect(after(task.completed_at, task.expires_at)).toBeLessThan(5000)
    await until(async () => !(await hasJob(id)))
  })

  test.concurrent('expires that long after its own time, when it has one', async () => {
    const { submit, hasJob } = setting()
    const id = await submit({ expires_in_seconds: 0.5, delay_seconds: 1 })
    const task = await system.ended(id)
    expect(task).toMatchObject({ status: 'timeout', error: 'expired' })
    expect(after(task.completed_at, task.created_at)).toBeGreaterThanOrEqual(1500)
    await until(async () => !(await hasJob(id)))
  })

  test.concurrent('expires also in front of an agent that never has room', async () => {
    const { agent, submit } = setting()
    await agent({ handle: (_task, { res }) => void res.writeHead(429, { 'retry-after': '0' }).end() })
    const task = await system.ended(await submit({ expires_in_seconds: 6, max_retries: 0 }))
    expect(task).toMatchObject({ status: 'timeout', error: 'expired', retry_count: 0 })
    expect(task.attempts.length).toBeGreaterThan(1)
  })

  test.concurrent('expires rather than wait for a retry that would begin too late', async () => {
    const { agent, submit, hasJob } = setting()
    const a = await agent({ handle: () => { throw new Error('no') } })
    const id = await submit({ expires_in_seconds: 6, retry_delay_seconds: 60, backoff: 'fixed' })
    await system.becomes(id, 'retrying')
    const task = await system.ended(id)
    expect(task).toMatchObject({ status: 'timeout', error: 'expired', retry_count: 1, attempts: [{ outcome: 'failed', error: 'no' }] })
    expect(after(task.completed_at, task.expires_at)).toBeLessThan(5000)
    await until(async () => !(await hasJob(id)))
    expect(a.runs).toHaveLength(1)
  })

  test.concurrent('does not expire once it has begun', async () => {
    const { agent, submit } = setting()
    await agent({ handle: async () => (await sleep(4000), 'late') })
    expect(await system.ended(await submit({ expires_in_seconds: 1.5 }))).toMatchObject({ status: 'completed', result: 'late' })
  })
})

describe('a task whose time has not come', () => {
  test.concurrent('is pending, and is sent at its time: not before, and soon after', async () => {
    const { agent, submit } = setting()
    await agent()
    const late: number[] = []
    for (let i = 0; i < 3; i++) {
      const id = await submit({ delay_seconds: 1.2 })
      const pending = await system.task(id)
      expect(pending).toMatchObject({ status: 'pending', attempts: [] })
      expect(after(pending.run_at, pending.created_at)).toBe(1200)
      const task = await system.ended(id)
      expect(task).toMatchObject({ status: 'completed', run_at: null })
      late.push(after(task.attempts[0].sent_at, pending.run_at))
    }
    for (const ms of late) {
      expect(ms).toBeGreaterThanOrEqual(0)
      expect(ms).toBeLessThan(5000)
    }
    expect(median(late)).toBeLessThan(400) // each is submitted behind a look of once a second, if that is what finds them: it would be about 800
  })

  test.concurrent('takes its time from run_at; one that is past means now', async () => {
    const { agent, submit } = setting()
    await agent()
    const at = new Date(Date.now() + 2500).toISOString()
    const [then, now] = [await submit({ run_at: at }), await submit({ run_at: '2020-01-01T00:00:00+02:00' })]
    expect(await system.task(then)).toMatchObject({ status: 'pending', run_at: at })
    expect(await system.ended(now)).toMatchObject({ status: 'completed' })
    expect((await system.task(then)).status).toBe('pending')
    const task = await system.ended(then)
    expect(after(task.attempts[0].sent_at, at)).toBeGreaterThanOrEqual(0)
    expect(after(task.attempts[0].sent_at, at)).toBeLessThan(5000)
  })

  test.concurrent('becomes queued at its time when no agent is there', async () => {
    const { submit, agent } = setting()
    const id = await submit({ delay_seconds: 0.3 })
    expect(await system.becomes(id, 'queued')).toMatchObject({ run_at: null })
    await agent()
    expect((await system.ended(id)).status).toBe('completed')
  })

  test.concurrent('is cancelled at once, and its job is gone', async () => {
    const { submit, agent, hasJob } = setting()
    const a = await agent()
    const id = await submit({ delay_seconds: 1.5 })
    expect(await hasJob(id)).toBe(true)
    expect(await cancel(id)).toMatchObject({ status: 200, json: { task_id: id, status: 'cancelled' } })
    expect(await hasJob(id)).toBe(false)
    const later = await submit({ delay_seconds: 1.5 }) // when this one's time has come, so has that of the other
    await system.ended(later)
    expect(a.runs.map((run) => run.taskId)).toEqual([later])
    expect(await system.task(id)).toMatchObject({ status: 'cancelled', run_at: null })
  })
})

describe('cancelling', () => {
  test.concurrent('a task that waits ends it, and no agent ever sees it; again is 409', async () => {
    const { submit, agent, hasJob } = setting()
    const ids = [await submit(), await submit(), await submit()]
    expect(await cancel(ids[1]!)).toMatchObject({ status: 200, json: { status: 'cancelled', cancel_requested: true } })
    expect(await hasJob(ids[1]!)).toBe(false)
    const again = await cancel(ids[1]!)
    expect(again.status).toBe(409)
    expect(again.json).toMatchObject({ task_status: 'cancelled', task_id: ids[1], error: expect.any(String) })
    const a = await agent()
    for (const id of [ids[0]!, ids[2]!]) await system.ended(id)
    expect(a.runs.map((r) => r.taskId).sort()).toEqual([ids[0], ids[2]].sort())
    expect(await system.task(ids[1]!)).toMatchObject({ status: 'cancelled', error: 'cancelled', attempts: [], result: null })
    expect((await cancel(ids[0]!)).status).toBe(409)
    expect((await system.task(ids[0]!)).status).toBe('completed')
    expect((await cancel(`${ids[0]!.slice(0, -1)}${ids[0]!.endsWith('f') ? 'e' : 'f'}`)).status).toBe(404)
  })

  test.concurrent('a task between two tries ends it', async () => {
    const { submit, agent, hasJob } = setting()
    const a = await agent({ handle: () => { throw new Error('no') } })
    const id = await submit({ retry_delay_seconds: 2, backoff: 'fixed' })
    await system.becomes(id, 'retrying')
    expect(await cancel(id)).toMatchObject({ status: 200, json: { status: 'cancelled' } })
    await until(async () => !(await hasJob(id)), ) // a dispatcher may still have had it
    const later = await submit({ retry_delay_seconds: 2, backoff: 'fixed' }) // when this one's retry has come, that of the other would have
    await until(() => a.runs.filter((run) => run.taskId === later).length === 2)
    expect(a.runs.filter((run) => run.taskId === id)).toHaveLength(1)
    expect(await system.task(id)).toMatchObject({ status: 'cancelled', attempts: [{ outcome: 'failed' }] })
  })

  test.concurrent('a task at an agent closes the connection; what the agent says later changes nothing, and its slot is held until it denies it', async () => {
    const { submit, agent } = setting()
    let late = () => {}
    const a = await agent({ maxConcurrency: 1, beats: false, handle: (_task, { res }) => new Promise((resolve) => (late = () => (res.writableEnded || resolve('too late'), resolve('too late')))) })
    const id = await submit({ timeout_seconds: 60 })
    await until(() => a.running() === 1)
    await sleep(20)
    await a.beat()
    expect(await cancel(id)).toMatchObject({ status: 202, json: { task_id: id, status: 'sent', cancel_requested: true } })
    const task = await system.ended(id)
    expect(task).toMatchObject({ status: 'cancelled', error: 'cancelled', cancel_requested: true, result: null, attempts: [{ outcome: 'cancelled', status_code: null }] })
    await until(() => a.runs[0]!.endedAt, { what: 'the end of the connection' })
    late()
    const next = await submit()
    await sleep(1300)
    expect(await inFlight(a)).toBe(1)
    expect((await system.task(next)).status).toBe('queued')
    await a.beat()
    expect(await inFlight(a)).toBe(1)
    a.state.handle = () => 'next'
    await a.beat({ running: [] })
    expect(await system.ended(next)).toMatchObject({ status: 'completed', result: 'next' })
    expect(await system.task(id)).toMatchObject({ status: 'cancelled', result: null })
    expect((await cancel(id)).status).toBe(409)
  })

  test.concurrent('leaves the slot held until the deadline of an attempt that nobody denies', async () => {
    const { submit, agent } = setting()
    const a = await agent({ maxConcurrency: 1, handle: hang })
    const id = await submit({ timeout_seconds: 3 })
    await until(() => a.running() === 1)
    await cancel(id)
    const task = await system.ended(id)
    expect(await inFlight(a)).toBe(1)
    a.state.handle = () => 1
    const next = await system.ended(await submit())
    const waited = after(next.attempts[0].sent_at, task.attempts[0].sent_at)
    expect(waited).toBeGreaterThanOrEqual(3000)
    expect(waited).toBeLessThan(4000 + 5000)
  })

  test.concurrent('races a dispatch: each task ends cancelled soon, whether it was sent or not', async () => {
    const { submit, agent } = setting()
    const a = await agent({ maxConcurrency: 500, handle: hang })
    const answers = new Map<string, number>()
    await Promise.all(
      Array.from({ length: 15 }, async () => {
        for (let i = 0; i < 15; i++) {
          const id = await submit({ timeout_seconds: 40 })
          answers.set(id, (await cancel(id)).status)
        }
      }),
    )
    for (const id of answers.keys()) expect((await system.ended(id)).status).toBe('cancelled')
    expect([...answers.values()].filter((status) => status !== 200 && status !== 202)).toEqual([])
    // Nobody is sent what was answered 200.
    expect(a.runs.filter((r) => answers.get(r.taskId) === 200)).toEqual([])
    await until(() => a.running() === 0, { what: 'the end of all connections' })
    await a.beat()
    await a.beat({ running: [] })
    expect(await inFlight(a)).toBe(0)
  })
})

describe('a record and its job', () => {
  test.concurrent('a record whose job is gone gets another one', async () => {
    const { submit, agent, hasJob, deleteJob } = setting()
    const id = await submit({ parameters: { kept: true } })
    await deleteJob(id)
    await until(() => hasJob(id), { timeoutMs: 15_000 })
    await agent()
    expect(await system.ended(id)).toMatchObject({ status: 'completed', result: { echo: { kept: true } }, redeliveries: 0 })
  })

  test.concurrent('a delayed one, too, and a retry: at its time', async () => {
    const { submit, agent, isDelayed, deleteJob } = setting()
    let n = 0
    const a = await agent({ handle: () => { if (++n === 1) throw new Error('x'); return n } })
    const retried = await submit({ retry_delay_seconds: 2, backoff: 'fixed' })
    await system.becomes(retried, 'retrying')
    await until(() => isDelayed(retried)) // its dispatcher has let go of it
    await deleteJob(retried)
    const delayed = await submit({ delay_seconds: 1 })
    await deleteJob(delayed)
    for (const id of [retried, delayed]) expect((await system.ended(id)).status).toBe('completed')
    expect(a.runs).toHaveLength(3)
  })

  test.concurrent('a job without a record ends, and no agent sees it', async () => {
    const { type, submit, agent, hasJob } = setting()
    const id = await submit()
    await system.redis.del(system.keys.task(type, id))
    await system.redis.zrem(system.keys.tasks(type, 'queued'), id)
    const a = await agent()
    expect((await system.ended(await submit())).status).toBe('completed')
    await until(async () => !(await hasJob(id)))
    expect(a.runs).toHaveLength(1)
    expect((await system.get(`/tasks/${id}`)).status).toBe(404)
  })

  test.concurrent('a job whose record has ended ends, and no agent sees it', async () => {
    const { type, submit, agent, hasJob } = setting()
    const id = await submit()
    await system.redis.hset(system.keys.task(type, id), 'status', 'cancelled')
    await system.redis.zrem(system.keys.tasks(type, 'queued'), id)
    const a = await agent()
    await until(async () => !(await hasJob(id)))
    expect(a.runs).toEqual([])
    expect((await system.task(id)).status).toBe('cancelled')
    await until(async () => (await inFlight(a)) === 0)
  })
})

describe('retrying an ended task', () => {
  test.concurrent('makes one new task, and says which', async () => {
    const { submit, agent } = setting()
    const a = await agent({ handle: () => { throw new Error('no') } })
    const old = await submit({ max_retries: 0, priority: 7, timeout_seconds: 12.5, parameters: { x: 1 }, metadata: { m: 2 }, retry_delay_seconds: 0.5, backoff: 'fixed', expires_in_seconds: 77 })
    await system.ended(old)
    a.state.handle = (task) => task.parameters
    const answers = await Promise.all(Array.from({ length: 5 }, () => system.post(`/tasks/${old}/retry`)))
    const made = answers.filter((x) => x.status === 201)
    expect(made.length).toBeGreaterThan(0)
    const id: string = made[0]!.json.task_id
    for (const { status, json } of answers) {
      expect(json.task_id).toBe(id)
      expect([201, 409]).toContain(status)
    }
    expect(made[0]).toMatchObject({ json: { retry_of: old, status_url: `/tasks/${id}` } })
    const task = await system.ended(id)
    expect(task).toMatchObject({ status: 'completed', retry_of: old, priority: 7, timeout_seconds: 12.5, max_retries: 0, result: { x: 1 }, metadata: { m: 2 } })
    expect(after(task.expires_at, task.created_at)).toBe(77_000)
    expect(await system.task(old)).toMatchObject({ status: 'failed', error: 'no', retried_as: id })
    expect(await system.post(`/tasks/${old}/retry`)).toMatchObject({ status: 409, json: { task_id: id } })
    expect(a.runs).toHaveLength(2)
  })

  test.concurrent('is 409 while it has not ended, and 404 when there is none', async () => {
    const { submit } = setting()
    const id = await submit()
    expect(await system.post(`/tasks/${id}/retry`)).toMatchObject({ status: 409, json: { task_status: 'queued' } })
    expect((await system.post(`/tasks/${id.slice(0, -1)}0/retry`)).status).toBe(id.endsWith('0') ? 409 : 404)
    await cancel(id)
    const again = await system.post(`/tasks/${id}/retry`)
    expect(again.status).toBe(201)
    await cancel(again.json.task_id)
  })
})

describe('the list of tasks', () => {
  test.concurrent('is newest first, filtered, in pages, and over all types', async () => {
    const [one, two] = [setting(), setting()]
    const a = await one.agent()
    const ids: string[] = []
    for (let i = 0; i < 7; i++) ids.push(await (i % 2 ? two : one).submit(i === 4 ? { task_type: 'other' } : {}))
    for (const id of [ids[0]!, ids[2]!, ids[6]!]) await system.ended(id)
    const list = async (query: string) => (await system.get(`/tasks?${query}`)).json
    const idsOf = (page: any) => page.tasks.map((t: any) => t.task_id)
    expect(idsOf(await list(`agent_type=${one.type}`))).toEqual([ids[6], ids[4], ids[2], ids[0]])
    expect(idsOf(await list(`agent_type=${one.type}&status=completed`))).toEqual([ids[6], ids[2], ids[0]])
    expect(idsOf(await list(`agent_type=${one.type}&task_type=other`))).toEqual([ids[4]])
    expect(idsOf(await list(`agent_id=${a.id}`))).toEqual([ids[6], ids[2], ids[0]])
    expect(idsOf(await list(`agent_type=${two.type}&status=completed`))).toEqual([])
    const paged: string[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page: any = await list(`agent_type=${one.type}&limit=3${cursor === '' ? '' : `&cursor=${cursor}`}`)
      paged.push(...idsOf(page))
      cursor = page.next_cursor
    }
    expect(paged).toEqual([ids[6], ids[4], ids[2], ids[0]])
    const all = idsOf(await list('limit=200')).filter((id: string) => ids.includes(id))
    expect(all).toEqual([...ids].reverse())
    for (const i of [1, 3, 4, 5]) await cancel(ids[i]!)
  })
})

test.concurrent('the list of tasks over many types and statuses comes newest first in whole pages, wherever most of them are', { timeout: 60_000 }, async () => {
  await using own = await startSystem({ workers: 0 })
  const { redis, keys } = own
  const ids: Record<string, string[]> = { queued: [], completed: [], pending: [] }
  const writing = redis.pipeline()
  for (let i = 0; i < 400; i++) {
    // Half are of one type, the others of forty; of some types there are none.
    const type = i % 2 ? 'many' : `few${(i * 7) % 40}`
    const status = ['queued', 'completed', 'pending', 'completed'][i % 4]!
    const id = `${type}.${uuidv7()}`
    ids[status]!.unshift(id)
    writing.zadd(keys.types, Date.now(), type)
    writing.hset(keys.task(type, id), { status, spec: '1000\t3\t100\tfixed\t5\t\techo\tt.echo', parameters: '{}', metadata: '{}', created: Date.now(), not_before: 1, expires: 9999999999999 })
    writing.zadd(keys.tasks(type, status), 0, id)
  }
  await writing.exec()
  const walk = async (query: string, limit: number) => {
    const seen: string[] = []
    for (let cursor = ''; ; ) {
      const page = (await own.get(`/tasks?limit=${limit}${query}${cursor}`)).json
      seen.push(...page.tasks.map((t: any) => t.task_id))
      if (page.next_cursor === null) return seen
      expect(page.count).toBe(limit)
      cursor = `&cursor=${page.next_cursor}`
    }
  }
  const byTime = (all: string[]) => all.toSorted((a, b) => (a.slice(a.indexOf('.')) < b.slice(b.indexOf('.')) ? 1 : -1))
  expect(await walk('', 23)).toEqual(byTime(Object.values(ids).flat()))
  expect(await walk('&status=completed', 50)).toEqual(ids.completed)
  expect(await walk('&agent_type=many', 37)).toEqual(byTime(Object.values(ids).flat().filter((id) => id.startsWith('many.'))))
  expect((await own.get('/tasks?task_type=other&limit=10')).json).toMatchObject({ tasks: [], next_cursor: expect.any(String) })
})

describe('ended records', () => {
  let short: System
  beforeAll(async () => {
    short = await startSystem({ env: { RETENTION_COMPLETED_SECONDS: '3', RETENTION_FAILED_COUNT: '4', RETENTION_FAILED_SECONDS: '3600', SICK_AGENT_FAILURES: '0' } })
  })
  afterAll(() => short[Symbol.asyncDispose]())

  test.concurrent('go by age and by number, and leave the lists', async () => {
    const { type, agent, submit } = setting(() => short)
    await agent({ handle: (task) => { if (task.parameters.fail) throw new Error('no'); return 1 } })
    const good: string[] = []
    let completedAt = 0
    for (let i = 0; i < 2; i++) {
      good.push(await submit())
      completedAt = Date.parse((await short.ended(good[i]!)).completed_at)
    }
    const bad: string[] = []
    for (let i = 0; i < 9; i++) bad.push(await submit({ parameters: { fail: true }, max_retries: 0 }))
    const cancelled = await submit({ delay_seconds: 60 })
    expect((await short.call('DELETE', `/tasks/${cancelled}`)).status).toBe(200)
    const count = async (query: string) => (await short.get(`/tasks?agent_type=${type}${query}`)).json.count
    for (const id of bad) await short.ended(id)
    await until(async () => (await short.get(`/tasks/${good[1]}`)).status === 404)
    expect(Date.now() - completedAt).toBeGreaterThanOrEqual(3000)
    expect(Date.now() - completedAt).toBeLessThan(3000 + 5000)
    for (const id of [...good, cancelled]) await until(async () => (await short.get(`/tasks/${id}`)).status === 404)
    expect(await count('&status=completed')).toBe(0)
    await until(async () => (await count('&status=failed')) === 4, { timeoutMs: 25_000 })
    expect((await short.get(`/tasks?agent_type=${type}`)).json.tasks.map((t: any) => t.task_id)).toEqual(bad.slice(-4).reverse())
    expect((await short.get(`/tasks/${bad[0]}`)).status).toBe(404)
    expect(await short.redis.zcard(short.keys.timers(type))).toBe(0)
  })

  test.concurrent('go by age also behind many that were submitted earlier and ended later', async () => {
    const { type } = setting(() => short)
    const { redis, keys } = short
    // Submitted long ago, as tasks with a delay are: the first 300 have ended just now, the others an hour ago.
    const now = Date.now()
    const ids = Array.from({ length: 500 }, () => `${type}.${uuidv7()}`)
    await short.submit({ agent_type: type, delay_seconds: 100 })
    const writing = redis.pipeline()
    for (const [i, id] of ids.entries()) {
      writing.hset(keys.task(type, id), { status: 'completed', created: now - 7_200_000, ended: i < 300 ? now + 600_000 : now - 3_600_000 })
      writing.zadd(keys.tasks(type, 'completed'), 0, id)
    }
    await writing.exec()
    await until(async () => (await redis.zcard(keys.tasks(type, 'completed'))) === 300, { timeoutMs: 20_000 })
    expect(await redis.zrange(keys.tasks(type, 'completed'), '0', '-1')).toEqual(ids.slice(0, 300))
    expect(await redis.exists(...ids.slice(300).map((id) => keys.task(type, id)))).toBe(0)
  })
})

test.concurrent('a queue without work for an hour leaves nothing behind, one that waits for its time stays, and it can be used again', { timeout: 60_000 }, async () => {
  await using own = await startSystem({ workers: 2 })
  const { type, agent, submit } = setting(() => own)
  await agent({ capabilities: ['good', 'bad', 'later'], handle: (task) => { if (task.task_type === 'bad') throw new Error('no'); return 1 } })
  for (const task_type of ['good', 'bad']) await own.ended(await submit({ task_type, max_retries: 0 }))
  const later = await submit({ task_type: 'later', delay_seconds: 7200 })
  const named = (name: string) => `${own.keys.base(type)}${queueName(type, name)}:`
  const left = async (name: string) => (await own.redis.keys(`${named(name)}*`)).sort()
  expect(await left('good')).toContain(`${named('good')}completed`)
  await until(async () => (await left('bad')).includes(`${named('bad')}failed`), { what: 'its job to follow its record' })
  const cells = ['good', 'bad', 'later'].flatMap((name) => [Date.now() - 3_601_000, queueName(type, name)])
  await own.redis.zadd(own.keys.queues(type), ...cells)
  await until(async () => (await own.redis.zcard(own.keys.queues(type))) === 1)
  // Every dispatcher has looked: each does once a second.
  await own.agent({ type: 'clock' })
  await own.ended(await own.submit({ agent_type: 'clock', delay_seconds: 1.5 }))
  expect([await left('good'), await left('bad')]).toEqual([[], []])
  expect(await own.redis.zrange(own.keys.queues(type), '0', '-1')).toEqual([queueName(type, 'later')])
  expect((await own.task(later)).status).toBe('pending')
  expect(await own.redis.hkeys(`${own.keys.base(type)}woken`)).toEqual([])
  expect((await own.ended(await submit({ task_type: 'good' }))).status).toBe('completed')
})

test.concurrent('a task that takes longer than a dispatcher’s lock on it is delivered once', async () => {
  const { agent, submit } = setting()
  const a = await agent({ handle: async () => (await sleep(16_500), 'at last') })
  const id = await submit({ timeout_seconds: 60 })
  expect(await system.ended(id, 25_000)).toMatchObject({ status: 'completed', result: 'at last', redeliveries: 0, retry_count: 0 })
  expect(a.runs).toHaveLength(1)
})

describe('backoff', () => {
  const many = (o: Parameters<typeof retryDelayMs>[0]) => Array.from({ length: 2000 }, () => retryDelayMs(o))
  const range = (all: number[]) => [Math.min(...all), Math.max(...all)] as const

  test('is exponential between half and all of each step, and spread over it', () => {
    for (const retries of [0, 1, 2, 5]) {
      const [least, most] = range(many({ backoff: 'exponential', retryDelayMs: 1000, retries }))
      expect(least).toBeGreaterThanOrEqual(500 * 2 ** retries)
      expect(least).toBeLessThan(550 * 2 ** retries)
      expect(most).toBeLessThanOrEqual(1000 * 2 ** retries)
      expect(most).toBeGreaterThan(950 * 2 ** retries)
    }
  })

  test('is fixed within a tenth', () => {
    const [least, most] = range(many({ backoff: 'fixed', retryDelayMs: 1000, retries: 9 }))
    expect(least).toBeGreaterThanOrEqual(900)
    expect(most).toBeLessThanOrEqual(1000)
    expect(most - least).toBeGreaterThan(50)
  })

  test('is never longer than five minutes, nor none at all', () => {
    // Nor do those at the cap come back together.
    const within = ([least, most]: readonly [number, number], [from, to]: [number, number]) => expect([least >= from, least < from * 1.1, most > to / 1.1, most <= to]).toEqual([true, true, true, true])
    for (const retries of [7, 20, 99, 1e9]) within(range(many({ backoff: 'exponential', retryDelayMs: 5000, retries })), [MAX_RETRY_DELAY_MS / 2, MAX_RETRY_DELAY_MS])
    within(range(many({ backoff: 'fixed', retryDelayMs: 3_600_000, retries: 0 })), [270_000, 300_000])
    expect(range(many({ backoff: 'exponential', retryDelayMs: 0, retries: 5 }))).toEqual([1, 1])
  })

  test('is at least what the agent asked for, and a little more by chance, up to the cap', () => {
    const [least, most] = range(many({ backoff: 'fixed', retryDelayMs: 100, retries: 0, retryAfterMs: 4000 }))
    expect([least! >= 4000, most! <= 4400, most! - least! > 100]).toEqual([true, true, true])
    expect([restMs(4000) >= 4000, restMs(4000) <= 4400]).toEqual([true, true])
    expect(retryDelayMs({ backoff: 'fixed', retryDelayMs: 10_000, retries: 0, retryAfterMs: 4000 })).toBeGreaterThanOrEqual(9000)
    expect(retryDelayMs({ backoff: 'fixed', retryDelayMs: 100, retries: 0, retryAfterMs: 1e9 })).toBe(MAX_RETRY_DELAY_MS)
  })

  test('is told to BullMQ by the error', () => {
    expect(backoffStrategy(1, 'switchyard', new RetryLater('x', 1234))).toBe(1234)
    expect(backoffStrategy(1, 'switchyard', new Error('x'))).toBeGreaterThan(0)
  })
})

test.concurrent('a submit that was refused leaves the next one of its queue as visible as any', async () => {
  const { type, agent, submit } = setting()
  expect((await system.post('/tasks?require_agent=true', { agent_type: type, task_type: 'echo' })).status).toBe(503)
  let open = () => {}
  const opened = new Promise<void>((resolve) => (open = resolve))
  await agent({ handle: async () => (await opened, 1) })
  const id = await submit()
  await system.becomes(id, 'sent')
  expect((await system.get(`/tasks?status=sent&agent_type=${type}`)).json.tasks.map((t: any) => t.task_id)).toEqual([id])
  expect(await system.redis.zscore(system.keys.queues(type), `${type}.echo`)).not.toBeNull()
  open()
  await system.ended(id)
})

test('nothing is left behind', () => becomesQuiet(system))
