/** Looks that a dispatcher means to take soon, each at its time. Its survey is the net under them: one that is not taken is late, and no more. */

/** More timers are not set. */
const MAX_TIMERS = 10_000
/** A look so soon is always had: were many timers in its way, what was just submitted would wait for the survey. */
const SOON_MS = 5
/** Nor one that is so far off. */
const FAR_MS = 3_600_000
/** Looks at records are no closer to each other. */
const APART_MS = 5

export type LooksDeps = {
  /** While true, none is taken any more. */
  isStopping: () => boolean
  /** Looks at the records of a type that have come due. */
  records: (type: string) => Promise<unknown>
  /** Records that come due later than this get no timer, a survey sees them in time: so parked and delayed tasks take no memory here. */
  nearMs: number
}

export const createLooks = ({ isStopping, records, nearMs }: LooksDeps) => {
  const timers = new Set<NodeJS.Timeout>()
  /** The next look at the records of a type. One is enough: it tells when the one behind it is to be. */
  const next = new Map<string, { at: number; timer: NodeJS.Timeout }>()

  return {
    /** Does it in so many ms; false when it will not be done. */
    lookIn: (ms: number, look: () => Promise<unknown>): boolean => {
      if (isStopping() || ms > FAR_MS || (timers.size > MAX_TIMERS && ms > SOON_MS)) return false
      const timer = setTimeout(() => {
        timers.delete(timer)
        look().catch(() => {})
      }, ms)
      timers.add(timer)
      return true
    },
    /** A record of the type comes due in so many ms. */
    dueIn: (type: string, ms: number): void => {
      const inMs = Math.max(ms + 1, APART_MS)
      const at = performance.now() + inMs
      const pending = next.get(type)
      if (isStopping() || ms >= nearMs || (pending && pending.at <= at)) return
      clearTimeout(pending?.timer)
      const timer = setTimeout(() => {
        next.delete(type)
        records(type).catch(() => {})
      }, inMs)
      next.set(type, { at, timer })
    },
    stop: (): void => {
      for (const timer of timers) clearTimeout(timer)
      for (const { timer } of next.values()) clearTimeout(timer)
    },
  }
}
