/** Bodies whose values take far more room than their texts: many at once must not take an API process down. */
import { expect, test } from 'vitest'
import { call, startSystem } from './system.ts'

const MIB = 1024 * 1024
/** Of nearly 1 MiB; parsed, it takes some 20 MB. */
const TASK = `{"task_type":"echo","agent_type":"nobody","parameters":{"a":[${'{},'.repeat(330_000)}{}]}}`
const BATCH = `{"tasks":[${Array.from({ length: Math.floor((10 * MIB - 20) / (TASK.length + 1)) }, () => TASK).join(',')}]}`

test('many large bodies at once are taken or refused, in little memory', async () => {
  await using system = await startSystem({ workers: 0, env: { NODE_OPTIONS: '--max-old-space-size=320' } })
  const post = async (path: string, body: string) => (await fetch(system.url() + path, { method: 'POST', headers: { 'content-type': 'application/json' }, body })).status
  const batches = await Promise.all(Array.from({ length: 2 }, () => post('/tasks/batch', BATCH)))
  expect(new Set(batches)).toEqual(new Set([200]))
  const tasks = await Promise.all(Array.from({ length: 24 }, () => post('/tasks', TASK)))
  // A Redis that has too much to do in one moment is told of as ever.
  expect(tasks.filter((status) => status !== 201 && status !== 503)).toEqual([])
  expect((await call('GET', `${system.url()}/tasks?limit=1`)).status).toBe(200)
})
