/**
 * A dispatcher: waits to be woken, reserves slots, and runs each with `dispatch`. Any number of them work side by side on one Redis; a process has one for each
 * namespace (dispatchers.ts).
 *
 * What wakes it: a message on its own channel (one dispatcher is told, not all), and once a second its own look at each agent type (survey.ts).
 */
import { randomUUID } from 'node:crypto'
import type { Logger } from '../logger.ts'
import { LOCK_MS } from '../queues/job.ts'
import type { Queues } from '../queues/queues.ts'
import { reconnect, type Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { reconnectSubscriber, type Subscriber } from '../redis/subscriber.ts'
import type { Presence } from '../registry/presence.ts'
import type { Signing } from '../registry/signing.ts'
import type { Registry, Slot, SlotTokens } from '../registry/registry.ts'
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
import type { Guest, Places } from './places.ts'
import { createScheduler } from './scheduler.ts'
import { createStops } from './stops.ts'
import { createSurvey } from './survey.ts'
import { createSweeper } from './sweeper.ts'
import { createWatchdog } from './watchdog.ts'
import type { WebhookDeliverer } from './webhooks.ts'

const SURVEY_MS = 1000
/** A survey sees what comes due later than this. */
const NEAR_MS = 2 * SURVEY_MS
/** So long a dispatcher takes nothing that could not send an attempt. */
const CANNOT_SEND_MS = 1000
/** Slots reserved in one call: enough to fill a burst in few calls, few enough to leave some to the others. */
const RESERVE_AT_ONCE = 8
/** Between two tries to hear what a reserve has come to. */
const TAKE_UP_MS = 100
/** Until our channel is subscribed to again, when that failed on a connection that stands. */
const SUBSCRIBE_AGAIN_MS = 200
/** A dispatcher that gives up waits no longer for what it has sent. */
const LAST_DRAIN_MS = 5_000

export type DispatcherDeps = {
  redis: Redis
  /** A connection of its own: a subscriber can do nothing else. */
  subscriber: Subscriber
  keys: Keys
  types: Types
  registry: Registry
  signing: Signing
  tasks: Tasks
  queues: Queues
  presence: Presence
  schedulers: Schedulers
  schedules: Schedules
  transport: Transport
  webhooks: Webhooks
  deliverer: WebhookDeliverer
  /** Those of the process. */
  places: Places
  drainMs: number
  log: Logger
  metrics: Metrics
  /** It is stuck, and nothing has helped: the process is to end. */
  giveUp: (why: string) => void
  /** How often the watchdog looks. */
  tickMs?: number
}

export type Dispatcher = ReturnType<typeof createDispatcher>

export const createDispatcher = (deps: DispatcherDeps) => {
  const { redis, subscriber, keys, registry, tasks, queues, presence, webhooks, deliverer, places, log, metrics } = deps
  const id = randomUUID()
  const locks = createLocks({ log })
  let running = 0
  let stopping = false
  let drainMs = deps.drainMs
  const stops = createStops({ transport: deps.transport, log })
  const sweeper = createSweeper({ tasks, queues, registry, webhooks, dueIn: (type, ms) => dueIn(type, ms), log })
  const { lookIn, dueIn, stop: stopLooking } = createLooks({ isStopping: () => stopping, records: sweeper.records, nearMs: NEAR_MS })
  /** With far more in hand than another dispatcher, now and then a slot is left to that one, so that a newly started one gets its share. */
  const givesAway = (type: string): boolean => {
    const least = survey.leastOther(type)
    return least >= 0 && places.taken() > least * 2 + 4 && Math.random() < 1 / 8
  }
  const dispatch = createDispatch({
    ...deps, id, locks, stops,
    inFlight: places.taken,
    takesMore: () => !stopping,
    goesOn: (type, queue) => !cannotSend() && now.refused.size <= (now.refused.has(queue) ? 1 : 0) && !places.othersWait(guest) && !givesAway(type),
    cannotSend: (why) => {
      if (!cannotSend()) log.warn({ error: why }, 'could not send an attempt; taking nothing for a moment')
      cannotSendUntil = performance.now() + CANNOT_SEND_MS
    },
    dueIn,
    restsFor: (type, ms) => void lookIn(ms + 1, () => sweeper.agents(type)),
  })

  const scheduler = createScheduler({ ...deps, lookIn })

  const start = (slot: Slot) => {
    running++
    places.enter()
    metrics.inFlight.set(places.taken())
    void dispatch.run(slot).finally(() => {
      running--
      places.leave()
      metrics.inFlight.set(places.taken())
    })
  }

  /** What is under way. Made anew where it has got stuck: what is left of the old one changes nothing of the new. */
  const begin = () => ({
    /** Queues being pumped; true when woken again meanwhile. */
    pumping: new Map<string, boolean>(),
    /** Queues whose wake came while all of our places were taken, and their types; the one that has waited longest comes first. */
    refused: new Map<string, string>(),
    /** Places asked for by reserves under way. */
    share: places.share(),
  })
  let now = begin()

  /** Until then we take nothing: we lacked something (descriptors, say) to send what we had. Others may have it. */
  let cannotSendUntil = 0
  const cannotSend = (): boolean => performance.now() < cannotSendUntil

  const guest: Guest = {
    waits: () => now.refused.size > 0 && !stopping,
    serve: () => {
      const again = [...now.refused]
      now.refused.clear()
      for (const [queue, type] of again) void pump(type, queue)
    },
  }
  const leavePlaces = places.join(guest)

  /** Goes on with what a reserve has given whose answer was lost. What is not found within the time of its locks comes round by itself. */
  const takeUp = async (type: string, queue: string, tokens: readonly SlotTokens[]): Promise<void> => {
    for (const began = performance.now(); !stopping && performance.now() - began < LOCK_MS; ) {
      await new Promise((resolve) => setTimeout(resolve, TAKE_UP_MS))
      const slots = await tasks.recover(type, queue, tokens).catch(() => null)
      if (slots === null) continue
      if (slots.length > 0) log.info({ queue, slots: slots.length }, 'going on with what was reserved when our connection broke')
      for (const slot of slots) start(slot)
      return
    }
  }

  /** Reserves slots for a queue while there are jobs, room and places. */
  const pump = async (type: string, queue: string): Promise<void> => {
    const mine = now
    const { pumping, refused } = mine
    if (pumping.has(queue)) return void pumping.set(queue, true)
    pumping.set(queue, false)
    try {
      for (;;) {
        if (stopping || cannotSend() || mine !== now) return
        const wanted = mine.share.ask(RESERVE_AT_ONCE)
        if (wanted === 0) return void refused.set(queue, type)
        const tokens = Array.from({ length: wanted }, () => ({ token: randomUUID(), lock: randomUUID(), askedAt: performance.now() }))
        const slots = await tasks.reserve(type, queue, id, places.taken(), tokens).catch((error: unknown) => {
          void takeUp(type, queue, tokens)
          throw error
        }).finally(() => mine.share.answered(wanted))
        for (const slot of slots) start(slot)
        if (slots.length < wanted) places.freed()
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

  const watchdog = createWatchdog({
    ping: () => redis.ping(),
    hasPlace: () => places.taken() - dispatch.overdue() < places.size,
    begun: dispatch.begun,
    rebuild: () => {
      now.share.drop()
      now = begin()
      survey.anew()
      reconnect(redis)
      reconnectSubscriber(subscriber)
    },
    giveUp: (why) => {
      watchdog.stop()
      drainMs = Math.min(drainMs, LAST_DRAIN_MS)
      deps.giveUp(why)
    },
    log,
    ...(deps.tickMs === undefined ? {} : { tickMs: deps.tickMs }),
  })

  const mine = keys.namespace + '/'
  /** Our channel of each agent type: where it lies, it is told. */
  const wakes = new Set<string>()
  const listening = new Set<string>()
  const listen = async (type: string): Promise<void> => {
    if (listening.has(type)) return
    const channel = keys.wakeChannel(type, id)
    wakes.add(channel)
    // Should it fail there are the looks.
    await subscriber.subscribe(channel).then(() => listening.add(type), () => {})
  }
  const listenOnlyTo = (types: ReadonlySet<string>): void => {
    for (const type of listening) {
      if (types.has(type)) continue
      const channel = keys.wakeChannel(type, id)
      listening.delete(type)
      wakes.delete(channel)
      void subscriber.unsubscribe(channel).catch(() => {})
    }
  }

  const survey = createSurvey({ ...deps, scheduler, sweeper, watchdog, id, load: places.taken, isStopping: () => stopping, listen, listenOnlyTo, pump: (type, queue) => void pump(type, queue), dueIn })
  let surveyTimer: NodeJS.Timeout | undefined

  const onMessage = (channel: string, message: string) => {
    if (channel !== keys.typesChannel && !wakes.has(channel)) return
    const [first, second, inMs, ...more] = message.split('\t') as [string, string | undefined, string | undefined, ...string[]]
    if (channel !== keys.typesChannel) {
      if (first === 'cancel') return dispatch.cancel(second!)
      if (first === 'extend') return dispatch.extend(second!, Number(inMs))
      if (first === 'stop') {
        const [agentId, host, port, name, salts, nowMs] = more as [string, string, string, string, string, string]
        return stops.tell({ target: { agentId, name, host, port: Number(port), keys: deps.signing.keys(agentId, salts) }, taskId: second!, attemptId: inMs!, timeMs: Number(nowMs) })
      }
    }
    if (stopping) return
    if (channel === keys.typesChannel) {
      if (!first.startsWith(mine)) return
      return survey.heardOf(first.slice(mine.length))
    }
    if (first === 'webhooks') return deliverer.look(second!.slice(mine.length))
    const type = first.slice(mine.length)
    if (inMs === undefined) return void pump(type, second!)
    dueIn(type, Number(inMs))
  }

  /** Deaf on a connection that stands, it would hear of nothing but by its looks. */
  const subscribeAgain = (): void => {
    listening.clear()
    Promise.all([subscriber.subscribe(keys.typesChannel), ...[...survey.known()].map(listen)]).catch(() => {
      if (!stopping && subscriber.status === 'ready') setTimeout(subscribeAgain, SUBSCRIBE_AGAIN_MS).unref()
    })
  }

  return {
    id,
    /** Why work that can go out does not; null while it does. From the moment it is told to stop, it takes none. */
    notReady: (): string | null => (stopping ? 'it is stopping' : watchdog.reason()),
    /** Neither anything in hand, nor an agent type known. */
    isIdle: () => running === 0 && survey.known().size === 0,
    start: async (): Promise<void> => {
      subscriber.on('message', onMessage)
      subscriber.on('ready', subscribeAgain)
      subscribeAgain()
      // After an outage: look at once, do not wait for the next second.
      redis.on('back', survey.back)
      await survey.now()
      surveyTimer = setInterval(() => void survey.now(), SURVEY_MS)
    },
    /** Drains: takes nothing new, lets what runs end, hands back what is left. Bounded by `drainMs` and a few seconds. */
    stop: async (): Promise<void> => {
      stopping = true
      watchdog.stop()
      clearInterval(surveyTimer)
      stopLooking()
      const leave = [presence.leave(id), ...[...survey.known()].map((type) => redis.zrem(keys.dispatchers(type), id))]
      await Promise.race([Promise.allSettled(leave), new Promise((resolve) => setTimeout(resolve, 2000))])
      const idle = async (ms: number) => {
        const until = performance.now() + ms
        while (running > 0 && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 20))
      }
      if (running > 0) log.info({ in_flight: running }, 'draining')
      await idle(drainMs)
      if (running > 0) {
        log.warn({ in_flight: running }, 'handing back what has not ended')
        dispatch.abortAll()
        await idle(5000)
      }
      locks.stop()
      now.share.drop()
      leavePlaces()
      redis.off('back', survey.back)
      subscriber.off('message', onMessage).off('ready', subscribeAgain)
      await subscriber.unsubscribe(...wakes, keys.typesChannel).catch(() => {})
      for (const type of survey.known()) deliverer.look(type) // what has ended meanwhile
    },
  }
}
