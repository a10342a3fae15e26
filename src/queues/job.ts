/** What a job carries, and how long it stays locked: for the files of this folder and whoever renews locks. */
import type { Job } from 'bullmq'

/** Nothing: what a task is, its record says. The Board shows the record in its place. */
export type JobData = Record<string, unknown>
export type TaskJob = Job<JobData>

/** Locks are renewed at a third of this; a dead dispatcher's jobs come round again after it, plus up to two stall checks. */
export const LOCK_MS = 10_000
export const STALL_CHECK_MS = 3_000
