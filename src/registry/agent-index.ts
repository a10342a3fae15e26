/**
 * Which type an agent is of: the index of the empty type, written before the agent. In a cluster the server that has it may be away while the agent's own is not: then what
 * was known last counts, so that its beats go on being heard. Wrong that can only be for an agent that has moved to another type meanwhile; then nothing is found under the
 * old one.
 */
import { isStoreFailure, type Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { isCluster } from '../redis/nodes.ts'

/** Agents that are remembered. */
const MAX_KNOWN = 20_000

export const createAgentIndex = (redis: Redis, keys: Keys) => {
  const find = (id: string): Promise<string | null> => redis.hget(keys.agentTypes, id)
  const write = (id: string, type: string): Promise<unknown> => redis.hset(keys.agentTypes, id, type)
  if (!isCluster(redis)) return { find, write }

  const known = new Map<string, string>()
  const remember = (id: string, type: string): void => {
    if (known.size >= MAX_KNOWN) known.clear()
    known.set(id, type)
  }
  return {
    find: async (id: string): Promise<string | null> => {
      try {
        const type = await find(id)
        if (type === null) known.delete(id)
        else remember(id, type)
        return type
      } catch (error) {
        const type = known.get(id)
        if (type !== undefined && isStoreFailure(error)) return type
        throw error
      }
    },
    write: async (id: string, type: string): Promise<unknown> => {
      remember(id, type)
      return write(id, type)
    },
  }
}
