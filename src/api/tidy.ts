/**
 * Garbage, swept before it is much. A body of one megabyte can be thirty of objects when it is parsed, and a page of tasks as many; V8 would let
 * hundreds of them lie, as the machine seems to have the room, and give little back. Only what is large makes us look: small requests cost nothing.
 */
import { getHeapSpaceStatistics, getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** So much more than after the last sweep is let lie. */
const GARBAGE_BYTES = 32 * 1024 * 1024

const used = (): number => {
  const { used_heap_size: heap, external_memory: external } = getHeapStatistics()
  return heap + external
}

/** V8 doubles the space for new objects when many survive a collection, up to 130 MB, and keeps it. We let it have so much, and none of it for large bodies. */
const NEW_BYTES = 16 * 1024 * 1024
const GROW = '--semi-space-growth-factor=2'
const STAY = '--semi-space-growth-factor=1'
const LOOK_MS = 100

const newSpace = (): number => getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')?.space_size ?? 0

/** Does what makes much garbage, and sweeps it away when it has become too much. */
export const createTidy = (): (<T>(work: () => T) => T) => {
  setFlagsFromString('--expose-gc')
  const sweep = runInNewContext('gc') as () => void
  let least = used()
  let mayGrow = true
  // It shrinks by itself, and must be able to come back: small requests are slower without it.
  setInterval(() => {
    mayGrow = newSpace() < NEW_BYTES
    setFlagsFromString(mayGrow ? GROW : STAY)
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
