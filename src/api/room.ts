/**
 * What a process has in hand at once: requests that bring something, their bodies, and the answers that are not read yet. All are counted before
 * there is memory for them, and what would go beyond is refused: no client, and no number of clients, makes the process grow without end.
 */
import { Overloaded } from '../errors.ts'
import type { Lane } from './lanes.ts'
import { createTidy } from './tidy.ts'

const MIB = 1024 * 1024
/** Bytes of bodies, from when they begin to come until their request is answered. The last part is for the lane `running` alone. */
const BODY_BYTES = { all: 16 * MIB, running: 4 * MIB }
/** Requests with a body, likewise: a burst of a client that sends each by a connection of its own is let in. */
const REQUESTS = { all: 2_048, running: 512 }
/** Bytes of large answers that are handed over and not read. */
const ANSWER_BYTES = 16 * MIB
/** A body or an answer that others need the room of must have come, or have been read, within so long. */
const SLOW_MS = 5_000

/** One request's part of it. */
export type Part = {
  /** For so many bytes more. @throws Overloaded */
  take: (bytes: number) => void
  /** All has come that it takes. */
  hasCome: () => void
  /** It is answered: its part is free again. */
  end: () => void
}

export type Room = ReturnType<typeof createRoom>

export const createRoom = () => {
  let bytes = 0
  let requests = 0
  let unread = 0
  const answers = new Map<object, { size: number; since: number; cut: () => void }>()
  /** Those whose bodies are under way, the oldest first. */
  const coming = new Map<Part, { since: number; cut: () => void }>()

  /** Ends those that take so long that they keep others out. */
  const cutSlow = (of: ReadonlyMap<object, { since: number; cut: () => void }>): void => {
    const now = performance.now()
    for (const { since, cut } of of.values()) {
      if (now - since < SLOW_MS) return
      cut()
    }
  }

  return {
    /** Does what makes much garbage. */
    tidy: createTidy(),
    /**
     * A place for a request with a body.
     * @param cut ends it, when it takes too long to come
     * @throws Overloaded
     */
    enter: (lane: Lane, cut: () => void): Part => {
      const spare = lane === 'running' ? 0 : 1
      const maxBytes = BODY_BYTES.all - spare * BODY_BYTES.running
      if (requests >= REQUESTS.all - spare * REQUESTS.running) {
        cutSlow(coming)
        throw new Overloaded('as many requests')
      }
      requests++
      let own = 0
      const part: Part = {
        take: (more) => {
          if (bytes + more > maxBytes) cutSlow(coming)
          if (bytes + more > maxBytes) throw new Overloaded('as much')
          own += more
          bytes += more
        },
        hasCome: () => void coming.delete(part),
        end: () => {
          coming.delete(part)
          bytes -= own
          own = 0
          requests--
        },
      }
      coming.set(part, { since: performance.now(), cut })
      return part
    },
    /**
     * For an answer of so many bytes, until it is read.
     * @param cut ends it, when others wait for its room and it has not been read for long
     * @returns lets go of it
     * @throws Overloaded
     */
    answer: (size: number, cut: () => void): (() => void) => {
      if (unread > 0 && unread + size > ANSWER_BYTES) {
        cutSlow(answers)
        throw new Overloaded('as many answers that nobody reads')
      }
      const answer = {}
      answers.set(answer, { size, since: performance.now(), cut })
      unread += size
      return () => {
        if (answers.delete(answer)) unread -= size
      }
    },
  }
}
