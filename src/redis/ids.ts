/**
 * UUIDv7 (RFC 9562 §5.7): sorts by time, so ids order tasks and break ties between them. Within one ms a counter keeps the order, as
 * method 1 of §6.2 describes. The random part comes from `crypto.randomUUID`, which draws from a pool: a well-known package that asks
 * the system for each id cost a tenth of a submit.
 */
import { randomUUID } from 'node:crypto'

let lastMs = 0
let counter = 0

/** A new id, greater than every one this process has made before. */
export const uuidv7 = (): string => {
  const now = Date.now()
  if (now > lastMs) {
    lastMs = now
    counter = 0
  } else if (++counter > 0xfff) {
    lastMs++ // 4,096 in a millisecond: borrow the next one
    counter = 0
  }
  const time = lastMs.toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7${counter.toString(16).padStart(3, '0')}-${randomUUID().slice(19)}`
}
