/** Milliseconds since the machine's start: one clock for all processes of a trial, which nobody sets. */
export const mono = (): number => Number(process.hrtime.bigint() / 1000n) / 1000
/** What this machine's clock on the wall is ahead of it; attempts' ids hold such times. */
export const wallAhead = (): number => Date.now() - mono()
