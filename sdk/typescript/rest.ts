/** Pauses between tries. */

/** So that what failed together does not come back together. @param part 0.1 is 10 % more or less */
export const jitter = (ms: number, part: number): number => ms * (1 - part + 2 * part * Math.random())

/** Sleeps that can be cut short, also before they begin. */
export const createRest = () => {
  let hurried = false
  let wake = (): void => void (hurried = true)
  return {
    for: (ms: number): Promise<void> =>
      new Promise((resolve) => {
        if (hurried) {
          hurried = false
          return resolve()
        }
        const done = (): void => {
          clearTimeout(timer)
          wake = () => void (hurried = true)
          resolve()
        }
        const timer = setTimeout(done, ms)
        wake = done
      }),
    cutShort: (): void => wake(),
  }
}
