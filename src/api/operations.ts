/** Every route as the API's document tells it. A route that is missing here, or is here and nowhere else, fails a test. */
import type { z } from 'zod'
import { Agent, AgentList, CleanedUp, Heartbeat, HeartbeatAnswer, Registered, Registration, SecretRotated, SecretRotation, Unregistered } from '../contracts/agent.ts'
import { Explanation } from '../contracts/explain.ts'
import { batchSchema, BatchTaken } from '../contracts/batch.ts'
import { KeyList, KeyMade, KeyRevoked, NewKey, ROLES, Rotation, type Role } from '../contracts/key.ts'
import { ProgressReport, ProgressTaken } from '../contracts/progress.ts'
import { newScheduleSchema, Schedule, ScheduleDeleted, ScheduleList } from '../contracts/schedule.ts'
import { AttemptResult, Cancelled, newTaskSchema, ResultTaken, Submitted, Task, TaskList } from '../contracts/task.ts'
import { Redelivery } from '../contracts/webhook.ts'
import { DeadLettersRetried, DeadLetterSummary, RetryDeadLetters } from '../contracts/dead-letter.ts'
import type { ProblemType } from '../errors.ts'
import { TaskEvent } from '../contracts/event.ts'
import { AgentOfTypeQuery, AgentQuery } from './agents.ts'
import { EventQuery } from './events.ts'
import { DeadLetterQuery, DeadLetterSummaryQuery } from './dead-letters.ts'
import { Live, Ready } from './health.ts'
import { Empty } from './input.ts'
import { ScheduleQuery } from './schedules.ts'
import { SubmitQuery, TaskQuery, WaitQuery } from './tasks.ts'

export const TAGS = {
  Tasks: 'What clients submit. A task reaches exactly one end, which never changes.',
  Events: 'What happens to tasks, as it happens.',
  'Dead letters': 'Tasks that failed or timed out, until they are retried.',
  Schedules: 'Tasks that are submitted again and again, by cron or every so many seconds.',
  Agents: 'HTTP services that perform tasks. They register, send heartbeats and leave; several agents of one type share its tasks.',
  Keys: 'By which one comes in, sent as `Authorization: Bearer`. On a loopback address none are needed until the first one is made. What is another namespace’s is, by whichever route, as what never was.',
  Service: 'Health, metrics and pages for people.',
} as const

export type OperationAnswer = { description: string; schema?: z.ZodType; contentType?: string; headers?: readonly string[] }
/** Who may ask it: `open`, whoever can reach us; else keys of these roles (`admin` always), and where `token` stands the agent that it is about, by its own token. */
export type Access = 'open' | readonly (Role | 'token')[]
export type Operation = {
  tag: keyof typeof TAGS
  access: Access
  /** People look at it: the session of a browser is good for it. Only for what reads. */
  inBrowser?: true
  summary: string
  description?: string
  query?: z.ZodObject
  /** Request headers that mean something here, none of them needed: name and what it is. */
  requestHeaders?: Record<string, string>
  body?: { schema: z.ZodType; optional?: true; example: object }
  answers: Record<number, OperationAnswer>
  /** Beside those that go with a body, a query or the store. */
  problems?: readonly ProblemType[]
  /** It neither reads nor writes the store. */
  storeless?: true
}

const STREAM =
  'Server-sent events, each with an id: with that in the header `Last-Event-ID` a client goes on where it was, at any API process, without a gap or a repeat. Their data are `TaskEvent`s. A comment each 15 s says that the connection lives.'
const requestHeaders = { 'Last-Event-ID': 'The id of the last event that was received; what happened since is told first.' }
const events: OperationAnswer = { description: 'Events, as they happen.', schema: TaskEvent, contentType: 'text/event-stream' }

const ANY_ROLE: Access = ROLES

const KEY = 'Makes it safe to send the request again: under one key an agent type takes one task, and every repeat gets the first answer. Another body or `require_agent` under it is refused. 1 to 255 visible ASCII characters, plain or as a quoted string.'
const KEY_SECONDS = 'For how long keys are kept, from 1 to 86400: a day unless given.'

const page = (summary: string, access: Access, contentType = 'text/html'): Operation => ({ tag: 'Service', access, inBrowser: true, summary, answers: { 200: { description: 'The page.', contentType } }, storeless: true })

/** For people in browsers alone, and so not in the document. */
export const BROWSER_OPERATIONS: Record<string, Operation> = { 'GET /login': page('Log in', 'open'), 'POST /login': page('Log in by a key', 'open'), 'POST /logout': page('Log out', 'open') }

/** @param maxTimeoutSeconds the operator's upper bound for `timeout_seconds` */
export const createOperations = (maxTimeoutSeconds: number): Record<string, Operation> => ({
  'POST /tasks': {
    tag: 'Tasks',
    access: ['submit'],
    summary: 'Submit a task',
    description: 'The task is taken even when no agent for it is alive: it waits. What is sent in `parameters` reaches the agent byte for byte, big integers and white space included.',
    query: SubmitQuery,
    body: { schema: newTaskSchema(maxTimeoutSeconds), example: { task_type: 'analyze_cost', agent_type: 'cost', parameters: { account: '123', days: 30 }, priority: 'high' } },
    requestHeaders: { 'Idempotency-Key': KEY, 'Idempotency-Key-Seconds': KEY_SECONDS },
    answers: { 201: { description: 'Taken: this task will reach an end. With the key of a task that was taken before, the answer that was given then.', schema: Submitted, headers: ['Location', 'Idempotent-Replayed'] } },
    problems: ['malformed-request', 'idempotency-key-reused', 'not-found', 'host-not-allowed', 'no-agent', 'too-many-queues', 'queue-full', 'store-full'],
  },
  'POST /tasks/batch': {
    tag: 'Tasks',
    access: ['submit'],
    summary: 'Submit many tasks',
    description:
      'Up to 1,000 tasks and 10 MiB. Each is taken or refused by itself, as it would be alone, and answered in its place; 200 says only that the request could be read. `require_agent` holds for all. A task that is to be sent again safely has a member `idempotency_key`.',
    query: SubmitQuery,
    requestHeaders: { 'Idempotency-Key-Seconds': KEY_SECONDS },
    body: { schema: batchSchema(maxTimeoutSeconds), example: { tasks: [{ task_type: 'analyze_cost', agent_type: 'cost', parameters: { account: '123' } }, { task_type: 'analyze_cost', agent_type: 'cost', parameters: { account: '124' }, idempotency_key: 'bill-124' }] } },
    answers: { 200: { description: 'What has become of each task.', schema: BatchTaken } },
    problems: ['malformed-request', 'store-full'],
  },
  'GET /tasks': {
    tag: 'Tasks',
    access: ['submit', 'view'],
    inBrowser: true,
    summary: 'List tasks, newest first',
    description: 'Over all agent types unless one is named. A page that is searched by `task_type` or `agent_id` may hold fewer than `limit` and still have a `next_cursor`.',
    query: TaskQuery,
    answers: { 200: { description: 'A page of tasks.', schema: TaskList } },
  },
  'GET /tasks/{id}': {
    tag: 'Tasks',
    access: ['submit', 'view'],
    inBrowser: true,
    summary: 'Read a task, or wait for its end',
    query: WaitQuery,
    answers: { 200: { description: 'The task, with every attempt made.', schema: Task } },
    problems: ['not-found', 'too-many-watchers'],
  },
  'GET /tasks/{id}/events': {
    tag: 'Events',
    access: ['submit', 'view'],
    summary: 'Watch a task',
    description: `${STREAM} Begins with what the task has been through, and ends with its end.`,
    requestHeaders,
    answers: { 200: events, 204: { description: 'With `Last-Event-ID`: the task has ended, and all was told.' } },
    problems: ['not-found', 'invalid-request', 'too-many-watchers'],
  },
  'GET /events': {
    tag: 'Events',
    access: ['submit', 'view'],
    summary: 'Watch the tasks of a type, or all',
    description: `${STREAM} Begins now, or where \`Last-Event-ID\` says. The log of a type holds about 50,000 events: an event \`gap\` says that some were forgotten before they could be sent.`,
    query: EventQuery,
    requestHeaders,
    answers: { 200: events },
    problems: ['invalid-request', 'too-many-watchers'],
  },
  'GET /tasks/{id}/explain': {
    tag: 'Tasks',
    access: ['submit', 'view'],
    summary: 'Say why a task waits, and which agents it may go to',
    description: 'Of any task, also one that is at an agent or has ended. `reason` and the reasons of agents are codes that stay; `summary` is for people. All of one moment, but for `dispatchers`.',
    answers: { 200: { description: 'Why it is where it is.', schema: Explanation } },
    problems: ['not-found'],
  },
  'DELETE /tasks/{id}': {
    tag: 'Tasks',
    access: ['submit'],
    summary: 'Cancel a task',
    answers: {
      200: { description: 'Cancelled: it will not be started.', schema: Cancelled },
      202: { description: 'It is at an agent, which is told to stop. Its status stays until the attempt is over, then it ends cancelled, within 10 s whatever the agent does; no later result beats that.', schema: Cancelled },
    },
    problems: ['not-found', 'task-ended'],
  },
  'POST /tasks/{id}/retry': {
    tag: 'Tasks',
    access: ['submit'],
    summary: 'Submit an ended task again',
    description: 'As a new task with the same parameters; once. The old one does not change, but for its `retried_as`.',
    body: { schema: Empty, optional: true, example: {} },
    answers: { 201: { description: 'The new task.', schema: Submitted, headers: ['Location'] } },
    problems: ['not-found', 'task-not-ended', 'already-retried', 'too-many-queues', 'queue-full', 'store-full'],
  },
  'POST /tasks/{id}/result': {
    tag: 'Tasks',
    access: ['agent', 'token'],
    summary: 'Say how an attempt has ended (from its agent)',
    description: 'For an attempt that the agent answered with 202. Only the current attempt of a task may speak; the same said again is answered alike. What a former attempt says, or any behind the end, is refused, and kept in the task’s `late_results`.',
    body: { schema: AttemptResult, example: { attempt_id: '1763638423123.8f3c', status: 'completed', result: { total: 12.5 }, execution_time_ms: 61_200 } },
    answers: { 200: { description: 'It counts.', schema: ResultTaken } },
    problems: ['not-found', 'stale-attempt'],
  },
  'POST /tasks/{id}/webhooks/redeliver': {
    tag: 'Tasks',
    access: ['submit'],
    summary: 'Send the webhook of an ended task again',
    description: 'At once, under the same `webhook-id`, and on the whole schedule should that fail; whatever came of it before, also when its URL was turned off by a 410.',
    body: { schema: Empty, optional: true, example: {} },
    answers: { 202: { description: 'It is being sent.', schema: Redelivery } },
    problems: ['not-found', 'task-not-ended'],
  },
  'GET /dead-letters': {
    tag: 'Dead letters',
    access: ['submit', 'view'],
    summary: 'List dead letters, newest first',
    description: 'Tasks that failed or timed out and were not retried. A page may hold fewer than `limit` and still have a `next_cursor`, where many do not match.',
    query: DeadLetterQuery,
    answers: { 200: { description: 'A page of tasks.', schema: TaskList } },
  },
  'GET /dead-letters/summary': {
    tag: 'Dead letters',
    access: ['submit', 'view'],
    summary: 'Count dead letters by type and error',
    query: DeadLetterSummaryQuery,
    answers: { 200: { description: 'How many there are of each kind.', schema: DeadLetterSummary } },
  },
  'POST /dead-letters/retry': {
    tag: 'Dead letters',
    access: ['submit'],
    summary: 'Retry dead letters',
    description: 'All that match, at most 1,000 a call, each as a new task as `POST /tasks/{id}/retry` does, once. May be repeated at will, also when a call broke off: what was retried is passed over. Without a filter: all of them.',
    body: { schema: RetryDeadLetters, example: { agent_type: 'cost', task_type: 'analyze_cost', error: 'connection refused' } },
    answers: { 200: { description: 'What was retried, and whether there is more.', schema: DeadLettersRetried } },
    problems: ['too-many-queues', 'queue-full', 'store-full'],
  },
  'POST /tasks/{id}/progress': {
    tag: 'Tasks',
    access: ['agent', 'token'],
    summary: 'Say how far an attempt is (from its agent)',
    description:
      'For an attempt under way, answered with 202 or not yet answered. The latest report is kept, as a whole; a call without percent, message and data leaves it. The deadline moves only when asked to, never nearer, and never beyond the operator’s MAX_TASK_TIMEOUT_SECONDS from when the attempt was sent: `deadline_at` is what counts.',
    body: { schema: ProgressReport, example: { attempt_id: '1763638423123.8f3c', percent: 40, message: 'reading invoices', data: { read: 120 }, extend_seconds: 60 } },
    answers: { 200: { description: 'Taken.', schema: ProgressTaken } },
    problems: ['not-found', 'stale-attempt'],
  },
  'PUT /schedules/{id}': {
    tag: 'Schedules',
    access: ['submit'],
    summary: 'Make a schedule, or change it',
    description:
      'May be repeated: as long as `cron`, `tz` or `every_seconds` stay as they are, so does the time of the next run. Each time that is due becomes one task, however many processes run and whichever of them die. A run does not wait for the end of the one before. Put for agents of another type it begins anew.',
    body: { schema: newScheduleSchema(maxTimeoutSeconds), example: { cron: '0 9 * * MON-FRI', tz: 'Europe/Berlin', task: { agent_type: 'cost', task_type: 'analyze_cost', parameters: { days: 1 } } } },
    answers: { 201: { description: 'A new schedule.', schema: Schedule, headers: ['Location'] }, 200: { description: 'There was one of this id; it is as was put now.', schema: Schedule } },
    problems: ['not-found', 'host-not-allowed', 'too-many-schedules', 'too-many-queues', 'store-full'],
  },
  'GET /schedules': { tag: 'Schedules', access: ['submit', 'view'], summary: 'List schedules, by id', query: ScheduleQuery, answers: { 200: { description: 'A page of schedules.', schema: ScheduleList } } },
  'GET /schedules/{id}': { tag: 'Schedules', access: ['submit', 'view'], inBrowser: true, summary: 'Read a schedule', answers: { 200: { description: 'The schedule, and what has come of it.', schema: Schedule } }, problems: ['not-found'] },
  'DELETE /schedules/{id}': {
    tag: 'Schedules',
    access: ['submit'],
    summary: 'Delete a schedule',
    description: 'No further task comes of it. Those submitted go on. May be repeated.',
    answers: { 200: { description: 'There is none of this id any more.', schema: ScheduleDeleted } },
    problems: ['not-found'],
  },
  'POST /schedules/{id}/pause': {
    tag: 'Schedules',
    access: ['submit'],
    summary: 'Pause a schedule',
    description: 'What comes due meanwhile is neither made up for nor missed.',
    body: { schema: Empty, optional: true, example: {} },
    answers: { 200: { description: 'It is paused.', schema: Schedule } },
    problems: ['not-found'],
  },
  'POST /schedules/{id}/resume': {
    tag: 'Schedules',
    access: ['submit'],
    summary: 'Let a paused schedule go on',
    description: 'As if it were put anew: with `every_seconds` the next run is so long from now.',
    body: { schema: Empty, optional: true, example: {} },
    answers: { 200: { description: 'It goes on.', schema: Schedule } },
    problems: ['not-found'],
  },
  'POST /agents/register': {
    tag: 'Agents',
    access: ['agent'],
    summary: 'Register an agent',
    description: 'Without an `agent_id`, or with one that is not known, a new agent. With a known one an update, which may be sent at will; the metadata is replaced.',
    body: { schema: Registration, example: { name: 'cost-1', type: 'cost', host: '127.0.0.1', port: 8001, capabilities: ['analyze_cost'] } },
    answers: {
      201: { description: 'A new agent.', schema: Registered, headers: ['Location'] },
      200: { description: 'A known agent, updated.', schema: Registered, headers: ['Location'] },
    },
    problems: ['host-not-allowed', 'agent-type-conflict', 'too-many-queues', 'too-many-agents'],
  },
  'POST /agents/{id}/heartbeat': {
    tag: 'Agents',
    access: ['agent', 'token'],
    summary: 'Send a sign of life',
    description: 'Also brings back an agent that fell silent or died less than a day ago: it need not register again. The body may be left out.',
    body: { schema: Heartbeat, optional: true, example: { status: 'healthy' } },
    answers: { 200: { description: 'Received, with what the agent should know.', schema: HeartbeatAnswer } },
    problems: ['not-found'],
  },
  'POST /agents/{id}/rotate-secret': {
    tag: 'Agents',
    access: ['agent'],
    summary: 'Give an agent another signing secret',
    description: 'The agent hears of it with its next heartbeat, and fetches it by registering again. Asked again within a minute it is the same rotation, and `overlap_seconds` may only make it end sooner. The body may be left out.',
    body: { schema: SecretRotation, optional: true, example: { overlap_seconds: 3600 } },
    answers: { 200: { description: 'It has another.', schema: SecretRotated } },
    problems: ['not-found'],
  },
  'POST /agents/{id}/unregister': {
    tag: 'Agents',
    access: ['agent', 'token'],
    summary: 'Unregister an agent',
    description: 'It gets no new task. What it is running may still end; tasks pinned to it wait for it to come back, or expire. May be repeated. A body is not read.',
    answers: { 200: { description: 'It is not registered any more.', schema: Unregistered } },
    problems: ['not-found'],
  },
  'DELETE /agents/{id}': {
    tag: 'Agents',
    access: ['agent', 'token'],
    summary: 'Unregister an agent',
    description: 'The same as `POST /agents/{id}/unregister`.',
    answers: { 200: { description: 'It is not registered any more.', schema: Unregistered } },
    problems: ['not-found'],
  },
  'GET /agents/{id}': { tag: 'Agents', access: ['submit', 'agent', 'view'], summary: 'Read an agent', answers: { 200: { description: 'The agent.', schema: Agent } }, problems: ['not-found'] },
  'GET /agents': { tag: 'Agents', access: ['submit', 'agent', 'view'], inBrowser: true, summary: 'List agents, by type and id', query: AgentQuery, answers: { 200: { description: 'A page of agents.', schema: AgentList } } },
  'GET /agents/type/{type}': {
    tag: 'Agents',
    access: ['submit', 'agent', 'view'],
    summary: 'List the agents of a type',
    query: AgentOfTypeQuery,
    answers: { 200: { description: 'A page of agents.', schema: AgentList } },
    problems: ['not-found'],
  },
  'POST /agents/cleanup': {
    tag: 'Agents',
    access: ['admin'],
    summary: 'Remove the dead agents now',
    description: 'They would be forgotten by themselves a day after their last heartbeat.',
    body: { schema: Empty, optional: true, example: {} },
    answers: { 200: { description: 'Removed.', schema: CleanedUp } },
  },
  'POST /keys': {
    tag: 'Keys',
    access: ['admin'],
    summary: 'Make a key',
    description: 'The answer holds the key; what is kept of it is a digest. The first key must have the role `admin` and no namespace, unless the operator has set ADMIN_KEY. One of a namespace makes keys of that one only.',
    body: { schema: NewKey, example: { name: 'billing', roles: ['admin'], expires_in_seconds: 7_776_000 } },
    answers: { 201: { description: 'The key, which is never told again.', schema: KeyMade } },
    problems: ['too-many-keys'],
  },
  'GET /keys': { tag: 'Keys', access: ['admin'], summary: 'List keys, the oldest first', answers: { 200: { description: 'All of them, those that have expired too; to a key of a namespace those of that one.', schema: KeyList } } },
  'DELETE /keys/{id}': {
    tag: 'Keys',
    access: ['admin'],
    summary: 'Revoke a key',
    description: 'No API process takes it any longer, within 2 s. May be repeated.',
    answers: { 200: { description: 'There is no such key any more.', schema: KeyRevoked } },
    problems: ['not-found'],
  },
  'POST /keys/{id}/rotate': {
    tag: 'Keys',
    access: ['admin'],
    summary: 'Make a key that takes the place of another',
    description: 'Of the same name, roles and namespace. The old one goes on beside it for a day, or as long as is said.',
    body: { schema: Rotation, optional: true, example: { old_expires_in_seconds: 3600 } },
    answers: { 201: { description: 'The new key, which is never told again.', schema: KeyMade } },
    problems: ['not-found', 'too-many-keys'],
  },
  'GET /health': {
    tag: 'Service',
    access: 'open',
    summary: 'Whether work goes on',
    description: 'The same as `/health/ready`.',
    answers: { 200: { description: 'Redis answers and a dispatcher makes progress.', schema: Ready }, 503: { description: 'One of the two does not.', schema: Ready, headers: ['Retry-After'] } },
    storeless: true,
  },
  'GET /health/ready': {
    tag: 'Service',
    access: 'open',
    summary: 'Whether work goes on',
    answers: { 200: { description: 'Redis answers and a dispatcher makes progress.', schema: Ready }, 503: { description: 'One of the two does not.', schema: Ready, headers: ['Retry-After'] } },
    storeless: true,
  },
  'GET /health/live': { tag: 'Service', access: 'open', summary: 'Whether this process runs', answers: { 200: { description: 'It does.', schema: Live } }, storeless: true },
  'GET /metrics': {
    ...page('Metrics for Prometheus', ['view'], 'text/plain'),
    description: 'Totals over all processes, read from Redis; what waits in each queue (the 1,000 used last); agents and slots by type: all of the key’s own namespace. To one of no namespace also what this process measures of itself.',
  },
  'GET /queues': { ...page('Bull Board: a look into every queue', ['view']), description: 'Shows the 500 queues used last. Nothing can be changed there.', problems: ['store-unavailable'] },
  'GET /': page('Where to find what', ANY_ROLE),
  'GET /docs': page('This reference', ANY_ROLE),
  'GET /docs/errors': page('What each problem type means, and what to do', ANY_ROLE),
  'GET /openapi.json': page('This document, OpenAPI 3.1', ANY_ROLE, 'application/json'),
})
