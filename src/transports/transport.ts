/**
 * How an agent is reached: the one interface, and what a delivery can come to.
 * A transport knows nothing of queues, records or Redis. It never throws: whatever the other side does is an Outcome.
 */

import type { SigningKey } from '../contracts/signature.ts'

/** Where an agent is, who it said it was, and what it knows us by: each of the keys signs; of none, nothing is signed. */
export type Target = { agentId: string; name: string; host: string; port: number; keys: readonly SigningKey[] }

/** One attempt at one task. `parameters` and `metadata` are JSON texts, passed on byte for byte. */
export type DeliveryRequest = {
  target: Target
  taskId: string
  taskType: string
  attempt: number
  attemptId: string
  /** The time it is signed with, ms since 1970: Redis's, as each machine has another. */
  timeMs: number
  parameters: string
  metadata: string
  priority: number
  /** The total time the attempt may take, connection and body included. */
  timeoutMs: number
  /** W3C trace context to pass on, when the client sent one. */
  traceparent?: string | undefined
}

/** What came of it. `error` is for people and holds the agent's own words where it gave any. */
export type Outcome =
  /** `result` is the JSON text of the agent's result, byte for byte. */
  | { kind: 'completed'; result: string; statusCode: number; executionTimeMs: number | null }
  /** 202: the result comes later by callback. */
  | { kind: 'accepted'; statusCode: number }
  /**
   * The attempt failed and may be tried again, not before `retryAfterMs` where the agent asked for that. `excused`: a connection that was kept
   * from before was closed under the POST, which is nobody's fault.
   */
  | { kind: 'failed'; error: string; statusCode: number | null; retryAfterMs?: number | undefined; excused?: boolean }
  /** Final: the agent refused the task for good. */
  | { kind: 'rejected'; error: string; statusCode: number }
  /** 429 or 503: the agent has no room; costs no attempt. */
  | { kind: 'no_room'; error: string; statusCode: number; retryAfterMs: number }
  /** No connection could be made, to any of its addresses. */
  | { kind: 'unreachable'; error: string }
  /** Nothing was sent, for want of something of ours: descriptors, ports, memory. It says nothing of the agent, and costs no attempt. */
  | { kind: 'unsent'; error: string }
  | { kind: 'timeout'; error: string }
  /** Stopped by `abort`; the reason is the caller's. */
  | { kind: 'aborted' }

/** A delivery under way. `extend`: its total time ends so many ms from now, no longer when it was to; nothing once it is over. */
export type Sending = { outcome: Promise<Outcome>; abort: () => void; extend: (ms: number) => void }

/** An attempt that its agent is to stop. */
export type StopRequest = { target: Target; taskId: string; attemptId: string; timeMs: number }

export type Transport = {
  send(request: DeliveryRequest): Sending
  /**
   * Tells an agent to stop an attempt: once, and for a short time only. Never rejects.
   * @returns what the agent answered, for the log; null when it did not
   */
  stop(request: StopRequest): Promise<number | null>
  /** Ends idle connections; waits for none. */
  close(): Promise<void>
}
