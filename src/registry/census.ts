/**
 * What is there, counted in Redis: totals since the beginning, what waits, who is there. Any process reads the same numbers.
 * The cost is bounded: so many types, agents and queues at a time, and no script looks at more than a few hundred of them at once.
 */
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'
import type { Types } from './types.ts'

/** Looked at in one census; what is beyond is not counted, and `omitted` says how much that is. */
const MAX_TYPES = 500
const MAX_QUEUES = 1_000
const MAX_AGENTS = 10_000
/** Looked at by one script: Redis does nothing else meanwhile. */
const BATCH = 200

export type QueueCount = { type: string; queue: string; waiting: number; delayed: number; active: number; oldestMs: number }
export type TypeCount = { type: string; stats: Record<string, number>; agents: Record<string, number>; resting: number; suspects: number; slotsUsed: number; slotsFree: number }
export type Census = { types: TypeCount[]; queues: QueueCount[]; omitted: { types: number; queues: number; agents: number } }

export const createCensus = ({ redis, keys, types }: { redis: Redis; keys: Keys; types: Types }) => {
  const count = loadScript(redis, new URL('./count.lua', import.meta.url))
  const depths = loadScript(redis, new URL('./depths.lua', import.meta.url))

  /** @param most how many agents of this type are looked at */
  const countType = async (type: string, most: number): Promise<TypeCount> => {
    const stats = await redis.hgetall(keys.stats(type))
    const total: TypeCount = { type, stats: Object.fromEntries(Object.entries(stats).map(([k, n]) => [k, Number(n)])), agents: {}, resting: 0, suspects: 0, slotsUsed: 0, slotsFree: 0 }
    let after = ''
    for (let left = most; left > 0; left -= BATCH) {
      const [used, free, resting, suspects, last, ...counts] = (await count(keys.base(type), after, Math.min(BATCH, left))) as [number, number, number, number, string, ...(string | number)[]]
      total.slotsUsed += used
      total.slotsFree += free
      total.resting += resting
      total.suspects += suspects
      for (let i = 0; i < counts.length; i += 2) total.agents[counts[i]!] = (total.agents[counts[i]!] ?? 0) + Number(counts[i + 1])
      if (last === '') break
      after = last
    }
    return total
  }

  /** @param most how many queues of this type are looked at, those used last */
  const countQueues = async (type: string, most: number): Promise<QueueCount[]> => {
    const rows: QueueCount[] = []
    for (let from = 0; from < most; from += BATCH) {
      const batch = (await depths(keys.base(type), from, Math.min(BATCH, most - from))) as [string, number, number, number, string][]
      for (const [queue, waiting, delayed, active, oldest] of batch) rows.push({ type, queue, waiting, delayed, active, oldestMs: Number(oldest) })
    }
    return rows
  }

  /** Shares `limit` among types as they have need of it: all of it to all when that fits. */
  const shares = (sizes: number[], limit: number): number[] => {
    const total = sizes.reduce((sum, n) => sum + n, 0)
    return total <= limit ? sizes : sizes.map((n) => Math.floor((n * limit) / total))
  }

  return async (): Promise<Census> => {
    const all = (await types.list()).sort()
    const seen = all.slice(0, MAX_TYPES)
    const sizes = await Promise.all(seen.map((type) => Promise.all([redis.zcard(keys.queues(type)), redis.zcard(keys.agents(type))])))
    const queueShares = shares(sizes.map(([queues]) => queues), MAX_QUEUES)
    const agentShares = shares(sizes.map(([, agents]) => agents), MAX_AGENTS)
    const [counted, queues] = await Promise.all([
      Promise.all(seen.map((type, i) => countType(type, agentShares[i]!))),
      Promise.all(seen.map((type, i) => countQueues(type, queueShares[i]!))),
    ])
    const lost = (of: readonly number[], given: number[]) => of.reduce((sum, n, i) => sum + n - given[i]!, 0)
    return {
      types: counted,
      queues: queues.flat(),
      omitted: { types: all.length - seen.length, queues: lost(sizes.map(([q]) => q), queueShares), agents: lost(sizes.map(([, a]) => a), agentShares) },
    }
  }
}
