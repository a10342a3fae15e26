/** A handler's reports of its progress: as many as it likes, of which few go out. */
import type { Progress } from './task.ts'

/** More often than this is waste: clients see the latest. */
const GAP_MS = 1000
/** Between reports while the router does not take them. */
const LONGEST_GAP_MS = 10_000

/**
 * For one attempt.
 * @param send tells the router; resolves to whether it took it, and never rejects
 */
export const createProgress = (send: (report: Progress) => Promise<boolean>) => {
  /** Of all that was said, the newest: each report that goes out is whole. */
  let whole: Progress = {}
  let extendSeconds: number | undefined
  let isNew = false
  let isClosed = false
  let failures = 0
  let sentAt = -Infinity
  let timer: NodeJS.Timeout | undefined
  /** One is on its way, and one more may wait behind it; whatever is said meanwhile goes with that. */
  let flying: Promise<boolean> | null = null
  let behind: Promise<boolean> | null = null

  const gapMs = (): number => Math.min(GAP_MS * 2 ** failures, LONGEST_GAP_MS)
  const goOnce = async (): Promise<boolean> => {
    await flying
    behind = null
    if (isClosed) return false
    clearTimeout(timer)
    timer = undefined
    const report = { ...whole, extendSeconds }
    extendSeconds = undefined
    isNew = false
    sentAt = performance.now()
    flying = send(report)
    const isTaken = await flying
    flying = null
    failures = isTaken ? 0 : Math.min(failures + 1, 10)
    return isTaken
  }
  const go = (): Promise<boolean> => (behind ??= goOnce())

  return {
    report: (given: Progress = {}): Promise<boolean> => {
      if (isClosed) return Promise.resolve(false)
      const { extendSeconds: extend, ...said } = given
      for (const [name, value] of Object.entries(said)) if (value !== undefined) whole = { ...whole, [name]: value }
      isNew = true
      if (extend !== undefined) extendSeconds = extend
      const inMs = sentAt + gapMs() - performance.now()
      if (extend !== undefined || (inMs <= 0 && flying === null)) return go()
      timer ??= setTimeout(() => {
        timer = undefined
        if (isNew) void go()
      }, Math.max(inMs, 0))
      return Promise.resolve(failures === 0)
    },
    /** Nothing more is said. */
    close: (): void => {
      isClosed = true
      clearTimeout(timer)
    },
  }
}
