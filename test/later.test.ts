/** Agents that answer 202 and tell the result later, by callback. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { becomesQuiet } from './quiet.ts'
import { accepts, call, sleep, startSystem, until, type AgentOptions, type Run, type System, type TestAgent } from './system.ts'

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
const setting = (of: () => System = () => system) => {
  const type = `later${++types}`
  return {
    type,
    agent: (o: AgentOptions = {}): Promise<TestAgent> => of().agent({ type, handle: accepts, ...o }),
    submit: (more: object = {}): Promise<string> => of().submit({ agent_type: type, ...more }),
  }
}
const tell = (id: string, run: Pick<Run, 'attemptId'>, said: object = { status: 'completed', result: 1 }, of = system) => of.post(`/tasks/${id}/result`, { attempt_id: run.attemptId, ...said })
/** Tasks submitted now to another agent have run: what could have gone meanwhile has. */
const othersGo = async (): Promise<void> => {
  const { type, submit } = setting()
  await system.agent({ type })
  for (let i = 0; i < 3; i++) await system.ended(await submit())
}
/** A task but for what came too late to change it. */
const settled = (task: any): any => ({ ...task, late_results: [] })

describe('a task that is answered 202', () => {
  test.concurrent('is running, holds its slot, and ends with the callback, byte for byte', async () => {
    const { agent, submit } = setting()
    const a = await agent({ maxConcurrency: 1 })
    const id = await submit()
    const run = await a.delivery()
    expect(await system.becomes(id, 'running')).toMatchObject({ attempts: [{ attempt: 1, outcome: null, ended_at: null }], result: null })
    const next = await submit()
    await othersGo()
    expect([a.runs.length, await a.slots()]).toEqual([1, 1])
    const result = '[ 18446744073709551616, {"b":1,"a":2}, "ß" ]'
    const answer = await fetch(`${system.url()}/tasks/${id}/result`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: `{"attempt_id":"${run.attemptId}","status":"completed","result": ${result},"execution_time_ms":12.5}` })
    expect([answer.status, await answer.json()]).toEqual([200, { task_id: id, status: 'completed' }])
    expect(await system.task(id)).toMatchObject({ status: 'completed', execution_time_ms: 12.5, retry_count: 0, attempts: [{ outcome: 'completed' }] })
    expect((await system.get(`/tasks/${id}`)).text).toContain(`"result":${result}`)
    // The slot takes the next one.
    const second = await a.delivery(2)
    await system.becomes(next, 'running')
    expect((await tell(next, second)).status).toBe(200)
    await until(async () => (await a.slots()) === 0)
  })

  test.concurrent('may be told of before the 202', async () => {
    const { agent, submit } = setting()
    const a = await agent({ handle: async (task, { res }) => {
      expect((await tell(task.task_id, { attemptId: task.attempt_id }, { status: 'completed', result: 'quick' })).status).toBe(200)
      res.writeHead(202).end('{}')
    } })
    const id = await submit()
    expect(await system.ended(id)).toMatchObject({ status: 'completed', result: 'quick' })
    await until(async () => (await a.slots()) === 0)
    const again = await agent({ handle: async (task, { res }) => {
      if (task.attempt === 1) await tell(task.task_id, { attemptId: task.attempt_id }, { status: 'failed', error: 'not yet' })
      else await tell(task.task_id, { attemptId: task.attempt_id }, { status: 'completed', result: 'then' })
      res.writeHead(202).end()
    } })
    await system.call('DELETE', `/agents/${a.id}`)
    const retried = await submit({ retry_delay_seconds: 0.1 })
    expect(await system.ended(retried)).toMatchObject({ status: 'completed', result: 'then', retry_count: 1 })
    expect(again.runs).toHaveLength(2)
  })

  test.concurrent('that fails is retried, or not when the agent says so', async () => {
    const { agent, submit } = setting()
    const a = await agent()
    const id = await submit({ retry_delay_seconds: 0.1 })
    expect((await tell(id, await a.delivery(), { status: 'failed', error: 'bad \u001b[31m luck' })).json).toEqual({ task_id: id, status: 'retrying' })
    expect((await tell(id, await a.delivery(2), { status: 'completed', result: 2 })).json).toEqual({ task_id: id, status: 'completed' })
    expect(await system.task(id)).toMatchObject({ result: 2, error: null, retry_count: 1, attempts: [{ outcome: 'failed', error: 'bad \ufffd[31m luck' }, { outcome: 'completed' }] })
    const final = await submit()
    expect((await tell(final, await a.delivery(3), { status: 'failed', retryable: false })).json).toEqual({ task_id: final, status: 'failed' })
    expect(await system.task(final)).toMatchObject({ retry_count: 0, error: 'the agent said that it failed, and not why', attempts: [{ outcome: 'rejected' }] })
  })

  test.concurrent('whose deadline passes has timed out, is retried, and what comes late changes nothing', async () => {
    const { agent, submit } = setting()
    const a = await agent({ maxConcurrency: 1 })
    const id = await submit({ timeout_seconds: 1, max_retries: 1, retry_delay_seconds: 0.1 })
    const first = await a.delivery()
    const second = await a.delivery(2)
    expect(second.startedAt - first.startedAt).toBeGreaterThanOrEqual(990)
    expect(second.startedAt - first.startedAt).toBeLessThan(5000)
    expect((await tell(id, first)).json).toMatchObject({ type: expect.stringMatching(/stale-attempt$/), status: 409, task_id: id })
    const task = await system.ended(id)
    expect(task).toMatchObject({ status: 'timeout', error: 'no result came within 1 s', retry_count: 1, attempts: [{ outcome: 'timeout' }, { outcome: 'timeout' }] })
    expect((await tell(id, second)).status).toBe(409)
    expect(settled(await system.task(id))).toEqual(settled(task))
    await until(async () => (await a.slots()) === 0)
  })

  test.concurrent('that is cancelled ends at once; its slot comes back when the agent has stopped', async () => {
    const { agent, submit } = setting()
    const a = await agent({ maxConcurrency: 1, beats: false })
    const id = await submit()
    const run = await a.delivery()
    await system.becomes(id, 'running')
    const answer = await system.call('DELETE', `/tasks/${id}`)
    expect([answer.status, answer.json.status]).toEqual([200, 'cancelled'])
    expect(await system.task(id)).toMatchObject({ status: 'cancelled', attempts: [{ outcome: 'cancelled' }] })
    expect((await tell(id, run)).status).toBe(409)
    expect(await a.slots()).toBe(1)
    const beat = (running: string[]) => system.post(`/agents/${a.id}/heartbeat`, { running })
    expect((await beat([run.attemptId])).json.cancel).toEqual([run.attemptId])
    await beat([])
    await beat([])
    expect(await a.slots()).toBe(0)
  })
})

describe('a callback', () => {
  test.concurrent('that is said again is answered alike; with another result, attempt or task it is refused and changes nothing', async () => {
    const { agent, submit } = setting()
    const a = await agent()
    const id = await submit()
    const run = await a.delivery()
    expect((await tell(id, { attemptId: `${run.attemptId}x` })).status).toBe(409)
    expect((await tell(id, { attemptId: 'anything' })).status).toBe(409)
    expect((await tell(`${id.slice(0, -1)}${id.endsWith('0') ? '1' : '0'}`, run)).status).toBe(404)
    expect(await a.slots()).toBe(1)
    for (let i = 0; i < 2; i++) expect((await tell(id, run, { status: 'completed', result: { a: 1 } })).json).toEqual({ task_id: id, status: 'completed' })
    const before = await system.task(id)
    expect((await tell(id, run, { status: 'completed', result: { a: 2 } })).status).toBe(409)
    expect((await tell(id, run, { status: 'failed', error: 'no' })).status).toBe(409)
    expect(settled(await system.task(id))).toEqual(settled(before))
  })

  test.concurrent('of a hundred at once, one wins', async () => {
    const { agent, submit } = setting()
    const a = await agent()
    const id = await submit()
    const run = await a.delivery()
    const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => call('POST', `${system.url()}/tasks/${id}/result`, { attempt_id: run.attemptId, status: 'completed', result: n })))
    const won = answers.flatMap((answer, n) => (answer.status === 200 ? [n] : []))
    expect(won).toHaveLength(1)
    expect(answers.filter((answer) => answer.status === 409)).toHaveLength(99)
    expect((await system.task(id)).result).toBe(won[0])
  })

  test.concurrent('races the deadline: each task ends once, and stays so', { timeout: 60_000 }, async () => {
    const { agent, submit } = setting()
    const told = new Map<string, Promise<{ status: number }>>()
    await agent({ maxConcurrency: 50, handle: (task, { res }) => {
      res.writeHead(202).end()
      const wait = 900 + (told.size % 10) * 25
      told.set(task.task_id, sleep(wait).then(() => tell(task.task_id, { attemptId: task.attempt_id })))
    } })
    const ids = await Promise.all(Array.from({ length: 50 }, () => submit({ timeout_seconds: 1, max_retries: 0 })))
    const ends = await Promise.all(ids.map((id) => system.ended(id, 20_000)))
    for (const [i, id] of ids.entries()) {
      // A machine that is busy may let one time out before it has reached the agent.
      const answer = await told.get(id)
      if (answer || ends[i]!.status === 'completed') expect(answer!.status).toBe(ends[i]!.status === 'completed' ? 200 : 409)
      expect(['completed', 'timeout']).toContain(ends[i]!.status)
      expect(ends[i]!.attempts).toHaveLength(1)
    }
    expect((await Promise.all(ids.map((id) => system.task(id)))).map(settled)).toEqual(ends.map(settled))
  })

  test.concurrent('counts while no dispatcher lives, and one that dies costs a running task nothing', { timeout: 60_000 }, async () => {
    await using own = await startSystem()
    const { agent, submit, type } = setting(() => own)
    const a = await agent()
    const [first, second] = [await submit(), await submit({ retry_delay_seconds: 0.1 })]
    await until(() => a.runs.length === 2)
    for (const id of [first, second]) await own.becomes(id, 'running')
    const held = await own.agent({ type: 'held', handle: (task) => (task.attempt === 1 ? new Promise(() => {}) : 'again') })
    const lost = await own.submit({ agent_type: 'held' })
    await until(() => held.runs.length === 1)
    await own.worker[0]!.kill('SIGKILL')
    const runOf = (id: string) => a.runs.find((run) => run.taskId === id)!
    expect((await tell(first, runOf(first), undefined, own)).json).toEqual({ task_id: first, status: 'completed' })
    await own.addWorker()
    // What was in the dead one's hands comes round again; what is parked does not, as it is locked until behind its deadline.
    const lock = `${own.keys.base(type)}${type}.echo:${second}:lock`
    expect(await own.redis.get(lock)).toBe(runOf(second).attemptId)
    expect(await own.redis.pttl(lock)).toBeGreaterThan(60_000)
    expect(await own.ended(lost, 30_000)).toMatchObject({ status: 'completed', redeliveries: 1 })
    expect(await own.task(second)).toMatchObject({ status: 'running', redeliveries: 0 })
    expect((await tell(second, runOf(second), { status: 'failed', error: 'later' }, own)).json.status).toBe('retrying')
    await until(() => a.runs.length === 3)
    expect((await tell(second, a.runs[2]!, undefined, own)).json.status).toBe('completed')
    expect(await own.task(second)).toMatchObject({ redeliveries: 0, retry_count: 1 })
    await until(async () => (await own.redis.llen(`${own.keys.base(type)}${type}.echo:active`)) === 0)
  })
})
