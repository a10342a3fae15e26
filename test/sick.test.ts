/** Whose fault a failure is: an agent that fails many tasks is sick, a task that fails on many agents is poison, and neither is taken for the other. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { becomesQuiet } from './quiet.ts'
import { accepts, startSystem, until, type AgentOptions, type Handler, type System, type TestAgent } from './system.ts'

let system: System
beforeAll(async () => {
  system = await startSystem({ workers: 2 })
})
afterAll(() => system[Symbol.asyncDispose]())

let types = 0
const setting = () => {
  const type = `sick${++types}`
  return {
    type,
    agent: (o: AgentOptions = {}) => system.agent({ type, ...o }),
    submit: (task: Record<string, unknown> = {}) => system.submit({ agent_type: type, retry_delay_seconds: 0.01, backoff: 'fixed', ...task }),
    view: async (agent: TestAgent) => (await system.get(`/agents/${agent.id}`)).json,
    isSick: (agent: TestAgent) => until(async () => (await system.get(`/agents/${agent.id}`)).json.sick, { what: `${agent.id} sick` }),
    /** As if its time out were over: the next beat makes the router look. */
    timePasses: async (agent: TestAgent) => {
      await system.redis.hset(system.keys.agent(type, agent.id), 'rest', '1')
      await agent.beat()
    },
  }
}
const fails: Handler = () => {
  throw new Error('the disk is full')
}
const succeeds: Handler = () => 'ok'
const iso = /^\d{4}-\d\d-\d\dT/

describe('a sick agent', () => {
  test.concurrent('is taken out, no task is charged for it, and it comes back, with one task at a time, once it is well', async () => {
    const { type, agent, submit, view, isSick, timePasses } = setting()
    const ill = await agent({ handle: fails, maxConcurrency: 4, name: 'ill' })
    const good = [await agent({ handle: succeeds, maxConcurrency: 2 }), await agent({ handle: succeeds, maxConcurrency: 2 })]
    const ids: string[] = []
    while (!(await view(ill)).sick) ids.push(...(await Promise.all(Array.from({ length: 4 }, () => submit({ retry_delay_seconds: 1 })))))
    const foundAt = Date.parse((await view(ill)).sick.since)
    for (const id of ids) {
      const task = await system.ended(id)
      expect(task).toMatchObject({ status: 'completed', poison: false, error: null })
      // One that could still be given back what it paid.
      if (Date.parse(task.completed_at) > foundAt) expect(task.retry_count).toBe(0)
      expect(task.retry_count + task.refunds).toBe(task.attempts.length - 1)
    }
    const failed = ill.runs.length
    expect(failed).toBeGreaterThanOrEqual(5)
    expect(await view(ill)).toMatchObject({ status: 'unhealthy', is_alive: true, resting_until: null, sick: { since: expect.stringMatching(iso), until: expect.stringMatching(iso), times: 1, reason: '5 different tasks in a row failed there; the last: the disk is full' } })
    const { since, until: till } = (await view(ill)).sick
    expect(Date.parse(till) - Date.parse(since)).toBeGreaterThanOrEqual(24_000)
    expect(Date.parse(till) - Date.parse(since)).toBeLessThanOrEqual(30_000)
    expect((await system.get(`/agents?type=${type}&status=unhealthy`)).json.agents.map((a: any) => a.id)).toEqual([ill.id])
    expect(system.worker.flatMap((w) => w.log).join('')).toMatch(new RegExp(`"agent":"${ill.id}","agent_type":"${type}","until":"[^"]+","times":1,"refunded":\\d+,"reason":"5 different`))
    // Neither a beat nor registering again brings it back before its time.
    await ill.beat({ status: 'healthy' })
    await ill.register()
    for (const id of await Promise.all(Array.from({ length: 12 }, () => submit()))) await system.ended(id)
    expect([ill.runs.length, (await view(ill)).status]).toEqual([failed, 'unhealthy'])

    // Its time is over, and it is sick still: the one task it is tried with pays nothing, and it is out for longer.
    await timePasses(ill)
    let probe = ''
    await until(async () => {
      probe = await submit({ max_retries: 0 })
      await system.ended(probe)
      return ill.runs.length > failed
    })
    const again = await system.task(ill.runs.at(-1)!.taskId)
    expect(again).toMatchObject({ status: 'completed', retry_count: 0, refunds: 1 })
    expect(ill.runs.length).toBe(failed + 1)
    expect((await isSick(ill)).times).toBe(2)
    // Its own words, which may hold of the payload, are for who may read the agent, and not for the log.
    const lines = () => system.worker.flatMap((w) => w.log).join('').split('\n').filter((line) => line.includes(ill.id))
    await until(() => lines().some((line) => line.includes('"times":2')))
    expect(lines().filter((line) => line.includes('the disk is full'))).toEqual([])

    // Well again, it gets one task at first, and with its end all of its room.
    const { promise: opened, resolve: open } = Promise.withResolvers<void>()
    for (const a of [ill, ...good]) a.state.handle = async () => (await opened, 'ok')
    await timePasses(ill)
    const more = await Promise.all(Array.from({ length: 12 }, () => submit()))
    await until(() => good[0]!.running() === 2 && good[1]!.running() === 2 && ill.running() === 1)
    expect(await view(ill)).toMatchObject({ status: 'unhealthy', in_flight: 1, sick: { until: null } })
    expect((await Promise.all(more.map((id) => system.task(id)))).filter((t) => t.status === 'queued')).toHaveLength(7)
    open()
    for (const id of more) expect((await system.ended(id)).status).toBe('completed')
    expect(await view(ill)).toMatchObject({ status: 'healthy', sick: null })
  })

  test.concurrent('is one of at most half of a pool: the others stay in; and well again when it shows that all fail', async () => {
    const { type, agent, submit, view } = setting()
    const agents = [await agent({ handle: fails, maxConcurrency: 2 }), await agent({ handle: fails, maxConcurrency: 2 }), await agent({ handle: fails, maxConcurrency: 2 })]
    let most = 0
    const ids = await Promise.all(Array.from({ length: 30 }, () => submit({ max_retries: 2 })))
    for (const id of ids) {
      expect((await system.ended(id)).status).toBe('failed')
      most = Math.max(most, (await Promise.all(agents.map(view))).filter((a) => a.sick).length)
    }
    expect(most).toBeLessThanOrEqual(1)
    const stats = await system.redis.hgetall(system.keys.stats(type))
    expect(Number(stats.agents_out)).toBeGreaterThan(0)
    expect(Number(stats.agents_cleared)).toBeGreaterThan(0)
  })

  test.concurrent('is not one that a task, however often, or bad input, or a lack of room has failed', async () => {
    const { agent, submit, view } = setting()
    // In service, so that the other one could be spared, and full.
    const { promise: opened, resolve: open } = Promise.withResolvers<void>()
    const other = await agent({ maxConcurrency: 1, handle: async () => (await opened, 'ok') })
    const held = await submit()
    await until(() => other.running() === 1)
    let handle: Handler = fails
    const one = await agent({ handle: (task, exchange) => handle(task, exchange), name: 'one' })
    // The same task is one, at whichever count.
    const same = await submit({ max_retries: 9 })
    expect((await system.ended(same)).attempts).toHaveLength(10)
    handle = (_task, { res }) => void res.writeHead(422, { 'content-type': 'application/json' }).end('{"error":"no such account"}')
    for (const id of await Promise.all(Array.from({ length: 12 }, () => submit()))) expect((await system.ended(id)).error).toBe('no such account')
    let declined = 0
    handle = (_task, { res }) => (declined++ < 6 ? void res.writeHead(503, { 'retry-after': '0' }).end() : 'ok')
    for (const id of await Promise.all(Array.from({ length: 8 }, () => submit()))) expect((await system.ended(id)).status).toBe('completed')
    expect([(await view(one)).sick, (await view(other)).sick]).toEqual([null, null])
    open()
    await system.ended(held)
  })

  test.concurrent('is not one that completes tasks in between', async () => {
    const { agent, submit, view } = setting()
    let n = 0
    const flaky = await agent({ maxConcurrency: 4, handle: () => (++n % 5 === 0 ? 'ok' : fails({}, {} as never)) })
    await agent({ status: 'degraded' }) // it could be spared
    for (let i = 0; i < 15; i++) await system.ended(await submit({ max_retries: 0 }))
    expect(flaky.runs.length).toBeGreaterThan(10)
    expect((await view(flaky)).sick).toBeNull()
  })

  test.concurrent('is tried before its time when no other is left', async () => {
    const { agent, submit, isSick, view } = setting()
    const ill = await agent({ handle: fails })
    const good = await agent({ handle: succeeds, status: 'degraded' })
    const first = await Promise.all(Array.from({ length: 5 }, () => submit({ retry_delay_seconds: 1 })))
    await isSick(ill)
    for (const id of first) expect(await system.ended(id)).toMatchObject({ status: 'completed', retry_count: 0 })
    ill.state.handle = succeeds
    await good.beat({ status: 'draining' })
    expect(await system.ended(await submit())).toMatchObject({ status: 'completed', agent_id: ill.id })
    await until(async () => (await view(ill)).status === 'healthy')
  })

  test.concurrent('is tried before its time also when a task is pinned to it', async () => {
    const { agent, submit, isSick, view } = setting()
    const ill = await agent({ handle: fails })
    await agent({ handle: succeeds, status: 'degraded' })
    const first = await Promise.all(Array.from({ length: 5 }, () => submit({ retry_delay_seconds: 1 })))
    await isSick(ill)
    ill.state.handle = succeeds
    expect(await system.ended(await submit({ agent_id: ill.id }))).toMatchObject({ status: 'completed', agent_id: ill.id })
    await until(async () => (await view(ill)).status === 'healthy')
    for (const id of first) expect((await system.ended(id)).status).toBe('completed')
  })

  test.concurrent('may be one that beats and cannot be reached; when it was dead meanwhile, all that is forgotten', async () => {
    const { type, agent, submit, isSick, view } = setting()
    const deaf = await agent({ beats: false, maxConcurrency: 1 })
    await agent({ handle: succeeds, status: 'degraded' })
    await deaf.die()
    const met: any[] = []
    while (!(await view(deaf)).sick) {
      await deaf.beat()
      const task = await system.ended(await submit({ max_retries: 0 }))
      if (task.attempts[0].agent_id === deaf.id) met.push(task)
    }
    expect(met).toMatchObject([...Array(4).fill({ status: 'failed', refunds: 0, poison: false }), { status: 'completed', retry_count: 0, refunds: 1 }])
    expect(await isSick(deaf)).toMatchObject({ times: 1, reason: expect.stringContaining('5 different tasks in a row failed there; the last: ') })
    await deaf.listenAgain()
    await deaf.beat()
    expect((await view(deaf)).status).toBe('unhealthy')
    await system.redis.hset(system.keys.agent(type, deaf.id), 'seen', 1)
    await until(async () => (await view(deaf)).status === 'dead')
    await deaf.beat()
    expect(await view(deaf)).toMatchObject({ status: 'healthy', sick: null })
    expect((await system.ended(await submit())).agent_id).toBe(deaf.id)
  })

  test.concurrent('that has begun anew is tried at once', async () => {
    const { type, agent, submit, isSick, view } = setting()
    const ill = await agent({ handle: fails })
    const good = await agent({ handle: succeeds, status: 'degraded' })
    const first = await Promise.all(Array.from({ length: 5 }, () => submit()))
    await isSick(ill)
    for (const id of first) await system.ended(id)
    ill.state.handle = succeeds
    const anew = { name: 'anew', type, host: '127.0.0.1', port: ill.port, capabilities: ['echo'], agent_id: ill.id, instance_id: 'another' }
    expect((await system.post('/agents/register', anew)).json).toMatchObject({ generation: 2, status: 'unhealthy', sick: { until: null } })
    expect(await system.ended(await submit())).toMatchObject({ status: 'completed', agent_id: ill.id })
    expect(await view(ill)).toMatchObject({ status: 'healthy', sick: null })
    expect(good.runs.length).toBe(5)
  })

  test.concurrent('is found by callbacks too; a task that has ended meanwhile stays ended', async () => {
    const { agent, submit, isSick } = setting()
    const later = await agent({ handle: accepts, maxConcurrency: 5 })
    const ids = await Promise.all(Array.from({ length: 5 }, (_, i) => submit({ retry_delay_seconds: 1, max_retries: i === 0 ? 0 : 3 })))
    await until(() => later.runs.length === 5)
    await agent({ handle: succeeds })
    const tell = (i: number) => {
      const run = later.runs.find((r) => r.taskId === ids[i])!
      return system.post(`/tasks/${run.taskId}/result`, { attempt_id: run.attemptId, status: 'failed', error: 'no' })
    }
    for (let i = 0; i < 5; i++) expect((await tell(i)).json.status).toBe(i === 0 ? 'failed' : 'retrying')
    expect((await isSick(later)).reason).toBe('5 different tasks in a row failed there; the last: no')
    expect(await system.task(ids[0]!)).toMatchObject({ status: 'failed', refunds: 0, error: 'no' })
    for (const id of ids.slice(1)) expect(await system.ended(id)).toMatchObject({ status: 'completed', retry_count: 0, refunds: 1 })
    // Said again, it is answered alike, and counts for nothing.
    expect((await tell(0)).json.status).toBe('failed')
  })
})

describe('a poison task', () => {
  test.concurrent('ends marked, with the last words, after so many agents, and they stay in', async () => {
    const { agent, submit, view } = setting()
    const handle: Handler = (task) => (task.parameters.bad ? fails(task, {} as never) : 'ok')
    const agents = [await agent({ handle, name: 'a' }), await agent({ handle, name: 'b' }), await agent({ handle, name: 'c' }), await agent({ handle, name: 'd' })]
    const bad = await submit({ parameters: { bad: true }, max_retries: 20 })
    const ended = await system.ended(bad)
    expect(ended).toMatchObject({ status: 'failed', poison: true, error: 'poison: it failed on 3 different agents and is not tried again; the last said: the disk is full' })
    expect(new Set(ended.attempts.map((a: any) => a.agent_id)).size).toBe(3)
    expect(ended.attempts.map((a: any) => a.error)).toEqual(Array(3).fill('the disk is full'))
    expect((await system.get(`/tasks/${bad}/explain`)).json.summary).toContain('it failed on too many agents to be tried again (poison); ')
    expect((await system.get(`/tasks?agent_type=${ended.agent_type}&status=failed`)).json.tasks).toMatchObject([{ task_id: bad, poison: true }])
    for (const a of agents) expect(await view(a)).toMatchObject({ status: 'healthy', sick: null })
    expect(await system.ended(await submit())).toMatchObject({ status: 'completed', poison: false })
    expect(system.worker.flatMap((w) => w.log).join('')).toMatch(new RegExp(`"task":"${bad}".*"outcome":"failed","status":"failed","status_code":\\d+,"poison":true`))
  })

  test.concurrent('is one that kills its agents’ connections or times out there, too', async () => {
    const { agent, submit } = setting()
    const agents = [await agent({ handle: (_task, { res }) => void res.destroy() }), await agent({ handle: () => undefined }), await agent({ handle: (_task, { res }) => void res.destroy() })]
    expect(agents).toHaveLength(3)
    const ended = await system.ended(await submit({ max_retries: 50, timeout_seconds: 0.1 }))
    expect(ended).toMatchObject({ status: 'failed', poison: true })
    expect(new Set(ended.attempts.map((a: any) => a.agent_id)).size).toBe(3)
  })

  test.concurrent('is not one that fails often on fewer agents, or that no agent could be asked', async () => {
    const { agent, submit } = setting()
    await agent({ handle: fails })
    await agent({ handle: fails })
    expect(await system.ended(await submit({ max_retries: 4 }))).toMatchObject({ status: 'failed', poison: false, retry_count: 4, error: 'the disk is full' })
    const other = setting()
    for (let i = 0; i < 4; i++) await (await other.agent({ beats: false })).die()
    expect(await system.ended(await other.submit({ max_retries: 3 }))).toMatchObject({ status: 'failed', poison: false, retry_count: 3 })
  })

  test.concurrent('is not one whose agents were found sick: what they did counts no more', async () => {
    const { agent, submit, isSick, type } = setting()
    const ill = await agent({ handle: fails })
    // Six in all, so that three may be out.
    const others = [await agent({ handle: fails, status: 'draining' }), await agent({ handle: fails, status: 'draining' }), await agent({ status: 'degraded', handle: succeeds })]
    expect(others).toHaveLength(3)
    const victim = await submit({ retry_delay_seconds: 60, max_retries: 2 })
    await system.becomes(victim, 'retrying')
    expect(await system.redis.hget(system.keys.task(type, victim), 'failed_by')).toBe(` ${ill.id} `)
    await system.redis.zrem(system.keys.base(type) + 'pool:echo', others[0]!.id, others[1]!.id)
    for (let i = 0; i < 4; i++) await submit({ max_retries: 3 })
    await isSick(ill)
    expect(await system.task(victim)).toMatchObject({ status: 'retrying', retry_count: 0, refunds: 1 })
    expect(await system.redis.hget(system.keys.task(type, victim), 'failed_by')).toBe(' ')
    await system.call('DELETE', `/tasks/${victim}`)
  })
})

test('what was found is counted', async () => {
  const { text } = await system.get('/metrics')
  for (const name of ['agents_taken_out', 'attempts_refunded', 'tasks_poisoned']) expect(text).toMatch(new RegExp(`^switchyard_${name}_total\\{agent_type="sick\\d+"\\} [1-9]`, 'm'))
})

test('nothing is left behind', () => becomesQuiet(system))
