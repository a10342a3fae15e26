/** Large bodies and answers: many at once must not take an API process down. */
import { expect, test } from 'vitest'
import { startSystem, until } from './system.ts'

const MIB = 1024 * 1024
/** A value that takes far more room than its text: of nearly 1 MiB; parsed, it takes some 20 MB. */
const TASK = `{"task_type":"echo","agent_type":"nobody","parameters":{"a":[${'{},'.repeat(330_000)}{}]}}`
const BATCH = `{"tasks":[${Array.from({ length: Math.floor((10 * MIB - 20) / (TASK.length + 1)) }, () => TASK).join(',')}]}`

test('many large bodies at once are taken or refused, and large tasks listed, in little memory', async () => {
  await using system = await startSystem({ workers: 0, env: { NODE_OPTIONS: '--max-old-space-size=320' } })
  /** How many tasks were taken; a Redis that has too much to do in one moment is told of as ever. */
  const post = async (path: string, body: string): Promise<number> => {
    const answer = await fetch(system.url() + path, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    expect([200, 201, 503]).toContain(answer.status)
    const { accepted = 0 } = (await answer.json()) as { accepted?: number }
    return answer.status === 201 ? 1 : accepted
  }
  /** As text: it takes seconds to make objects of it. */
  const list = async (path: string): Promise<{ status: number; text: string }> => {
    const answer = await fetch(system.url() + path)
    return { status: answer.status, text: await answer.text() }
  }
  await Promise.all(Array.from({ length: 2 }, () => post('/tasks/batch', BATCH)))
  await Promise.all(Array.from({ length: 12 }, () => post('/tasks', TASK)))
  let stored = 0
  while (stored < 20) stored += await post('/tasks', TASK)

  for (const path of ['/tasks', '/dead-letters']) {
    // As if all had failed: those are found by their list.
    if (path === '/dead-letters') await system.redis.rename(system.keys.tasks('nobody', 'queued'), system.keys.tasks('nobody', 'failed'))
    const ids: string[] = []
    let pages = 0
    for (let cursor: string | null = ''; cursor !== null; pages++) {
      // It may be told to come again, where another's answer is still being read.
      const { status, text } = await until(async () => {
        const page = await list(`${path}?limit=200&agent_type=nobody${cursor && `&cursor=${cursor}`}`)
        return page.status === 503 ? null : page
      })
      expect([status, text.slice(-1)]).toEqual([200, '}'])
      expect(text.length).toBeLessThan(12 * MIB)
      ids.push(...[...text.matchAll(/"task_id":"(.*?)"/g)].map((match) => match[1]!))
      cursor = /"next_cursor":(?:"(.*?)"|null)/.exec(text)![1] ?? null
    }
    expect(pages, path).toBeGreaterThan(2)
    expect(new Set(ids).size, path).toBe(ids.length)
    expect(ids.length, path).toBeGreaterThanOrEqual(stored)
  }
})
