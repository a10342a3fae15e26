/**
 * Finds a connection on which nothing comes back any more although it looks open: a firewall that forgot it, a machine that lost its
 * power, a Redis that stands still. TCP itself would notice after minutes. Such a connection is broken off, and made anew like any other.
 */
import type { Redis } from 'ioredis'

const LOOK_MS = 500
/** Looks without a byte, until we ask for one. */
const QUIET = 4
/** Looks without a byte although something is to be answered, until it is broken off: as long as a command may take. */
const UNANSWERED = 4

/** Of ioredis; `commandQueue` holds what has been sent and not been answered, also what has timed out. */
type Inner = { stream?: { bytesRead: number; destroyed: boolean; destroy(error: Error): void }; commandQueue: { length: number } }

/**
 * Looks are counted rather than time: a process that stood still has not been waiting, and has not read what came meanwhile.
 * Nothing is sent while anything else comes.
 */
export const watchLiveness = (redis: Redis): void => {
  const inner = redis as unknown as Inner
  let stream: Inner['stream']
  let read = 0
  let quiet = 0
  let unanswered = 0
  const look = (): void => {
    const now = inner.stream
    if (now !== stream || now === undefined || now.destroyed || now.bytesRead !== read) {
      stream = now
      read = now?.bytesRead ?? 0
      quiet = unanswered = 0
      return
    }
    if (inner.commandQueue.length === 0) {
      unanswered = 0
      if (redis.status === 'ready' && ++quiet >= QUIET) redis.ping().catch(() => {})
    } else if (++unanswered >= UNANSWERED) {
      // What has come and was not read yet is read first.
      setImmediate(() => {
        if (inner.stream === now && now.bytesRead === read && !now.destroyed) now.destroy(new Error('no answer'))
      })
    }
  }
  const timer = setInterval(look, LOOK_MS).unref()
  redis.once('end', () => clearInterval(timer))
}
