/**
 * What happens to tasks, as it happens. Scripts publish each event beside writing it to the log; a process that follows a type subscribes to
 * it once, however many follow. The log closes every gap: events come in its order, each once, and after a break of the connection it is
 * read on from where we were.
 */
import { TooManyWatchers } from '../errors.ts'
import type { Logger } from '../logger.ts'
import type { Keys } from '../redis/keys.ts'
import type { Subscriber } from '../redis/subscriber.ts'
import type { Types } from '../registry/types.ts'
import { BEGINNING, compare, parseEvent, type Events, type Position, type TaskEvent } from './events.ts'

/** A type that nobody follows any more stays subscribed so long. */
const LINGER_MS = 30_000
const READ_AT_ONCE = 1000
/** More is not kept while the log is read, but read from there too. */
const MAX_HELD = 10_000
const RETRY_MS = 200
/** Who follows all types hears of a new one at once, and should that be lost, within this. */
const LOOK_FOR_TYPES_MS = 5_000
/** Behind the close of the feed, who has come since is told so. */
const END_AGAIN_MS = 100
/** Behind the drop of one, while its process goes on, for so long. */
const END_DROPPED_MS = 60_000
/** Requests of one process that wait or watch. */
const MAX_FOLLOWERS = 5_000

export type Follower = {
  /** The type whose events are wanted; null: all. */
  type: string | null
  /** One task of it only. */
  task?: string
  event: (event: TaskEvent) => void
  /** Events were forgotten before they could be read. */
  gap: () => void
  /** The process stops: nothing more comes. */
  end: () => void
}
export type Following = {
  /** Every event behind this is, or will be, told. */
  position: (type: string) => Position
  stop: () => void
}

/** What is known of a type. `held`: what came while the log is read. `begun`: it is known from where on it is read. `resuming`: that is being done, and `again`, once more behind it. */
type Source = {
  type: string
  last: Position
  held: [Position, string][] | null
  overflowed: boolean
  all: Set<Follower>
  byTask: Map<string, Set<Follower>>
  live: Promise<void>
  begun: boolean
  resuming: boolean
  again: boolean
  linger?: NodeJS.Timeout
}

export type FeedDeps = {
  /** A connection of its own: a subscriber can do nothing else. */
  subscriber: Subscriber
  events: Events
  keys: Keys
  types: Types
  /** Who follows any feed of the process. */
  followers: { count: number }
  log: Logger
}

export type Feed = ReturnType<typeof createFeed>

export const createFeed = ({ subscriber, events, keys, types, followers, log }: FeedDeps) => {
  const sources = new Map<string, Source>()
  /** The same by the channel on which they are heard. */
  const channels = new Map<string, Source>()
  const ofAll = new Set<Follower>()
  let allLive: Promise<void> | undefined
  let allLinger: NodeJS.Timeout | undefined
  let closed = false

  const followersOf = (source: Source, taskId: string): Follower[] => [...(source.byTask.get(taskId) ?? []), ...source.all, ...ofAll]
  const deliver = (source: Source, position: Position, text: string): void => {
    if (compare(position, source.last) <= 0) return
    source.last = position
    const told = followersOf(source, text.slice(0, text.indexOf('\t')))
    if (told.length === 0) return
    const event = parseEvent(source.type, position, text)
    for (const follower of told) follower.event(event)
  }

  const newSource = (type: string): Source => {
    const source: Source = { type, last: BEGINNING, held: null, overflowed: false, all: new Set(), byTask: new Map(), live: Promise.resolve(), begun: false, resuming: false, again: false }
    sources.set(type, source)
    channels.set(keys.eventsChannel(type), source)
    return source
  }
  const drop = (source: Source): void => {
    if (sources.get(source.type) !== source) return
    sources.delete(source.type)
    channels.delete(keys.eventsChannel(source.type))
  }

  /** A type that was heard of as all are listened to. Those that there were have been named when that began: it is new, and all of its log is. */
  const meet = (type: string): void => {
    if (sources.has(type)) return
    const source = newSource(type)
    source.held = []
    source.begun = true
    resume(source)
  }

  const heard = (channel: string, message: string): void => {
    if (channel === keys.typesChannel) return void (allLive && meet(message.slice(message.indexOf('/') + 1)))
    const source = channels.get(channel)
    if (!source) return // for others that listen on this connection
    for (const line of message.split('\n')) {
      const tab = line.indexOf('\t')
      const position = line.slice(0, tab)
      const text = line.slice(tab + 1)
      if (!source.held) deliver(source, position, text)
      else if (source.held.length < MAX_HELD) source.held.push([position, text])
      else source.overflowed = true
    }
  }

  /** Tells what came meanwhile, and from now on what comes. */
  const release = (source: Source): void | Promise<void> => {
    if (source.overflowed) {
      source.overflowed = false
      return catchUp(source)
    }
    const held = source.held ?? []
    source.held = null
    for (const [position, text] of held) deliver(source, position, text)
  }

  /** Reads what the log has behind the last event told, before anything newer is told. */
  const catchUp = async (source: Source): Promise<void> => {
    source.held = []
    if (source.last !== BEGINNING && (await events.forgotten(source.type, source.last))) for (const f of [...source.all, ...[...source.byTask.values()].flatMap((set) => [...set]), ...ofAll]) f.gap()
    for (;;) {
      const missed = await events.between(source.type, source.last, '+', READ_AT_ONCE)
      for (const event of missed) {
        source.last = event.position
        for (const follower of followersOf(source, event.taskId)) follower.event(event)
      }
      if (missed.length < READ_AT_ONCE) break
    }
    return release(source)
  }

  /** How often the connection was back. */
  let times = 0
  /** Subscribes again, and only then reads what was missed; each type by itself, as the server of one may still be away. */
  const resume = (source: Source): void => {
    source.again = true
    if (source.resuming || !source.begun) return
    source.resuming = true
    void readOn(source)
  }
  const readOn = async (source: Source): Promise<void> => {
    while (source.again && !closed && sources.get(source.type) === source) {
      source.again = false
      try {
        await subscriber.subscribe(keys.eventsChannel(source.type))
        await catchUp(source)
      } catch (error) {
        log.debug({ error: String(error) }, 'could not read on in the log of events; trying again')
        if (subscriber.status !== 'ready') break // it is done when it is
        source.again = true
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS).unref())
      }
    }
    source.resuming = false
  }
  /** Set while all are followed: looks for types that are new. */
  let looking: NodeJS.Timeout | undefined
  const lookForTypes = async (): Promise<void> => {
    // Not before it has begun: what is there already is no news then.
    if (looking === undefined) return
    await subscriber.subscribe(keys.typesChannel)
    const all = await types.list()
    if (looking !== undefined) for (const type of all) meet(type)
  }

  /** From where the log ends now on. */
  const begin = async (source: Source): Promise<void> => {
    const before = times
    source.held = []
    await subscriber.subscribe(keys.eventsChannel(source.type))
    source.last = await events.end(source.type)
    source.begun = true
    if (times !== before) return resume(source)
    return release(source)
  }
  const sourceOf = (type: string): Source => {
    const known = sources.get(type)
    if (known) return known
    const source = newSource(type)
    source.live = begin(source)
    source.live.catch(() => drop(source))
    return source
  }
  const beginAll = async (): Promise<void> => {
    await subscriber.subscribe(keys.typesChannel)
    await Promise.all((await types.list()).map((type) => sourceOf(type).live))
    if (closed) return
    clearInterval(looking)
    looking = setInterval(() => void lookForTypes().catch(() => {}), LOOK_FOR_TYPES_MS).unref()
  }

  const idle = (source: Source) => source.all.size === 0 && source.byTask.size === 0
  const letGo = (source: Source): void => {
    if (!idle(source) || source.linger || closed) return
    source.linger = setTimeout(() => {
      delete source.linger
      if (!idle(source) || allLive || sources.get(source.type) !== source) return
      drop(source)
      void subscriber.unsubscribe(keys.eventsChannel(source.type)).catch(() => {})
    }, LINGER_MS).unref()
  }
  const letAllGo = (): void => {
    if (ofAll.size > 0 || allLinger || closed) return
    allLinger = setTimeout(() => {
      allLinger = undefined
      if (ofAll.size > 0) return
      allLive = undefined
      clearInterval(looking)
      looking = undefined
      void subscriber.unsubscribe(keys.typesChannel).catch(() => {})
      for (const source of sources.values()) letGo(source)
    }, LINGER_MS).unref()
  }

  const followOne = async (type: string, follower: Follower): Promise<Following> => {
    const source = sourceOf(type)
    const { task } = follower
    const set = task === undefined ? source.all : (source.byTask.get(task) ?? new Set())
    if (task !== undefined) source.byTask.set(task, set)
    set.add(follower)
    const stop = () => {
      set.delete(follower)
      if (task !== undefined && set.size === 0 && source.byTask.get(task) === set) source.byTask.delete(task)
      letGo(source)
    }
    try {
      await source.live
    } catch (error) {
      stop()
      throw error
    }
    const from = source.last
    return { position: () => from, stop }
  }

  const followAll = async (follower: Follower): Promise<Following> => {
    ofAll.add(follower)
    const stop = () => {
      ofAll.delete(follower)
      letAllGo()
    }
    try {
      const live = (allLive ??= beginAll())
      live.catch(() => {
        if (allLive === live) allLive = undefined
      })
      await live
    } catch (error) {
      stop()
      throw error
    }
    const from = new Map([...sources].map(([type, source]) => [type, source.last]))
    return { position: (type) => from.get(type) ?? BEGINNING, stop }
  }

  const once = (stop: () => void) => {
    let stopped = false
    return () => {
      if (stopped) return
      stopped = true
      followers.count--
      stop()
    }
  }

  /** Nothing is told any more, also to who comes now. */
  const close = (): NodeJS.Timeout => {
    closed = true
    const endAll = () => {
      const all = new Set([...ofAll, ...[...sources.values()].flatMap((s) => [...s.all, ...[...s.byTask.values()].flatMap((set) => [...set])])])
      for (const follower of all) follower.end()
    }
    endAll()
    for (const source of sources.values()) clearTimeout(source.linger)
    clearTimeout(allLinger)
    clearInterval(looking)
    looking = undefined
    return setInterval(endAll, END_AGAIN_MS).unref()
  }

  return {
    /**
     * Tells a follower every event from now on, in the order of the log.
     * @throws TooManyWatchers
     */
    follow: async (follower: Follower): Promise<Following> => {
      if (followers.count >= MAX_FOLLOWERS) throw new TooManyWatchers(MAX_FOLLOWERS)
      followers.count++
      try {
        const { position, stop } = await (follower.type === null ? followAll(follower) : followOne(follower.type, follower))
        return { position, stop: once(stop) }
      } catch (error) {
        followers.count--
        throw error
      }
    },
    /** What came on the connection: a message of this namespace, its end, or a new one. */
    heard,
    cut: (): void => {
      for (const source of sources.values()) source.held ??= []
    },
    back: (): void => {
      times++
      for (const source of sources.values()) resume(source)
      void lookForTypes().catch(() => {})
    },
    close,
    /** The same of this feed alone: the process goes on. */
    drop: (): void => {
      const ending = close()
      setTimeout(() => clearInterval(ending), END_DROPPED_MS).unref()
      allLive = undefined
      void subscriber.unsubscribe(keys.typesChannel, ...channels.keys()).catch(() => {})
    },
  }
}
