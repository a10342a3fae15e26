/** Which dispatchers are making progress: behind `/health/ready`. */
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'

/** A dispatcher that has not made progress for so long does not count. Work with a free slot goes out within this, or we are not ready. */
export const PROGRESS_MS = 5_000

export type Presence = ReturnType<typeof createPresence>
export const createPresence = ({ redis, keys }: { redis: Redis; keys: Keys }) => {
  const script = loadScript(redis, new URL('./presence.lua', import.meta.url))
  return {
    /** How many dispatchers make progress now. */
    count: async (): Promise<number> => Number(await script(keys.base(''), '', 0, PROGRESS_MS)),
    /** Says that this one does. */
    note: async (dispatcher: string): Promise<void> => void (await script(keys.base(''), dispatcher, 1, PROGRESS_MS)),
    leave: async (dispatcher: string): Promise<void> => void (await script(keys.base(''), dispatcher, 0, PROGRESS_MS)),
  }
}
