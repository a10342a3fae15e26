/** Errors of the client, a class for each problem type; docs/errors.md says of each what to do. */
import type { Fault, Problem, Task, TaskStatus } from './wire.ts'

export type ErrorInit = {
  type: string
  title: string
  detail: string
  status?: number | undefined
  body?: unknown
  retryAfterSeconds?: number | undefined
  cause?: unknown
}

/** What every error of the client is. Its message is `detail`. */
export class SwitchyardError extends Error {
  /** The problem type, as `task-ended`; or `connection-failed`, `timed-out`, `unexpected-answer`, which come from here. */
  readonly type: string
  /** The type in a few words. */
  readonly title: string
  /** What went wrong this time, for people; may be worded differently tomorrow. */
  readonly detail: string
  /** The HTTP status; undefined when there was no answer. */
  readonly status: number | undefined
  /** Each fault of the input, for `invalid-request`; else empty. */
  readonly errors: readonly Fault[]
  /** When it is worth sending again, if the answer said so. */
  readonly retryAfterSeconds: number | undefined
  /** The body of the answer: the problem document, or the text of an answer that was none. */
  readonly body: unknown
  constructor({ type, title, detail, status, body, retryAfterSeconds, cause }: ErrorInit) {
    super(detail, cause === undefined ? undefined : { cause })
    this.name = new.target.name
    this.type = type
    this.title = title
    this.detail = detail
    this.status = status
    this.body = body
    this.retryAfterSeconds = retryAfterSeconds
    const faults = (body as Partial<Problem> | null | undefined)?.errors
    this.errors = Array.isArray(faults) ? faults.filter((fault) => typeof fault?.pointer === 'string' && typeof fault.detail === 'string') : []
  }
}

/** A member that a problem type adds to its document. */
const member = (error: SwitchyardError, name: string): string => String((error.body as Record<string, unknown>)[name])

/** 400: the request could not be read as HTTP, or its path cannot be decoded. */
export class MalformedRequest extends SwitchyardError {}
/** 400: the body is no JSON object in UTF-8. */
export class InvalidJson extends SwitchyardError {}
/** 422: something that was sent is wrong; `errors` says what. */
export class InvalidRequest extends SwitchyardError {}
/** 415: the body is not application/json. */
export class UnsupportedMediaType extends SwitchyardError {}
/** 413: the body is larger than 1 MiB, or that of a batch than 10 MiB. */
export class PayloadTooLarge extends SwitchyardError {}
/** 431: the path and the headers are too large. */
export class HeadersTooLarge extends SwitchyardError {}
/** 408: the request did not arrive within the time the router waits for one. */
export class RequestTimeout extends SwitchyardError {}
/** 401: a key is needed, or the one that was sent is not known: it was revoked, has expired, or never was one. */
export class Unauthorized extends SwitchyardError {}
/** 403: the key, or the agent's token, may not do this; `roles_needed` in `body` says which roles may. */
export class Forbidden extends SwitchyardError {}
/** 404: there is no such path, task, schedule, agent or agent type; ended tasks are forgotten after a while. */
export class NotFound extends SwitchyardError {}
/** 405: the path does not take this method. */
export class MethodNotAllowed extends SwitchyardError {}
/** 403: the agent's address is one that is never posted to. */
export class HostNotAllowed extends SwitchyardError {}
/** 409: a living agent has this id under another type. */
export class AgentTypeConflict extends SwitchyardError {
  /** The type of the living agent. */
  get agentType(): string {
    return member(this, 'agent_type')
  }
}
/** 409: the task has reached its end, which never changes; so it cannot be cancelled. */
export class TaskEnded extends SwitchyardError {
  get taskId(): string {
    return member(this, 'task_id')
  }
  /** How it ended. */
  get taskStatus(): TaskStatus {
    return member(this, 'task_status') as TaskStatus
  }
}
/** 409: another attempt, or an end, came first; what was said of this one changed nothing. */
export class StaleAttempt extends SwitchyardError {
  get taskId(): string {
    return member(this, 'task_id')
  }
  /** What has become of the task. */
  get taskStatus(): TaskStatus {
    return member(this, 'task_status') as TaskStatus
  }
}
/** 409: only an ended task can be retried. */
export class TaskNotEnded extends SwitchyardError {
  get taskId(): string {
    return member(this, 'task_id')
  }
  get taskStatus(): TaskStatus {
    return member(this, 'task_status') as TaskStatus
  }
}
/** 409: the task was retried before. */
export class AlreadyRetried extends SwitchyardError {
  /** The task that it was retried as. */
  get taskId(): string {
    return member(this, 'task_id')
  }
}
/** 422: another task was submitted with this idempotency key before. */
export class IdempotencyKeyReused extends SwitchyardError {
  /** The task that was taken then. */
  get taskId(): string {
    return member(this, 'task_id')
  }
}
/** 503: submitted with `requireAgent`, and no agent that can do it is alive. */
export class NoAgent extends SwitchyardError {}
/** 429: the agent type has too many queues, or there are too many types. */
export class TooManyQueues extends SwitchyardError {}
/** 429: the agent type has as many agents as it may. */
export class TooManyAgents extends SwitchyardError {}
/** 503: the API process has as many requests that wait or watch as it takes. */
export class TooManyWatchers extends SwitchyardError {}
/** 409: there are as many schedules as there may be. */
export class TooManySchedules extends SwitchyardError {}
/** 409: there are as many keys as there may be. */
export class TooManyKeys extends SwitchyardError {}
/** 429: the key may make no more requests a second. */
export class RateLimited extends SwitchyardError {}
/** 429: as many tasks wait in the queue as may; `queue` and `limit` are in `body`. */
export class QueueFull extends SwitchyardError {}
/** 503: the router's Redis has so little memory left that it takes no new work. */
export class StoreFull extends SwitchyardError {}
/** 503: the API process has as much in hand as it takes. */
export class Overloaded extends SwitchyardError {}
/** 503: the router's Redis does not answer, or takes nothing now. */
export class StoreUnavailable extends SwitchyardError {}
/** 500: something went wrong on the router's side; its log says what. */
export class InternalError extends SwitchyardError {}

/** The router could not be reached, or the connection broke before its answer was whole. */
export class ConnectionFailed extends SwitchyardError {
  /** Whether no connection was made, so that nothing was sent. */
  readonly refused: boolean
  constructor(url: string, cause: unknown, refused: boolean, reason: string) {
    super({ type: 'connection-failed', title: 'The router could not be reached', detail: `no answer from ${url}: ${reason}`, cause })
    this.refused = refused
  }
}

/** No answer within the time there was for it; or, from `wait`, no end of the task: then `task` is how it last was. */
export class TimedOut extends SwitchyardError {
  /** From `wait`: the task as last seen. It goes on. */
  readonly task: Task | undefined
  constructor(detail: string, task?: Task) {
    super({ type: 'timed-out', title: 'It took too long', detail })
    this.task = task
  }
}

/** An answer that no router gives: from a proxy, or from something else that listens there. */
export class UnexpectedAnswer extends SwitchyardError {
  constructor(detail: string, status: number, body: string) {
    super({ type: 'unexpected-answer', title: 'The answer is not from a Switchyard router', detail, status, body })
  }
}

/** The class of each problem type. */
export const ERRORS: Readonly<Record<string, new (init: ErrorInit) => SwitchyardError>> = {
  'malformed-request': MalformedRequest,
  'invalid-json': InvalidJson,
  'invalid-request': InvalidRequest,
  'unsupported-media-type': UnsupportedMediaType,
  'payload-too-large': PayloadTooLarge,
  'headers-too-large': HeadersTooLarge,
  'request-timeout': RequestTimeout,
  unauthorized: Unauthorized,
  forbidden: Forbidden,
  'not-found': NotFound,
  'method-not-allowed': MethodNotAllowed,
  'host-not-allowed': HostNotAllowed,
  'agent-type-conflict': AgentTypeConflict,
  'task-ended': TaskEnded,
  'task-not-ended': TaskNotEnded,
  'stale-attempt': StaleAttempt,
  'already-retried': AlreadyRetried,
  'idempotency-key-reused': IdempotencyKeyReused,
  'no-agent': NoAgent,
  'too-many-queues': TooManyQueues,
  'too-many-agents': TooManyAgents,
  'too-many-watchers': TooManyWatchers,
  'too-many-schedules': TooManySchedules,
  'too-many-keys': TooManyKeys,
  'rate-limited': RateLimited,
  'queue-full': QueueFull,
  'store-full': StoreFull,
  overloaded: Overloaded,
  'store-unavailable': StoreUnavailable,
  internal: InternalError,
}

/** The error that a problem document tells of. A type that is newer than this client is a plain SwitchyardError. */
export const fromProblem = (problem: Problem, status: number, retryAfterSeconds: number | undefined): SwitchyardError => {
  const type = problem.type.slice(problem.type.lastIndexOf('#') + 1)
  const Class = Object.hasOwn(ERRORS, type) ? ERRORS[type]! : SwitchyardError
  return new Class({ type, title: String(problem.title), detail: String(problem.detail), status, body: problem, retryAfterSeconds })
}
