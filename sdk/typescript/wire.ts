/**
 * What goes over the wire, as types: snake_case, times as ISO 8601 in UTC, durations in seconds.
 * They are the API's own schemas in other words; a check in this repository's `npm run lint` holds the two equal.
 */

/** Any JSON object. */
export type JsonObject = Record<string, unknown>

/** `pending` (its time has not come), `queued`, `sent` (posted to an agent), `running` (the agent said so), `retrying`; then one of the four ends. */
export type TaskStatus = 'pending' | 'queued' | 'sent' | 'running' | 'retrying' | EndStatus
/** The four ends. A task reaches exactly one of them, and it never changes. */
export type EndStatus = 'completed' | 'failed' | 'timeout' | 'cancelled'

/** A task to submit. `agent_type` is required unless `agent_id` is given. */
export type NewTask = {
  /** What is to be done: a capability of the agents. 1–64 of A–Z a–z 0–9 _ - . */
  task_type: string
  /** Which agents are to do it. */
  agent_type?: string | undefined
  /** Pins the task to this agent, which needs no capability for it. */
  agent_id?: string | undefined
  /** For the agent. `{}` unless given. */
  parameters?: JsonObject | undefined
  /** 1 to 15, higher goes first; low, normal, high, critical are 1, 5, 10, 15. Normal unless given. */
  priority?: number | 'low' | 'normal' | 'high' | 'critical' | undefined
  /** For each attempt: 30 unless given, at most 300 unless the operator allows more. */
  timeout_seconds?: number | undefined
  /** How often a failed attempt is followed by another, 0 to 100; 3 unless given. */
  max_retries?: number | undefined
  /** Before the first retry, jittered: 5 unless given. */
  retry_delay_seconds?: number | undefined
  /** Whether that delay doubles with each retry (`exponential`, unless given). */
  backoff?: 'exponential' | 'fixed' | undefined
  /** Not before so many seconds from now; at most 30 days. */
  delay_seconds?: number | undefined
  /** Not before this time (ISO 8601); instead of `delay_seconds`. */
  run_at?: string | undefined
  /** Ends as `timeout` (error `expired`) when no attempt could begin within so long; a day unless given. */
  expires_in_seconds?: number | undefined
  /** Is sent a webhook when the task ends, whichever way: see `verifyWebhook`. */
  callback_url?: string | undefined
  /** Goes along to the agent, and comes back as it is here. */
  metadata?: JsonObject | undefined
}

/** The answer to a submit. */
export type Submitted = {
  task_id: string
  status: TaskStatus
  /** The agent it is pinned to. */
  agent_id: string | null
  created_at: string
  /** The path of the task. */
  status_url: string
  /** The ended task that this one repeats. */
  retry_of?: string | undefined
}

/** How one delivery went. `no_room`, `lost` and `drained` cost the task no retry. */
export type AttemptOutcome = 'completed' | 'failed' | 'rejected' | 'timeout' | 'unreachable' | 'no_room' | 'cancelled' | 'lost' | 'drained'

/** One delivery of a task to an agent. */
export type Attempt = {
  /** From 1. */
  attempt: number
  agent_id: string
  agent_name: string
  sent_at: string
  ended_at: string | null
  /** Null while it lasts. */
  outcome: AttemptOutcome | null
  /** The HTTP status that the agent answered, if it did. */
  status_code: number | null
  error: string | null
}

export type Task = {
  task_id: string
  task_type: string
  agent_type: string
  /** The agent it is pinned to, or the one that has or had it. */
  agent_id: string | null
  /** 1 to 15. */
  priority: number
  status: TaskStatus
  parameters: JsonObject
  /** The agent's result, any JSON value; null until completed. */
  result: unknown
  /** The agent's own words, or the router's. */
  error: string | null
  created_at: string
  started_at: string | null
  completed_at: string | null
  /** When it may next go, for pending and retrying tasks. */
  run_at: string | null
  expires_at: string
  timeout_seconds: number
  /** Retries so far. */
  retry_count: number
  max_retries: number
  /** Deliveries repeated because the router failed, not the agent. */
  redeliveries: number
  /** Failed attempts that cost it no retry, as their agent was found to be sick. */
  refunds: number
  /** It failed on so many different agents that it was not tried again. */
  poison: boolean
  /** The latest report of an agent on it, of whichever attempt. */
  progress: Progress | null
  metadata: JsonObject
  /** Its cancellation was asked for: at an agent it will end cancelled, waiting it has. */
  cancel_requested: boolean
  /** The ended task that this one repeats. */
  retry_of: string | null
  /** The task that repeats this one. */
  retried_as: string | null
  /** The schedule of which it is a run. */
  schedule_id: string | null
  /** When that run was due. */
  scheduled_at: string | null
  /** As the agent says. */
  execution_time_ms: number | null
  callback_url: string | null
  /** What is sent to `callback_url`, from the task's end on; null in the webhook itself. */
  webhook: TaskWebhook | null
  /** Deliveries, oldest first; the last 100. */
  attempts: Attempt[]
  /** Results that came too late and changed nothing, oldest first; the last 5. */
  late_results: LateResult[]
}

/** How far an attempt is, as its agent said last. */
export type Progress = {
  /** 0 to 100. */
  percent: number | null
  message: string | null
  /** Any JSON value; null when it gave none. */
  data: unknown
  at: string
}

/** A result that came too late to count. */
export type LateResult = {
  /** Which of the attempts said so. */
  attempt: number
  agent_id: string
  received_at: string
  status: 'completed' | 'failed'
  /** Any JSON value; null when there is none, or it is larger than 10 KiB. */
  result: unknown
  error: string | null
}

/** One try to deliver a webhook. */
export type WebhookAttempt = {
  at: string
  /** What the receiver answered, if it did. */
  status_code: number | null
  error: string | null
  /** Null when the process that sent it stopped. */
  duration_ms: number | null
}

/** The webhook that tells of a task's end. */
export type TaskWebhook = {
  /** The header `webhook-id`, the same at every try. */
  id: string
  /** `failed`: it was sent as often as it is, in vain. `disabled`: the receiver answered 410, to this one or to another one sent there. */
  status: 'pending' | 'delivered' | 'failed' | 'disabled'
  /** Oldest first; the last 20. */
  attempts: WebhookAttempt[]
  /** Null while it is being sent, and when no other try comes. */
  next_attempt_at: string | null
}

/** What a `callback_url` is sent when its task ends. */
export type WebhookEvent = {
  type: 'task.completed' | 'task.failed' | 'task.timeout' | 'task.cancelled'
  /** When the task ended. */
  timestamp: string
  data: Task
  /** Members of the task that were left out, and are empty here, as the whole was larger than 1 MiB. */
  omitted?: string[] | undefined
}

/** The answer to a call for another delivery. */
export type Redelivery = {
  task_id: string
  webhook: TaskWebhook
}

/** One page of tasks, newest first. */
export type TaskPage = {
  tasks: Task[]
  /** How many are in this page. It may be fewer than `limit`, also none, and not be the last. */
  count: number
  /** For the next page; null at the end. */
  next_cursor: string | null
}

/** Which tasks to list. */
export type TaskFilter = {
  status?: TaskStatus | undefined
  agent_type?: string | undefined
  task_type?: string | undefined
  /** The agent it is pinned to, or that has or had it. */
  agent_id?: string | undefined
  /** How many in a page at most, 1 to 200; 50 unless given. */
  limit?: number | undefined
}

/** Which dead letters are meant: tasks that failed or timed out, and were not retried. */
export type DeadLetterFilter = {
  agent_type?: string | undefined
  task_type?: string | undefined
  /** Anywhere in their error; a–z and A–Z are the same. */
  error?: string | undefined
  /** Also those that were retried. */
  include_retried?: boolean | undefined
}

/** How many dead letters are of one kind. */
export type DeadLetterGroup = {
  agent_type: string
  task_type: string
  /** What their errors have in common: ids and numbers are `#`. */
  error: string
  count: number
  newest_task_id: string
}

export type DeadLetterSummary = {
  /** The most frequent first; at most 100. */
  groups: DeadLetterGroup[]
  /** How many there are in all that was looked at. */
  count: number
  /** False when there are too many to look at, of which the newest count, or too many groups. */
  complete: boolean
}

/** Which dead letters to retry; all of them without a filter. */
export type RetryDeadLetters = {
  agent_type?: string | undefined
  task_type?: string | undefined
  /** Anywhere in their error; a–z and A–Z are the same. */
  error?: string | undefined
  /** At most so many, the newest; 1,000 unless given, which is the most. */
  limit?: number | undefined
  /** `next_cursor` of the call before. */
  cursor?: string | undefined
}

export type DeadLettersRetried = {
  /** How many new tasks there are. */
  retried: number
  /** How many somebody else retried, or that were forgotten, at that moment. */
  skipped: number
  /** The new tasks, in the order of the old ones. */
  task_ids: string[]
  /** There may be more: call again. */
  more: boolean
  next_cursor: string | null
  /** What kept it from retrying all that it found. */
  error: string | null
}

/** The answer to a cancel. */
export type Cancelled = {
  task_id: string
  /** `cancelled`, or another while an agent has it: then it ends cancelled when the attempt is over, within 10 s. */
  status: TaskStatus
  cancel_requested: boolean
}

/** What an agent may report of itself. */
export type ReportedStatus = 'healthy' | 'degraded' | 'unhealthy' | 'draining'
/** As reported, or by its silence: `unreachable` at 0.75 of the TTL, `dead` at the TTL. */
export type AgentStatus = ReportedStatus | 'unreachable' | 'dead'

/** How an agent introduces itself. `name` (or `agent_name`) is required, and `port` unless `host` holds it. */
export type Registration = {
  /** For people. */
  name?: string | undefined
  /** The same as name. */
  agent_name?: string | undefined
  /** Which agent type it belongs to: `default` unless given. */
  type?: string | undefined
  /** A host name or an IP address, alone or as name:port. Tasks are posted to http://host:port/task. */
  host: string
  port?: number | undefined
  /** The task types it can do, at most 64. Without any it gets only tasks pinned to it. */
  capabilities?: string[] | undefined
  /** For people. */
  version?: string | undefined
  /** `healthy` unless given. */
  status?: ReportedStatus | undefined
  /** Its own id, to register again under; made by the router when left out. */
  agent_id?: string | undefined
  /** It is dead after so long a silence, 5 to 3600; 60 unless given. */
  ttl_seconds?: number | undefined
  /** It never has more tasks than this at once, 1 to 1000; 10 unless given. */
  max_concurrency?: number | undefined
  /** Changes when the agent's process is a new one: what the old one was running is over. */
  instance_id?: string | undefined
  /** It wants another signing secret. For a day what it is sent is signed with the one before as well. */
  rotate_secret?: boolean | undefined
  /** Anything, at most 64 members; replaced by each registration, merged by heartbeats. */
  metadata?: JsonObject | undefined
}

/** Why and for how long an agent is taken out. */
export type Sick = {
  since: string
  /** It gets nothing until then. Null when that is over: it gets one task at a time, until it has completed one. */
  until: string | null
  /** How often in a row: it is out for so many times 30 s, at most 5 minutes. */
  times: number
  reason: string
}

export type Agent = {
  id: string
  /** The same as id. */
  agent_id: string
  name: string
  /** The same as name. */
  agent_name: string
  type: string
  host: string
  port: number
  capabilities: string[]
  status: AgentStatus
  version: string | null
  ttl_seconds: number
  max_concurrency: number
  /** Slots taken now. */
  in_flight: number
  /** It answered 429 or 503 and gets nothing until then, whatever its status; null when it is not resting. */
  resting_until: string | null
  /** It failed so many different tasks in a row, or half of its attempts, that it is taken out; null while it is not. */
  sick: Sick | null
  /** It fell silent together with most agents of its type, which may be our fault: it is kept for a while, tried last and with one task at a time. */
  suspect: boolean
  is_alive: boolean
  registered_at: string
  last_seen: string
  /** The same as last_seen. */
  last_heartbeat: string
  /** Goes up when the agent's process, host or port is another one. */
  generation: number
  metadata: JsonObject
}

/** The answer to a registration: the agent, and how to stay alive. */
export type Registered = Agent & {
  /** The path to post heartbeats to. */
  heartbeat_url: string
  /** A third of the TTL. */
  heartbeat_interval_seconds: number
  /** What it is sent is signed with this, by Standard Webhooks. It stays as long as the agent is registered, unless it is rotated; it is told nowhere else. */
  signing_secret: string
  /** Changes with the secret; heartbeats are answered with it. */
  signing_secret_id: string
  /** What the agent may send as a bearer token from now on instead of a key, for what concerns itself. */
  agent_token: string
}

/** A sign of life; every member may be left out. */
export type Heartbeat = {
  status?: ReportedStatus | undefined
  /** Merged, member by member, into what is known. */
  metadata?: JsonObject | undefined
  /** The attempt ids it is working on now. Left out means unknown, and frees nothing. */
  running?: string[] | undefined
  /** The `timestamp` of the last heartbeat's answer, or `last_seen` of the registration's: what began behind it is not missing from `running`. */
  timestamp?: string | undefined
  max_concurrency?: number | undefined
}

/** The answer to a heartbeat: what the agent should know. */
export type HeartbeatAnswer = {
  received: true
  next_interval_seconds: number
  timestamp: string
  /** Attempts the agent should stop. */
  cancel: string[]
  /** Attempts the agent listed that are no longer its own. */
  lost: string[]
  /** The agent is draining: it gets nothing new. */
  drain: boolean
  /** Of the signing secret that is due. When it is not that of its own the agent should register again, and is told the new one. Null when it has none. */
  signing_secret_id: string | null
}

/** One page of agents, by type and id. */
export type AgentPage = {
  agents: Agent[]
  /** How many are in this page. */
  count: number
  /** For the next page; null at the end. */
  next_cursor: string | null
}

/** Which agents to list. */
export type AgentFilter = {
  type?: string | undefined
  /** Only agents that have it. */
  capability?: string | undefined
  status?: AgentStatus | undefined
  /** Dead agents are kept for a day, and not listed unless this is true. */
  include_dead?: boolean | undefined
  /** How many in a page at most, 1 to 200; 200 unless given. */
  limit?: number | undefined
}

export type SecretRotated = {
  agent_id: string
  /** Until then what it is sent is signed with the one before as well. */
  old_secret_until: string
}

export type Unregistered = {
  agent_id: string
  /** False when it was not registered. */
  unregistered: boolean
}

export type CleanedUp = {
  /** How many dead agents were removed. */
  removed: number
}

/** Whether work goes on: the answer of `/health` and `/health/ready`. */
export type Ready = {
  status: 'ready' | 'not ready'
  /** Redis answers. */
  redis: boolean
  /** How many dispatchers make progress; at least one must. */
  dispatchers: number
  /** Why not, for people. */
  reason?: string | undefined
  /** Queues that have work and a free slot while no dispatcher makes progress: up to 10, the one that has waited longest first. */
  waiting?: { queue: string; tasks: number; seconds: number }[] | undefined
}

export type Live = { status: 'live' }

/** One fault in what was sent. */
export type Fault = {
  /** A JSON Pointer into the body, or the name of a parameter. */
  pointer: string
  detail: string
}

/** An error on the wire (RFC 9457). Some types add members of their own. */
export type Problem = {
  /** `/docs/errors#<type>`: where it is explained. */
  type: string
  title: string
  /** The HTTP status. */
  status: number
  /** What went wrong this time. */
  detail: string
  /** The path that was asked for. */
  instance: string
  /** Each fault of the input, for invalid-request. */
  errors?: Fault[] | undefined
  /** The same as detail. */
  error: string
  [more: string]: unknown
}

/** A task in a batch. */
export type BatchTask = NewTask & {
  /** Makes it safe to send it again, as the option `idempotencyKey` of a task alone; one is made unless given. */
  idempotency_key?: string | undefined
}

/** A task of a batch that was taken. */
export type BatchAccepted = Omit<Submitted, 'retry_of'> & {
  /** Its place in the batch, from 0. */
  index: number
  /** It was taken before, under the same key; this is the first answer. */
  replayed?: true | undefined
}

/** Why a task was not taken: the problem that it alone would have been answered with. */
export type Refusal = {
  /** `/docs/errors#<type>`: where it is explained. */
  type: string
  title: string
  /** The HTTP status that it alone would have been answered with. */
  status: number
  detail: string
  /** Each fault, for invalid-request; a pointer is into the task. */
  errors?: Fault[] | undefined
  /** The same as detail. */
  error: string
  [more: string]: unknown
}

/** A task of a batch that was not taken. */
export type BatchRefused = {
  /** Its place in the batch, from 0. */
  index: number
  error: Refusal
}

/** What a batch is answered: of each task, in order, what has become of it. */
export type BatchTaken = {
  accepted: number
  refused: number
  tasks: (BatchAccepted | BatchRefused)[]
}

/** What the router posts to an agent's /task. */
export type Delivery = {
  task_id: string
  task_type: string
  parameters: JsonObject
  /** For this attempt. */
  timeout_seconds: number
  /** 1 to 15. */
  priority: number
  metadata: JsonObject
  /** From 1. */
  attempt: number
  /** Unlike any other attempt's. */
  attempt_id: string
}

/** POST /tasks/{id}/result: how an attempt that was answered 202 has ended. */
export type AttemptResult = {
  /** The attempt, as it was given to the agent. */
  attempt_id: string
  status: 'completed' | 'failed'
  /** Any JSON value. */
  result?: unknown
  /** What went wrong, in words for the task's client. */
  error?: string | undefined
  execution_time_ms?: number | undefined
  /** false: a failed attempt is not followed by another. */
  retryable?: boolean | undefined
  /** If given, the task's. */
  task_id?: string | undefined
  /** Not kept. */
  metadata?: Record<string, unknown> | undefined
}

/** POST /tasks/{id}/progress: how far an attempt is that is under way. */
export type ProgressReport = {
  /** The attempt, as it was given to the agent. */
  attempt_id: string
  /** 0 to 100. */
  percent?: number | undefined
  /** For people; cut at 1,000 characters. */
  message?: string | undefined
  /** Any JSON value of at most 10 KiB. */
  data?: unknown
  /** The attempt's deadline is then no sooner than so long from now, within the operator's bound. */
  extend_seconds?: number | undefined
}

export type ProgressTaken = {
  task_id: string
  status: 'running'
  /** When the attempt ends if nothing is heard until then, moved or not. */
  deadline_at: string
  /** The task is to be cancelled: the work may stop. */
  cancel_requested: boolean
}

export type ResultTaken = {
  task_id: string
  /** What the task has come to. */
  status: TaskStatus
}

/** What happened to a task. */
export type TaskEvent = {
  /** Of this event: its agent type and its place in the type's log. */
  id: string
  /** The status that the task has come to, or its agent's word of progress; `task.withdrawn`: its submit was refused behind all. */
  type: `task.${TaskStatus}` | 'task.progress' | 'task.withdrawn'
  task_id: string
  agent_type: string
  /** By the clock of the router's store. */
  at: string
  /** The attempt that this is about, if it is about one. */
  attempt: number | null
  agent_id: string | null
  /** How that attempt ended, if it did. */
  outcome: AttemptOutcome | null
  /** What went wrong, in brief; the task has it whole. */
  error: string | null
  /** What the agent said; null but for task.progress. */
  progress: unknown
}

/** What an agent answers to it. Only `status` and `result` or `error` count; the rest may be left out. */
export type DeliveryAnswer = {
  /** If given, the task's. */
  task_id?: string | undefined
  /** With 200, completed ends the task; failed is a failed attempt. */
  status: 'completed' | 'failed'
  /** Any JSON value. */
  result?: unknown
  /** What went wrong, in words for the task's client. */
  error?: string | undefined
  execution_time_ms?: number | undefined
  /** Overrules what the HTTP status says about trying again. */
  retryable?: boolean | undefined
  [more: string]: unknown
}

/** A schedule to put: `cron` or `every_seconds` says when. */
export type NewSchedule = {
  /** Minute, hour, day of month, month, day of week, and perhaps the second before them; `@daily` and the like. */
  cron?: string | undefined
  /** The time zone of `cron`, by its IANA name; UTC unless given. */
  tz?: string | undefined
  /** So long after it was put, and so long after each run was due. 1 to a year. */
  every_seconds?: number | undefined
  /** A run that nobody could make when it was due is made up for until so long after, the latest one only; 3600 unless given, at least 10. */
  catch_up_seconds?: number | undefined
  /** Left out: as it is, and not paused when it is new. */
  paused?: boolean | undefined
  /** What to submit, without `delay_seconds` and `run_at`. */
  task: NewTask
}

export type Schedule = {
  schedule_id: string
  /** Which agents its tasks are for. */
  agent_type: string
  cron: string | null
  /** Of `cron`; null with `every_seconds`. */
  tz: string | null
  every_seconds: number | null
  catch_up_seconds: number
  paused: boolean
  /** As it was put. */
  task: { [member: string]: unknown }
  /** Null while it is paused. */
  next_run_at: string | null
  /** When the last run was submitted. */
  last_run_at: string | null
  /** When that run was due. */
  last_scheduled_at: string | null
  /** The task that it became. */
  last_task_id: string | null
  /** Tasks submitted. */
  runs: number
  /** Runs that nobody could make when they were due, nor in time afterwards. */
  missed: number
  /** When the last of them was due. */
  last_missed_at: string | null
  /** Runs whose task was refused. */
  failed: number
  /** Why the last of them was. */
  last_error: string | null
  last_error_at: string | null
  created_at: string
  /** When it was last put otherwise, paused or resumed. */
  updated_at: string
}

/** One page of schedules, by id. */
export type SchedulePage = {
  schedules: Schedule[]
  /** How many are in this page. */
  count: number
  /** For the next page; null at the end. */
  next_cursor: string | null
}

/** Which schedules to list. */
export type ScheduleFilter = {
  /** Only those whose tasks are for these agents. */
  agent_type?: string | undefined
  /** How many in a page at most, 1 to 200; 50 unless given. */
  limit?: number | undefined
}

export type ScheduleDeleted = {
  schedule_id: string
  /** False when there was none. */
  deleted: boolean
}

/** `submit` brings work and looks after it, `agent` registers agents and speaks for them, `view` looks, `admin` may all of that, and makes keys. */
export type Role = 'submit' | 'agent' | 'view' | 'admin'

export type NewKey = {
  /** For people: whose it is. */
  name: string
  roles: Role[]
  /** Whose tasks, agents, schedules and events it is about; that of the client's own key unless given. */
  namespace?: string | undefined
  /** It never expires unless given. */
  expires_in_seconds?: number | undefined
  /** No limit unless given. */
  requests_per_second?: number | undefined
}

export type Rotation = {
  /** So long the old key goes on beside the new one; a day unless given. */
  old_expires_in_seconds?: number | undefined
  /** Of the new key; it never expires unless given. */
  expires_in_seconds?: number | undefined
}

export type Key = {
  /** The part of the key between its underscores. */
  key_id: string
  name: string
  roles: Role[]
  /** `default` unless it was made for another. */
  namespace: string
  /** Null: no limit. */
  requests_per_second: number | null
  created_at: string
  expires_at: string | null
  expired: boolean
  /** To the minute or so. */
  last_used_at: string | null
}

export type KeyMade = Key & {
  /** Told now and never again. */
  key: string
}

export type KeyList = { keys: Key[]; count: number; /** Whether ADMIN_KEY is set beside them. */ admin_key: boolean }

export type KeyRevoked = {
  key_id: string
  /** False when there was none. */
  revoked: boolean
}
