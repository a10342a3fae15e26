/** Bull Board at /queues: shows every queue, changes none, and works without the internet. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startSystem, until, type System } from './system.ts'

let system: System
beforeAll(async () => {
  // No worker: nothing changes by itself. Two APIs: what one has made the other shows.
  system = await startSystem({ apis: 2, workers: 0 })
})
afterAll(() => system[Symbol.asyncDispose]())

const BOARD = '/queues/api/queues'
const shown = async (query = ''): Promise<any[]> => (await system.get(`${BOARD}${query}`)).json.queues
const names = async () => (await shown()).map((q) => q.name)

test('every queue of every type appears as it is made, whichever process made it, and goes when it is forgotten', async () => {
  expect(await names()).toEqual([])
  await system.submit({ agent_type: 'cost', task_type: 'analyze.v2' })
  await system.submit({ agent_type: 'cost', task_type: 'other' })
  await system.submit({ agent_type: 'security', task_type: 'scan', delay_seconds: 60 })
  const agent = (await system.post('/agents/register', { name: 'a', type: 'cost', host: '127.0.0.1', port: 9 })).json.id
  await system.submit({ agent_id: agent, task_type: 'pinned' })
  const expected = ['cost.analyze.v2', 'cost.other', 'security.scan', `cost.@${agent}`]
  // Several times: each API process answers in turn.
  for (let i = 0; i < 4; i++) expect((await names()).sort()).toEqual([...expected].sort())
  expect((await shown()).find((q) => q.name === 'security.scan').counts).toMatchObject({ delayed: 1, prioritized: 0 })
  await system.redis.zrem(system.keys.queues('cost'), 'cost.other')
  for (let i = 0; i < 4; i++) expect((await names()).sort()).toEqual(expected.filter((n) => n !== 'cost.other').sort())
})

test('jobs can be read, and lead to their records', async () => {
  const id = await system.submit({ agent_type: 'reading', task_type: 'x', parameters: { account: 'ü🚂', list: [] }, priority: 15 })
  const [queue] = (await shown('?activeQueue=reading.x&status=latest&page=1')).filter((q) => q.name === 'reading.x')
  expect(queue.jobs).toMatchObject([{ id, name: 'x', data: { task_type: 'x', agent_type: 'reading', parameters: { account: 'ü🚂', list: [] } }, priority: 1, externalUrl: { href: `/tasks/${id}` } }])
  expect((await system.get(`${BOARD}/reading.x/${id}`)).json.job).toMatchObject({ id })
})

test('the schedules of a type have a queue of their own, whose jobs lead to them', async () => {
  const task = { agent_type: 'timed', task_type: 'x', parameters: { n: 1 } }
  await system.call('PUT', '/schedules/nightly', { cron: '0 3 * * *', task })
  const [queue] = (await shown(`?activeQueue=${encodeURIComponent('timed.~schedules')}&status=delayed&page=1`)).filter((q) => q.name === 'timed.~schedules')
  expect(queue).toMatchObject({ readOnlyMode: true, counts: { delayed: 1 }, jobs: [{ name: 'nightly', data: { schedule_id: 'nightly', cron: '0 3 * * *', task }, externalUrl: { href: '/schedules/nightly' } }] })
  await system.call('DELETE', '/schedules/nightly')
  for (let i = 0; i < 2; i++) expect(await names()).not.toContain('timed.~schedules')
})

test('nothing can be written: not by its own routes, nor by any method but GET and HEAD', async () => {
  const id = await system.submit({ agent_type: 'locked', task_type: 'x' })
  const queue = `${BOARD}/locked.x`
  const before = await system.redis.keys(`${system.prefix}:{default/locked}:*`)
  const dump = async () => Promise.all((await system.redis.keys(`${system.prefix}:{default/locked}:*`)).sort().map(async (k) => [k, await system.redis.dump(k)]))
  const stats = () => system.redis.hget(system.keys.stats('locked'), 'submitted')
  await until(async () => (await stats()) === '1')
  expect(before.length).toBeGreaterThan(3)
  const was = await dump()
  const writes = ['/queues/api/queues/pause', '/queues/api/queues/resume', ...['pause', 'resume', 'obliterate', 'empty', 'promote', 'add', 'concurrency', 'rate-limit', 'retry/failed', 'clean/completed'].map((w) => `${queue}/${w}`), ...['retry', 'promote', 'clean', 'update-data', 'remove-unprocessed-children'].map((w) => `${queue}/${id}/${w}`), `${queue}/${id}`, queue]
  for (const path of writes) {
    for (const method of ['PUT', 'POST', 'PATCH', 'DELETE']) {
      const { status, headers } = await system.call(method, path, { name: 'x', data: {}, force: true })
      expect([status, headers.get('allow')], `${method} ${path}`).toEqual([405, 'GET, HEAD, OPTIONS'])
    }
  }
  // Methods cannot be smuggled in, and every queue says itself that it may only be read.
  expect((await system.call('GET', `${queue}/pause`, undefined, { 'x-http-method-override': 'PUT' })).status).not.toBe(204)
  for (const q of await shown()) expect(q).toMatchObject({ readOnlyMode: true, allowRetries: false, isPaused: false })
  expect(await dump()).toEqual(was)
})

test('the page and all it loads come from here, at /queues with and without a slash', async () => {
  for (const path of ['/queues', '/queues/', '/queues/queue/cost.other', '/queues/queue/cost.other/1']) {
    const { status, text, headers } = await system.get(path)
    expect(status).toBe(200)
    expect(text).toContain('<base href="/queues/" />')
    expect(headers.get('content-security-policy')).toMatch(/^default-src 'self'; style-src 'self' 'unsafe-inline';/)
    const loads = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, at]) => at!).filter((at) => at !== '/queues/')
    expect(loads.filter((at) => /^https?:/.test(at))).toEqual([]) // its template asks another host for fonts
    for (const at of loads.filter((a) => a.startsWith('static/'))) expect([at, (await system.get(`/queues/${at}`)).status]).toEqual([at, 200])
  }
})

test('it asks nothing of the workers, and shows no queue twice', async () => {
  for (const q of await shown()) expect(q.hasWorkers).toBeNull()
  const all = await names()
  expect(new Set(all).size).toBe(all.length)
})
