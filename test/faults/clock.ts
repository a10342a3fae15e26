/** Milliseconds since the machine's start: one clock for all processes of a trial, which nobody sets. */
export const mono = (): number => Number(process.hrtime.bigint() / 1000n) / 1000
/** What this machine's clock on the wall is ahead of it, also where this process's own is wrong (fixtures/skewed-clock.ts); attempts' ids hold such times. */
export const wallAhead = (): number => Date.now() - Number(process.env.SKEW_MS ?? 0) - mono()
