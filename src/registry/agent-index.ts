/**
 * Which type an agent is of: the index of the empty type, written before the agent. What a process has read or written is remembered for a while: a heartbeat looks there
 * first, and in a cluster, where the server that has the index may be away while the agent's own is not, beats go on being heard. Wrong that can only be for an agent that
 * has moved to another type meanwhile; then nothing is found under the old one.
 */
import { isStoreFailure, type Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'

/** Agents that are remembered; the one heard of first goes first. */
const MAX_KNOWN = 100_000
/** Remembered for so long, a Redis that has lost its last second is noticed in time. */
const RECALL_MS = 300_000

export const createAgentIndex = (redis: Redis, keys: Keys) => {
  const known = new Map<string, { type: string; at: number }>()
  const remember = (id: string, type: string): void => {
    known.delete(id)
    if (known.size >= MAX_KNOWN) known.delete(known.keys().next().value!)
    known.set(id, { type, at: performance.now() })
  }
  const forget = (id: string): void => void known.delete(id)

  return {
    forget,
    /** What was known a short while ago, without asking. */
    recall: (id: string): string | null => {
      const it = known.get(id)
      return it && performance.now() - it.at < RECALL_MS ? it.type : null
    },
    find: async (id: string): Promise<string | null> => {
      try {
        const type = await redis.hget(keys.agentTypes, id)
        if (type === null) forget(id)
        else remember(id, type)
        return type
      } catch (error) {
        const it = known.get(id)
        if (it && isStoreFailure(error)) return it.type
        throw error
      }
    },
    write: (id: string, type: string): Promise<unknown> => {
      remember(id, type)
      return redis.hset(keys.agentTypes, id, type)
    },
  }
}
