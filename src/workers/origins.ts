/** How many webhooks are sent to one origin at once: more with each that is taken, half as many with each that is not. */
import type { Room } from '../tasks/webhooks/webhooks.ts'

const FIRST = 8
const MOST = 16
const MAX_KNOWN = 128

export type Origins = ReturnType<typeof createOrigins>

export const createOrigins = () => {
  /** Those that are sent to, or were found to be bad. */
  const known = new Map<string, { running: number; limit: number }>()
  const of = (origin: string) => {
    let at = known.get(origin)
    if (!at) known.set(origin, (at = { running: 0, limit: FIRST }))
    return at
  }
  /** What is known of the ones that nothing is being sent to now is only a hint; of too many the oldest go. */
  const forget = (): void => {
    for (const [origin, { running }] of known) {
      if (known.size <= MAX_KNOWN) return
      if (running === 0) known.delete(origin)
    }
  }
  return {
    begin: (origin: string): void => void of(origin).running++,
    end: (origin: string): void => {
      const at = of(origin)
      at.running--
      if (at.running === 0 && at.limit === FIRST) known.delete(origin)
      forget()
    },
    /** @param good it answered, and not that it is in trouble */
    judge: (origin: string, good: boolean): void => {
      const at = of(origin)
      at.limit = good ? Math.min(MOST, at.limit + 1) : Math.max(1, at.limit >> 1)
    },
    room: (total: number): Room => ({ total, each: FIRST, origins: [...known].map(([origin, { running, limit }]) => [origin, Math.max(0, limit - running)]) }),
  }
}
