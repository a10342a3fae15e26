/** What is said of an attempt, and what the record answers. */
import type { Attempt, TaskStatus } from '../contracts/task.ts'
import type { Slot, SlotTokens } from '../registry/registry.ts'
import type { Spec } from './record.ts'

/** What `begin` says of a job that was just fetched. */
export type Begun =
  | { verdict: 'go'; attemptId: string; attempt: number; parameters: string; metadata: string; traceparent: string | undefined; retries: number; waitedMs: number; movedTo: Slot | null } & Spec
  | { verdict: 'ended'; status: TaskStatus }
  | { verdict: 'later'; ms: number }
  | { verdict: 'no_slot' }
  | { verdict: 'unknown' }

/** How an attempt ended, as `finish` takes it. */
export type AttemptEnd = {
  taskId: string
  attemptId: string
  agentId: string
  outcome: Exclude<Attempt['outcome'], null | 'lost'>
  statusCode: number | null
  error: string
  result: string
  executionMs: number | null
  retryInMs: number
  restMs: number
  maxRetries: number
  /** It is nobody's fault: free, once a task, and it says nothing of the agent. */
  excused?: boolean
}
/**
 * The attempt's job, in its dispatcher's hands. `keep`: for the Board, once it is done. `next`: of the slot that it wants to go on with, or null.
 * `again`: the same was said before, and not answered.
 */
export type Held = { queue: string; lock: string; keep: boolean; dispatcher: string; next: SlotTokens | null; again?: boolean }
/**
 * What a log may say of why an attempt failed. An agent's own words, and ours that quote them, may hold of the payload: they are for the task's
 * client. So an answer is told by its status alone, and what broke without one by our words.
 */
export const loggedFailure = ({ statusCode, error }: Pick<AttemptEnd, 'statusCode' | 'error'>): { status_code?: number; error?: string } =>
  error === '' ? {} : statusCode === null ? { error } : { status_code: statusCode }

/** `ok`: the outcome counts. `stale`: another attempt, or an end, came first; `status` says what is. `poison`: the task failed on too many agents. */
export type Finished = { verdict: 'ok' | 'stale'; status: TaskStatus | ''; waitMs: number; next: Slot | null; repeated: boolean; poison: boolean }

/** What `park` says. `over`: the callback was quicker; `lost`: the job is another dispatcher's. */
export type Parked = { verdict: 'parked'; leftMs: number } | { verdict: 'over'; status: TaskStatus; waitMs: number } | { verdict: 'cancelled' | 'lost' }
