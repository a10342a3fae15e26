/**
 * The namespaces there are, besides the default one: each that a key was made with (keyring.ts). One is forgotten when no key names it any more, nothing is left
 * under it, and it has been so for an hour; until then each dispatcher process looks after it.
 */
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'

/** Each dispatcher process looks at each of them every second. */
export const MAX_NAMESPACES = 100
const FORGET_MS = 3_600_000
/** A process says so often at most that it has found one in use, or not. */
const AGAIN_MS = 60_000

export type Namespaces = ReturnType<typeof createNamespaces>

/** @param deps.keys those of the default namespace */
export const createNamespaces = ({ redis, keys }: { redis: Redis; keys: Keys }) => {
  const keepScript = loadScript(redis, new URL('./keep.lua', import.meta.url))
  const told = new Map<string, number>()
  return {
    /** Without the default one. */
    list: (): Promise<string[]> => redis.zrange(keys.namespaces, '0', '-1'),
    /** What a look at one has found: anything, or nothing. */
    seen: async (namespace: string, inUse: boolean): Promise<void> => {
      const now = performance.now()
      if (now - (told.get(namespace) ?? -Infinity) < AGAIN_MS) return
      if (told.size > 10 * MAX_NAMESPACES) told.clear()
      told.set(namespace, now)
      await keepScript(keys.base(''), namespace, inUse ? 1 : 0, FORGET_MS)
    },
  }
}
