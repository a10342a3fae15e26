/** What waits although an agent has room: said by `/health/ready` when no dispatcher makes progress. */
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'
import type { Types } from './types.ts'

export type HeldUp = { queue: string; tasks: number; sinceMs: number }

/** Looked at, and told of; whoever asks more often than once a second is told the same. */
const MAX_TYPES = 50
const MAX_QUEUES = 50
const MAX_TOLD = 10
const ANEW_MS = 1000

/** @returns those that have waited longest */
export const createHeldUp = ({ redis, keys, types }: { redis: Redis; keys: Keys; types: Types }) => {
  const script = loadScript(redis, new URL('./held-up.lua', import.meta.url))
  let last: { at: number; found: Promise<HeldUp[]> } | undefined
  const look = async (): Promise<HeldUp[]> => {
    const some = (await types.list()).slice(-MAX_TYPES) // the last used last
    const found = (await Promise.all(some.map((type) => script(keys.base(type), MAX_QUEUES)))) as [string, number, string][][]
    return found
      .flat()
      .map(([queue, tasks, ms]) => ({ queue, tasks, sinceMs: Number(ms) }))
      .sort((a, b) => b.sinceMs - a.sinceMs)
      .slice(0, MAX_TOLD)
  }
  return (): Promise<HeldUp[]> => {
    if (!last || performance.now() - last.at > ANEW_MS) last = { at: performance.now(), found: look() }
    return last.found
  }
}
