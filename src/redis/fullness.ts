/** How much of its memory a server uses, for who makes room. It is asked seldom while there is plenty, and not at all while nobody wants to know. */
import type { Redis } from './client.ts'
import { nodeOf } from './nodes.ts'
import { usedIn } from './pressure.ts'

/** An answer counts so long. */
const PLENTY_MS = 10_000
const SHORT_MS = 1_000
/** From here on there may soon be no room. */
const SHORT = 0.4

/** The part used of the `maxmemory` of the server that has a key, 0 when it has none or does not say. */
export type Fullness = (key: string) => Promise<number>

export const createFullness = (redis: Redis): Fullness => {
  const seen = new WeakMap<Redis, { at: number; used: Promise<number> }>()
  const ask = async (node: Redis): Promise<number> => {
    const used = await node.info('memory').then(usedIn, () => 0) // not allowed to ask, perhaps
    seen.set(node, { at: performance.now() + (used < SHORT ? PLENTY_MS : SHORT_MS), used: Promise.resolve(used) })
    return used
  }
  return async (key) => {
    const node = nodeOf(redis, key)
    const last = seen.get(node)
    if (last && performance.now() < last.at) return last.used
    const used = ask(node)
    seen.set(node, { at: Infinity, used })
    return used
  }
}
