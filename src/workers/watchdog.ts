/**
 * Whether this dispatcher makes progress: work that has a free slot goes out within 5 s, or we are not ready. One that stays stuck though Redis
 * answers and it has places is made anew, connections and all; where that does not help the process ends, and its supervisor starts another.
 *
 * What is counted for that are its own looks, once a second, and no clock: a process that stood still has not been stuck. Nothing counts
 * while Redis is away or takes nothing, while anything goes out, here or at another dispatcher, or while each of our places is rightly taken.
 */
import { randomInt } from 'node:crypto'
import type { Logger } from '../logger.ts'
import { isStoreFailure } from '../redis/client.ts'
import { PROGRESS_MS } from '../registry/presence.ts'

const TICK_MS = 1000
/** Ticks that it has been stuck for, when it is made anew; and when that has not helped. */
const REBUILD_AFTER = 10
const GIVE_UP_AFTER = 30
/** Dispatchers that are stuck by the same cause do not all end in the same moment. */
const APART = 5
/** A look that fails for the same type is told of again after so long. */
const TELL_AGAIN_MS = 60_000

/** A queue with work and room. `front`: its first job and the one taken last; while both stay nothing goes out. */
export type Waiting = { queue: string; front: string }

export type WatchdogDeps = {
  /** Rejects, or resolves within about 2 s. */
  ping: () => Promise<unknown>
  /** Whether we have a place that an attempt could take; those of attempts long past their deadline count. */
  hasPlace: () => boolean
  /** Attempts that we have begun, ever. */
  begun: () => number
  rebuild: () => void
  giveUp: (why: string) => void
  log: Logger
  tickMs?: number
}

export type Watchdog = ReturnType<typeof createWatchdog>

export const createWatchdog = ({ ping, hasPlace, begun, rebuild, giveUp, log, tickMs = TICK_MS }: WatchdogDeps) => {
  let lastLook = -Infinity
  let ticksSinceLook = 0
  /** Redis answers, and takes nothing. */
  let refuses = false
  const waiting = new Map<string, { type: string; front: string; since: number; looks: number }>()
  const failing = new Map<string, { since: number; toldAt: number }>()
  let wedgedFor = 0
  let begunBefore = 0
  const limit = GIVE_UP_AFTER + randomInt(APART)

  const ago = (since: number): string => `${Math.round((performance.now() - since) / 1000)} s`

  const stuckQueue = (): string | null => {
    if (!hasPlace()) return null
    for (const [queue, { since, looks }] of waiting) {
      if (looks >= 3 && performance.now() - since > PROGRESS_MS) return `${queue} has had work and a free slot for ${ago(since)}, and nothing goes out`
    }
    return null
  }
  /** What a new beginning may mend. */
  const wedged = (): string | null => (ticksSinceLook * TICK_MS > PROGRESS_MS ? `no look at the queues has come back for ${ticksSinceLook} s` : stuckQueue())

  let ticking = false
  const tick = async (): Promise<void> => {
    if (ticking) return
    ticking = true
    // A look that has come back since the last tick says the same.
    const answers = (ticksSinceLook === 0 && lastLook !== -Infinity) || (await ping().then(() => true, () => false))
    ticking = false
    const goesOut = begun() !== begunBefore
    begunBefore = begun()
    if (!answers || refuses) {
      ticksSinceLook = wedgedFor = 0
      return
    }
    ticksSinceLook++
    const why = goesOut ? null : wedged()
    if (why === null) return void (wedgedFor = 0)
    wedgedFor++
    if (wedgedFor === REBUILD_AFTER) {
      log.error({ why }, 'stuck: beginning anew, with new connections')
      rebuild()
    } else if (wedgedFor >= limit) giveUp(`Stuck, and a new beginning did not help: ${why}. Ending, to be started again.`)
  }
  const timer = setInterval(() => void tick(), tickMs)
  timer.unref()

  return {
    /** A look at a type has come back; with the queues that have work and room. */
    looked: (type: string, found: readonly Waiting[]): void => {
      const now = performance.now()
      lastLook = now
      ticksSinceLook = 0
      refuses = false
      failing.delete(type)
      const seen = new Set(found.map(({ queue }) => queue))
      for (const [queue, known] of waiting) if (known.type === type && !seen.has(queue)) waiting.delete(queue)
      for (const { queue, front } of found) {
        const known = waiting.get(queue)
        if (known?.front === front) known.looks++
        else waiting.set(queue, { type, front, since: now, looks: 1 })
      }
    },
    /** A type is not in use any more. */
    forget: (inUse: ReadonlySet<string>): void => {
      for (const type of failing.keys()) if (!inUse.has(type)) failing.delete(type)
      for (const [queue, { type }] of waiting) if (!inUse.has(type)) waiting.delete(queue)
    },
    /** A look at a type has failed. Nothing that a new process would do better. */
    failed: (type: string, error: unknown): void => {
      if (isStoreFailure(error)) {
        // Of one type: its server is away, and others need not be.
        for (const [queue, known] of waiting) if (known.type === type) waiting.delete(queue)
        refuses = true
        return
      }
      const now = performance.now()
      const known = failing.get(type) ?? { since: now, toldAt: -Infinity }
      failing.set(type, known)
      ticksSinceLook = 0
      if (now - known.toldAt < TELL_AGAIN_MS) return
      known.toldAt = now
      log.error({ agent_type: type, error: String(error) }, 'could not look at the queues')
    },
    /** Why this dispatcher makes no progress, for people; null while it does. One with all its places taken does. */
    reason: (): string | null => {
      for (const [type, { since }] of failing) if (performance.now() - since > PROGRESS_MS) return `it cannot look at the queues${type && ` of ${type}`}; the log says why`
      if (performance.now() - lastLook > PROGRESS_MS) return lastLook === -Infinity ? 'it has not looked at the queues yet' : `no look at the queues has come back for ${ago(lastLook)}`
      return stuckQueue()
    },
    stop: (): void => clearInterval(timer),
  }
}
