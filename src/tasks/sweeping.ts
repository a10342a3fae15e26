/** What is done to records behind their clients' backs: those whose time has come, those that lack a job, those to be forgotten. The sweeper asks for it. */
import type { Config } from '../config.ts'
import { isEnd, type TaskStatus } from '../contracts/task.ts'
import type { Queues } from '../queues/queues.ts'
import type { Redis } from '../redis/client.ts'
import type { Fullness } from '../redis/fullness.ts'
import type { Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'
import type { TaskView } from './record.ts'

/** Looked at by one script: Redis does nothing else meanwhile. */
const TICK_AT_ONCE = 200
const TRIM_AT_ONCE = 250
/** As many as one queue at its fastest makes in the time between two trims, and half as many again; or as take so long. */
const TRIM_ROUNDS = 40
const TRIM_MS = 250
/** From these parts of what Redis may be filled with on, ended records give way: completed and cancelled ones first, dead letters last, and all of them before new work is refused. */
const GIVE_WAY = { completed: 7 / 8, failed: 15 / 16 }
/** Of the records that are there, at one time; the least where there is any need. */
const MOST_GIVEN = 0.5
const LEAST_GIVEN = 0.02

/** What the sweeper is to do with a task's job. */
export type Due =
  | { what: 'promote' | 'add' | 'remove' | 'time_out'; id: string; queue: string }
  | { what: 'look'; inMs: number }
  | { what: 'came_back'; id: string; queue: string; attemptId: string; to: { status: TaskStatus; waitMs: number; error: string } }

/** Of the ended records of a status. */
export type Kept = readonly [status: string, ms: number, count: number, bytes: number]

export type SweepingDeps = {
  redis: Redis
  keys: Keys
  queues: Queues
  retention: Config['retention']
  fullness: Fullness
  /** Of its memory, from which on Redis takes no new work. */
  fullPercent: number
  readOne: (id: string) => Promise<TaskView | null>
  wake: (type: string, id: string, queue: string) => Promise<unknown>
  /** Says in the log what has become of a task. */
  tell: (id: string, news: unknown) => void
}

export const createSweeping = ({ redis, keys, queues, retention, fullness, fullPercent, readOne, wake, tell }: SweepingDeps) => {
  const tickScript = loadScript(redis, new URL('./tick.lua', import.meta.url))
  const trimScript = loadScript(redis, new URL('./trim.lua', import.meta.url))
  /** For how long ended records are, how many, and with how many bytes. */
  const ofCompleted = { ms: retention.completedMs, count: retention.completedCount, bytes: retention.completedBytes, givesWayFrom: GIVE_WAY.completed }
  const ofFailed = { ms: retention.failedMs, count: retention.failedCount, bytes: retention.failedBytes, givesWayFrom: GIVE_WAY.failed }
  const kept = [{ status: 'completed', ...ofCompleted }, { status: 'cancelled', ...ofCompleted }, { status: 'failed', ...ofFailed }, { status: 'timeout', ...ofFailed }]
  /** Where the trim of a type goes on, by status; it begins anew in a new process. */
  const trimmedTo = new Map<string, string[]>()

  /** The records whose time has come. */
  const tick = async (type: string): Promise<{ due: Due[]; more: boolean }> => {
    const rows = (await tickScript(keys.base(type), TICK_AT_ONCE)) as [Due['what'] | 'became' | 'more', string, ...string[]][]
    const more = rows.at(-1)?.[0] === 'more'
    if (more) rows.pop()
    const due: Due[] = []
    for (const [what, id, ...rest] of rows) {
      const [queue, more, status, waitMs, error] = rest as [string, ...string[]]
      if (what === 'became') tell(id, rest)
      else if (what === 'look') due.push({ what, inMs: Number(more) })
      else if (what === 'came_back') due.push({ what, id, queue, attemptId: more!, to: { status: status as TaskStatus, waitMs: Number(waitMs), error: error! } })
      else if (what !== 'more') due.push({ what, id, queue })
    }
    return { due, more }
  }

  /** Adds the job that a record lacks, and wakes a dispatcher. */
  const readd = async (type: string, id: string, queue: string): Promise<void> => {
    const t = await readOne(id)
    if (!t || isEnd(t.status)) return
    await queues.remove(type, queue, id) // a finished job of this id would make the add do nothing
    await queues.add({ id, type, queue, taskType: t.taskType, priority: t.priority, maxRetries: t.maxRetries, delayMs: Math.max(0, t.notBeforeMs - Date.now()) })
    await wake(type, id, queue)
  }

  /** Whether Redis's memory is so short that records give way. */
  const isShort = async (type: string): Promise<boolean> => ((await fullness(keys.base(type))) * 100) / fullPercent >= GIVE_WAY.completed
  /** How many records of each status stay for now: fewer than else while Redis's memory is short. */
  const counts = async (type: string): Promise<number[]> => {
    const used = ((await fullness(keys.base(type))) * 100) / fullPercent
    // Each of them trims: all together let so much go.
    const dispatchers = used < GIVE_WAY.completed ? 1 : Math.max(1, await redis.zcard(keys.dispatchers(type)))
    return Promise.all(
      kept.map(async ({ status, count, givesWayFrom: from }) => {
        if (used < from) return count
        const given = Math.max(LEAST_GIVEN, MOST_GIVEN * Math.min(1, (used - from) / (1 - from)))
        return Math.min(count, Math.floor((await redis.zcard(keys.tasks(type, status))) * (1 - given) ** (1 / dispatchers)))
      }),
    )
  }

  /** Forgets ended records that are old enough, or too many, or take too much. Bounded: what is left waits for the next time. */
  const trim = async (type: string): Promise<void> => {
    const most = await counts(type)
    const until = performance.now() + TRIM_MS
    for (let round = 0; round < TRIM_ROUNDS && performance.now() < until; round++) {
      const behind = trimmedTo.get(type) ?? kept.map(() => '')
      const [forgotten, unmeasured, ...next] = (await trimScript(keys.base(type), TRIM_AT_ONCE, ...kept.flatMap(({ status, ms, bytes }, i) => [status, ms, most[i]!, bytes, behind[i]!]))) as [number, number, ...string[]]
      const done = next.every((id) => id === '')
      if (done) trimmedTo.delete(type)
      else trimmedTo.set(type, next)
      // Where nothing was to be forgotten, all there was ended late: the next time goes on behind it.
      if (unmeasured === 0 && (done || forgotten === 0)) return
    }
  }

  return { tick, readd, trim, kept: kept.map(({ status, ms, count, bytes }): Kept => [status, ms, count, bytes]), isShort }
}
