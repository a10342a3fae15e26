/**
 * Schedules: tasks that are submitted again and again. A schedule's record lies under its task's agent type and says when the next run is
 * due; BullMQ's job scheduler only makes somebody look in time (queues/schedulers.ts). The index, of all types, says which there are: a
 * record that it does not name, or names under another type, is what a change that broke off has left, and does not run.
 */
import type { NewSchedule } from '../contracts/schedule.ts'
import { NotFound, TooManySchedules } from '../errors.ts'
import type { Logger } from '../logger.ts'
import type { Schedulers } from '../queues/schedulers.ts'
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { timeAt } from '../redis/nodes.ts'
import { loadScript } from '../redis/scripts.ts'
import type { Registry } from '../registry/registry.ts'
import type { Types } from '../registry/types.ts'
import type { Stats } from '../tasks/stats.ts'
import type { Tasks } from '../tasks/tasks.ts'
import { createRuns } from './runs.ts'
import { readSchedule, type ScheduleRecord } from './record.ts'
import { firstDue, timingOf, writeTiming } from './timing.ts'

const MAX_SCHEDULES = 10_000
/** A record that the index does not name is left alone for so long: whoever puts it may be about to. */
const UNNAMED_MS = 60_000
/** So often a put begins anew because its schedule was deleted meanwhile. */
const MAX_ROUNDS = 3

export type SchedulesDeps = { redis: Redis; keys: Keys; types: Types; registry: Registry; tasks: Tasks; stats: Stats; schedulers: Schedulers; maxTimeoutSeconds: number; log: Logger }

export type Schedules = ReturnType<typeof createSchedules>

export const createSchedules = (deps: SchedulesDeps) => {
  const { redis, keys, types, schedulers, log } = deps
  const script = (file: string) => loadScript(redis, new URL(file, import.meta.url))
  const scripts = { put: script('./put.lua'), pause: script('./pause.lua'), remove: script('./remove.lua'), read: script('./read.lua'), index: script('./index.lua'), late: script('./late.lua') }

  /** The type under which a schedule is; null when there is none of this id. */
  const typeOf = async (id: string): Promise<string | null> => (await redis.zrangebylex(keys.scheduleIds, `[${id}\t`, `(${id}\n`))[0]?.slice(id.length + 1) ?? null
  const read = async (type: string, id: string): Promise<ScheduleRecord | null> => readSchedule(type, id, (await scripts.read(keys.base(type), id)) as [string, string[]])
  const get = async (id: string): Promise<ScheduleRecord | null> => {
    const type = await typeOf(id)
    return type === null ? null : read(type, id)
  }
  const known = async (id: string): Promise<ScheduleRecord> => {
    const schedule = await get(id)
    if (!schedule) throw new NotFound(`there is no schedule ${id}`)
    return schedule
  }
  /** Has BullMQ tell somebody when the next run is due. Should that fail, whoever finds the run overdue does it again. */
  const arm = async (s: ScheduleRecord): Promise<void> => {
    try {
      if (s.nextMs === null) await schedulers.disarm(s.type, s.id)
      else {
        await schedulers.arm(s.type, s.id, s.timing, s.nextMs)
        // Who deletes it takes it out of the index first and disarms it last: one that was deleted meanwhile would stay armed until its time, which may be far.
        if ((await redis.zscore(keys.scheduleIds, `${s.id}\t${s.type}`)) === null) await schedulers.disarm(s.type, s.id)
      }
    } catch (error) {
      log.debug({ schedule: s.id, error: String(error) }, 'could not set a schedule’s next time in BullMQ')
    }
  }

  /** Takes away a record, and what BullMQ has of it. */
  const remove = async (type: string, id: string): Promise<void> => {
    const left = await scripts.remove(keys.base(type), id)
    await schedulers.disarm(type, id)
    if (left === 0) await schedulers.forget(type)
  }

  /**
   * Makes a schedule, or changes the one of this id. Put again as it is, nothing changes, nor does the time of its next run.
   * The index names it last: should we die before, there is none, or still the one that was there before.
   * @param type the agent type of its task
   * @param task as it was sent, JSON
   * @throws TooManySchedules, TooManyTypes
   */
  const put = async (id: string, type: string, s: NewSchedule, task: string): Promise<{ created: boolean; schedule: ScheduleRecord }> => {
    const timing = timingOf(s)
    for (let round = 1; ; round++) {
      const was = await typeOf(id)
      if (was === null && (await redis.zcard(keys.scheduleIds)) >= MAX_SCHEDULES) throw new TooManySchedules(MAX_SCHEDULES)
      await types.ensure(type)
      // One that moves to another type stays paused if it was.
      const paused = s.paused ?? (was === null || was === type ? undefined : (await read(was, id))?.paused)
      const next = firstDue(timing, await timeAt(redis, keys.base(type)))
      const [, moved] = (await scripts.put(keys.base(type), id, writeTiming(timing), task, Math.round(s.catch_up_seconds * 1000), paused === undefined ? '' : paused ? 1 : 0, next ?? '')) as [number, number]
      const others = (await scripts.index(keys.base(''), id, type, MAX_SCHEDULES)) as string[] | null
      if (others === null) {
        await remove(type, id)
        throw new TooManySchedules(MAX_SCHEDULES)
      }
      for (const other of others) await remove(other, id)
      const schedule = await read(type, id)
      if (schedule) {
        if (moved === 1) await arm(schedule)
        return { created: was === null, schedule }
      }
      if (round === MAX_ROUNDS) throw new NotFound(`schedule ${id} was deleted while it was put`)
    }
  }

  /** Pauses a schedule or lets it go on: from now, what was due meanwhile is neither made up for nor missed. */
  const pause = async (id: string, paused: boolean): Promise<ScheduleRecord> => {
    const s = await known(id)
    const next = firstDue(s.timing, s.nowMs)
    const changed = await scripts.pause(keys.base(s.type), id, paused ? 1 : 0, next ?? '')
    if (!paused) await types.ensure(s.type)
    const now = await known(id)
    if (changed === 1) await arm(now)
    return now
  }

  /** False when there was none. */
  const del = async (id: string): Promise<boolean> => {
    const type = await typeOf(id)
    if (type === null) return false
    const there = (await redis.zrem(keys.scheduleIds, `${id}\t${type}`)) === 1
    await remove(type, id)
    return there
  }

  /** Schedules by id. `next` is the id to go on behind, null at the end. */
  const list = async ({ type, limit, after }: { type?: string | undefined; limit: number; after?: string | undefined }): Promise<{ schedules: ScheduleRecord[]; next: string | null }> => {
    const found: ScheduleRecord[] = []
    for (let behind = after; ; ) {
      const entries = await redis.zrangebylex(keys.scheduleIds, behind === undefined ? '-' : `[${behind}\n`, '+', 'LIMIT', 0, limit)
      const names = entries.map((entry) => entry.split('\t') as [id: string, type: string])
      const records = await Promise.all(names.map(([id, of]) => (type === undefined || of === type ? read(of, id) : null)))
      for (const [i, record] of records.entries()) {
        if (record) found.push(record)
        if (found.length === limit) return { schedules: found, next: names[i]![0] }
      }
      if (names.length < limit) return { schedules: found, next: null }
      behind = names.at(-1)![0]
    }
  }

  /** Whether a record is one that runs; takes it away when it never will. */
  const runs = async (s: ScheduleRecord): Promise<boolean> => {
    const type = await typeOf(s.id)
    if (type === s.type) return true
    if (type !== null || s.nowMs - s.updatedMs > UNNAMED_MS) await remove(s.type, s.id)
    return false
  }

  return {
    get, put, pause, list, arm,
    delete: del,
    /** Those of a type that somebody should have looked at so long ago. */
    late: async (type: string, byMs: number, most: number): Promise<string[]> => (await scripts.late(keys.base(type), byMs, most)) as string[],
    ...createRuns({ ...deps, read, runs }),
  }
}
