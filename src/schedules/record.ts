/** The record of a schedule as TypeScript sees it; schedule.lua says what its fields hold. */
import { iso, isoOrNull } from '../contracts/time.ts'
import type { Schedule } from '../contracts/schedule.ts'
import { fieldsOf } from '../redis/scripts.ts'
import { readTiming, type Timing } from './timing.ts'

/** A run that is being submitted: `text` is the field as it is. */
export type Claim = { task: string; dueMs: number; text: string }

export type ScheduleRecord = {
  id: string
  type: string
  rev: string
  timing: Timing
  /** The task, JSON as it was put. */
  task: string
  catchUpMs: number
  paused: boolean
  nextMs: number | null
  claim: Claim | null
  createdMs: number
  updatedMs: number
  /** By Redis's clock, when it was read. */
  nowMs: number
  /** What has come of it. */
  past: Record<string, string>
}

const readClaim = (text: string | undefined): Claim | null => {
  if (text === undefined) return null
  const [task, due] = text.split('\t')
  return { task: task!, dueMs: Number(due), text }
}

/** @param cells what read.lua gives */
export const readSchedule = (type: string, id: string, [now, flat]: [string, string[]]): ScheduleRecord | null => {
  const f = fieldsOf(flat)
  if (f.timing === undefined) return null
  return {
    id,
    type,
    rev: f.rev!,
    timing: readTiming(f.timing),
    task: f.task!,
    catchUpMs: Number(f.catch_up),
    paused: f.paused === '1',
    nextMs: f.next ? Number(f.next) : null,
    claim: readClaim(f.claim),
    createdMs: Number(f.created),
    updatedMs: Number(f.updated),
    nowMs: Number(now),
    past: f,
  }
}

const shownTime = (ms: string | undefined): string | null => isoOrNull(ms ? Number(ms) : null)

/** As the API shows it, but for the task, whose bytes are kept. */
export const showSchedule = (s: ScheduleRecord): Omit<Schedule, 'task'> => ({
  schedule_id: s.id,
  agent_type: s.type,
  cron: s.timing.kind === 'cron' ? s.timing.cron : null,
  tz: s.timing.kind === 'cron' ? s.timing.tz : null,
  every_seconds: s.timing.kind === 'every' ? s.timing.everyMs / 1000 : null,
  catch_up_seconds: s.catchUpMs / 1000,
  paused: s.paused,
  next_run_at: isoOrNull(s.nextMs),
  last_run_at: shownTime(s.past.last_run),
  last_scheduled_at: shownTime(s.past.last_due),
  last_task_id: s.past.last_task ?? null,
  runs: Number(s.past.runs ?? 0),
  missed: Number(s.past.missed ?? 0),
  last_missed_at: shownTime(s.past.last_missed),
  failed: Number(s.past.failed ?? 0),
  last_error: s.past.error ?? null,
  last_error_at: shownTime(s.past.error_at),
  created_at: iso(s.createdMs),
  updated_at: iso(s.updatedMs),
})
