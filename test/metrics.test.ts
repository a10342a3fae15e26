/** /metrics of the API: totals of all processes from Redis, the same from each, as counters; what waits; agents and slots; bounded. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { atBest, call, startSystem, until, type System } from './system.ts'

let system: System
beforeAll(async () => {
  system = await startSystem({ apis: 2, workers: 2 })
})
afterAll(() => system[Symbol.asyncDispose]())

type Sample = { name: string; labels: Record<string, string>; value: number }
const parse = (text: string): Sample[] =>
  text.split('\n').flatMap((line) => {
    const found = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line)
    if (!found) return []
    const labels = Object.fromEntries([...(found[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, k, v]) => [k, v]))
    return [{ name: found[1]!, labels, value: Number(found[3]) }]
  })
const scrape = async (api = 0): Promise<Sample[]> => parse((await call('GET', `${system.api[api]!.url}/metrics`)).text)
/** What one metric says for an agent type: by the label that tells its samples apart. */
const of = (samples: Sample[], name: string, agent_type: string, by?: string): Record<string, number> =>
  Object.fromEntries(samples.filter((s) => s.name === `switchyard_${name}` && s.labels.agent_type === agent_type).map((s) => [by ? s.labels[by]! : 'all', s.value]))

test('counts tasks, ends, attempts, redeliveries and retries, the same at every API', async () => {
  let full = 1
  const agent = await system.agent({
    type: 'counted',
    capabilities: ['good', 'bad', 'busy'],
    handle: (task, { res }) => {
      if (task.task_type === 'bad') throw new Error('no')
      if (task.task_type === 'busy' && full-- > 0) return void res.writeHead(429, { 'retry-after': '0' }).end()
      return 'ok'
    },
  })
  const submit = (task_type: string, more: object = {}) => system.submit({ agent_type: 'counted', task_type, ...more })
  const ids = [await submit('good'), await submit('good'), await submit('bad', { max_retries: 2, retry_delay_seconds: 0 }), await submit('busy'), await submit('good', { delay_seconds: 0.01, expires_in_seconds: 100 })]
  for (const id of ids) await system.ended(id)
  const waiting = await submit('nobody')
  await system.call('DELETE', `/tasks/${waiting}`)
  const late = await submit('nobody', { expires_in_seconds: 0.01 })
  await system.ended(late)
  expect(agent.runs.length).toBe(8)
  const expected = {
    submitted: { all: 7 },
    ended: { completed: 4, failed: 1, timeout: 1, cancelled: 1 },
    attempts: { completed: 4, failed: 3, no_room: 1 },
    redeliveries: { no_room: 1 },
    retries: { all: 2 },
  }
  const read = (samples: Sample[]) => ({
    submitted: of(samples, 'tasks_submitted_total', 'counted'),
    ended: of(samples, 'tasks_ended_total', 'counted', 'status'),
    attempts: of(samples, 'attempts_total', 'counted', 'outcome'),
    redeliveries: of(samples, 'redeliveries_total', 'counted', 'reason'),
    retries: of(samples, 'retries_total', 'counted'),
  })
  // Processes write their counts once a second.
  await expect.poll(async () => read(await scrape()), { timeout: 10_000 }).toEqual(expected)
  expect(read(await scrape(1))).toEqual(expected)
})

test('what comes from Redis as a total is a counter, and everything says what it is', async () => {
  const { text, headers } = await system.get('/metrics')
  expect(headers.get('content-type')).toMatch(/^text\/plain; version=0.0.4/)
  for (const [, name, type] of text.matchAll(/^# TYPE (switchyard_\w+) (\w+)$/gm)) {
    expect(type, name).toBe(name!.endsWith('_total') ? 'counter' : name!.startsWith('switchyard_http') ? 'histogram' : 'gauge')
    expect(text, name).toMatch(new RegExp(`^# HELP ${name} \\S`, 'm'))
  }
  expect(text).toMatch(/^process_cpu_seconds_total /m)
  expect(text).toMatch(/^nodejs_eventloop_lag_seconds /m)
})

test('tells per queue what waits, what is delayed, and how long the oldest could have gone, whatever its priority', async () => {
  const now = Date.now()
  const ids: string[] = []
  for (const priority of [15, 1, 5, 1]) ids.push(await system.submit({ agent_type: 'deep', task_type: 'x', priority }))
  await system.submit({ agent_type: 'deep', task_type: 'x', delay_seconds: 100 })
  await system.submit({ agent_type: 'deep', task_type: 'later', delay_seconds: 100 })
  // The oldest is one that would go last.
  await system.redis.hset(system.keys.task('deep', ids[1]!), 'not_before', now - 90_000)
  const samples = await scrape()
  expect(of(samples, 'queue_waiting', 'deep', 'queue')).toEqual({ 'deep.x': 4, 'deep.later': 0 })
  expect(of(samples, 'queue_delayed', 'deep', 'queue')).toEqual({ 'deep.x': 1, 'deep.later': 1 })
  const oldest = of(samples, 'queue_oldest_seconds', 'deep', 'queue')
  expect(oldest['deep.x']).toBeGreaterThanOrEqual(90)
  expect(oldest['deep.x']).toBeLessThan(100)
  expect(oldest['deep.later']).toBe(0)
})

test('tells agents by type and status, and slots used and free', async () => {
  const register = (status: string, max_concurrency: number, more: object = {}) => system.post('/agents/register', { name: status, type: 'fleet', host: '127.0.0.1', port: 9, status, max_concurrency, ...more })
  await register('healthy', 3)
  await register('degraded', 4)
  await register('draining', 50)
  await register('unhealthy', 60)
  await register('healthy', 70, { agent_id: 'fleet.dead' })
  await register('healthy', 80, { agent_id: 'fleet.silent' })
  await register('healthy', 90, { agent_id: 'fleet.rests' })
  await system.redis.hset(system.keys.agent('fleet', 'fleet.rests'), 'rest', Date.now() + 60_000)
  await system.redis.hset(system.keys.agent('fleet', 'fleet.dead'), 'seen', Date.now() - 61_000)
  await system.redis.hset(system.keys.agent('fleet', 'fleet.silent'), 'seen', Date.now() - 50_000)
  const busy = await system.agent({ type: 'fleet', maxConcurrency: 2, handle: () => undefined })
  const id = await system.submit({ agent_type: 'fleet' })
  await system.becomes(id, 'sent')
  await until(() => busy.running() === 1)
  // A dispatcher that finds no job may hold a slot for a moment.
  await expect.poll(async () => { const s = await scrape(); return [of(s, 'slots_used', 'fleet'), of(s, 'slots_free', 'fleet')] }, { timeout: 10_000 }).toEqual([{ all: 1 }, { all: 3 + 4 + 1 }])
  const samples = await scrape()
  expect(of(samples, 'agents', 'fleet', 'status')).toEqual({ healthy: 3, degraded: 1, draining: 1, unhealthy: 1, dead: 1, unreachable: 1 })
  expect(of(samples, 'agents_resting', 'fleet')).toEqual({ all: 1 })
  // What /agents says is the same.
  const listed = (await system.get('/agents?type=fleet&include_dead=true')).json.agents.map((a: any) => a.status)
  expect(Object.groupBy(listed, (s: string) => s)).toMatchObject({ healthy: { length: 3 }, degraded: { length: 1 }, draining: { length: 1 }, unhealthy: { length: 1 }, dead: { length: 1 }, unreachable: { length: 1 } })
})

test('requests are measured by their route, never by their path', async () => {
  for (const id of ['a', 'b', 'c']) await call('GET', `${system.api[0]!.url}/tasks/${id}`)
  await call('GET', `${system.api[0]!.url}/nowhere/at/all`)
  const counts = (await scrape()).filter((s) => s.name === 'switchyard_http_request_seconds_count')
  expect(counts.find(({ labels }) => labels.route === '/tasks/:id' && labels.status === '404')?.value).toBe(3)
  expect(counts.find(({ labels }) => labels.route === 'none')?.value).toBe(1)
  expect(counts.map(({ labels }) => labels.route)).not.toContain('/tasks/a')
})

test('of more queues than are told, those used last are, and the rest is owned up to; scripts stay short', async () => {
  await using many = await startSystem({ workers: 0 })
  // As survey and submit keep them: when each was last seen with work.
  const add = async (type: string, n: number) => {
    await many.redis.zadd(many.keys.types, Date.now(), type)
    await many.redis.zadd(many.keys.queues(type), ...Array.from({ length: n }, (_, i) => [i, `${type}.q${i}`]).flat())
  }
  await add('wide', 1500)
  await add('small', 500)
  const samples = parse((await many.get('/metrics')).text)
  const queues = samples.filter((s) => s.name === 'switchyard_queue_waiting').map((s) => s.labels.queue!)
  expect(queues).toHaveLength(1000)
  expect(queues.filter((q) => q.startsWith('wide.'))).toHaveLength(750)
  expect(queues).toContain('wide.q1499')
  expect(queues).not.toContain('wide.q749')
  expect(samples.find((s) => s.name === 'switchyard_metrics_omitted' && s.labels.kind === 'queues')?.value).toBe(1000)
  // Redis measures by the clock on the wall: when it was not let run itself, a script takes long too.
  type Slow = [id: number, at: number, us: number, command: string[]]
  const slow = async () => ((await many.redis.call('SLOWLOG', 'GET', '100')) as Slow[]).filter(([, , , command]) => command.some((c) => c.includes(many.prefix)))
  const longest = await atBest(20_000, async () => {
    const before = new Set((await slow()).map(([id]) => id))
    await many.get('/metrics')
    return Math.max(0, ...(await slow()).filter(([id]) => !before.has(id)).map(([, , us]) => us))
  })
  expect(longest).toBeLessThan(20_000)
})

test('without Redis it says so and tells of this process alone; with it again all is back', async () => {
  await using own = await startSystem({ workers: 0, ownRedis: true })
  await own.submit({ agent_type: 'kept' })
  await until(async () => of(parse((await own.get('/metrics')).text), 'tasks_submitted_total', 'kept').all === 1)
  await own.ownRedis!.kill()
  const away = await until(async () => {
    const { status, text } = await own.get('/metrics')
    return status === 200 && text.includes('switchyard_store_up 0') ? parse(text) : null
  })
  expect(of(away, 'tasks_submitted_total', 'kept')).toEqual({})
  expect(away.find((s) => s.name === 'process_resident_memory_bytes')?.value).toBeGreaterThan(1e6)
  for (const path of ['/queues/api/queues', '/tasks', '/agents']) expect([path, (await own.get(path)).json.type]).toEqual([path, '/docs/errors#store-unavailable'])
  await own.ownRedis!.start()
  await until(async () => of(parse((await own.get('/metrics')).text), 'tasks_submitted_total', 'kept').all === 1)
})
