/** Which dispatchers are making progress: behind `/health/ready`. */
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'

/** A dispatcher that has not made progress for so long does not count. Work with a free slot goes out within this, or we are not ready. */
export const PROGRESS_MS = 5_000

export type Presence = ReturnType<typeof createPresence>
export const createPresence = ({ redis, keys }: { redis: Redis; keys: Keys }) => {
  const script = loadScript(redis, new URL('./presence.lua', import.meta.url))
  const ask = (dispatcher: string, progress: boolean) => script(keys.base(''), dispatcher, progress ? 1 : 0, PROGRESS_MS) as Promise<[number, string[]]>
  return {
    /** How many dispatchers make progress now. */
    count: async (): Promise<number> => (await ask('', false))[0],
    /**
     * Says whether this one does.
     * @returns the agent types that there are: one that asks each second need not ask twice
     */
    note: async (dispatcher: string, progress = true): Promise<string[]> => (await ask(dispatcher, progress))[1],
    leave: async (dispatcher: string): Promise<void> => void (await ask(dispatcher, false)),
  }
}
