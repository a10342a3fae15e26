/**
 * Checked by `npm run lint` alone: the client's types and the API's schemas are the same, member by member. A member that only one of
 * them has, or an optional one that is required in the other, is a type error here.
 */
import type { z } from 'zod'
import type * as explain from '../sdk/typescript/explain.ts'
import type * as wire from '../sdk/typescript/wire.ts'
import type { AgentQuery } from '../src/api/agents.ts'
import type { DeadLetterQuery, DeadLetterSummaryQuery } from '../src/api/dead-letters.ts'
import type { Live, Ready } from '../src/api/health.ts'
import type { Problem } from '../src/api/problem.ts'
import type { ScheduleQuery } from '../src/api/schedules.ts'
import type { TaskQuery } from '../src/api/tasks.ts'
import type * as agent from '../src/contracts/agent.ts'
import type * as batch from '../src/contracts/batch.ts'
import type * as event from '../src/contracts/event.ts'
import type * as dead from '../src/contracts/dead-letter.ts'
import type * as explained from '../src/contracts/explain.ts'
import type * as key from '../src/contracts/key.ts'
import type * as progress from '../src/contracts/progress.ts'
import type * as schedule from '../src/contracts/schedule.ts'
import type * as task from '../src/contracts/task.ts'
import type * as webhook from '../src/contracts/webhook.ts'
import type { END_STATUSES } from '../src/contracts/task.ts'
import type { Fault } from '../src/errors.ts'

/** Intersections written out, so that they compare with plain objects. */
type Flat<T> = T extends readonly (infer Item)[] ? Flat<Item>[] : T extends object ? { [K in keyof T]: Flat<T[K]> } : T
/** Identity: mutual assignability would let an optional member be missing. */
type Same<A, B> = (<T>() => T extends Flat<A> ? 1 : 2) extends <T>() => T extends Flat<B> ? 1 : 2 ? true : false
type Held<T extends true[]> = T

export type Requests = Held<
  [
    Same<wire.NewTask, z.input<ReturnType<typeof task.newTaskSchema>>>,
    Same<wire.BatchTask, z.input<ReturnType<typeof batch.batchTaskSchema>>>,
    Same<wire.Registration, z.input<typeof agent.Registration>>,
    Same<wire.Heartbeat, z.input<typeof agent.Heartbeat>>,
    Same<wire.AttemptResult, z.input<typeof task.AttemptResult>>,
    Same<wire.ProgressReport, z.input<typeof progress.ProgressReport>>,
    Same<wire.DeliveryAnswer, z.input<typeof task.DeliveryAnswer>>,
    Same<wire.NewSchedule, z.input<ReturnType<typeof schedule.newScheduleSchema>>>,
    Same<wire.NewKey, z.input<typeof key.NewKey>>,
    Same<wire.Rotation, z.input<typeof key.Rotation>>,
    Same<keyof wire.ScheduleFilter | 'cursor', keyof z.input<typeof ScheduleQuery>>,
    Same<keyof wire.TaskFilter | 'cursor', keyof z.input<typeof TaskQuery>>,
    Same<wire.RetryDeadLetters, z.input<typeof dead.RetryDeadLetters>>,
    Same<keyof wire.DeadLetterFilter, keyof z.input<typeof DeadLetterSummaryQuery>>,
    Same<keyof wire.DeadLetterFilter | 'limit' | 'cursor', keyof z.input<typeof DeadLetterQuery>>,
    Same<keyof wire.AgentFilter | 'cursor', keyof z.input<typeof AgentQuery>>,
  ]
>

export type Answers = Held<
  [
    Same<wire.TaskStatus, z.output<typeof task.TaskStatus>>,
    Same<wire.EndStatus, (typeof END_STATUSES)[number]>,
    Same<wire.Progress, z.output<typeof progress.Progress>>,
    Same<wire.ProgressTaken, z.output<typeof progress.ProgressTaken>>,
    Same<wire.LateResult, z.output<typeof progress.LateResult>>,
    Same<wire.ResultTaken, z.output<typeof task.ResultTaken>>,
    Same<wire.TaskEvent, z.output<typeof event.TaskEvent>>,
    Same<wire.Submitted, z.output<typeof task.Submitted>>,
    Same<wire.BatchAccepted, z.output<typeof batch.BatchAccepted>>,
    Same<wire.BatchRefused, z.output<typeof batch.BatchRefused>>,
    Same<wire.Refusal, z.output<typeof batch.Refusal>>,
    Same<wire.BatchTaken, z.output<typeof batch.BatchTaken>>,
    Same<wire.AttemptOutcome, z.output<typeof task.AttemptOutcome>>,
    Same<wire.Attempt, z.output<typeof task.Attempt>>,
    Same<wire.Task, z.output<typeof task.Task>>,
    Same<wire.WebhookAttempt, z.output<typeof webhook.WebhookAttempt>>,
    Same<wire.TaskWebhook, z.output<typeof webhook.TaskWebhook>>,
    Same<wire.WebhookEvent, z.output<typeof task.WebhookEvent>>,
    Same<wire.Redelivery, z.output<typeof webhook.Redelivery>>,
    Same<wire.TaskPage, z.output<typeof task.TaskList>>,
    Same<wire.Cancelled, z.output<typeof task.Cancelled>>,
    Same<wire.DeadLetterGroup, z.output<typeof dead.DeadLetterGroup>>,
    Same<wire.DeadLetterSummary, z.output<typeof dead.DeadLetterSummary>>,
    Same<wire.DeadLettersRetried, z.output<typeof dead.DeadLettersRetried>>,
    Same<wire.ReportedStatus, z.output<typeof agent.ReportedStatus>>,
    Same<wire.AgentStatus, z.output<typeof agent.AgentStatus>>,
    Same<wire.Sick, z.output<typeof agent.Sick>>,
    Same<wire.Agent, z.output<typeof agent.Agent>>,
    Same<wire.Registered, z.output<typeof agent.Registered>>,
    Same<wire.HeartbeatAnswer, z.output<typeof agent.HeartbeatAnswer>>,
    Same<wire.AgentPage, z.output<typeof agent.AgentList>>,
    Same<wire.SecretRotated, z.output<typeof agent.SecretRotated>>,
    Same<wire.Unregistered, z.output<typeof agent.Unregistered>>,
    Same<wire.CleanedUp, z.output<typeof agent.CleanedUp>>,
    Same<wire.Schedule, z.output<typeof schedule.Schedule>>,
    Same<wire.SchedulePage, z.output<typeof schedule.ScheduleList>>,
    Same<wire.ScheduleDeleted, z.output<typeof schedule.ScheduleDeleted>>,
    Same<wire.Role, z.output<typeof key.Role>>,
    Same<wire.Key, z.output<typeof key.Key>>,
    Same<wire.KeyMade, z.output<typeof key.KeyMade>>,
    Same<wire.KeyList, z.output<typeof key.KeyList>>,
    Same<wire.KeyRevoked, z.output<typeof key.KeyRevoked>>,
    Same<wire.Ready, z.output<typeof Ready>>,
    Same<wire.Live, z.output<typeof Live>>,
    Same<wire.Fault, Fault>,
    Same<wire.Problem, z.output<typeof Problem>>,
    Same<wire.Delivery, z.output<typeof task.Delivery>>,
    Same<explain.Explanation, z.output<typeof explained.Explanation>>,
  ]
>
