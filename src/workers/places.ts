/**
 * The places of a process: so many things it has in hand at once. Whoever shares them asks for some before it knows how many it needs, and then enters as many as it
 * got work for. When one is left, those who found none free are told, each in its turn first: so no namespace keeps the others waiting.
 */
export type Guest = {
  /** A place is free, perhaps. */
  serve: () => void
  /** Whether it has work for which there was no place. */
  waits: () => boolean
}
/** What one guest has asked for and not heard about yet. */
export type Share = {
  /** Up to so many are free, and are kept for the asker until it says what became of it. */
  ask: (most: number) => number
  /** It knows now what it needs them for: nothing is kept any more. */
  answered: (asked: number) => void
  /** What was asked for never gets an answer. */
  drop: () => void
}
export type Places = ReturnType<typeof createPlaces>

export const createPlaces = (size: number) => {
  let taken = 0
  let asked = 0
  /** In the order in which they are told. */
  const guests = new Set<Guest>()

  const freed = (): void => {
    for (const guest of [...guests]) {
      if (taken + asked >= size) return
      if (!guest.waits()) continue
      guests.delete(guest)
      guests.add(guest)
      guest.serve()
    }
  }

  return {
    size,
    taken: (): number => taken,
    /** @returns leaves it for good */
    join: (guest: Guest): (() => void) => {
      guests.add(guest)
      return () => void guests.delete(guest)
    },
    othersWait: (than: Guest): boolean => [...guests].some((guest) => guest !== than && guest.waits()),
    enter: (): void => void taken++,
    leave: (): void => {
      taken--
      freed()
    },
    freed,
    share: (): Share => {
      let mine = 0
      let dropped = false
      const giveBack = (count: number): void => {
        if (dropped) return
        mine -= count
        asked -= count
      }
      return {
        ask: (most) => {
          const granted = Math.max(0, Math.min(most, size - taken - asked))
          mine += granted
          asked += granted
          return granted
        },
        answered: giveBack,
        drop: () => {
          giveBack(mine)
          dropped = true
        },
      }
    },
  }
}
