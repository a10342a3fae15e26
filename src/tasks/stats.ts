/**
 * Counts for /metrics, kept in Redis so that every API process tells the totals of all. They are gathered here and written once a second:
 * a process that is killed takes at most a second of counts with it. Nothing but /metrics reads them.
 */
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'

const FLUSH_MS = 1000

/** `submitted`, `retried`, `ended:<status>`, `attempts:<outcome>`, `redelivered:<reason>`, `scheduled:<outcome>` */
export type Stat = 'submitted' | 'retried' | `ended:${string}` | `attempts:${string}` | `redelivered:${string}` | `scheduled:${string}`

export type Stats = ReturnType<typeof createStats>

export const createStats = ({ redis, keys }: { redis: Redis; keys: Keys }) => {
  let gathered = new Map<string, Map<Stat, number>>()
  const flush = async (): Promise<void> => {
    if (gathered.size === 0 || redis.status !== 'ready') return
    const writing = gathered
    gathered = new Map()
    await Promise.allSettled([...writing].flatMap(([type, counts]) => [...counts].map(([what, n]) => redis.hincrby(keys.stats(type), what, n))))
  }
  const timer = setInterval(() => void flush(), FLUSH_MS)
  timer.unref()
  return {
    count: (type: string, what: Stat, n = 1): void => {
      let counts = gathered.get(type)
      if (!counts) gathered.set(type, (counts = new Map()))
      counts.set(what, (counts.get(what) ?? 0) + n)
    },
    /** Writes what is left, and stops. */
    stop: async (): Promise<void> => {
      clearInterval(timer)
      await flush()
    },
  }
}
