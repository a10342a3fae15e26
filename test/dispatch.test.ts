import { expect, test } from 'vitest'
import { startSystem, until } from './system.ts'

test('a task goes to an agent and comes back with its result', async () => {
  await using system = await startSystem()
  const agent = await system.agent()
  const id = await system.submit({ parameters: { a: 1 } })
  expect(await system.ended(id)).toMatchObject({ status: 'completed', agent_id: agent.id, result: { echo: { a: 1 } }, retry_count: 0 })
})

test('a burst goes out in order of priority, and never over max_concurrency', async () => {
  await using system = await startSystem()
  const ids: string[] = []
  for (let i = 0; i < 45; i++) ids.push(await system.submit({ priority: 1 + (i % 15), parameters: { i, priority: 1 + (i % 15) } }))
  const agent = await system.agent({ maxConcurrency: 1 })
  for (const id of ids) expect((await system.ended(id)).status).toBe('completed')
  const order = agent.runs.map((r) => r.parameters.priority as number)
  expect(order).toEqual([...order].sort((a, b) => b - a))
  expect(agent.peak()).toBe(1)
  await until(async () => (await system.get('/agents')).json.agents[0].in_flight === 0)
})
