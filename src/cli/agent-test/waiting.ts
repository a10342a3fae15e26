/** Waits that hold nothing up: a check that was given up must not keep the process alive. The run's own limit does that. */
import { setTimeout as sleep } from 'node:timers/promises'

/** How long a task may take, unless one says. */
export const DEFAULT_TIMEOUT_MS = 10_000

export const pause = (ms: number): Promise<void> => sleep(ms, undefined, { ref: false })

/** Waits for what `look` finds. @returns null when it did not come within `ms`, or `stop` came first */
export const awaited = async <T>(look: () => T | Promise<T>, ms: number, stop: () => boolean = () => false): Promise<NonNullable<T> | null> => {
  const deadline = performance.now() + ms
  for (;;) {
    const seen = await look()
    if (seen !== null && seen !== undefined && seen !== false) return seen as NonNullable<T>
    if (performance.now() > deadline || stop()) return null
    await pause(20)
  }
}
