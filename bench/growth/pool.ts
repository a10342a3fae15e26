/** Agents in a pool: what it costs to choose one, take a job for it and begin its attempt. Reserved by hand, one by one, with no dispatcher about. */
import { randomUUID } from 'node:crypto'
import { readConfig } from '../../src/config.ts'
import { createCore } from '../../src/core.ts'
import { createLogger } from '../../src/logger.ts'
import type { Curve } from './curve.ts'

const RESERVES = 500
const TASK = { agent_type: 'bench', task_type: 'echo' }

export const pool: Curve = {
  name: 'pool',
  x: { words: 'agents in the pool', unit: 'agents', log: true },
  sizes: { quick: [10, 50], usual: [10, 30, 100, 300, 1000], full: [10, 30, 100, 300, 1000, 10_000] },
  rounds: 5,
  measures: [{ key: 'script', words: 'a reserve in Redis, µs', digits: 0 }, { key: 'call', words: 'there and back, µs', digits: 0 }],
  plots: [{ suffix: '', title: 'A reserve in a pool of so many agents', unit: 'µs', measures: ['script', 'call'] }],
  limits: [{ measure: 'script', kind: 'at most', at: 2, ratio: true, x: 1000, words: 'a reserve at 1,000 agents ≤ 2 × at 10' }],
  at: async (size, { start, tasks }) => {
    const system = await start({ workers: 0 })
    const core = await createCore({ config: readConfig({ REDIS_URL: system.redisUrl }), log: createLogger('bench', 'silent'), name: 'bench' })
    system.onEnd(core.end)
    await system.each(Array.from({ length: size }, (_, n) => n), (n) => system.register({ name: `agent-${n}`, capabilities: ['echo'], max_concurrency: 1000 }))
    const count = tasks(RESERVES)
    const spent = async () => {
      const [, calls, usec] = /^cmdstat_evalsha:calls=(\d+),usec=(\d+)/m.exec(await system.redis.info('commandstats')) ?? []
      return { calls: Number(calls), usec: Number(usec) }
    }
    return async () => {
      await system.fill(Array.from({ length: count }, () => TASK))
      const [before, began] = [await spent(), performance.now()]
      for (let i = 0; i < count; i++) {
        const slots = await core.tasks.reserve('bench', 'bench.echo', 'bench', 0, [{ token: randomUUID(), lock: randomUUID(), askedAt: 0 }])
        if (!slots[0]?.begun) throw new Error('a reserve found no slot, or began no attempt')
      }
      const [after, ms] = [await spent(), performance.now() - began]
      return { script: (after.usec - before.usec) / (after.calls - before.calls), call: (ms * 1000) / count }
    }
  },
}
