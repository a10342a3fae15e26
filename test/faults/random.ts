/** Chance that can be had again: the same seed gives the same numbers (mulberry32, by Tommy Ettinger, public domain). */
export type Random = {
  /** From 0 to 1, without 1. */
  next: () => number
  /** From `low` to `high`. */
  between: (low: number, high: number) => number
  /** A whole number from `low` to `high`, both possible. */
  whole: (low: number, high: number) => number
  pick: <T>(of: readonly T[]) => T
  chance: (share: number) => boolean
}

export const createRandom = (seed: number): Random => {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  const whole = (low: number, high: number) => low + Math.floor(next() * (high - low + 1))
  return {
    next,
    between: (low, high) => low + next() * (high - low),
    whole,
    pick: (of) => of[whole(0, of.length - 1)]!,
    chance: (share) => next() < share,
  }
}
