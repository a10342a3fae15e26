/**
 * Garbage, swept before it is much. A body of one megabyte can be thirty of objects when it is parsed, and a page of tasks as many; V8 would let
 * hundreds of them lie, as the machine seems to have the room, and give little back. Only what is large makes us look: small requests cost nothing.
 */
import { getHeapSpaceStatistics, getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** So much more than after the last sweep is let lie. */
const GARBAGE_BYTES = 24 * 1024 * 1024

/** What has come and was let go of again is outside of V8's heap, which begins to look for it at 64 MB. It is young: to sweep it costs little. */
const LET_GO_BYTES = 8 * 1024 * 1024

const external = (): number => getHeapStatistics().external_memory
const used = (): number => {
  const { used_heap_size: heap, external_memory: outside } = getHeapStatistics()
  return heap + outside
}

/** V8 doubles the space for new objects when many survive a collection, up to 130 MB, and keeps it. We let it have so much, and none of it for large bodies. */
const NEW_BYTES = 16 * 1024 * 1024
const GROW = '--semi-space-growth-factor=2'
const STAY = '--semi-space-growth-factor=1'
const LOOK_MS = 50

const newSpace = (): number => getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')?.space_size ?? 0

/** Does what makes much garbage, and sweeps it away when it has become too much. */
export const createTidy = (): (<T>(work: () => T) => T) => {
  setFlagsFromString('--expose-gc')
  const sweep = runInNewContext('gc') as (o?: { type: 'minor' }) => void
  let least = used()
  let leastOutside = external()
  let mayGrow = true
  // It shrinks by itself, and must be able to come back: small requests are slower without it.
  setInterval(() => {
    mayGrow = newSpace() < NEW_BYTES
    setFlagsFromString(mayGrow ? GROW : STAY)
    if (external() - leastOutside >= LET_GO_BYTES) {
      sweep({ type: 'minor' })
      if (external() - leastOutside >= 2 * LET_GO_BYTES) sweep() // it has grown old meanwhile
      leastOutside = external()
    } else leastOutside = Math.min(leastOutside, external())
  }, LOOK_MS).unref()
  return (work) => {
    setFlagsFromString(STAY)
    try {
      return work()
    } finally {
      if (mayGrow) setFlagsFromString(GROW)
      const now = used()
      least = Math.min(least, now)
      if (now - least >= GARBAGE_BYTES) {
        sweep()
        least = used()
      }
    }
  }
}
