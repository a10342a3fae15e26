/**
 * A day in some minutes. What goes by time or number is divided by as much as the day is made shorter: ages, numbers and bytes that are kept, so that in each simulated hour as much
 * comes, stays and goes, in proportion, as in a real one. The rate is the real one; so is everything that tasks go through.
 */
const DAY_SECONDS = 86_400

export type Kind = Readonly<{ type: string; /** Of all tasks. */ share: number; /** Bytes of parameters: [share, bytes] … */ sizes: readonly (readonly [number, number])[]; resultBytes: number; /** What is bounded here. */ words: string }>

/** The most of 500 a second is a flood of small tasks; the others are slow enough that a bound other than the 10 s that each record stays is what holds them. */
export const KINDS: readonly Kind[] = [
  { type: 'flood', share: 0.86, sizes: [[0.9, 200], [0.09, 2000], [0.01, 20_000]], resultBytes: 100, words: 'most tasks: records stay their 10 s' },
  { type: 'busy', share: 0.08, sizes: [[1, 500]], resultBytes: 100, words: 'bounded by number' },
  { type: 'steady', share: 0.04, sizes: [[1, 500]], resultBytes: 100, words: 'bounded by age' },
  { type: 'large', share: 0.01, sizes: [[1, 20_000]], resultBytes: 5000, words: 'bounded by bytes' },
  { type: 'later', share: 0.01, sizes: [[1, 500]], resultBytes: 100, words: 'answered 202, told by a callback' },
]
/** Of all tasks. */
export const SHARES = { failed: 0.02, cancelled: 0.01, keyed: 0.05 }
/** Of the flood. */
export const WEBHOOKS = 0.02

/** As in production, in a day of 24 h; failed ones are kept for 2 h instead of a week, which no day shows. */
const KEPT = { completedSeconds: 3600, failedSeconds: 7200, keySeconds: 3600, count: 100_000, webhooks: 100_000, bytes: 256 * 1024 * 1024 }

export const planOf = (minutes: number) => {
  const factor = DAY_SECONDS / (minutes * 60)
  const scaled = (n: number): string => String(Math.max(1, Math.round(n / factor)))
  return {
    factor,
    /** Real seconds of a simulated hour. */
    hour: 3600 / factor,
    keySeconds: scaled(KEPT.keySeconds),
    env: {
      RETENTION_COMPLETED_SECONDS: scaled(KEPT.completedSeconds), RETENTION_FAILED_SECONDS: scaled(KEPT.failedSeconds),
      RETENTION_COMPLETED_COUNT: scaled(KEPT.count), RETENTION_FAILED_COUNT: scaled(KEPT.count), RETENTION_WEBHOOKS_COUNT: scaled(KEPT.webhooks),
      RETENTION_COMPLETED_BYTES: scaled(KEPT.bytes), RETENTION_FAILED_BYTES: scaled(KEPT.bytes),
      WEBHOOK_CIDRS: '127.0.0.0/8', WORKER_CONCURRENCY: '256',
    },
  }
}
export type Plan = ReturnType<typeof planOf>
