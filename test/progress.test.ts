/** What agents tell while they work, what they tell too late, and what becomes of attempts that they forget. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { becomesQuiet } from './quiet.ts'
import { accepts, call, startSystem, until, type AgentOptions, type Run, type System, type TestAgent } from './system.ts'

let system: System
beforeAll(async () => {
  system = await startSystem({ workers: 2, apis: 2 })
})
afterAll(async () => {
  await becomesQuiet(system)
  await system[Symbol.asyncDispose]()
})

let types = 0
/** An agent type of the test's own, whose agents answer 202. */
const setting = (of = system) => {
  const type = `told${++types}`
  return {
    type,
    agent: (o: AgentOptions = {}): Promise<TestAgent> => of.agent({ type, handle: accepts, beats: false, ...o }),
    submit: (more: object = {}): Promise<string> => of.submit({ agent_type: type, timeout_seconds: 120, retry_delay_seconds: 0.05, ...more }),
  }
}
const report = (id: string, attempt: string, told: object = {}) => system.post(`/tasks/${id}/progress`, { attempt_id: attempt, ...told })
const tell = (id: string, attempt: string, said: object = { status: 'completed', result: 1 }) => system.post(`/tasks/${id}/result`, { attempt_id: attempt, ...said })
const sentAt = (run: Run): number => Number(run.attemptId.split('.')[0])

describe.concurrent('progress', () => {
  test('is shown as it was told last, its data byte for byte, and costs the record one report', async () => {
    const { agent, submit, type } = setting()
    const a = await agent()
    const id = await submit()
    const run = await a.delivery()
    expect((await system.task(id)).progress).toBeNull()
    const answer = (await report(id, run.attemptId, { percent: 12.5, message: 'one\t\u001b[31m' })).json
    expect(answer).toEqual({ task_id: id, status: 'running', deadline_at: new Date(sentAt(run) + 120_000).toISOString(), cancel_requested: false })
    expect((await system.task(id)).progress).toEqual({ percent: 12.5, message: 'one\t\ufffd[31m', data: null, at: expect.stringMatching(/Z$/) })
    const data = '[ 18446744073709551616, {"b":1, "a":2} ]'
    await Promise.all(Array.from({ length: 200 }, (_, n) => report(id, run.attemptId, { percent: n / 2 })))
    const fields = await system.redis.hlen(system.keys.task(type, id))
    await call('POST', `${system.url()}/tasks/${id}/progress`, `{"attempt_id":"${run.attemptId}","message":"","data": ${data}}`)
    expect((await system.get(`/tasks/${id}`)).text).toContain(`"progress":{"percent":null,"message":"","data":${data},"at":"`)
    // Watchers are told now and then.
    const told = (await system.redis.xrange(system.keys.events(type), '-', '+')).map(([, [, text]]) => text!.split('\t'))
    const steps = told.filter(([of]) => of === id).map(([, what]) => what)
    expect(steps.filter((what) => what === 'running')).toHaveLength(1)
    expect(steps.filter((what) => what === 'progress').length).toBeLessThan(20)
    expect(JSON.parse(told.find(([of, what]) => of === id && what === 'progress')!.at(-1)!)).toEqual({ percent: 12.5, message: 'one\t\ufffd[31m', data: null })
    // A call that reports nothing leaves what was told; a message that is too long is cut.
    expect((await report(id, run.attemptId)).status).toBe(200)
    expect((await system.task(id)).progress.message).toBe('')
    await report(id, run.attemptId, { percent: 0, message: 'x'.repeat(5000) })
    expect((await system.task(id)).progress).toMatchObject({ percent: 0, message: `${'x'.repeat(999)}…`, data: null })
    expect(await system.redis.hlen(system.keys.task(type, id))).toBe(fields)
    await tell(id, run.attemptId)
    expect((await system.task(id)).progress.percent).toBe(0)
  })

  test('that is bad, stale or foreign is refused, and changes nothing', async () => {
    const { agent, submit } = setting()
    const a = await agent()
    const id = await submit()
    const first = await a.delivery()
    const bad = [{}, { attempt_id: 1 }, { percent: 101 }, { percent: -1 }, { percent: '5' }, { message: 1 }, { data: 'x'.repeat(10_239) }, { extend_seconds: 0 }, { extend_seconds: -1 }, { extend_seconds: '9' }, { more: 1 }]
    await Promise.all(bad.map(async (told) => {
      const answer = await system.post(`/tasks/${id}/progress`, Object.keys(told).length === 0 ? told : { attempt_id: first.attemptId, ...told })
      expect([told, answer.status, answer.headers.get('content-type')]).toEqual([told, 422, expect.stringContaining('application/problem+json')])
    }))
    expect((await report(id, first.attemptId, { data: 'x'.repeat(10_238) })).status).toBe(200)
    expect((await report('told.none', first.attemptId)).status).toBe(404)
    expect((await report(`${id.slice(0, -1)}${id.endsWith('0') ? '1' : '0'}`, first.attemptId)).status).toBe(404)
    expect((await tell(id, first.attemptId, { status: 'failed', error: 'again' })).json.status).toBe('retrying')
    const second = await a.delivery(2)
    await system.becomes(id, 'running')
    const before = await system.task(id)
    for (const stale of [first.attemptId, `${second.attemptId}x`, 'anything']) {
      const answer = await report(id, stale, { percent: 1, extend_seconds: 5 })
      expect([answer.status, answer.json.type]).toEqual([409, expect.stringMatching(/stale-attempt$/)])
    }
    expect(await system.task(id)).toEqual(before)
    await tell(id, second.attemptId)
    expect((await report(id, second.attemptId, { percent: 1 })).status).toBe(409)
  })

  test('makes an attempt that is not answered yet running', async () => {
    const { agent, submit } = setting()
    const end = Promise.withResolvers<string>()
    const a = await agent({ handle: () => end.promise })
    const id = await submit()
    const run = await a.delivery()
    expect((await system.task(id)).status).toBe('sent')
    expect((await report(id, run.attemptId, { percent: 50 })).json.status).toBe('running')
    expect(await system.task(id)).toMatchObject({ status: 'running', progress: { percent: 50 } })
    expect((await system.get('/tasks?status=running&limit=200')).json.tasks.map((t: any) => t.task_id)).toContain(id)
    end.resolve('done')
    expect(await system.ended(id)).toMatchObject({ status: 'completed', result: 'done', attempts: [{ outcome: 'completed' }] })
  })
})

describe.concurrent.each([
  ['parked', true],
  ['in a dispatcher’s hands', false],
])('the deadline of an attempt that is %s', (_, parked) => {
  /** An agent that asks for more time as soon as it can, and its answer to that. */
  const asking = (of: System, extend_seconds: number) => {
    const asked = Promise.withResolvers<any>()
    const end = Promise.withResolvers<string>()
    const ask = async (id: string, attempt: string) => asked.resolve((await of.post(`/tasks/${id}/progress`, { attempt_id: attempt, extend_seconds })).json)
    const handle: AgentOptions['handle'] = async (task, { res }) => {
      await ask(task.task_id, task.attempt_id)
      if (!parked) return end.promise
      res.writeHead(202).end()
    }
    return { asked: asked.promise, handle, ends: (id: string, attempt: string) => (parked ? of.post(`/tasks/${id}/result`, { attempt_id: attempt, status: 'completed', result: 'in time' }) : end.resolve('in time')) }
  }

  test('moves when asked to, with the lease and all else, and the result counts behind the old one', async () => {
    const { agent, submit, type } = setting()
    const { asked, handle, ends } = asking(system, 120)
    const a = await agent({ maxConcurrency: 1, handle })
    const began = Date.now()
    const id = await submit({ timeout_seconds: 3, max_retries: 0 })
    expect(Date.parse((await asked).deadline_at)).toBeGreaterThanOrEqual(began + 120_000)
    const run = await a.delivery()
    const lock = `${system.keys.base(type)}${type}.echo:${id}:lock`
    if (parked) await until(async () => (await system.redis.get(lock)) === run.attemptId, { what: 'being parked' })
    const { deadline_at } = (await report(id, run.attemptId, { extend_seconds: 200 })).json
    expect(Date.parse(deadline_at)).toBeGreaterThanOrEqual(began + 200_000)
    expect(Number(await system.redis.zscore(system.keys.leases(type, a.id), run.attemptId))).toBe(Date.parse(deadline_at) + 1000)
    if (parked) expect(await system.redis.pttl(lock)).toBeGreaterThan(200_000)
    // Never nearer.
    expect((await report(id, run.attemptId, { extend_seconds: 0.5 })).json.deadline_at).toBe(deadline_at)
    await until(() => Date.now() > sentAt(run) + 4500, { what: 'the old deadline behind us, with all that it would have brought about' })
    expect([(await system.task(id)).status, await a.slots()]).toEqual(['running', 1])
    await ends(id, run.attemptId)
    expect(await system.ended(id)).toMatchObject({ status: 'completed', result: 'in time', attempts: [{ outcome: 'completed' }] })
    await until(async () => (await a.slots()) === 0)
  })

  test('moves no further than the operator allows, and the attempt ends then', async () => {
    await using own = await startSystem({ env: { MAX_TASK_TIMEOUT_SECONDS: '5' } })
    const { agent, submit } = setting(own)
    const { asked, handle } = asking(own, 86_400)
    const a = await agent({ maxConcurrency: 1, handle })
    const id = await submit({ timeout_seconds: 3, max_retries: 0 })
    const latest = sentAt(await a.delivery()) + 5000
    expect((await asked).deadline_at).toBe(new Date(latest).toISOString())
    const task = await own.ended(id)
    expect(task).toMatchObject({ status: 'timeout', error: expect.stringMatching(/^(no result came|no answer from the agent) within \d+(\.\d+)? s$/), attempts: [{ outcome: 'timeout' }] })
    expect(Date.parse(task.completed_at)).toBeGreaterThanOrEqual(latest - 50)
    expect(Date.parse(task.completed_at)).toBeLessThan(latest + 5000) // promised is 1 s; the machine may be busy
    expect((await own.post(`/tasks/${id}/progress`, { attempt_id: a.runs[0]!.attemptId, extend_seconds: 1 })).status).toBe(409)
    await until(async () => (await own.get(`/agents/${a.id}`)).json.in_flight === 0)
  })
})

describe.concurrent('a result that comes too late', () => {
  test('is refused and kept beside the record: of a former attempt, and behind the end', async () => {
    const { agent, submit, type } = setting()
    const a = await agent()
    const id = await submit()
    const first = await a.delivery()
    await tell(id, first.attemptId, { status: 'failed', error: 'again' })
    const second = await a.delivery(2)
    await system.becomes(id, 'running')
    const before = await system.task(id)
    const late = '{"n": 18446744073709551616}'
    expect((await call('POST', `${system.url()}/tasks/${id}/result`, `{"attempt_id":"${first.attemptId}","status":"completed","result":${late}}`)).status).toBe(409)
    expect((await tell(id, `${sentAt(first)}.foreign`)).status).toBe(409)
    const { late_results, ...same } = await system.task(id)
    expect({ ...same, late_results: [] }).toEqual(before)
    expect(late_results).toEqual([{ attempt: 1, agent_id: a.id, received_at: expect.stringMatching(/Z$/), status: 'completed', result: expect.anything(), error: null }])
    const { text } = await system.get(`/tasks/${id}`)
    expect(text).toContain(`"result":${late}`)
    for (const { attemptId } of [first, second]) expect(text).not.toContain(attemptId.split('.')[1])
    await tell(id, second.attemptId, { status: 'completed', result: 'right' })
    const ended = await system.task(id)
    // The same again is kept once; of more than five the last; of what is too large that it came.
    for (let i = 0; i < 3; i++) await tell(id, first.attemptId, { status: 'failed', error: 'oh' })
    for (const n of [1, 2, 3]) expect((await tell(id, second.attemptId, { status: 'completed', result: n })).status).toBe(409)
    expect((await tell(id, first.attemptId, { status: 'completed', result: 'x'.repeat(20_000) })).status).toBe(409)
    const after = await system.task(id)
    expect({ ...after, late_results: ended.late_results }).toEqual(ended)
    expect(after.late_results.map((l: any) => [l.attempt, l.status, l.result, l.error])).toEqual([
      [1, 'failed', null, 'oh'],
      [2, 'completed', 1, null],
      [2, 'completed', 2, null],
      [2, 'completed', 3, null],
      [1, 'completed', null, 'its result of 20002 bytes is not kept: more than 10240'],
    ])
    expect(await system.redis.hlen(system.keys.task(type, id))).toBeLessThan(40)
  })

  test('is not mistaken for another task’s', async () => {
    const { agent, submit } = setting()
    const a = await agent()
    const [one, two] = [await submit(), await submit()]
    await a.delivery(2)
    const runOf = (id: string) => a.runs.find((r) => r.taskId === id)!
    expect((await tell(one, runOf(two).attemptId)).status).toBe(409)
    expect((await system.task(one)).late_results).toEqual([])
    for (const id of [one, two]) await tell(id, runOf(id).attemptId)
  })
})

describe.concurrent('a parked attempt', () => {
  test('that its agent no longer lists is lost: its slot is free, and the task goes again at no cost', async () => {
    const { agent, submit } = setting()
    const a = await agent({ maxConcurrency: 1 })
    const id = await submit({ max_retries: 0 })
    const run = await a.delivery()
    await system.becomes(id, 'running')
    expect((await a.beat({ running: [run.attemptId] })).json).toMatchObject({ cancel: [], lost: [] })
    expect((await a.beat({ running: [run.attemptId] })).json.lost).toEqual([])
    expect((await system.task(id)).attempts).toHaveLength(1)
    await a.beat({ running: [] })
    expect(await a.slots()).toBe(0)
    const again = await a.delivery(2)
    await system.becomes(id, 'running')
    expect((await tell(id, run.attemptId, { status: 'completed', result: 'old' })).status).toBe(409)
    expect((await tell(id, again.attemptId, { status: 'completed', result: 'new' })).status).toBe(200)
    expect(await system.task(id)).toMatchObject({
      status: 'completed', result: 'new', retry_count: 0, redeliveries: 1, late_results: [{ attempt: 1, result: 'old' }],
      attempts: [{ outcome: 'lost', error: 'the agent no longer knew of the attempt' }, { outcome: 'completed' }],
    })
  })

  test('of an agent that is started anew is lost, and one that only registers again is not', async () => {
    const { agent, submit, type } = setting()
    const a = await agent({ maxConcurrency: 1 })
    const as = (instance: string) => system.post('/agents/register', { agent_id: a.id, name: 'a', type, host: '127.0.0.1', port: a.port, capabilities: ['echo'], max_concurrency: 1, instance_id: instance })
    await as('one')
    const id = await submit()
    await a.delivery()
    await system.becomes(id, 'running')
    await as('one')
    expect(await a.slots()).toBe(1)
    await as('two')
    expect(await a.slots()).toBe(0)
    const again = await a.delivery(2)
    expect((await tell(id, again.attemptId)).status).toBe(200)
    expect(await system.task(id)).toMatchObject({ status: 'completed', retry_count: 0, redeliveries: 1, attempts: [{ outcome: 'lost' }, { outcome: 'completed' }] })
  })

  test('of an agent that unregisters may still end; should it not, its deadline ends it', async () => {
    const { agent, submit } = setting()
    const a = await agent()
    const [one, two] = [await submit(), await submit({ timeout_seconds: 5, max_retries: 0 })]
    await a.delivery(2)
    for (const id of [one, two]) await system.becomes(id, 'running')
    await system.call('DELETE', `/agents/${a.id}`)
    expect(await system.ended(two)).toMatchObject({ status: 'timeout', redeliveries: 0 })
    expect((await tell(one, a.runs.find((r) => r.taskId === one)!.attemptId)).json.status).toBe('completed')
  })

  test('of an agent that fell silent goes on: it may still tell, and come back with it', async () => {
    const { agent, submit, type } = setting()
    const a = await agent({ ttlSeconds: 5 })
    const [one, two] = [await submit(), await submit()]
    await a.delivery(2)
    for (const id of [one, two]) await system.becomes(id, 'running')
    await system.redis.hset(system.keys.agent(type, a.id), 'seen', '1')
    await system.redis.zadd(system.keys.watch(type), 0, a.id)
    await until(async () => (await system.get(`/agents/${a.id}`)).json.status === 'dead')
    const runOf = (id: string) => a.runs.find((r) => r.taskId === id)!.attemptId
    expect((await tell(one, runOf(one))).json.status).toBe('completed')
    expect((await a.beat({ running: [runOf(two)] })).json).toMatchObject({ cancel: [], lost: [] })
    expect((await system.get(`/agents/${a.id}`)).json).toMatchObject({ status: 'healthy', in_flight: 1 })
    expect((await tell(two, runOf(two))).json.status).toBe('completed')
    expect(await system.task(two)).toMatchObject({ redeliveries: 0, attempts: [{ outcome: 'completed' }] })
  })
})
