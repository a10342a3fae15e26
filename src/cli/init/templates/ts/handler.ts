/** What this agent can do. */
import { NonRetryableError, type Parameters } from 'switchyard/agent'

export type Description = { count: number; sum: number; mean: number; median: number; least: number; most: number; deviation: number }

/** `{numbers: […]}` → how many they are, their sum and mean, the one in the middle, the ends, and the standard deviation. */
export const handle = ({ numbers }: Parameters): Description => {
  if (!Array.isArray(numbers) || numbers.length === 0 || !numbers.every(Number.isFinite)) {
    // The next attempt would find the same: this fails the task for good. Any other error would have it tried again.
    throw new NonRetryableError('numbers must be a list of numbers that is not empty')
  }
  const sorted: number[] = numbers.toSorted((a, b) => a - b)
  const count = sorted.length
  const sum = sorted.reduce((total, number) => total + number, 0)
  const mean = sum / count
  const variance = sorted.reduce((total, number) => total + (number - mean) ** 2, 0) / count
  return { count, sum, mean, median: (sorted[(count - 1) >> 1]! + sorted[count >> 1]!) / 2, least: sorted[0]!, most: sorted[count - 1]!, deviation: Math.sqrt(variance) }
}
