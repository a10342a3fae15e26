/**
 * Every error class of the project, each with its problem type (a heading in docs/errors.md).
 * They know nothing of HTTP: `api/problem.ts` gives each type its status.
 */

/** One fault in what was sent: a JSON Pointer into the body (or a query parameter's name; empty for the whole), and what is allowed there. */
export type Fault = { pointer: string; detail: string }

export type ProblemType =
  | 'malformed-request'
  | 'invalid-json'
  | 'invalid-request'
  | 'unsupported-media-type'
  | 'payload-too-large'
  | 'headers-too-large'
  | 'request-timeout'
  | 'unauthorized'
  | 'forbidden'
  | 'not-found'
  | 'method-not-allowed'
  | 'host-not-allowed'
  | 'agent-type-conflict'
  | 'task-ended'
  | 'task-not-ended'
  | 'stale-attempt'
  | 'already-retried'
  | 'idempotency-key-reused'
  | 'no-agent'
  | 'too-many-queues'
  | 'too-many-agents'
  | 'too-many-watchers'
  | 'too-many-schedules'
  | 'too-many-keys'
  | 'rate-limited'
  | 'queue-full'
  | 'store-full'
  | 'overloaded'
  | 'store-unavailable'
  | 'internal'

/** An error whose message may be shown to the caller. */
export class SwitchyardError extends Error {
  readonly type: ProblemType
  /** Faults in the input, for `invalid-request`. */
  readonly faults: Fault[] | undefined
  /** Further members of the problem document. */
  readonly extra: Record<string, unknown> | undefined
  /** When to try again, for the ones that pass. */
  readonly retryAfterSeconds: number | undefined
  constructor(type: ProblemType, message: string, more: { faults?: Fault[]; extra?: Record<string, unknown>; retryAfterSeconds?: number; cause?: unknown } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause })
    this.name = new.target.name
    this.type = type
    this.faults = more.faults
    this.extra = more.extra
    this.retryAfterSeconds = more.retryAfterSeconds
  }
}

/** The body is no JSON text in UTF-8. */
export class InvalidJson extends SwitchyardError {
  constructor(detail: string) {
    super('invalid-json', detail)
  }
}

/** The input was understood and is wrong; `faults` says where. */
export class InvalidRequest extends SwitchyardError {
  constructor(faults: Fault[]) {
    super('invalid-request', faults.map((f) => (f.pointer === '' ? f.detail : `${f.pointer} ${f.detail}`)).join('; '), { faults })
  }
}

export class NotFound extends SwitchyardError {
  constructor(detail: string) {
    super('not-found', detail)
  }
}

/** Nobody says who asks, or nobody knows whom it says. */
export class Unauthorized extends SwitchyardError {
  constructor(detail: string) {
    super('unauthorized', detail)
  }
}

/** Known, and not allowed to do this. */
export class Forbidden extends SwitchyardError {
  constructor(detail: string, extra?: Record<string, unknown>) {
    super('forbidden', detail, extra === undefined ? {} : { extra })
  }
}

/** An address that we never post to. */
export class HostNotAllowed extends SwitchyardError {
  constructor(detail: string) {
    super('host-not-allowed', detail)
  }
}

/** A living agent of another type has this id. */
export class AgentTypeConflict extends SwitchyardError {
  constructor(id: string, type: string) {
    super('agent-type-conflict', `agent ${id} is alive under type ${type}; unregister it first or choose another agent_id`, { extra: { agent_type: type } })
  }
}

/** The task has reached its end, which never changes. */
export class TaskEnded extends SwitchyardError {
  constructor(id: string, status: string) {
    super('task-ended', `task ${id} has already ended: ${status}`, { extra: { task_id: id, task_status: status } })
  }
}

/** Another attempt, or an end, came first: what is said of this one changes nothing. */
export class StaleAttempt extends SwitchyardError {
  constructor(id: string, status: string) {
    super('stale-attempt', `this is not the current attempt of task ${id}, which is ${status}; stop working on it, nothing that is said of it counts any more`, { extra: { task_id: id, task_status: status } })
  }
}

export class TaskNotEnded extends SwitchyardError {
  constructor(id: string, status: string, why = 'only an ended task can be retried: wait for its end, or cancel it first') {
    super('task-not-ended', `task ${id} is ${status}; ${why}`, { extra: { task_id: id, task_status: status } })
  }
}

export class AlreadyRetried extends SwitchyardError {
  constructor(id: string, as: string) {
    super('already-retried', `task ${id} was already retried as ${as}; should that one have failed too, retry that one`, { extra: { task_id: as } })
  }
}

/** Another request was sent under this Idempotency-Key before. */
export class IdempotencyKeyReused extends SwitchyardError {
  constructor(id: string) {
    super('idempotency-key-reused', `this Idempotency-Key was sent before with another task, which was taken as ${id}; send the same one again, or choose a new key`, { extra: { task_id: id } })
  }
}

/** `?require_agent=true` and no living agent can do it. */
export class NoAgent extends SwitchyardError {
  constructor(detail: string) {
    super('no-agent', detail, { retryAfterSeconds: 5 })
  }
}

/** This process has as many requests that wait or watch as it takes. */
export class TooManyWatchers extends SwitchyardError {
  constructor(limit: number) {
    super('too-many-watchers', `this process already has ${limit} requests that wait for tasks or watch them; ask without wait, or start another API process`, { retryAfterSeconds: 5 })
  }
}

export class TooManyQueues extends SwitchyardError {
  constructor(type: string, limit: number) {
    super('too-many-queues', `agent type ${type} already has ${limit} queues; use fewer task types, or wait until idle ones are forgotten`, { retryAfterSeconds: 60 })
  }
}

export class TooManyTypes extends SwitchyardError {
  constructor(limit: number) {
    super('too-many-queues', `there are already ${limit} agent types; use fewer, or wait until unused ones are forgotten`, { retryAfterSeconds: 60 })
  }
}

/** An agent type has as many agents as it may, those included that died within a day. */
export class TooManyAgents extends SwitchyardError {
  constructor(type: string, limit: number) {
    super('too-many-agents', `agent type ${type} already has ${limit} agents, those that died within a day included; unregister agents that leave, and let each come back under its agent_id`, { extra: { limit }, retryAfterSeconds: 60 })
  }
}

/** There are as many schedules as there may be. */
export class TooManySchedules extends SwitchyardError {
  constructor(limit: number) {
    super('too-many-schedules', `there are already ${limit} schedules; delete one that is not needed any more`, { extra: { limit } })
  }
}

/** There are as many keys as there may be. */
export class TooManyKeys extends SwitchyardError {
  constructor(limit: number) {
    super('too-many-keys', `there are already ${limit} keys; revoke those that have expired or are not used any more`, { extra: { limit } })
  }
}

/** A namespace has as many keys as it may, so that none takes all there may be. */
export class TooManyKeysOfNamespace extends SwitchyardError {
  constructor(namespace: string, limit: number) {
    super('too-many-keys', `namespace ${namespace} already has ${limit} keys; revoke those that have expired or are not used any more`, { extra: { limit } })
  }
}

/** There are as many namespaces as there may be. */
export class TooManyNamespaces extends SwitchyardError {
  constructor(limit: number) {
    super('too-many-keys', `there are already ${limit} namespaces; one is forgotten an hour after its last key was revoked and the last of its tasks and agents has gone`, { extra: { limit } })
  }
}

/** `ACK=replica`, and no replica has said in time that it has what was written. It may have been stored all the same. */
export class NotOnReplica extends SwitchyardError {
  constructor(more: { cause?: unknown } = {}) {
    super('store-unavailable', 'no replica of the store has confirmed this in time, though it may have been stored: send the same again, a submit under the same Idempotency-Key', { ...more, retryAfterSeconds: 1, extra: { stored: 'unconfirmed' } })
  }
}

/** Whole seconds from `least` to `most`: those who are turned away together do not come back together. */
const jittered = (least: number, most: number): number => least + Math.floor(Math.random() * (most - least + 1))

/** A key has made as many requests as it may, for now. */
export class RateLimited extends SwitchyardError {
  constructor(limit: number, seconds: number) {
    super('rate-limited', `this key may make ${limit} requests a second, and has; send this one again later`, { retryAfterSeconds: seconds + jittered(0, 1), extra: { limit } })
  }
}

/** As many tasks wait in a queue as may. */
export class QueueFull extends SwitchyardError {
  constructor(queue: string, limit: number) {
    super('queue-full', `there are already ${limit} tasks that wait in queue ${queue}; send this one again later`, { retryAfterSeconds: jittered(1, 15), extra: { queue, limit } })
  }
}

/** The store does not answer, or takes nothing now. */
export class StoreUnavailable extends SwitchyardError {
  constructor() {
    super('store-unavailable', 'the store is not available; try again', { retryAfterSeconds: jittered(1, 3) })
  }
}

/** The store has so little memory left that it is kept for the work under way. */
export class StoreFull extends SwitchyardError {
  constructor() {
    super('store-full', 'the store’s memory is nearly full: what is left is kept for the work under way; send this again later', { retryAfterSeconds: jittered(1, 15) })
  }
}

/** This process has as much in hand as it takes. */
export class Overloaded extends SwitchyardError {
  constructor(what: string) {
    super('overloaded', `this process has ${what} in hand as it takes; send this again later, or start another API process`, { retryAfterSeconds: jittered(1, 5) })
  }
}

/** A schedule's run was submitted before, or its schedule has gone; nobody outside hears of it. */
export class AlreadySubmitted extends Error {
  override name = 'AlreadySubmitted'
}

/** A setting or the environment is wrong: the process says why and does not start. */
export class ConfigError extends Error {
  override name = 'ConfigError'
}
