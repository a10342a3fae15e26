/**
 * Milliseconds since the epoch with fractions, comparable between processes of one machine: each process's origin is the wall clock
 * at its start, what is added since is monotonic. load.ts checks that the two clocks it compares agree.
 */
export const clock = (): number => performance.timeOrigin + performance.now()
