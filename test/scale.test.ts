/** Many tasks, agents, processes and queues at once: nothing runs twice, no agent is overfilled, everyone gets a share. */
import { expect, test } from 'vitest'
import { Pool } from 'undici'
import { serversOf } from './store.ts'
import { atBest, median, startSystem, until, type System } from './system.ts'

/** Submits many tasks over kept-alive connections, to the APIs in turn; gives their ids in the order of the tasks. */
const submitAll = async (system: System, tasks: object[], clients = 32): Promise<{ ids: string[]; byApi: number[] }> => {
  const pools = system.api.map((p) => new Pool(p.url, { connections: Math.ceil(clients / system.api.length) }))
  const byApi = pools.map(() => 0)
  const ids: string[] = []
  let next = 0
  const client = async (n: number) => {
    const at = n % pools.length
    while (next < tasks.length) {
      const i = next++
      const { statusCode, body } = await pools[at]!.request({ path: '/tasks', method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(tasks[i]) })
      const text = await body.text()
      if (statusCode !== 201) throw new Error(`not taken: ${statusCode} ${text}`)
      ids[i] = (JSON.parse(text) as { task_id: string }).task_id
      byApi[at]!++
    }
  }
  try {
    await Promise.all(Array.from({ length: clients }, (_, n) => client(n)))
  } finally {
    await Promise.all(pools.map((p) => p.close()))
  }
  return { ids, byApi }
}

/** Every record of a type, by pages. */
const allTasks = async (system: System, type: string): Promise<any[]> => {
  const rows: any[] = []
  for (let cursor = ''; ; ) {
    const page = (await system.get(`/tasks?agent_type=${type}&limit=200${cursor}`)).json
    rows.push(...page.tasks)
    if (page.next_cursor === null) return rows
    cursor = `&cursor=${page.next_cursor}`
  }
}

const attemptsOf = async (metricsUrl: string): Promise<number> => {
  const text = await (await fetch(`${metricsUrl}/metrics`)).text()
  return [...text.matchAll(/^switchyard_worker_attempts_total\{[^}]*\} (\d+)/gm)].reduce((sum, m) => sum + Number(m[1]), 0)
}

test('1,500 tasks over many agents and processes each run exactly once, within every limit, and everyone has a share', { timeout: 180_000 }, async () => {
  await using system = await startSystem({ apis: 2, workers: 3, env: { LOG_LEVEL: 'warn' } })
  const types = ['cost', 'mail', 'scan']
  const capabilities = ['a', 'b', 'c', 'd']
  // Per type two equal agents of 5 slots, one of 1 and one of 3; 1 to 5 ms a task.
  const slots = [5, 5, 1, 3]
  const agents = await Promise.all(
    types.flatMap((type) =>
      slots.map(async (maxConcurrency) => ({
        type, maxConcurrency,
        agent: await system.agent({ type, capabilities, maxConcurrency, handle: async (task) => { await new Promise((r) => setTimeout(r, 1 + (task.parameters.i % 5))); return { i: task.parameters.i } } }),
      })),
    ),
  )
  const tasks = Array.from({ length: 1_500 }, (_, i) => ({ agent_type: types[i % 3], task_type: capabilities[Math.floor(i / 3) % 4], parameters: { i }, priority: 1 + (i % 15) }))
  const { ids, byApi } = await submitAll(system, tasks)
  const runs = () => agents.reduce((sum, a) => sum + a.agent.runs.length, 0)
  await until(async () => {
    const left = await Promise.all(types.flatMap((type) => ['queued', 'sent', 'retrying'].map((s) => system.redis.zcard(system.keys.tasks(type, s)))))
    return left.every((n) => n === 0)
  }, { timeoutMs: 90_000, everyMs: 100, what: 'the end of all tasks' }) // 3 s on two quiet cores
  // A record ends before its dispatcher has counted.
  const workers = await until(async () => {
    const counts = await Promise.all(system.worker.map((w) => attemptsOf(w.url)))
    return counts.reduce((a, b) => a + b) >= 1_500 ? counts : null
  }, { what: 'that 1,500 attempts are counted' })
  expect(workers.reduce((a, b) => a + b)).toBe(1_500)

  expect(runs()).toBe(1_500)
  expect(new Set(agents.flatMap((a) => a.agent.runs.map((r) => r.taskId)))).toEqual(new Set(ids))
  const records = (await Promise.all(types.map((type) => allTasks(system, type)))).flat()
  expect(records.length).toBe(1_500)
  for (const t of records) {
    if (t.status !== 'completed' || t.retry_count !== 0 || t.redeliveries !== 0 || t.attempts.length !== 1) expect(t).toMatchObject({ status: 'completed', retry_count: 0, redeliveries: 0 })
    expect(t.result).toEqual(t.parameters)
  }
  for (const a of agents) expect(a.agent.peak(), `the peak of an agent of ${a.maxConcurrency}`).toBeLessThanOrEqual(a.maxConcurrency)
  for (const type of types) {
    const [one, other] = agents.filter((a) => a.type === type && a.maxConcurrency === 5).map((a) => a.agent.runs.length) as [number, number]
    expect(Math.abs(one - other) / Math.max(one, other), `${type}: ${one} and ${other}`).toBeLessThan(0.5)
  }
  for (const n of workers) expect(n, `attempts by worker: ${workers.join(', ')}`).toBeGreaterThanOrEqual(75)
  for (const n of byApi) expect(n).toBeGreaterThanOrEqual(75)
  // Nothing is left leased.
  await until(async () => (await Promise.all(types.map((type) => system.get(`/agents/type/${type}`)))).every((r) => r.json.agents.every((a: any) => a.in_flight === 0)))
})

test('a dispatcher keeps to its few Redis connections however many queues there are, and a new queue is served at once', async () => {
  await using system = await startSystem({ ownRedis: true })
  const capabilities = Array.from({ length: 50 }, (_, i) => `do.${i}`)
  const agent = await system.agent({ capabilities, maxConcurrency: 100 })
  const { ids } = await submitAll(system, capabilities.map((c) => ({ agent_type: 'test', task_type: c })), 16)
  for (const id of ids) expect((await system.ended(id)).status).toBe('completed')
  expect(new Set(agent.runs.map((r) => r.taskType)).size).toBe(50)

  // Five new queues at a try. If nobody were told of them, the look of once a second would find each.
  await system.agent({ type: 'other', capabilities: Array.from({ length: 15 }, (_, i) => `new${i}`), handle: (task) => Date.now() - task.parameters.at })
  let queue = 0
  const waited = await atBest(100, async () => {
    const waits: number[] = []
    for (let i = 0; i < 5; i++) waits.push((await system.ended(await system.submit({ agent_type: 'other', task_type: `new${queue++}`, parameters: { at: Date.now() } }))).result)
    return median(waits)
  })
  expect(waited).toBeLessThan(100)

  const names = String(await system.redis.call('CLIENT', 'LIST')).split('\n').flatMap((line) => / name=(\S*)/.exec(line)?.[1] ?? [])
  const named = names.filter((n) => n.startsWith('switchyard-worker'))
  expect(named.length, names.join(' ')).toBeGreaterThan(0)
  const servers = (await serversOf(system.redis)).length
  expect(named.length, names.join(' ')).toBeLessThanOrEqual(4 * servers)
  // BullMQ would give connections of its own other names: only ours, the API's and the test's are there.
  expect(names.filter((n) => n !== '' && !n.startsWith('switchyard-'))).toEqual([])
  expect(names.length).toBeLessThanOrEqual((4 + 2 + 2) * servers)
})
