/**
 * One run of a schedule: it is claimed in the record for a task's id, by Redis's time; then submitted under that id, and the submit takes
 * the claim. Each step is one atomic script that compares before it sets: any number of processes may do this at once, at any time, and
 * be killed between any two steps. A time that is due becomes one task, or is noted as missed.
 */
import { rawMembers } from '../contracts/raw.ts'
import { newTaskSchema, type NewTask } from '../contracts/task.ts'
import { iso } from '../contracts/time.ts'
import { AlreadySubmitted, SwitchyardError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import type { Redis } from '../redis/client.ts'
import { uuidv7 } from '../redis/ids.ts'
import type { Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'
import type { Registry } from '../registry/registry.ts'
import type { Stats } from '../tasks/stats.ts'
import type { Tasks } from '../tasks/tasks.ts'
import type { Claim, ScheduleRecord } from './record.ts'
import { planOf } from './timing.ts'

/** One that comes so late is told of. */
const LATE_MS = 5_000
const MAX_ERROR = 1_000
/** Two when somebody has claimed a run and not submitted it; more when others look at the same time. */
const MAX_ROUNDS = 10

export type Looked =
  /** No such schedule (any more), or it is paused, or never due again: nothing is to be done. */
  | { verdict: 'gone' | 'idle' }
  /** Its next run is due in `ms`; what was due has been submitted. */
  | { verdict: 'waits'; ms: number; ran: boolean; schedule: ScheduleRecord }

export type RunsDeps = {
  redis: Redis
  keys: Keys
  registry: Registry
  tasks: Tasks
  stats: Stats
  maxTimeoutSeconds: number
  log: Logger
  read: (type: string, id: string) => Promise<ScheduleRecord | null>
  /** Whether a record is one that runs. */
  runs: (s: ScheduleRecord) => Promise<boolean>
}

export const createRuns = ({ redis, keys, registry, tasks, stats, maxTimeoutSeconds, log, read, runs }: RunsDeps) => {
  const script = (file: string) => loadScript(redis, new URL(file, import.meta.url))
  const scripts = { claim: script('./claim.lua'), giveUp: script('./give-up.lua') }
  const Task = newTaskSchema(maxTimeoutSeconds)

  /** The task as it can be submitted now. What was good when it was put may not be any more. */
  const taskOf = async (s: ScheduleRecord): Promise<NewTask> => {
    const parsed = Task.safeParse(JSON.parse(s.task))
    if (!parsed.success) throw new SwitchyardError('invalid-request', `its task is not valid any more: ${parsed.error.issues.map((i) => `${i.path.join('.')} ${i.message}`).join('; ')}`)
    const agent = parsed.data.agent_id
    if (agent !== undefined) {
      const type = await registry.typeOf(agent)
      if (type === null) throw new SwitchyardError('not-found', `agent ${agent} is not registered; a task can be pinned to a registered agent only`)
      if (type !== s.type) throw new SwitchyardError('invalid-request', `agent ${agent} is of type ${type} now; put the schedule again`)
    }
    return parsed.data
  }

  /** Notes what came of a claim that becomes no task. */
  const giveUp = async (s: ScheduleRecord, claim: Claim, why: string): Promise<void> => {
    if ((await scripts.giveUp(keys.base(s.type), s.id, claim.text, why)) !== 1) return
    stats.count(s.type, why === '' ? 'scheduled:missed' : 'scheduled:failed')
    if (why === '') log.warn({ schedule: s.id, missed: 1, due: iso(claim.dueMs) }, 'missed: a run could not be submitted in time')
    else log.warn({ schedule: s.id, error: why }, 'a run of a schedule failed: its task was refused')
  }

  /**
   * Submits a claimed run, whoever claimed it. When the store fails, the claim stays for whoever looks next.
   */
  const submit = async (s: ScheduleRecord, claim: Claim): Promise<void> => {
    const lateMs = s.nowMs - claim.dueMs
    if (lateMs > s.catchUpMs) return giveUp(s, claim, '')
    try {
      const task = await taskOf(s)
      const raw = rawMembers(s.task, ['parameters', 'metadata'] as const)
      await tasks.submit(task, s.type, { id: claim.task, parameters: raw.parameters ?? '{}', metadata: raw.metadata ?? '{}', schedule: { id: s.id, dueMs: claim.dueMs } })
    } catch (error) {
      if (error instanceof AlreadySubmitted) return
      if (error instanceof SwitchyardError) return giveUp(s, claim, error.message.slice(0, MAX_ERROR))
      throw error
    }
    stats.count(s.type, 'scheduled:submitted')
    log.info({ schedule: s.id, task: claim.task, due: iso(claim.dueMs), ...(lateMs > LATE_MS ? { late_ms: lateMs } : {}) }, 'a schedule submitted a task')
  }

  /**
   * Claims the run that is due, or notes that it is too late for it.
   * @returns what was claimed, and when it is due next; null when somebody else was there first
   */
  const claim = async (s: ScheduleRecord, dueMs: number): Promise<{ claimed: Claim | null; nextMs: number | null } | null> => {
    const plan = planOf(s.timing, dueMs, s.nowMs, s.catchUpMs)
    const task = plan.due === null ? '' : `${s.type}.${uuidv7()}`
    const done = await scripts.claim(keys.base(s.type), s.id, s.rev, dueMs, task, plan.due ?? '', plan.next ?? '', plan.missed, plan.lastMissed ?? '')
    if (done !== 1) return null
    if (plan.missed > 0) {
      stats.count(s.type, 'scheduled:missed', plan.missed)
      log.warn({ schedule: s.id, missed: plan.missed, from: iso(dueMs), to: iso(plan.lastMissed!) }, 'missed: nobody was there to make these runs when they were due')
    }
    return { claimed: plan.due === null ? null : { task, dueMs: plan.due, text: `${task}\t${plan.due}` }, nextMs: plan.next }
  }

  const waits = (s: ScheduleRecord, nextMs: number | null, ran: boolean): Looked => (nextMs === null ? { verdict: 'idle' } : { verdict: 'waits', ms: nextMs - s.nowMs, ran, schedule: { ...s, nextMs } })

  return {
    /** Looks at a schedule: submits what is due, and says when it is to be looked at next. At any time, by anyone. */
    look: async (type: string, id: string): Promise<Looked> => {
      let ran = false
      for (let round = 0; round < MAX_ROUNDS; round++) {
        const s = await read(type, id)
        if (!s || !(await runs(s))) return { verdict: 'gone' }
        if (s.claim) await submit(s, s.claim)
        else if (s.nextMs === null || s.nextMs > s.nowMs) return waits(s, s.nextMs, ran)
        else {
          const done = await claim(s, s.nextMs)
          if (done?.claimed) await submit(s, done.claimed)
          if (done) return waits(s, done.nextMs, true)
        }
        ran = true
      }
      throw new Error(`schedule ${id} comes due faster than it can be looked at`)
    },
  }
}
