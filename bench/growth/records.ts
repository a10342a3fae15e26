/**
 * Records of ended tasks that are kept: what one takes of Redis's memory, and how long it takes to read one and to list them. One task is performed;
 * its record is copied, within Redis, under as many ids as are wanted, each in its place in the list: so a million are there in a minute.
 */
import { uuidv7 } from '../../src/redis/ids.ts'
import { createKeys, DEFAULT_NAMESPACE } from '../../src/redis/keys.ts'
import { median } from '../median.ts'
import type { Curve } from './curve.ts'

const READS = 300
const LISTS = 60
const COPIED_AT_ONCE = 1000
const TYPE = 'bench'

export const records: Curve = {
  name: 'records',
  x: { words: 'records kept', unit: 'records', log: true },
  sizes: { quick: [100, 1000], usual: [1000, 10_000, 100_000], full: [1000, 10_000, 100_000, 1_000_000] },
  rounds: 5,
  measures: [
    { key: 'bytes', words: 'Redis’s memory, bytes a task', digits: 0 },
    { key: 'read', words: 'GET /tasks/{id}, p50 ms', digits: 2 },
    { key: 'first', words: 'GET /tasks?limit=50, p50 ms', digits: 2 },
    { key: 'deep', words: 'the same, in the midst of them', digits: 2 },
  ],
  plots: [
    { suffix: '', title: 'Reading with so many records kept', unit: 'ms, p50', measures: ['read', 'first', 'deep'] },
    { suffix: '-memory', title: 'Memory of a task with so many records kept', unit: 'bytes a task', measures: ['bytes'] },
  ],
  limits: [],
  at: async (size, { start, tasks }) => {
    const system = await start()
    const { redis } = system
    const keys = createKeys('sy', DEFAULT_NAMESPACE)
    await system.register({ name: 'agent', capabilities: ['echo'] })
    await system.perform(Array.from({ length: 50 }, () => ({ agent_type: TYPE, task_type: 'echo' })))
    const original = (await system.call('GET', '/tasks?limit=1')).tasks[0].task_id as string
    const before = await system.info('memory', 'used_memory')
    const ids: string[] = []
    while (ids.length < size) {
      const some = Array.from({ length: Math.min(COPIED_AT_ONCE, size - ids.length) }, () => `${TYPE}.${uuidv7()}`)
      await Promise.all([...some.map((id) => redis.copy(keys.task(TYPE, original), keys.task(TYPE, id))), redis.zadd(keys.tasks(TYPE, 'completed'), ...some.flatMap((id) => ['0', id]))])
      ids.push(...some)
    }
    const bytes = ((await system.info('memory', 'used_memory')) - before) / size
    const any = () => ids[Math.floor(Math.random() * ids.length)]!
    const p50 = async (count: number, work: () => Promise<unknown>): Promise<number> => {
      const took: number[] = []
      for (let i = 0; i < count; i++) {
        const began = performance.now()
        await work()
        took.push(performance.now() - began)
      }
      return median(took)
    }
    // A cursor is what a page says of the next: made here of any id, so that the pages before need not be read.
    const cursorOf = (id: string): string => Buffer.from(id.slice(TYPE.length + 1)).toString('base64url')
    const midst = ids[Math.floor(ids.length / 2)]!
    const page = async (query: string) => {
      const { count } = await system.call('GET', `/tasks?limit=50${query}`)
      if (count !== 50) throw new Error(`a page had ${count} tasks`)
    }
    return async () => ({
      bytes,
      read: await p50(tasks(READS), () => system.call('GET', `/tasks/${any()}`)),
      first: await p50(tasks(LISTS), () => page('')),
      deep: await p50(tasks(LISTS), () => page(`&cursor=${cursorOf(midst)}`)),
    })
  },
}
