/** What a job carries, and how long it stays locked: for the files of this folder and whoever renews locks. */
import type { Job } from 'bullmq'

/** For people who look at the Board; a dispatcher reads the record. */
export type JobData = { task_type: string; agent_type: string; agent_id?: string; parameters: unknown }
export type TaskJob = Job<JobData>

/** Locks are renewed at a third of this; a dead dispatcher's jobs come round again after it, plus up to two stall checks. */
export const LOCK_MS = 10_000
export const STALL_CHECK_MS = 3_000
