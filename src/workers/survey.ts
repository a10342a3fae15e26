/**
 * A dispatcher's own looks at the agent types, once a second: the net under lost messages and dead dispatchers. Those of one server are looked at together, as many as one
 * script can without holding up others; of a cluster each by itself, as it may be anywhere.
 */
import type { Logger } from '../logger.ts'
import { STALL_CHECK_MS } from '../queues/job.ts'
import type { Queues } from '../queues/queues.ts'
import { isStoreFailure, type Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { byServer, isCluster } from '../redis/nodes.ts'
import { loadScript } from '../redis/scripts.ts'
import type { Presence } from '../registry/presence.ts'
import type { Types } from '../registry/types.ts'
import type { Tasks } from '../tasks/tasks.ts'
import type { Webhooks } from '../tasks/webhooks/webhooks.ts'
import type { Scheduler } from './scheduler.ts'
import type { Sweeper } from './sweeper.ts'
import type { Watchdog } from './watchdog.ts'
import type { WebhookDeliverer } from './webhooks.ts'

/** Types that are named to one script; it looks at as many as are not too much at once. */
const MAX_IN_ONE_GO = 50

/** What survey.lua tells of a type. */
type Cells = readonly [recordsDueInMs: number, agentsDue: number, webhooksDue: number, busy: readonly Busy[], leastOther: string, inUse: number, idle: readonly string[], scheduleInMs: string, trims: number]
type Busy = readonly [queue: string, waits: number, active: number, room: number, front: string]
/** As it has come: not for all that were asked about, perhaps. */
type Found = readonly (Cells | Error)[]

export type SurveyDeps = {
  redis: Redis
  keys: Keys
  types: Types
  presence: Presence
  queues: Queues
  tasks: Pick<Tasks, 'kept' | 'isShort'>
  webhooks: Pick<Webhooks, 'maxKept' | 'maxBytes'>
  deliverer: Pick<WebhookDeliverer, 'look'>
  scheduler: Pick<Scheduler, 'due'>
  sweeper: Sweeper
  watchdog: Watchdog
  /** Of the dispatcher. */
  id: string
  /** What it has in hand, as others are told. */
  load: () => number
  isStopping: () => boolean
  /** Hears what is said to it about a type, from when it resolves. */
  listen: (type: string) => Promise<void>
  listenOnlyTo: (types: ReadonlySet<string>) => void
  /** Takes what can be taken of a queue. */
  pump: (type: string, queue: string) => void
  /** A record of the type comes due in so many ms. */
  dueIn: (type: string, ms: number) => void
  log: Logger
}

export type Survey = ReturnType<typeof createSurvey>

export const createSurvey = ({ redis, keys, types, presence, queues, tasks, webhooks, deliverer, scheduler, sweeper, watchdog, id, load, isStopping, listen, listenOnlyTo, pump, dueIn, log }: SurveyDeps) => {
  const script = loadScript(redis, new URL('./survey.lua', import.meta.url))
  const kept = [webhooks.maxKept, webhooks.maxBytes, ...tasks.kept.flat()]
  /** The types that we look at. */
  let known: ReadonlySet<string> = new Set()
  /** Types that we have yet to look at since our connection broke: Redis was away, perhaps. */
  let brokenFor = new Set<string>()
  /** The load of the least busy other dispatcher of a type when last seen; -1: there is none. */
  const leastOther = new Map<string, number>()
  const lastStallCheck = new Map<string, number>()
  /** No such check before this: behind an outage, or when Redis took nothing for a while, all locks have run out, but whoever holds a job is about to say what came of it. */
  let stallChecksFrom = 0
  /** What is under way. Made anew where it has got stuck: what is left of the old one changes nothing of the new. */
  const begin = () => ({ underWay: null as Promise<void> | null })
  let now = begin()

  /** What is to be known at once of a type. */
  const note = (type: string, [recordsDueIn, , webhooksDue, busy, least, , , scheduleIn]: Cells): void => {
    watchdog.looked(type, busy.filter(([, waits, , room]) => waits > 0 && room === 1).map(([queue, , , , front]) => ({ queue, front })))
    brokenFor.delete(type)
    leastOther.set(type, Number(least))
    if (webhooksDue === 1) deliverer.look(type)
    if (recordsDueIn > 0) dueIn(type, recordsDueIn)
    for (const [queue, waits, , room] of busy) if (waits > 0 && room === 1) pump(type, queue)
    if (scheduleIn !== '') scheduler.due(type, Number(scheduleIn))
  }

  const recoverStalled = async (type: string, queue: string): Promise<void> => {
    const at = performance.now()
    if (at < stallChecksFrom || at - (lastStallCheck.get(queue) ?? 0) < STALL_CHECK_MS) return
    lastStallCheck.set(queue, at)
    const stalled = await queues.recoverStalled(type, queue)
    if (stalled === 0) return
    log.warn({ queue, jobs: stalled }, 'jobs of a dispatcher that stopped answering come round again')
    pump(type, queue)
  }

  /** Those to be trimmed, one behind the other: each may take a quarter of a second, and no look waits for that. */
  const toTrim = new Set<string>()
  let trimming = false
  const trimSoon = (type: string): void => {
    toTrim.add(type)
    if (trimming) return
    trimming = true
    void (async () => {
      for (const one of toTrim) {
        toTrim.delete(one)
        if (!isStopping()) await sweeper.trim(one).catch((error: unknown) => watchdog.failed(one, error))
      }
    })().finally(() => void (trimming = false))
  }

  /** Does what has come due. */
  const follow = async (type: string, [recordsDueIn, agentsDue, , busy, , , idle, , trims]: Cells): Promise<void> => {
    if (agentsDue === 1) await sweeper.agents(type)
    if (recordsDueIn === 0) await sweeper.records(type)
    for (const [queue, , active] of busy) if (active > 0) await recoverStalled(type, queue)
    if (trims === 1 || (await tasks.isShort(type))) trimSoon(type)
    for (const queue of idle) await queues.forget(type, queue)
  }

  const seen = (type: string, inUse: boolean): Promise<void> =>
    types.seen(type, inUse).catch((error: unknown) => {
      if (!isCluster(redis) || !isStoreFailure(error)) throw error // the server of the types is away, and not this one's
    })

  /** Of one type; the others are looked at all the same. */
  const failed = (type: string) => (error: unknown): void => {
    if (isStoreFailure(error)) throw error
    watchdog.failed(type, error)
  }

  /** Those of one server: when that is away, so are the rest of them. */
  const surveyThose = async (all: readonly string[]): Promise<void> => {
    const mine = now
    const isOver = (): boolean => isStopping() || mine !== now
    for (let left = all; left.length > 0 && !isOver(); ) {
      const asked = left.slice(0, isCluster(redis) ? 1 : MAX_IN_ONE_GO)
      await Promise.all(asked.map(listen))
      const found = (await script(keys.base(asked[0]!), id, load(), ...kept, ...asked.flatMap((type) => [keys.base(type), brokenFor.has(type) ? 1 : 0]))) as Found
      left = left.slice(found.length)
      const looks: { type: string; cells: Cells }[] = []
      for (const [i, cells] of found.entries()) {
        const type = asked[i]!
        if (cells instanceof Error) failed(type)(cells)
        else looks.push({ type, cells })
      }
      for (const { type, cells } of looks) note(type, cells)
      for (const { type, cells } of looks) {
        if (isOver()) return
        await follow(type, cells).catch(failed(type))
      }
      await Promise.all(looks.map(({ type, cells }) => seen(type, cells[5] === 1).catch(failed(type))))
    }
  }

  /** One that comes up meanwhile is looked at when it is heard of. */
  const take = (list: readonly string[]): void => {
    known = new Set(list)
    listenOnlyTo(known)
    for (const type of leastOther.keys()) if (!known.has(type)) leastOther.delete(type)
    if (lastStallCheck.size > 20_000) lastStallCheck.clear()
    watchdog.forget(known)
  }

  const surveyAll = async (): Promise<void> => {
    const mine = now
    if (known.size === 0) take(await types.list())
    if (known.size === 0) watchdog.looked('', [])
    const servers = byServer(redis, known, keys.base)
    const failures = (await Promise.allSettled(servers.map(surveyThose))).flatMap((of, i) => (of.status === 'rejected' ? [{ error: of.reason as unknown, types: servers[i]! }] : []))
    if (failures.length > 0 && failures.length === servers.length) throw failures[0]!.error
    for (const failure of failures) for (const type of failure.types) watchdog.failed(type, failure.error)
    if (mine !== now || isStopping()) return
    // A cluster's other masters are there though the one that knows the types is not: those known last were looked at.
    take(await presence.note(id, watchdog.reason() === null))
  }

  const surveyNow = (): Promise<void> => {
    const mine = now
    mine.underWay ??= surveyAll()
      .catch((error: unknown) => {
        // It answers, and takes nothing. Slowness is no reason: somebody may be dead meanwhile.
        if (isStoreFailure(error) && (error as Error).name === 'ReplyError') stallChecksFrom = performance.now() + STALL_CHECK_MS
        watchdog.failed('', error)
      })
      .finally(() => {
        mine.underWay = null
      })
    return mine.underWay
  }

  return {
    /** Looks at all types, unless that is under way. */
    now: surveyNow,
    known: (): ReadonlySet<string> => known,
    leastOther: (type: string): number => leastOther.get(type) ?? -1,
    /** There is such a type, by what we hear. */
    heardOf: (type: string): void => {
      known = new Set(known).add(type)
      surveyThose([type]).catch(() => {})
    },
    /** Our connection is back. */
    back: (): void => {
      stallChecksFrom = performance.now() + STALL_CHECK_MS
      brokenFor = new Set(known)
      void surveyNow()
    },
    anew: (): void => {
      now = begin()
    },
  }
}
