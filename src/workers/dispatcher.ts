/**
 * A dispatcher: waits to be woken, reserves slots, and runs each with `dispatch`. Any number of them work side by side on one Redis.
 *
 * What wakes it: a message on its own channel (one dispatcher is told, not all), and once a second its own look at each agent type, the
 * net under lost messages and dead dispatchers.
 */
import { randomUUID } from 'node:crypto'
import type { Logger } from '../logger.ts'
import { STALL_CHECK_MS } from '../queues/job.ts'
import type { Queues } from '../queues/queues.ts'
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'
import { PROGRESS_MS, type Presence } from '../registry/presence.ts'
import type { Registry, Slot } from '../registry/registry.ts'
import type { Types } from '../registry/types.ts'
import type { Webhooks } from '../tasks/webhooks/webhooks.ts'
import type { Schedulers } from '../queues/schedulers.ts'
import type { Schedules } from '../schedules/schedules.ts'
import type { Tasks } from '../tasks/tasks.ts'
import type { Transport } from '../transports/transport.ts'
import { createDispatch } from './dispatch.ts'
import { createLocks } from './locks.ts'
import { createLooks } from './looks.ts'
import type { Metrics } from './metrics.ts'
import { createScheduler } from './scheduler.ts'
import { createStops } from './stops.ts'
import { createSweeper } from './sweeper.ts'
import type { WebhookDeliverer } from './webhooks.ts'

const SURVEY_MS = 1000
/** A survey sees what comes due later than this. */
const NEAR_MS = 2 * SURVEY_MS
/** Longer than from a submit's record to its job, shorter than anyone notices. */
const LOOK_AGAIN_MS = 5
/** Slots reserved in one call: enough to fill a burst in few calls, few enough to leave some to the others. */
const RESERVE_AT_ONCE = 8

export type DispatcherDeps = {
  redis: Redis
  /** A connection of its own: a subscriber can do nothing else. */
  subscriber: Redis
  keys: Keys
  types: Types
  registry: Registry
  tasks: Tasks
  queues: Queues
  presence: Presence
  schedulers: Schedulers
  schedules: Schedules
  transport: Transport
  webhooks: Webhooks
  deliverer: WebhookDeliverer
  concurrency: number
  drainMs: number
  log: Logger
  metrics: Metrics
}

export type Dispatcher = ReturnType<typeof createDispatcher>

export const createDispatcher = (deps: DispatcherDeps) => {
  const { redis, subscriber, keys, types, registry, tasks, queues, presence, webhooks, deliverer, concurrency, log, metrics } = deps
  const id = randomUUID()
  const surveyScript = loadScript(redis, new URL('./survey.lua', import.meta.url))
  const locks = createLocks({ log })
  /** The types that we look at. */
  let known = new Set<string>()
  let running = 0
  let stopping = false
  let lastSurvey = 0
  /** Since when a queue has had work and room, by our surveys. */
  const waitingSince = new Map<string, number>()
  const lastStallCheck = new Map<string, number>()
  /** No such check before this: behind an outage all locks have run out, but whoever holds a job is about to say what came of it. */
  let stallChecksFrom = 0

  const stops = createStops({ transport: deps.transport, log })
  const sweeper = createSweeper({ tasks, queues, registry, webhooks, dueIn: (type, ms) => dueIn(type, ms), log })
  const { lookIn, dueIn, stop: stopLooking } = createLooks({ isStopping: () => stopping, records: sweeper.records, nearMs: NEAR_MS })
  /** The load of the least busy other dispatcher of a type when last seen; -1: there is none. */
  const leastOther = new Map<string, number>()
  /** Agents that are to be looked at again in a moment. */
  const looking = new Set<string>()
  /** With far more in hand than another dispatcher, now and then a slot is left to that one, so that a newly started one gets its share. */
  const givesAway = (type: string): boolean => {
    const least = leastOther.get(type) ?? -1
    return least >= 0 && running > least * 2 + 4 && Math.random() < 1 / 8
  }
  const dispatch = createDispatch({
    ...deps, id, locks, stops,
    inFlight: () => running,
    takesMore: () => !stopping,
    goesOn: (type, queue) => refused.size <= (refused.has(queue) ? 1 : 0) && !givesAway(type),
    dueIn,
    lookAgain: (type, agentId) => {
      if (looking.has(agentId)) return
      const looks = lookIn(LOOK_AGAIN_MS, () => {
        looking.delete(agentId)
        return registry.offer(type, agentId)
      })
      if (looks) looking.add(agentId)
    },
    restsFor: (type, ms) => void lookIn(ms + 1, () => sweeper.agents(type)),
  })

  const scheduler = createScheduler({ ...deps, lookIn })

  const start = (slot: Slot) => {
    running++
    metrics.inFlight.set(running)
    void dispatch.run(slot).finally(() => {
      running--
      metrics.inFlight.set(running)
      serveRefused()
    })
  }

  /** Queues being pumped; true when woken again meanwhile. */
  const pumping = new Map<string, boolean>()
  /** Queues whose wake came while all of our places were taken, and their types; the one that has waited longest comes first. */
  const refused = new Map<string, string>()
  const serveRefused = () => {
    if (refused.size === 0 || stopping) return
    const again = [...refused]
    refused.clear()
    for (const [queue, type] of again) void pump(type, queue)
  }
  /** Places asked for by reserves under way. */
  let asked = 0

  /** Reserves slots for a queue while there are jobs, room and places. */
  const pump = async (type: string, queue: string): Promise<void> => {
    if (pumping.has(queue)) return void pumping.set(queue, true)
    pumping.set(queue, false)
    try {
      for (;;) {
        const wanted = Math.min(RESERVE_AT_ONCE, concurrency - running - asked)
        if (stopping) return
        if (wanted <= 0) return void refused.set(queue, type)
        asked += wanted
        const slots = await registry.reserve(type, queue, id, running, Array.from({ length: wanted }, () => randomUUID())).finally(() => (asked -= wanted))
        for (const slot of slots) start(slot)
        if (slots.length < wanted) serveRefused()
        if (slots.length === wanted) continue
        if (!pumping.get(queue)) return
        pumping.set(queue, false)
      }
    } catch (error) {
      log.debug({ queue, error: String(error) }, 'could not reserve')
    } finally {
      pumping.delete(queue)
    }
  }

  /** Looks at one agent type: what is due, what waits, what has stalled. */
  const survey = async (type: string): Promise<void> => {
    const [recordsDueIn, agentsDue, webhooksDue, busy, least, inUse, idle, scheduleIn] = (await surveyScript(keys.base(type), id, running)) as [number, number, number, [string, number, number, number][], string, number, string[], string]
    leastOther.set(type, Number(least))
    const now = performance.now()
    if (webhooksDue === 1) deliverer.look(type)
    if (agentsDue === 1) await sweeper.agents(type)
    if (recordsDueIn === 0) await sweeper.records(type)
    else if (recordsDueIn > 0) dueIn(type, recordsDueIn)
    const seen = new Set<string>()
    for (const [queue, waits, active, room] of busy) {
      if (waits > 0 && room === 1) {
        seen.add(queue)
        if (!waitingSince.has(queue)) waitingSince.set(queue, now)
        void pump(type, queue)
      }
      if (active > 0 && now >= stallChecksFrom && now - (lastStallCheck.get(queue) ?? 0) >= STALL_CHECK_MS) {
        lastStallCheck.set(queue, now)
        const stalled = await queues.recoverStalled(type, queue)
        if (stalled > 0) {
          log.warn({ queue, jobs: stalled }, 'jobs of a dispatcher that stopped answering come round again')
          void pump(type, queue)
        }
      }
    }
    for (const queue of waitingSince.keys()) if (queue.startsWith(`${type}.`) && !seen.has(queue)) waitingSince.delete(queue)
    if (lastStallCheck.size > 20_000) lastStallCheck.clear()
    if (scheduleIn !== '') scheduler.due(type, Number(scheduleIn))
    await sweeper.trim(type)
    for (const queue of idle) await queues.forget(type, queue)
    await types.seen(type, inUse === 1)
  }

  const surveyAll = async (): Promise<void> => {
    known = new Set(await types.list()) // without those forgotten; one that comes up meanwhile is looked at when it is heard of
    for (const type of leastOther.keys()) if (!known.has(type)) leastOther.delete(type)
    for (const type of known) if (!stopping) await survey(type)
    lastSurvey = performance.now()
    if (!stopping && makesProgress()) await presence.note(id)
  }

  /** Work that had a free slot at every look for 5 s has not gone out: something is stuck. A dispatcher with all its places taken is not. */
  const makesProgress = (): boolean => {
    const now = performance.now()
    const stuck = [...waitingSince.values()].some((since) => now - since > PROGRESS_MS)
    return now - lastSurvey < PROGRESS_MS && (!stuck || running >= concurrency)
  }

  let surveying: Promise<void> | null = null
  const surveyNow = (): Promise<void> => {
    surveying ??= surveyAll()
      .catch((error: unknown) => {
        // While Redis is away client.ts has said so; with it there, something is wrong with us, and readiness fails.
        if (redis.status === 'ready') log.error({ error: String(error) }, 'could not look at the queues')
      })
      .finally(() => {
        surveying = null
      })
    return surveying
  }
  let surveyTimer: NodeJS.Timeout | undefined

  const mine = keys.namespace + '/'
  const onMessage = (channel: string, message: string) => {
    const [first, second, inMs, ...more] = message.split('\t') as [string, string | undefined, string | undefined, ...string[]]
    if (channel !== keys.typesChannel) {
      if (first === 'cancel') return dispatch.cancel(second!)
      if (first === 'extend') return dispatch.extend(second!, Number(inMs))
      if (first === 'stop') {
        const [agentId, host, port, name] = more as [string, string, string, string]
        return stops.tell({ target: { agentId, name, host, port: Number(port) }, taskId: second!, attemptId: inMs! })
      }
    }
    if (stopping) return
    if (channel === keys.typesChannel) {
      if (!first.startsWith(mine)) return
      known.add(first.slice(mine.length))
      return void survey(first.slice(mine.length)).catch(() => {})
    }
    if (first === 'webhooks') return deliverer.look(second!.slice(mine.length))
    const type = first.slice(mine.length)
    if (inMs === undefined) return void pump(type, second!)
    dueIn(type, Number(inMs))
  }

  return {
    id,
    /** True while work that can go out goes out. */
    makesProgress,
    inFlight: () => running,
    start: async (): Promise<void> => {
      subscriber.on('message', onMessage)
      await subscriber.subscribe(keys.wakeChannel(id), keys.typesChannel)
      // After an outage: look at once, do not wait for the next second.
      redis.on('ready', () => {
        stallChecksFrom = performance.now() + STALL_CHECK_MS
        void surveyNow()
      })
      await surveyNow()
      surveyTimer = setInterval(() => void surveyNow(), SURVEY_MS)
    },
    /** Drains: takes nothing new, lets what runs end, hands back what is left. Bounded by `drainMs` and a few seconds. */
    stop: async (): Promise<void> => {
      stopping = true
      clearInterval(surveyTimer)
      stopLooking()
      const leave = [presence.leave(id), ...[...known].map((type) => redis.zrem(keys.dispatchers(type), id))]
      await Promise.race([Promise.allSettled(leave), new Promise((resolve) => setTimeout(resolve, 2000))])
      const idle = async (ms: number) => {
        const until = performance.now() + ms
        while (running > 0 && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 20))
      }
      if (running > 0) log.info({ in_flight: running }, 'draining')
      await idle(deps.drainMs)
      if (running > 0) {
        log.warn({ in_flight: running }, 'handing back what has not ended')
        dispatch.abortAll()
        await idle(5000)
      }
      locks.stop()
      for (const type of known) deliverer.look(type) // what has ended meanwhile
    },
  }
}
