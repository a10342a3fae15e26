/**
 * Makes the runs of schedules when they are due. BullMQ's job schedulers tell: a dispatcher that knows of a time to come soon fetches then, and
 * looks at the schedule of each job it gets. A little later it looks at those that should have been looked at by then, whatever BullMQ
 * says of them: its clock is the process's, and a chain of jobs can break.
 */
import { randomUUID } from 'node:crypto'
import type { Logger } from '../logger.ts'
import type { Schedulers } from '../queues/schedulers.ts'
import type { Schedules } from '../schedules/schedules.ts'

/** Longer than from one survey to the next. */
const SOON_MS = 1_500
/** BullMQ has so long to tell of a run, until it is looked at without. */
const LATE_MS = 500
/** Schedules looked at in one go, when many are late. */
const LATE_AT_ONCE = 200
const AT_ONCE = 8
/** A job that comes so much too early is none of this schedule's as it is now, or comes by a clock that is wrong. */
const EARLY_MS = 1_000

export type SchedulerDeps = {
  schedules: Schedules
  schedulers: Schedulers
  log: Logger
  /** Does it in so many ms; false when it will not be done. */
  lookIn: (ms: number, look: () => Promise<unknown>) => boolean
}

export type Scheduler = ReturnType<typeof createScheduler>

export const createScheduler = ({ schedules, schedulers, log, lookIn }: SchedulerDeps) => {
  /**
   * @param late whether it is looked at although BullMQ has told us nothing of it
   * @returns whether there is such a schedule
   */
  const look = async (type: string, id: string, late: boolean): Promise<boolean> => {
    const seen = await schedules.look(type, id)
    if (seen.verdict !== 'waits') await schedulers.disarm(type, id)
    else if (late || (!seen.ran && seen.ms > EARLY_MS)) await schedules.arm(seen.schedule)
    else if (!seen.ran) lookIn(seen.ms + 1, () => look(type, id, false))
    return seen.verdict !== 'gone'
  }
  const failed = (type: string) => (error: unknown) => log.debug({ agent_type: type, error: String(error) }, 'could not look at what is due')

  /** Looks at some at once. What fails is late, then. */
  const several = () => {
    const underWay = new Set<Promise<unknown>>()
    return {
      begin: async (type: string, work: () => Promise<unknown>): Promise<void> => {
        if (underWay.size >= AT_ONCE) await Promise.race(underWay)
        const one: Promise<unknown> = work().catch(failed(type)).finally(() => underWay.delete(one))
        underWay.add(one)
      },
      all: () => Promise.all(underWay),
    }
  }

  /** Takes what jobs are due; then knows when the next one is. */
  const takeDue = async (type: string): Promise<void> => {
    const looks = several()
    for (;;) {
      const token = randomUUID()
      const taken = await schedulers.take(type, token)
      if ('inMs' in taken) {
        await looks.all()
        return comeBack(type, taken.inMs)
      }
      await looks.begin(type, async () => {
        const there = await look(type, taken.id, false)
        await schedulers.done(type, taken.job, token)
        // Perhaps it was the last one of the type.
        if (!there) await schedulers.forget(type)
      })
    }
  }

  const lookAtLate = async (type: string): Promise<void> => {
    const looks = several()
    for (const id of await schedules.late(type, LATE_MS, LATE_AT_ONCE)) await looks.begin(type, () => look(type, id, true))
    await looks.all()
  }

  /** By type, when we come back for the next job (`performance.now()`). */
  const planned = new Map<string, number>()
  const comeBack = (type: string, inMs: number | null): void => {
    if (inMs === null || inMs > SOON_MS) return
    const at = performance.now() + inMs + 1
    const before = planned.get(type)
    if (before !== undefined && before <= at && before > performance.now()) return
    if (planned.size > 10_000) planned.clear()
    if (lookIn(inMs + 1, () => take(type))) planned.set(type, at)
  }

  /** One at a time of a type; asked for meanwhile, it is done once more. */
  const oneByOne = (work: (type: string) => Promise<void>) => {
    const again = new Map<string, boolean>()
    const run = async (type: string): Promise<void> => {
      if (again.has(type)) return void again.set(type, true)
      do {
        again.set(type, false)
        await work(type).catch(failed(type))
      } while (again.get(type))
      again.delete(type)
    }
    return run
  }
  const take = oneByOne(takeDue)
  const catchUp = oneByOne(lookAtLate)

  return {
    /** A schedule of the type is to be looked at in so many ms; below 0 when it should have been. */
    due: (type: string, inMs: number): void => {
      if (inMs > SOON_MS) return
      void take(type)
      lookIn(Math.max(inMs + LATE_MS, 0) + 1, () => catchUp(type))
    },
  }
}
