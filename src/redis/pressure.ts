/**
 * How Redis is, as far as a process knows without asking it for each request: whether it is there, and how full its memory is. It is asked in the
 * background, about once a second, and only while somebody wants to know.
 */
import { isStoreFailure, type Redis } from './client.ts'
import { isCluster, isUp, mastersOf, nodeOf } from './nodes.ts'

const LOOK_EACH_MS = 1_000
/** How soon one that did not answer is asked again. */
const AGAIN_MS = 500
/** What waits to be written to it: one that reads so slowly is as good as away, and what we would hold for it is our memory. */
const MAX_UNSENT_BYTES = 16 * 1024 * 1024

export type StoreState = 'ready' | 'away' | 'full'
export type Pressure = ReturnType<typeof createPressure>

/** The part of its limit that is used, as Redis reckons it for itself; 0 when it has none. */
export const usedIn = (info: string): number => {
  const field = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0)
  const max = field('maxmemory')
  return max === 0 ? 0 : (field('used_memory') - field('mem_not_counted_for_evict')) / max
}

/** @param fullPercent of its `maxmemory`, from which on Redis counts as full; without a `maxmemory` it never does */
export const createPressure = ({ redis, fullPercent }: { redis: Redis; fullPercent: number }) => {
  const watched = new WeakMap<Redis, () => StoreState>()
  /** Of one server. */
  const stateOf = (node: Redis): StoreState => {
    let watch = watched.get(node)
    if (!watch) watched.set(node, (watch = watchServer(node, fullPercent)))
    return watch()
  }
  if (!isCluster(redis)) return { state: watchServer(redis, fullPercent), isFullAt: () => false }

  return {
    /** Of a cluster: how the best of its masters is. Which one a request is about shows only when it is read. */
    state: (): StoreState => {
      const states = new Set(redis.status === 'ready' ? mastersOf(redis).map(stateOf) : [])
      return states.has('ready') ? 'ready' : states.has('full') ? 'full' : 'away'
    },
    /** Of a cluster: whether the server that has a key is full, where others are not. */
    isFullAt: (key: string): boolean => isUp(redis, key) && stateOf(nodeOf(redis, key)) === 'full',
  }
}

const watchServer = (redis: Redis, fullPercent: number): (() => StoreState) => {
  let lookedAt = -Infinity
  let underWay = false
  let isFull = false
  /** It did not answer when last asked. */
  let isSilent = false

  const look = async (): Promise<void> => {
    if (underWay) return
    underWay = true
    lookedAt = performance.now()
    try {
      isFull = usedIn(await redis.info('memory')) * 100 >= fullPercent
      isSilent = false
    } catch (error) {
      if (!isStoreFailure(error)) return // not allowed to ask, perhaps: then we do not know
      isSilent = true
      // Nobody is let through meanwhile who would have it asked.
      setTimeout(() => void look(), AGAIN_MS).unref()
    } finally {
      underWay = false
    }
  }
  redis.on('ready', () => void look())

  const unsent = (): number => (redis as unknown as { stream?: { writableLength: number } }).stream?.writableLength ?? 0

  return () => {
    if (redis.status !== 'ready') return 'away'
    if (performance.now() - lookedAt > LOOK_EACH_MS) void look()
    if (isSilent || unsent() > MAX_UNSENT_BYTES) return 'away'
    return isFull ? 'full' : 'ready'
  }
}
