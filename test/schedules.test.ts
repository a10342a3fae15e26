/** Schedules: what may be put, and that each time that is due is one task, whatever happens. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseCron } from '../src/contracts/cron.ts'
import { schedulesQueue } from '../src/queues/schedulers.ts'
import { loadScript } from '../src/redis/scripts.ts'
import { startCore } from './core.ts'
import { becomesQuiet } from './quiet.ts'
import { sweepStore } from './store.ts'
import { startSystem, until as untilSoon, type System, type TestAgent } from './system.ts'

const at = (time: string): number => Date.parse(time)
const HOUR = 3_600_000
// Much goes on at once here, and most of it must wait for a second to pass.
const until: typeof untilSoon = (look, options) => untilSoon(look, { timeoutMs: 30_000, ...options })

let system: System
beforeAll(async () => {
  system = await startSystem({ workers: 2, apis: 2 })
})
afterAll(() => system?.[Symbol.asyncDispose]())

let types = 0
const setting = () => {
  const type = `when${++types}`
  const task = (more: object = {}) => ({ agent_type: type, task_type: 'echo', ...more })
  const put = (id: string, more: object) => system.call('PUT', `/schedules/${id}`, { task: task(), ...more })
  const read = async (id: string) => (await system.get(`/schedules/${id}`)).json
  const runsOf = async (id: string): Promise<any[]> => ((await system.get(`/tasks?agent_type=${type}&limit=200`)).json.tasks as any[]).filter((t) => t.schedule_id === id).reverse()
  /** As if the next run had been due so long ago. */
  const dueAgo = async (id: string, ms: number): Promise<number> => {
    const [seconds] = await system.redis.time()
    const due = Number(seconds) * 1000 - ms
    await system.redis.hset(system.keys.schedule(type, id), 'next', due)
    await system.redis.zadd(system.keys.schedules(type), due, id)
    return due
  }
  const del = (id: string) => system.call('DELETE', `/schedules/${id}`)
  return { type, task, put, read, runsOf, dueAgo, del }
}

describe('put', () => {
  test.concurrent('makes a schedule, and says when it runs next', async () => {
    const { type, put, read, del } = setting()
    const made = await put('put.daily', { cron: '30 2 * * *', tz: 'Europe/Berlin' })
    expect([made.status, made.headers.get('location')]).toEqual([201, '/schedules/put.daily'])
    expect(made.json).toEqual({
      schedule_id: 'put.daily', agent_type: type, cron: '30 2 * * *', tz: 'Europe/Berlin', every_seconds: null, catch_up_seconds: 3600, paused: false, task: { agent_type: type, task_type: 'echo' },
      next_run_at: new Date(parseCron('30 2 * * *', 'Europe/Berlin').next(Date.now())!).toISOString(), last_run_at: null, last_scheduled_at: null, last_task_id: null, runs: 0, missed: 0, last_missed_at: null,
      failed: 0, last_error: null, last_error_at: null, created_at: expect.any(String), updated_at: made.json.created_at,
    })
    expect(await read('put.daily')).toEqual(made.json)
    expect((await del('put.daily')).json).toEqual({ schedule_id: 'put.daily', deleted: true })
    expect((await del('put.daily')).json).toEqual({ schedule_id: 'put.daily', deleted: false })
    expect((await system.get('/schedules/put.daily')).status).toBe(404)
    // Nothing is left of it, here or in BullMQ.
    expect((await system.redis.keys(`${system.prefix}:{default/${type}}:*`)).filter((key) => /schedule/.test(key))).toEqual([])
  })

  test.concurrent('again changes what is said, and the time only when that is', async () => {
    const { put, task, del } = setting()
    const first = (await put('put.again', { every_seconds: 500 })).json
    const same = await put('put.again', { every_seconds: 500 })
    expect([same.status, same.json]).toEqual([200, first])
    const other = (await put('put.again', { every_seconds: 500, catch_up_seconds: 60, task: task({ parameters: { n: 1 } }) })).json
    expect(other).toMatchObject({ next_run_at: first.next_run_at, catch_up_seconds: 60, task: { parameters: { n: 1 } }, created_at: first.created_at })
    const sooner = (await put('put.again', { every_seconds: 400 })).json
    expect(at(sooner.next_run_at)).toBeLessThan(at(first.next_run_at))
    expect((await put('put.again', { cron: '0 0 1 1 *' })).json).toMatchObject({ every_seconds: null, cron: '0 0 1 1 *', tz: 'UTC', next_run_at: `${new Date().getUTCFullYear() + 1}-01-01T00:00:00.000Z` })
    // Paused by somebody, it stays so unless that is said.
    expect((await system.post('/schedules/put.again/pause')).json).toMatchObject({ paused: true, next_run_at: null })
    expect((await put('put.again', { cron: '0 0 1 1 *' })).json).toMatchObject({ paused: true, next_run_at: null })
    expect((await put('put.again', { cron: '0 0 1 1 *', paused: false })).json).toMatchObject({ paused: false, next_run_at: expect.any(String) })
    await del('put.again')
  })

  test.concurrent('for another agent type moves it there, and only one runs', async () => {
    const [a, b] = [setting(), setting()]
    await a.put('put.moves', { every_seconds: 1 })
    await until(async () => (await a.read('put.moves')).runs > 0)
    expect((await b.put('put.moves', { every_seconds: 1 })).json).toMatchObject({ agent_type: b.type, runs: 0 })
    const before = await a.runsOf('put.moves')
    await until(async () => (await b.read('put.moves')).runs > 1)
    expect(await a.runsOf('put.moves')).toEqual(before)
    expect((await system.get(`/schedules?agent_type=${a.type}`)).json.schedules).toEqual([])
    await b.del('put.moves')
  })

  test.concurrent.each([
    ['no time', {}, ['/cron is required unless every_seconds is given']],
    ['two times', { cron: '0 0 * * *', every_seconds: 5 }, ['/every_seconds cannot be given beside cron: give one of them']],
    ['no cron', { cron: '0 25 * * *' }, ['/cron must be a cron expression: minute, hour']],
    ['a cron with a year', { cron: '0 0 1 1 * 2030' }, ['/cron must be']],
    ['a cron of four fields', { cron: '0 0 * *' }, ['/cron must be']],
    ['a cron that means another time in each process', { cron: 'H H * * *' }, ['/cron must be']],
    ['a cron that never comes', { cron: '0 0 31 2,4 *' }, ['/cron must be']],
    ['a cron of two lines', { cron: '0 0 * * *\n0 1 * * *' }, ['/cron must be']],
    ['a long cron', { cron: `${'1,'.repeat(200)}2 * * * *` }, ['/cron must be']],
    ['no zone', { cron: '0 0 * * *', tz: 'Europe/Atlantis' }, ['/tz must be a time zone of the IANA database']],
    ['an offset for a zone', { cron: '0 0 * * *', tz: '+02:00' }, ['/tz must be']],
    ['a zone without cron', { every_seconds: 5, tz: 'UTC' }, ['/tz goes with cron only']],
    ['too often', { every_seconds: 0.5 }, ['/every_seconds must be a number from 1 to']],
    ['too rarely', { every_seconds: 1e9 }, ['/every_seconds must be']],
    ['null', { every_seconds: null, paused: null }, ['/every_seconds must be', '/paused must be true or false']],
    ['a wrong task', { every_seconds: 5, task: { task_type: '', priority: 99 } }, ['/task/agent_type is required', '/task/priority must be', '/task/task_type must be']],
    ['a task with a time of its own', { every_seconds: 5, task: { agent_type: 'a', task_type: 'x', delay_seconds: 1, run_at: '2026-01-01T00:00:00Z' } }, ['/task/delay_seconds is not for a schedule’s task', '/task/run_at']],
    ['no task', { every_seconds: 5, task: undefined }, ['/task is required']],
    ['null for a task', { every_seconds: 5, task: null }, ['/task must be an object']],
    ['a list for a task', { every_seconds: 5, task: [] }, ['/task must be an object']],
    ['a huge task', { every_seconds: 5, task: { agent_type: 'a', task_type: 'x', parameters: { text: 'x'.repeat(65_600) } } }, ['/task must be at most 65536 characters']],
    ['a member we do not know', { every_seconds: 5, overlap: 'skip' }, ['/overlap is not known here']],
  ])('%s is refused, and said where', async (_, more, faults) => {
    const { put } = setting()
    const answer = await put('put.bad', more)
    expect([answer.status, answer.json.type]).toEqual([422, '/docs/errors#invalid-request'])
    const told = answer.json.errors.map((e: { pointer: string; detail: string }) => `${e.pointer} ${e.detail}`)
    for (const fault of faults) expect(told).toContainEqual(expect.stringContaining(fault))
    expect((await system.get('/schedules/put.bad')).status).toBe(404)
  })

  test.concurrent('has ids of the form that ids have, and agents that are there', async () => {
    const { put, task, type } = setting()
    expect((await put('-a', { every_seconds: 5 })).status).toBe(422)
    expect((await put(`a${'b'.repeat(128)}`, { every_seconds: 5 })).status).toBe(422)
    expect((await system.get('/schedules/a%20b')).status).toBe(404)
    expect((await system.post('/schedules/put.none/pause')).status).toBe(404)
    expect((await put('put.pin', { every_seconds: 5, task: { agent_id: 'nobody', task_type: 'x' } })).status).toBe(404)
    const agent = await system.agent({ type })
    expect((await put('put.pin', { every_seconds: 5, task: task({ agent_type: 'other', agent_id: agent.id }) })).json.errors).toEqual([{ pointer: '/task/agent_type', detail: expect.stringContaining(`is of type ${type}`) }])
    expect((await put('put.pin', { every_seconds: 5, task: task({ callback_url: 'https://169.254.169.254/' }) })).status).toBe(403)
    const answer = await system.call('POST', '/schedules/put.pin', {})
    expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'GET, HEAD, PUT, DELETE, OPTIONS'])
  })

  test.concurrent('by many at once makes one', async () => {
    const { put, type, del } = setting()
    const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => put('put.race', { every_seconds: 1000 + (n % 3) })))
    expect(answers.every((a) => a.status === 200 || a.status === 201)).toBe(true)
    expect((await system.get(`/schedules?agent_type=${type}`)).json.count).toBe(1)
    expect(await system.redis.zcard(`${system.keys.base(type)}${schedulesQueue(type)}:delayed`)).toBe(1)
    await del('put.race')
  })

  test.concurrent('is refused beyond ten thousand, and nothing is left of it', async () => {
    const prefix = `${system.prefix}-full`
    await using core = await startCore({ ...system, prefix })
    await core.redis.zadd(core.keys.scheduleIds, ...Array.from({ length: 10_000 }, (_, n) => ['0', `s${n}\tfull`]).flat())
    const [schedule, text] = [{ every_seconds: 500, catch_up_seconds: 60, task: {} as never }, '{}']
    await expect(core.schedules.put('one-more', 'full', schedule, text)).rejects.toMatchObject({ type: 'too-many-schedules', extra: { limit: 10_000 } })
    // Should another one come first, too.
    await core.redis.zrem(core.keys.scheduleIds, 's1\tfull')
    const both = await Promise.allSettled(['a', 'b'].map((id) => core.schedules.put(id, 'full', schedule, text)))
    expect(both.map((b) => b.status).sort()).toEqual(['fulfilled', 'rejected'])
    expect((await core.schedules.put('s7', 'full', schedule, text)).created).toBe(false)
    expect(await core.redis.zcard(core.keys.schedules('full'))).toBe(2)
    await sweepStore(system.redis, `${prefix}:`)
  })
})

test.concurrent('a list goes through all pages, by id, and can be of one agent type', async () => {
  const [a, b] = [setting(), setting()]
  const ids = ['a', 'a.b', 'a-1', 'a_', 'B', 'b'].map((id) => `list.${id}`)
  await Promise.all(ids.map((id, i) => (i % 2 === 0 ? a : b).put(id, { every_seconds: 1000 })))
  const pages = async (query: string) => {
    const found: string[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const { json } = await system.get(`/schedules?limit=2&${query}${cursor && `&cursor=${cursor}`}`)
      found.push(...json.schedules.map((s: { schedule_id: string }) => s.schedule_id))
      cursor = json.next_cursor
    }
    return found.filter((id) => id.startsWith('list.'))
  }
  expect(await pages('')).toEqual([...ids].sort())
  expect(await pages(`agent_type=${a.type}`)).toEqual(ids.filter((_, i) => i % 2 === 0).sort())
  expect((await system.get('/schedules?cursor=nonsense')).status).toBe(422)
  await Promise.all(ids.map(a.del))
})

describe('a run', () => {
  test.concurrent('is a task like any other, byte for byte, that says of which schedule it is', async () => {
    const { type, read, del } = setting()
    const agent = await system.agent({ type })
    const parameters = '{ "big": 18446744073709551616, "b": 1.0, "a": "\\u00df" }'
    const { status } = await system.call('PUT', '/schedules/run.bytes', `{"every_seconds": 1, "task": {"task_type": "echo", "agent_type": "${type}", "priority": "high", "max_retries": 0, "parameters": ${parameters}, "metadata": {"x": 1.50}}}`)
    expect(status).toBe(201)
    await until(() => agent.runs.length > 0)
    expect(agent.runs[0]!.body).toContain(`"parameters":${parameters}`)
    expect(agent.runs[0]!.body).toContain('"metadata":{"x": 1.50}')
    expect((await system.get('/schedules/run.bytes')).text).toContain(`"parameters": ${parameters}`)
    const task = await system.task(agent.runs[0]!.taskId)
    expect(task).toMatchObject({ schedule_id: 'run.bytes', priority: 10, max_retries: 0 })
    expect(at(task.created_at) - at(task.scheduled_at)).toBeGreaterThanOrEqual(0)
    const seen = await read('run.bytes')
    expect(at(seen.last_run_at) - at(seen.last_scheduled_at)).toBeGreaterThanOrEqual(0)
    await del('run.bytes')
    await system.ended(task.task_id)
    const last = agent.runs.length
    expect((await system.task((await system.call('POST', `/tasks/${task.task_id}/retry`)).json.task_id))).toMatchObject({ schedule_id: null })
    await until(() => agent.runs.length > last)
  })

  test.concurrent('is one, however many look at once, and is never made early', async () => {
    const { type, put, read, runsOf, dueAgo, del } = setting()
    await using one = await startCore(system)
    await using two = await startCore(system)
    await put('run.many', { every_seconds: 1000, catch_up_seconds: 100 })
    expect(await one.schedules.look(type, 'run.many')).toMatchObject({ verdict: 'waits', ran: false })
    for (let round = 1; round <= 3; round++) {
      const due = await dueAgo('run.many', 50_000)
      await Promise.all(Array.from({ length: 30 }, (_, i) => (i % 2 ? one : two).schedules.look(type, 'run.many')))
      expect(await read('run.many')).toMatchObject({ runs: round, missed: 0, last_scheduled_at: new Date(due).toISOString(), next_run_at: new Date(due + 1_000_000).toISOString() })
      const runs = await runsOf('run.many')
      expect(runs).toHaveLength(round)
      expect(runs.at(-1)).toMatchObject({ task_id: (await read('run.many')).last_task_id, scheduled_at: new Date(due).toISOString() })
    }
    for (const t of await runsOf('run.many')) await system.call('DELETE', `/tasks/${t.task_id}`)
    await del('run.many')
  })

  test.concurrent('is claimed by what was read of the schedule, or not at all', async () => {
    const { type, put, read, dueAgo, del } = setting()
    await using core = await startCore(system)
    const claim = loadScript(core.redis, new URL('../src/schedules/claim.lua', import.meta.url))
    const [id, other] = ['3c4d5e', '3c4d5f'].map((end) => `${type}.01980a1c-6f0e-7c3a-9d2b-1f6a2b${end}`)
    await put('run.stale', { every_seconds: 1000, paused: true })
    await system.post('/schedules/run.stale/resume')
    const key = system.keys.schedule(type, 'run.stale')
    const [rev, next] = await system.redis.hmget(key, 'rev', 'next')
    const by = (rev: unknown, next: unknown, task: string) => claim(core.keys.base(type), 'run.stale', String(rev), String(next), task, String(next), String(Number(next) + 1_000_000), 0, '')
    expect([await by(1, next, id!), await by(rev, 1, id!), await by(rev, next, id!), await by(rev, next, other!)]).toEqual([0, 0, 1, 0])
    // Nor by what was read before somebody else has made the run.
    await until(async () => (await read('run.stale')).runs === 1)
    expect([await by(rev, next, other!), await read('run.stale')]).toMatchObject([0, { last_task_id: id, runs: 1 }])
    // Nor while another is being submitted.
    const due = await dueAgo('run.stale', -100_000)
    await system.redis.hset(key, 'claim', `${other}\t1`)
    expect(await by(rev, due, id!)).toBe(0)
    await system.call('DELETE', `/tasks/${id}`)
    await del('run.stale')
  })

  test.concurrent('that was claimed by somebody who died is submitted under its id; once, also when its task has come and gone', async () => {
    const { type, put, read, runsOf, del } = setting()
    await put('run.claimed', { every_seconds: 1000 })
    const key = system.keys.schedule(type, 'run.claimed')
    const id = `${type}.01980a1c-6f0e-7c3a-9d2b-1f6a2b3c4d5e`
    const due = Date.now() - 2000
    await system.redis.hset(key, 'claim', `${id}\t${due}`)
    await system.redis.zadd(system.keys.schedules(type), due, 'run.claimed')
    await until(async () => (await read('run.claimed')).runs === 1)
    expect((await runsOf('run.claimed')).map((t) => [t.task_id, t.scheduled_at])).toEqual([[id, new Date(due).toISOString()]])
    await system.call('DELETE', `/tasks/${id}`)
    await system.redis.del(system.keys.task(type, id))
    await using core = await startCore(system)
    const parsed = { task_type: 'echo', agent_type: type, priority: 5, timeout_seconds: 30, max_retries: 0, retry_delay_seconds: 1, backoff: 'fixed', expires_in_seconds: 60 } as const
    const extra = { id, parameters: '{}', metadata: '{}', schedule: { id: 'run.claimed', dueMs: due } }
    await expect(core.tasks.submit(parsed, type, extra)).rejects.toMatchObject({ name: 'AlreadySubmitted' })
    expect([(await read('run.claimed')).runs, await system.redis.exists(system.keys.task(type, id))]).toEqual([1, 0])
    // One that is found too late is missed.
    await system.redis.hset(key, 'claim', `${id}\t${due - 2 * HOUR}`)
    await system.redis.zadd(system.keys.schedules(type), due, 'run.claimed')
    await until(async () => (await read('run.claimed')).missed === 1)
    expect(await read('run.claimed')).toMatchObject({ runs: 1, last_missed_at: new Date(due - 2 * HOUR).toISOString() })
    await del('run.claimed')
  })

  test.concurrent('that is too late is missed, and what was due before it; the log and the metrics say so', async () => {
    const { type, put, read, dueAgo, del } = setting()
    await put('run.missed', { every_seconds: 1000, catch_up_seconds: 10 })
    const due = await dueAgo('run.missed', 2_500_000)
    const seen = await until(async () => { const s = await read('run.missed'); return s.missed > 0 ? s : null })
    expect(seen).toMatchObject({ runs: 0, missed: 3, last_missed_at: new Date(due + 2_000_000).toISOString(), next_run_at: new Date(due + 3_000_000).toISOString() })
    await until(() => /"level":"warn".*"schedule":"run.missed","missed":3/.test(system.worker.map((w) => w.log.join('')).join('')))
    await until(async () => (await system.get('/metrics')).text.includes(`switchyard_schedule_runs_total{agent_type="${type}",outcome="missed"} 3`))
    await del('run.missed')
  })

  test.concurrent('is made without BullMQ, should that have lost it, or have another time; and is told to it again', async () => {
    const { type, put, read, dueAgo, del } = setting()
    await put('run.lost', { every_seconds: 1000 })
    const queue = `${system.keys.base(type)}${schedulesQueue(type)}`
    await system.redis.unlink(...(await system.redis.keys(`${queue}:*`)))
    await dueAgo('run.lost', 5000)
    const seen = await until(async () => { const s = await read('run.lost'); return s.runs === 1 ? s : null })
    await until(async () => (await system.redis.zscore(`${queue}:repeat`, 'run.lost')) === String(at(seen.next_run_at)))
    // A job that comes much too early starts nothing, and is set right.
    const [job] = await system.redis.zrange(`${queue}:delayed`, '0', '0')
    await system.redis.zadd(`${queue}:delayed`, '0', job!)
    await system.redis.zadd(system.keys.schedules(type), String(Date.now()), 'run.lost')
    await until(async () => Number((await system.redis.zrange(`${queue}:delayed`, '0', '0', 'WITHSCORES'))[1]) > 0 && (await system.redis.zscore(`${queue}:repeat`, 'run.lost')) === String(at(seen.next_run_at)))
    expect(await read('run.lost')).toMatchObject({ runs: 1, missed: 0, next_run_at: seen.next_run_at })
    await del('run.lost')
  })

  test.concurrent('whose job is held by a worker that died is made all the same, and the job goes, be its schedule deleted or not', async () => {
    await using core = await startCore(system)
    const [kept, deleted] = [setting(), setting()]
    for (const s of [kept, deleted]) {
      await s.put(`run.held.${s.type}`, { every_seconds: 500 })
      const queue = `${system.keys.base(s.type)}${schedulesQueue(s.type)}`
      // Due by BullMQ, and taken by somebody who is not heard of again.
      const [job] = await system.redis.zrange(`${queue}:delayed`, '0', '0')
      await system.redis.zadd(`${queue}:delayed`, '0', job!)
      expect(await core.schedulers.take(s.type, 'dead')).toMatchObject({ id: `run.held.${s.type}` })
      await system.redis.del(`${queue}:${job}:lock`)
    }
    await deleted.del(`run.held.${deleted.type}`)
    await kept.dueAgo(`run.held.${kept.type}`, 3000)
    await until(async () => (await kept.read(`run.held.${kept.type}`)).runs === 1)
    for (const s of [kept, deleted]) await until(async () => (await system.redis.llen(`${system.keys.base(s.type)}${schedulesQueue(s.type)}:active`)) === 0)
    await until(async () => (await system.redis.keys(`${system.keys.base(deleted.type)}*schedules*`)).length === 0)
    await kept.del(`run.held.${kept.type}`)
  })

  test.concurrent('is one, and is not early, by workers whose clocks are an hour wrong', async () => {
    await using own = await startSystem({ workers: 0 })
    const wrong = (ms: number) => own.addWorker({ NODE_OPTIONS: `--import=${new URL('./fixtures/skewed-clock.ts', import.meta.url)}`, SKEW_MS: String(ms) })
    await Promise.all([wrong(HOUR), wrong(-HOUR)])
    await Promise.all(['cron', 'every'].map((id) => own.call('PUT', `/schedules/${id}`, { ...(id === 'cron' ? { cron: '* * * * * *' } : { every_seconds: 1 }), task: { agent_type: id, task_type: 'x' } })))
    for (const id of ['cron', 'every']) {
      await until(async () => (await own.get(`/schedules/${id}`)).json.runs >= 3)
      const s = (await own.post(`/schedules/${id}/pause`)).json
      const tasks = (await own.get(`/tasks?agent_type=${id}`)).json.tasks as any[]
      const due = tasks.map((t) => at(t.scheduled_at))
      expect([s.runs, new Set(due).size]).toEqual([tasks.length, tasks.length])
      expect((Math.max(...due) - Math.min(...due)) / 1000 + 1).toBeLessThanOrEqual(s.runs + s.missed)
      for (const t of tasks) expect(at(t.created_at)).toBeGreaterThanOrEqual(at(t.scheduled_at))
    }
  })

  test.concurrent('whose agent has gone has failed, and the schedule says why', async () => {
    const { type, put, task, read, runsOf, dueAgo, del } = setting()
    const agent = await system.agent({ type, beats: false })
    await put('run.gone', { every_seconds: 1000, task: task({ agent_id: agent.id }) })
    await system.call('DELETE', `/agents/${agent.id}`)
    await dueAgo('run.gone', 2000)
    await until(async () => (await read('run.gone')).failed === 1)
    expect(await read('run.gone')).toMatchObject({ runs: 0, missed: 0, last_error: expect.stringContaining(`agent ${agent.id} is not registered`), last_error_at: expect.any(String) })
    expect(await runsOf('run.gone')).toEqual([])
    await del('run.gone')
  })

  test.concurrent('is not made of a record that is not in the index', async () => {
    const { type, put, runsOf, dueAgo } = setting()
    await put('run.nowhere', { every_seconds: 1000 })
    await system.redis.zrem(system.keys.scheduleIds, `run.nowhere\t${type}`)
    await system.redis.hset(system.keys.schedule(type, 'run.nowhere'), 'updated', Date.now() - HOUR)
    await dueAgo('run.nowhere', 3000)
    await until(async () => (await system.redis.exists(system.keys.schedule(type, 'run.nowhere'))) === 0)
    expect([await runsOf('run.nowhere'), await system.redis.zcard(system.keys.schedules(type))]).toEqual([[], 0])
  })
})

test.concurrent('a paused schedule does nothing, misses nothing, and goes on from when it is let', async () => {
  const { put, read, runsOf, del } = setting()
  await put('pause.it', { every_seconds: 1 })
  await until(async () => (await read('pause.it')).runs > 0)
  for (let i = 0; i < 2; i++) expect((await system.post('/schedules/pause.it/pause')).json).toMatchObject({ paused: true, next_run_at: null })
  const { runs } = await read('pause.it')
  // Another comes due twice meanwhile.
  const other = setting()
  await other.put('pause.other', { every_seconds: 1 })
  await until(async () => (await other.read('pause.other')).runs > 1)
  await other.del('pause.other')
  expect(await read('pause.it')).toMatchObject({ runs, missed: 0 })
  const on = await system.post('/schedules/pause.it/resume')
  expect([on.status, on.json.paused]).toEqual([200, false])
  expect(at(on.json.next_run_at) - at(on.json.updated_at)).toBeGreaterThan(0)
  expect(at(on.json.next_run_at) - at(on.json.updated_at)).toBeLessThanOrEqual(2000)
  await until(async () => (await read('pause.it')).runs > runs)
  expect((await runsOf('pause.it'))[runs]).toMatchObject({ scheduled_at: on.json.next_run_at })
  await del('pause.it')
})

describe('two workers, then', () => {
  /** Each time that was due, from the first to the last, is one task, or was said to be missed. */
  const eachOnce = (s: any, runs: any[]): void => {
    const due = runs.map((t) => at(t.scheduled_at))
    expect(new Set(due).size).toBe(due.length)
    expect([s.runs, s.failed]).toEqual([runs.length, 0])
    const last = Math.max(at(s.last_missed_at), at(s.last_scheduled_at))
    expect((last - first.get(s.schedule_id)!) / 1000 + 1).toBe(s.runs + s.missed)
  }
  const first = new Map<string, number>()
  const schedules = ['a', 'b', 'c', 'd'].map((id) => `two.${id}`)
  const { type, put, read, runsOf, del } = setting()
  let agent: TestAgent
  const all = async <T>(what: (id: string) => Promise<T>) => Promise.all(schedules.map(what))

  test('one that is killed at any moment: each time that is due is one task', async () => {
    agent = await system.agent({ type, maxConcurrency: 100 })
    await all(async (id) => first.set(id, at((await put(id, { every_seconds: 1 })).json.next_run_at)))
    // In the midst of a run: one of them has been submitted just now.
    await until(async () => (await read(schedules[0]!)).runs >= 2, { everyMs: 1 })
    await system.worker.shift()!.kill('SIGKILL')
    const { runs } = await read(schedules[0]!)
    await until(async () => (await read(schedules[0]!)).runs >= runs + 2)
  })

  test('none, for a while: what was due is said to be missed, but for the latest', async () => {
    await system.worker.shift()!.kill('SIGKILL')
    const before = await all(read)
    // Until two times have come due with nobody there.
    await until(async () => { const [seconds] = await system.redis.time(); return Number(seconds) * 1000 > at(before[0].next_run_at) + 1_200 })
    expect((await read(schedules[0]!)).runs).toBe(before[0].runs)
    await system.addWorker()
    for (const [i, id] of schedules.entries()) {
      const seen = await until(async () => { const s = await read(id); return s.runs > before[i].runs ? s : null })
      expect(seen.missed).toBeGreaterThan(before[i].missed)
      expect(at(seen.last_missed_at)).toBeGreaterThan(at(before[i].last_scheduled_at))
    }
    await all((id) => system.post(`/schedules/${id}/pause`))
    for (const id of schedules) {
      const runs = await runsOf(id)
      eachOnce(await read(id), runs)
      for (const t of runs) await system.ended(t.task_id, 40_000)
    }
    await all(del)
    // What the killed ones had sent holds its slot until the agent says that it does not have it.
    for (let i = 0; i < 2; i++) await agent.beat({ running: [] })
  })

  test('nothing is left behind', async () => {
    // Locks of workers that were killed last for a while; that they run out is another test's.
    await system.redis.unlink(...(await system.redis.keys(`${system.keys.base(type)}${schedulesQueue(type)}:*`)), 'none')
    // Tasks for agents that were not there.
    for (const t of [...(await system.get('/tasks?status=queued&limit=200')).json.tasks]) await system.call('DELETE', `/tasks/${t.task_id}`)
    expect((await system.get('/schedules')).json.schedules).toEqual([])
    await becomesQuiet(system)
  })
})
