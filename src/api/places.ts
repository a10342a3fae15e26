/** So many at once, the others in line: for what takes much room for a moment. */
import { Overloaded } from '../errors.ts'

const MAX_IN_LINE = 2_000

export const createPlaces = (count: number) => {
  let free = count
  const line: (() => void)[] = []

  const enter = (): Promise<void> | void => {
    if (free > 0) return void free--
    if (line.length >= MAX_IN_LINE) throw new Overloaded('as many readers')
    return new Promise((resolve) => line.push(resolve))
  }
  const leave = (): void => {
    const next = line.shift()
    if (next) next()
    else free++
  }

  return {
    enter,
    leave,
    /**
     * Wraps a function so that only so many are under way.
     * @throws Overloaded when too many wait
     */
    bound:
      <A extends unknown[], T>(work: (...args: A) => Promise<T>) =>
      async (...args: A): Promise<T> => {
        await enter()
        try {
          return await work(...args)
        } finally {
          leave()
        }
      },
  }
}
