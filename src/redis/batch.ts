/**
 * Many calls of one script as one: what is asked within a turn of the event loop goes to Redis as a single EVALSHA. Under load that saves
 * much of what a call costs, in Redis and here; while little is under way a call goes out at once, so an idle system waits for nothing.
 *
 * The script takes its items one behind the other in ARGV, each of as many arguments, and returns a list with a reply for each (batch.lua):
 * an item that fails fails alone. It is atomic as a whole; an item must not depend on another one.
 */
import type { Script } from './scripts.ts'

/** So many calls under way are answered one by one; beyond that they gather. */
const EAGER = 2
const MAX_ITEMS = 64
/** In characters: payloads are not gathered into huge commands. */
const MAX_TEXT = 256 * 1024

export type Arguments = readonly (string | number)[]
type Waiting = { item: Arguments; resolve: (reply: unknown) => void; reject: (error: unknown) => void; sent: (() => void) | undefined }

/** Items in parts that one call may have. */
export function* partsOf<T>(all: readonly T[], argumentsOf: (one: T) => Arguments): Generator<T[]> {
  let part: T[] = []
  let text = 0
  for (const one of all) {
    const length = argumentsOf(one).reduce<number>((n, a) => n + (typeof a === 'string' ? a.length : 8), 0)
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
 * @returns runs it for one item. `sent` is called when the call has been handed to the connection: what is sent after that comes behind it.
 */
export const createBatch = (script: Script) => {
  const gathered = new Map<string, Waiting[]>()
  let underWay = 0

  const send = (base: string, items: Waiting[]): void => {
    underWay++
    const reply = script(base, ...items.flatMap((w) => w.item)) as Promise<unknown[]>
    for (const w of items) w.sent?.()
    reply.then(
      (replies) => {
        underWay--
        for (const [i, w] of items.entries()) {
          if (replies[i] instanceof Error) w.reject(replies[i])
          else w.resolve(replies[i])
        }
      },
      (error: unknown) => {
        underWay--
        for (const w of items) w.reject(error)
      },
    )
  }

  const flush = (): void => {
    for (const [base, all] of gathered) for (const part of partsOf(all, (w) => w.item)) send(base, part)
    gathered.clear()
  }

  return (base: string, item: Arguments, sent?: () => void): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const waiting = { item, resolve, reject, sent }
      if (underWay < EAGER && gathered.size === 0) return send(base, [waiting])
      if (gathered.size === 0) setImmediate(flush)
      const all = gathered.get(base)
      if (all) all.push(waiting)
      else gathered.set(base, [waiting])
    })
}
