/** Too much: what is turned away, what is let in all the same, and that it passes. */
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { laneOf } from '../src/api/lanes.ts'
import { serversOf } from './store.ts'
import { accepts, sleep, startSystem, until, type Answer, type System, type TestAgent } from './system.ts'

let system: System
beforeAll(async () => {
  system = await startSystem({ ownRedis: true, env: { MAX_QUEUED_TASKS: '5' } })
})
afterAll(() => system[Symbol.asyncDispose]())

const problem = (answer: Answer) => [answer.status, answer.json?.type, Number(answer.headers.get('retry-after'))]
const retryLater = (n: unknown) => Number(n) >= 1 && Number(n) <= 15
const refused = (answer: Answer, status: number, type: string) => {
  expect(problem(answer)).toEqual([status, `/docs/errors#${type}`, expect.toSatisfy(retryLater)])
}
const submit = (task: object = {}, headers?: Record<string, string>) => system.post('/tasks', { task_type: 'wait', agent_type: 'full', ...task }, headers)

test.each([
  ['POST', '/tasks', 'submit'],
  ['POST', '/tasks/batch?require_agent=true', 'submit'],
  ['POST', '/tasks/a.1/retry', 'submit'],
  ['POST', '/dead-letters/retry', 'submit'],
  ['PUT', '/schedules/x', 'submit'],
  ['POST', '/tasks/a.1/result', 'running'],
  ['POST', '/Tasks/a.1/progress/', 'running'],
  ['DELETE', '/tasks/a.1', 'running'],
  ['DELETE', '/agents/a', 'running'],
  ['POST', '/agents/register', 'running'],
  ['POST', '/agents/a/heartbeat?x=1', 'running'],
  ['GET', '/tasks', 'other'],
  ['DELETE', '/schedules/x', 'other'],
  ['POST', '/schedules/x/pause', 'other'],
  ['GET', '/health/ready', 'free'],
  ['GET', '/metrics', 'free'],
  ['GET', '/', 'free'],
])('%s %s goes by the lane %s', (method, url, lane) => {
  expect(laneOf(method, url)).toBe(lane)
})

describe('a queue in which as many wait as may', () => {
  test('takes no more, tells when to come again, and says so in the metrics; other queues and repeats under a key are as ever', async () => {
    const first = await submit({ delay_seconds: 3600 }, { 'idempotency-key': 'k1' })
    for (let i = 0; i < 4; i++) expect((await submit()).status).toBe(201)
    for (let i = 0; i < 3; i++) refused(await submit(), 429, 'queue-full')
    const other = await submit({}, { 'idempotency-key': 'k2' })
    refused(other, 429, 'queue-full')
    expect(other.json).toMatchObject({ queue: 'full.wait', limit: 5 })

    const again = await submit({ delay_seconds: 3600 }, { 'idempotency-key': 'k1' })
    expect([again.status, again.headers.get('idempotent-replayed'), again.json]).toEqual([201, 'true', first.json])
    expect((await submit({ task_type: 'another' })).status).toBe(201)

    const batch = await system.post('/tasks/batch', { tasks: [{ task_type: 'wait', agent_type: 'full' }, { task_type: 'another', agent_type: 'full' }] })
    expect(batch.json).toMatchObject({ accepted: 1, refused: 1, tasks: [{ index: 0, error: { status: 429, type: '/docs/errors#queue-full' } }, { index: 1, status: 'queued' }] })
    expect((await system.get('/tasks?agent_type=full&task_type=wait')).json.count).toBe(5)
    expect(await system.redis.zcard(`${system.keys.base('full')}full.wait:prioritized`)).toBe(4)
    expect((await system.get('/metrics')).text).toContain('switchyard_shed_total{reason="queue-full"} 5')
  })

  test('takes one as soon as one has left, also under the key that was refused', async () => {
    const { tasks } = (await system.get('/tasks?agent_type=full&task_type=wait&status=queued')).json
    refused(await submit({}, { 'idempotency-key': 'k2' }), 429, 'queue-full')
    await system.call('DELETE', `/tasks/${tasks[0].task_id}`)
    expect((await submit({}, { 'idempotency-key': 'k2' })).status).toBe(201)
    const retry = () => system.post(`/tasks/${tasks[0].task_id}/retry`)
    refused(await retry(), 429, 'queue-full')
    await system.call('DELETE', `/tasks/${tasks[1].task_id}`)
    await until(async () => (await retry()).status === 201, { what: 'the retry' })
  })
})

describe('bodies', () => {
  /** A request whose body of a megabyte does not come; what it is answered. */
  const hold = (path: string): Promise<{ socket: Socket; answer: () => string }> =>
    new Promise((resolve) => {
      let text = ''
      const socket = connect(Number(new URL(system.url()).port), '127.0.0.1', () => {
        socket.write(`POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{`)
        resolve({ socket, answer: () => text })
      })
      socket.on('data', (chunk) => (text += chunk)).on('error', () => {})
    })

  test('of more bytes than a process takes are refused before they come; heartbeats have their own room; slow ones make room', async () => {
    const agent = await system.agent({ type: 'beats', beats: false })
    const held = await Promise.all(Array.from({ length: 30 }, () => hold('/tasks')))
    await until(() => held.some(({ answer }) => answer().includes('503')), { what: 'a refusal' })
    expect(held.find(({ answer }) => answer() !== '')!.answer()).toMatch(/503 Service Unavailable[^]*Retry-After: [1-5]\r\n[^]*overloaded/)
    const large = { task_type: 'echo', agent_type: 'x', parameters: { a: 'x'.repeat(1_000_000) } }
    refused(await system.post('/tasks', large), 503, 'overloaded')
    expect((await agent.beat()).status).toBe(200)
    // Those that hold the room are cut off once they have had their time, since others want it.
    await until(async () => (await system.post('/tasks', large)).status === 201, { timeoutMs: 20_000, everyMs: 300, what: 'room' })
    for (const { socket } of held) socket.destroy()
  })
})

test('requests sent ahead on one connection are served one by one, in order; too many cut it off', async () => {
  const ask = (count: number) =>
    new Promise<string>((resolve) => {
      let text = ''
      const socket = connect(Number(new URL(system.url()).port), '127.0.0.1', () => socket.write(Array.from({ length: count }, (_, i) => `GET /tasks/none-${i} HTTP/1.1\r\nHost: localhost\r\n${i === count - 1 ? 'Connection: close\r\n' : ''}\r\n`).join('')))
      socket.on('data', (chunk) => (text += chunk)).on('error', () => {}).on('close', () => resolve(text))
    })
  const places = (text: string) => [...text.matchAll(/"instance":"\/tasks\/none-(\d+)"/g)].map(([, i]) => Number(i))
  expect(places(await ask(30))).toEqual(Array.from({ length: 30 }, (_, i) => i))
  expect(places(await ask(300)).length).toBeLessThan(300)
})

describe('a Redis', () => {
  let agent: TestAgent
  const maxmemory = (bytes: number) => system.redis.config('SET', 'maxmemory', bytes)
  /** Sets the limit so that this part of it is used. */
  const useUp = async (part: number) => {
    for (const server of await serversOf(system.redis)) await server.config('SET', 'maxmemory', Math.round(Number(/used_memory:(\d+)/.exec(await server.info('memory'))![1]) / part))
  }
  const parkedAt = (count: number) => until(() => (agent.runs.length >= count ? agent.runs[count - 1] : null), { what: 'the delivery' })
  const result = (run: { taskId: string; attemptId: string }) => system.post(`/tasks/${run.taskId}/result`, { attempt_id: run.attemptId, status: 'completed', result: 1 })
  beforeAll(async () => {
    agent = await system.agent({ capabilities: ['echo'], handle: accepts })
  })

  test('whose memory is nearly full takes no new work, told before the body is read; what is under way goes on', async () => {
    await system.submit()
    const waits = await system.submit({ delay_seconds: 3600 })
    const run = await parkedAt(1)
    await useUp(0.9)
    let tries = 0 // a queue each: none gets full
    await until(async () => {
      if (tries % 50 === 49) await useUp(0.9) // what is used goes down, too
      return (await submit({ agent_type: 'x', task_type: `t${tries++}` })).status === 503
    }, { what: 'the refusal' })
    // The body never comes.
    const text = await new Promise<string>((resolve) => {
      const socket = connect(Number(new URL(system.url()).port), '127.0.0.1', () => socket.write('POST /tasks/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n'))
      socket.once('data', (chunk) => {
        resolve(String(chunk))
        socket.destroy()
      })
    })
    expect(text).toMatch(/503 Service Unavailable[^]*Retry-After: \d+\r\n[^]*store-full/)
    refused(await system.post('/tasks/batch', { tasks: [] }), 503, 'store-full')
    expect((await agent.beat()).status).toBe(200)
    expect((await system.get(`/tasks/${run.taskId}`)).status).toBe(200)
    expect((await result(run)).status).toBe(200)
    expect((await system.call('DELETE', `/tasks/${waits}`)).status).toBe(200)
    await maxmemory(0)
    await until(async () => (await submit({ agent_type: 'x', task_type: 'y' })).status === 201, { what: 'a submit' })
  })

  test('without any memory leaves nothing of a submit, lets what runs end, and work goes on once there is some', async () => {
    const slow = await system.agent({ type: 'slow', capabilities: ['echo'], handle: () => sleep(12_000).then(() => 'done') }) // longer than a dispatcher's lock
    const id = await system.submit({ agent_type: 'slow', timeout_seconds: 60 })
    await slow.delivery()
    await system.submit()
    await system.submit()
    const [one, two] = [await parkedAt(2), await parkedAt(3)]
    const lines = () => [...system.api, ...system.worker].reduce((n, { log }) => n + log.join('').split('\n').length, 0)
    const known = async (): Promise<string[]> => (await system.get('/tasks?agent_type=test&limit=200')).json.tasks.map((t: { task_id: string }) => t.task_id)
    const before = { tasks: await known(), lines: lines(), at: Date.now() }

    await maxmemory(1_000_000)
    const direct = await Promise.all(Array.from({ length: 20 }, (_, i) => submit({ agent_type: 'test', task_type: 'echo' }, i % 2 === 0 ? { 'idempotency-key': `oom${i}` } : {})))
    for (const answer of direct) expect([answer.status, Number(answer.headers.get('retry-after'))]).toEqual([503, expect.toSatisfy(retryLater)])
    expect((await result(one)).status).toBe(200)
    expect((await system.task(one.taskId)).status).toBe('completed')
    expect((await system.post(`/tasks/${two.taskId}/progress`, { attempt_id: two.attemptId, percent: 50 })).status).toBe(200)
    expect((await system.call('DELETE', `/tasks/${two.taskId}`)).status).toBe(200)
    expect((await agent.beat()).status).toBe(200)
    expect((await system.ended(id, 40_000)).status).toBe('completed')
    expect((await known()).filter((id) => !before.tasks.includes(id))).toEqual([]) // of those that have ended, old ones give way
    expect((lines() - before.lines) / ((Date.now() - before.at) / 1000)).toBeLessThan(5)

    await maxmemory(0)
    const back = Date.now()
    await until(async () => (await submit({ agent_type: 'slow', task_type: 'echo' })).status === 201, { what: 'a submit' })
    await slow.delivery(2)
    expect(Date.now() - back).toBeLessThan(10_000)
    expect(slow.runs.filter((run) => run.taskId === id).length).toBe(1)
  })
})
