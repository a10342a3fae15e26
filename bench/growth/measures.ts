/** Measures that several curves have. */
import type { Measure } from './curve.ts'

export const RATE: Measure = { key: 'rate', words: 'tasks/s', digits: 0 }
export const CPU: readonly Measure[] = [
  { key: 'api', words: 'API, CPU µs a task', digits: 0 },
  { key: 'worker', words: 'dispatcher, CPU µs a task', digits: 0 },
  { key: 'redis', words: 'Redis, CPU µs a task', digits: 0 },
  { key: 'total', words: 'all, CPU µs a task', digits: 0 },
]
export const CORE: readonly Measure[] = [
  { key: 'api', words: 'API, % of a core', digits: 1 },
  { key: 'worker', words: 'dispatcher, % of a core', digits: 1 },
  { key: 'redis', words: 'Redis, % of a core', digits: 1 },
  { key: 'total', words: 'all, % of a core', digits: 1 },
]
export const ROLES = ['total', 'api', 'worker', 'redis'] as const
