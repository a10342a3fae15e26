/**
 * The agent types in use: when each was last seen so, and a channel that says when one is new.
 *
 * A type is forgotten when a dispatcher finds nothing under it and nobody has named it for an hour. Whoever is about to put something
 * there names it first, and processes name what they use again every minute: so what is put there is found before the hour is over.
 */
import { TooManyTypes } from '../errors.ts'
import { createBatch } from '../redis/batch.ts'
import { isStoreFailure, type Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { isCluster, tell } from '../redis/nodes.ts'
import { loadScript } from '../redis/scripts.ts'

/** Agent types in use at once: each dispatcher looks at each of them every second. */
const MAX_TYPES = 1_000
const FORGET_MS = 3_600_000
/** A process names a type that it uses again after so long, and asks again whether one may be forgotten. */
const AGAIN_MS = 60_000

export type Types = ReturnType<typeof createTypes>

export const createTypes = ({ redis, keys }: { redis: Redis; keys: Keys }) => {
  const nameType = createBatch(loadScript(redis, new URL('./name-type.lua', import.meta.url)))
  const forgetType = loadScript(redis, new URL('./forget-type.lua', import.meta.url))
  /** When this process last did so. */
  const named = new Map<string, number>()
  const asked = new Map<string, number>()
  /** Those that we had named before. In a cluster the server that has the types may be away while a type's own is not: what is put there meanwhile is found when they are named again. */
  const doubtful = new Set<string>()
  // It may come back without its last second.
  const lost = (): void => {
    if (isCluster(redis)) for (const type of named.keys()) doubtful.add(type)
    named.clear()
  }
  const back = (): void => {
    for (const type of doubtful) ensure(type).catch(() => {})
  }
  redis.on('lost', lost)
  redis.on('back', back)
  const lately = (done: Map<string, number>, type: string) => performance.now() - (done.get(type) ?? -Infinity) < AGAIN_MS
  const note = (done: Map<string, number>, type: string) => {
    if (done.size > 10_000) done.clear()
    done.set(type, performance.now())
  }

  /**
   * Makes a type known to every dispatcher; awaited before anything is put under it.
   * @throws TooManyTypes
   */
  const ensure = async (type: string): Promise<void> => {
    if (lately(named, type)) return
    // Who asks meanwhile waits for the same answer, and goes on behind who asked first.
    const asking = underWay.get(type) ?? name(type).finally(() => underWay.delete(type))
    underWay.set(type, asking)
    return asking
  }
  const underWay = new Map<string, Promise<void>>()
  const name = async (type: string): Promise<void> => {
    const verdict = await nameType(keys.base(''), [type, MAX_TYPES]).catch((error: unknown) => {
      if (doubtful.has(type) && isStoreFailure(error)) return 'later'
      throw error
    })
    if (verdict === 'later') return
    doubtful.delete(type)
    if (verdict === 'full') throw new TooManyTypes(MAX_TYPES)
    if (verdict === 'new') await tell(redis, keys.typesChannel, keys.scope(type))
    note(named, type)
  }

  return {
    ensure,
    /** What a look at a type has found: anything, or nothing. */
    seen: async (type: string, inUse: boolean): Promise<void> => {
      if (inUse) return ensure(type)
      if (lately(asked, type)) return
      note(asked, type)
      const forgotten = await forgetType(keys.base(''), type, FORGET_MS)
      if (forgotten === 1) await redis.unlink(keys.events(type)) // what happened there is nobody's concern any more
    },
    list: (): Promise<string[]> => redis.zrange(keys.types, '0', '-1'),
    /** Listens no more. */
    end: (): void => void redis.off('lost', lost).off('back', back),
  }
}
