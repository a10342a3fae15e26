/**
 * Many calls of one script as one. While little is under way a call goes out at once, so an idle system waits for nothing; while more is, calls gather until an answer
 * has come, and go to Redis as a single EVALSHA: the busier it is, the more share one. Under load that saves much of what a call costs, in Redis and here.
 *
 * The script takes its items one behind the other in ARGV, each of as many arguments or told how many, and returns a list with a reply for each (batch.lua):
 * an item that fails fails alone. It is atomic as a whole; an item must not depend on another one.
 */
import type { Script } from './scripts.ts'

/** While fewer calls are under way than this, one goes out at once. */
const EAGER = 2
const MAX_ITEMS = 64
/** What is gathered goes out with the next answer, and no later than this. */
const PATIENCE_MS = 5
/** In characters: payloads are not gathered into huge commands. */
const MAX_TEXT = 256 * 1024
/** What each counts beside its text: a JavaScript function takes no more than some tens of thousands. */
const AN_ARGUMENT = 16

export type Arguments = readonly (string | number)[]
type Waiting = { item: Arguments; resolve: (reply: unknown) => void; reject: (error: unknown) => void; sent: (() => void) | undefined }

/** Items in parts that one call may have. */
export function* partsOf<T>(all: readonly T[], argumentsOf: (one: T) => Arguments): Generator<T[]> {
  let part: T[] = []
  let text = 0
  for (const one of all) {
    const length = argumentsOf(one).reduce<number>((n, a) => n + AN_ARGUMENT + (typeof a === 'string' ? a.length : 0), 0)
    if (part.length === MAX_ITEMS || (part.length > 0 && text + length > MAX_TEXT)) {
      yield part
      part = []
      text = 0
    }
    part.push(one)
    text += length
  }
  if (part.length > 0) yield part
}

/**
 * @param script a script for many items
 * @param gatherMs for what is in no hurry: behind a call the next ones wait so long for others to go with
 * @returns runs it for one item. `sent` is called when the call has been handed to the connection: what is sent after that comes behind it.
 */
export const createBatch = (script: Script, gatherMs = 0) => {
  const gathered = new Map<string, Waiting[]>()
  let underWay = 0
  let sentAt = -Infinity
  const isEager = (): boolean => (gatherMs === 0 ? underWay < EAGER : performance.now() - sentAt > gatherMs)
  /** Set while a flush is to come, be it that nobody answers. */
  let flushing: NodeJS.Immediate | null = null
  let patience: NodeJS.Timeout | undefined

  const answered = (): void => {
    underWay--
    if (gatherMs === 0 && underWay < EAGER && gathered.size > 0) flushSoon()
  }
  const send = (base: string, items: Waiting[]): void => {
    underWay++
    if (gatherMs > 0) sentAt = performance.now()
    const reply = script(base, ...items.flatMap((w) => w.item)) as Promise<unknown[]>
    for (const w of items) w.sent?.()
    reply.then(
      (replies) => {
        answered()
        for (const [i, w] of items.entries()) {
          if (replies[i] instanceof Error) w.reject(replies[i])
          else w.resolve(replies[i])
        }
      },
      (error: unknown) => {
        answered()
        for (const w of items) w.reject(error)
      },
    )
  }

  const flush = (): void => {
    flushing = null
    clearTimeout(patience)
    patience = undefined
    for (const [base, all] of gathered) for (const part of partsOf(all, (w) => w.item)) send(base, part)
    gathered.clear()
  }
  const flushSoon = (): void => void (flushing ??= setImmediate(flush))

  return (base: string, item: Arguments, sent?: () => void): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const waiting = { item, resolve, reject, sent }
      const eager = isEager()
      if (eager && gathered.size === 0) return send(base, [waiting])
      if (eager) flushSoon()
      else patience ??= setTimeout(flush, gatherMs || PATIENCE_MS)
      const all = gathered.get(base)
      if (all) all.push(waiting)
      else gathered.set(base, [waiting])
    })
}
