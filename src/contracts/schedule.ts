/** A schedule as clients put and read it: zod schemas, and the types inferred from them. */
import { z } from 'zod'
import { AgentType } from './agent.ts'
import { CRON_FORM, isTimeZone, MAX_CRON, parseCron, ZONE_FORM } from './cron.ts'
import { always, number, pattern, text } from './members.ts'
import { newTaskSchema } from './task.ts'

/** Chosen by the client; part of Redis keys and of BullMQ's job ids. */
export const SCHEDULE_ID_FORM = 'must be 1–128 of A–Z a–z 0–9 _ - ., beginning with a letter or digit'
export const ScheduleId = pattern(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, SCHEDULE_ID_FORM)

const MAX_SECONDS = 365 * 86_400
/** What is kept of a task for ever, in characters of JSON: ten thousand schedules must have room. */
export const MAX_TASK_TEXT = 65_536

const comes = (cron: string): boolean => {
  try {
    return parseCron(cron, 'UTC').next(Date.now()) !== null
  } catch {
    return false
  }
}

/**
 * PUT /schedules/{id}. The task's `parameters` and `metadata` are only checked to be objects here: its bytes are kept as sent.
 * @param maxTimeoutSeconds the operator's upper bound for the task's `timeout_seconds`
 */
export const newScheduleSchema = (maxTimeoutSeconds: number) =>
  z
    .strictObject({
      cron: text(MAX_CRON, CRON_FORM).refine(comes, `${CRON_FORM}; and its time must come`).optional().describe('When: minute, hour, day of month, month, day of week, and perhaps the second before them; @daily and the like. With both days given either will do.'),
      tz: text(64, ZONE_FORM).refine(isTimeZone, ZONE_FORM).optional().describe('The time zone of cron, by its IANA name; UTC unless given. A time that the clock passes over comes as much later as it jumps; one that it shows twice comes once, unless cron means every hour.'),
      every_seconds: number(1, MAX_SECONDS).optional().describe('Instead of cron: so long after it was put, and so long after each run was due.'),
      catch_up_seconds: number(10, MAX_SECONDS).default(3600).describe('A run that nobody could make when it was due is made up for until so long after, the latest one only. Those before it are missed, and so is one that is later.'),
      paused: z.boolean({ error: 'must be true or false' }).optional().describe('Left out: as it is, and not paused when it is new.'),
      task: newTaskSchema(maxTimeoutSeconds).describe('What to submit, as POST /tasks takes it, but for delay_seconds and run_at.'),
    })
    .refine((s) => s.cron !== undefined || s.every_seconds !== undefined, { path: ['cron'], message: 'is required unless every_seconds is given', ...always })
    .refine((s) => s.cron === undefined || s.every_seconds === undefined, { path: ['every_seconds'], message: 'cannot be given beside cron: give one of them', ...always })
    .refine((s) => s.tz === undefined || s.every_seconds === undefined, { path: ['tz'], message: 'goes with cron only', ...always })
    .refine((s) => s.task?.delay_seconds === undefined, { path: ['task', 'delay_seconds'], message: 'is not for a schedule’s task: the schedule says when', ...always })
    .refine((s) => s.task?.run_at === undefined, { path: ['task', 'run_at'], message: 'is not for a schedule’s task: the schedule says when', ...always })
    .meta({ id: 'NewSchedule', anyOf: [{ required: ['cron'] }, { required: ['every_seconds'] }] })
export type NewSchedule = z.infer<ReturnType<typeof newScheduleSchema>>

/** A schedule as every answer shows it. `task` comes back byte for byte as it was sent. */
export const Schedule = z
  .object({
    schedule_id: z.string(),
    agent_type: AgentType.describe('Which agents its tasks are for.'),
    cron: z.string().nullable(),
    tz: z.string().nullable().describe('Of cron; null with every_seconds.'),
    every_seconds: z.number().nullable(),
    catch_up_seconds: z.number(),
    paused: z.boolean(),
    task: z.object({}).loose().describe('As it was put.'),
    next_run_at: z.iso.datetime().nullable().describe('Null while it is paused.'),
    last_run_at: z.iso.datetime().nullable().describe('When the last run was submitted.'),
    last_scheduled_at: z.iso.datetime().nullable().describe('When that run was due.'),
    last_task_id: z.string().nullable().describe('The task that it became.'),
    runs: z.int().describe('Tasks submitted.'),
    missed: z.int().describe('Runs that nobody could make when they were due, nor in time afterwards. Of one outage a cron counts 1,000 at most.'),
    last_missed_at: z.iso.datetime().nullable().describe('When the last of them was due.'),
    failed: z.int().describe('Runs whose task was refused.'),
    last_error: z.string().nullable().describe('Why the last of them was.'),
    last_error_at: z.iso.datetime().nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime().describe('When it was last put otherwise, paused or resumed.'),
  })
  .meta({ id: 'Schedule' })
export type Schedule = z.infer<typeof Schedule>

export const ScheduleList = z
  .object({ schedules: z.array(Schedule), count: z.int().describe('How many are in this page.'), next_cursor: z.string().nullable().describe('Give it as cursor for the next page; null at the end.') })
  .meta({ id: 'ScheduleList' })

/** What DELETE /schedules/{id} answers. */
export const ScheduleDeleted = z.object({ schedule_id: z.string(), deleted: z.boolean().describe('False when there was none.') }).meta({ id: 'ScheduleDeleted' })
