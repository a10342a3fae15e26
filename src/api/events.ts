/** Routes of events: what happens to a task, to the tasks of a type, or to all, as server-sent events over one log. */
import { Router, type Request, type Response } from 'express'
import { z } from 'zod'
import { AgentType } from '../contracts/agent.ts'
import type { TaskEvent as WireEvent } from '../contracts/event.ts'
import { isEnd } from '../contracts/task.ts'
import { iso } from '../contracts/time.ts'
import { InvalidRequest, NotFound } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { typeOfTask } from '../redis/keys.ts'
import type { Types } from '../registry/types.ts'
import { BEGINNING, compare, msOf, type Events, type Position, type TaskEvent } from '../tasks/events.ts'
import type { Feed } from '../tasks/feed.ts'
import type { EventStream, OpenEventStream } from './event-stream.ts'
import { noQuery, query, taskId } from './input.ts'
import { rawJson, stringify } from './json.ts'
import { notAllowed } from './problem.ts'

const READ_AT_ONCE = 500
/** Behind that, a client that resumes is cut off and resumes from where it is then. */
const MAX_HELD = 10_000

export const EventQuery = z.strictObject({ agent_type: AgentType.optional().describe('Only what happens to tasks of this agent type.') })

const idOf = (e: TaskEvent): string => `${e.type}.${e.position}`
const wire = (e: TaskEvent): string =>
  stringify({
    id: idOf(e), type: `task.${e.what}`, task_id: e.taskId, agent_type: e.type, at: iso(msOf(e.position)), attempt: e.attempt, agent_id: e.agentId, outcome: e.outcome, error: e.error,
    progress: rawJson(e.progress ?? 'null'),
  } satisfies Record<keyof WireEvent, unknown>)

const FORM = 'must be the id of an event that this server sent'
const PLACE = /^([A-Za-z0-9][A-Za-z0-9_-]{0,63})\.(\d{1,15}-\d{1,15})$/

/** Where a client was: by type. Several, where it had events of one millisecond from several types: all else of that millisecond is behind it. */
type Places = Map<string, Position>
const readPlaces = (req: Request): Places | null => {
  const text = req.get('last-event-id')
  if (text === undefined || text === '') return null
  const places: Places = new Map()
  for (const part of text.split(',')) {
    const [, type, position] = PLACE.exec(part) ?? []
    if (type === undefined || position === undefined) throw new InvalidRequest([{ pointer: 'Last-Event-ID', detail: FORM }])
    places.set(type, position)
  }
  return places
}

const latest = (places: Places): number => Math.max(0, ...[...places.values()].map(msOf))

/** Behind everything before that millisecond. */
const behind = (ms: number): Position => `${Math.max(0, ms - 1)}-${2 ** 50}`

/** Types that an id names at most. A client of more that are as busy may get events twice. */
const MAX_PLACES = 100

/**
 * The id under which a client of all types resumes: the last event of each type that had one in the latest millisecond, and `apartMs` before it; of older ones it has them all.
 */
const createCursor = (from: Places, apartMs: number) => {
  let ms = latest(from)
  const places: Places = new Map(from)
  return (e: TaskEvent): string => {
    const at = msOf(e.position)
    if (apartMs === 0 ? at !== ms : at > ms) {
      ms = at
      for (const [type, position] of places) if (msOf(position) < ms - apartMs || apartMs === 0) places.delete(type)
    }
    places.delete(e.type)
    places.set(e.type, e.position)
    if (places.size > MAX_PLACES) places.delete(places.keys().next().value!)
    return [...places].map(([type, position]) => `${type}.${position}`).join(',')
  }
}

/** Where a client is that begins now, so that one that resumes within `apartMs` is not told what came before. */
const placesNow = (of: string[], position: (type: string) => Position, apartMs: number): Places => {
  const all: Places = new Map(of.map((type) => [type, position(type)]))
  const ms = latest(all)
  return new Map([...all].filter(([, at]) => at !== BEGINNING && msOf(at) >= ms - apartMs).sort(([, a], [, b]) => compare(a, b)).slice(-MAX_PLACES))
}

export type EventDeps = {
  events: Events
  feed: Feed
  types: Types
  /** Events of different types come in the order of their times but for so much: in a cluster each type has its server's clock, and its own way to us. */
  apartMs: number
  openEventStream: OpenEventStream
  log: Logger
}

export const eventRoutes = ({ events, feed, types, apartMs, openEventStream, log }: EventDeps): Router => {
  const routes = Router()

  /** What goes wrong behind the first byte ends the stream: the client resumes. */
  const orCut = (res: Response, work: Promise<void>): Promise<void> =>
    work.catch((error: unknown) => {
      if (!res.headersSent) throw error
      log.debug({ error: String(error) }, 'a stream of events broke off')
      res.destroy()
    })

  const gap = (stream: EventStream) => stream.send('gap', JSON.stringify({ type: 'gap', detail: 'events were forgotten before they could be sent; read the tasks that matter to you' }))

  /** Follows from before `begin` is called; what comes meanwhile is held for `live`, which has it told and all else as it comes. */
  const follow = async (of: { type: string | null; task?: string }, stream: () => EventStream | undefined, tell: (event: TaskEvent) => void) => {
    let held: TaskEvent[] | null = []
    const following = await feed.follow({
      ...of,
      event: (event) => {
        if (!held) tell(event)
        else if (held.length < MAX_HELD) held.push(event)
        else stream()?.end()
      },
      gap: () => {
        const open = stream()
        if (open) gap(open)
      },
      end: () => stream()?.end(),
    })
    return {
      ...following,
      live: async (open: EventStream) => {
        while (held!.length > 0) {
          for (const event of held!.splice(0, 20)) tell(event)
          await open.readable()
        }
        held = null
      },
    }
  }

  /** The log from where a client was, of all types by time. */
  const replay = async (from: Places, of: string[], until: (type: string) => Position, stream: EventStream, tell: (event: TaskEvent) => void): Promise<void> => {
    const ms = latest(from) - apartMs
    const runs = of.map((type) => ({ type, at: from.get(type) ?? behind(ms), page: [] as TaskEvent[], more: true }))
    if ((await Promise.all(runs.map(({ type, at }) => events.forgotten(type, at)))).includes(true)) gap(stream)
    while (stream.open) {
      await Promise.all(
        runs.filter((run) => run.page.length === 0 && run.more).map(async (run) => {
          run.page = compare(until(run.type), run.at) > 0 ? await events.between(run.type, run.at, until(run.type), READ_AT_ONCE) : []
          run.more = run.page.length === READ_AT_ONCE
          run.at = run.page.at(-1)?.position ?? run.at
        }),
      )
      let first: (typeof runs)[number] | undefined
      for (const run of runs) if (run.page[0] && (!first || compare(run.page[0].position, first.page[0]!.position) < 0)) first = run
      if (!first) return
      tell(first.page.shift()!)
      await stream.readable()
    }
  }

  routes.get('/events', (req, res) => {
    const { agent_type: only } = query(EventQuery, req)
    const from = readPlaces(req)
    return orCut(res, (async () => {
      let stream: EventStream | undefined
      let cursor: ReturnType<typeof createCursor>
      const told: Places = new Map(from)
      // What this process hears of only now may be what the client has heard from another.
      const before = from ? behind(latest(from) - apartMs) : BEGINNING
      const tell = (event: TaskEvent): void => {
        if (compare(event.position, told.get(event.type) ?? before) <= 0) return
        told.set(event.type, event.position)
        stream?.send(`task.${event.what}`, wire(event), cursor(event))
      }
      const following = await follow({ type: only ?? null }, () => stream, tell)
      res.once('close', following.stop)
      cursor = createCursor(from ?? (apartMs === 0 ? new Map() : placesNow(only === undefined ? await types.list() : [only], following.position, apartMs)), apartMs)
      if (res.closed) return following.stop()
      stream = openEventStream(req, res)
      if (from) await replay(from, only === undefined ? await types.list() : [only], following.position, stream, tell)
      await following.live(stream)
    })())
  })
  routes.all('/events', notAllowed('GET'))

  /** Its changes of status as its record has them; for a client that resumes also what its agent said between them, as far as the log goes back. */
  const replayTask = async (id: string, from: Position | undefined, changes: TaskEvent[], end: Position, stream: EventStream, tell: (event: TaskEvent) => void): Promise<void> => {
    const rest = [...changes]
    const type = typeOfTask(id)!
    for (let at = from; at !== undefined && compare(end, at) > 0 && stream.open; ) {
      const page = await events.between(type, at, end, READ_AT_ONCE)
      for (const event of page.filter((e) => e.taskId === id && e.what === 'progress')) {
        while (rest[0] && compare(rest[0].position, event.position) < 0) tell(rest.shift()!)
        tell(event)
      }
      await stream.readable()
      at = page.length === READ_AT_ONCE ? page.at(-1)!.position : undefined
    }
    for (const event of rest) tell(event)
  }

  routes.get('/tasks/:id/events', noQuery, (req, res) => {
    const id = taskId(String(req.params.id))
    const type = typeOfTask(id)!
    const from = readPlaces(req)?.get(type)
    return orCut(res, (async () => {
      let stream: EventStream | undefined
      let told = from ?? BEGINNING
      const tell = (event: TaskEvent): void => {
        if (compare(event.position, told) <= 0) return
        told = event.position
        stream?.send(`task.${event.what}`, wire(event), idOf(event))
        if (isEnd(event.what)) stream?.end()
      }
      const following = await follow({ type, task: id }, () => stream, tell)
      res.once('close', following.stop)
      const past = await events.history(id)
      if (!past) throw new NotFound(`there is no task ${id}; ended ones are forgotten after a while`)
      if (res.closed) return following.stop()
      const last = past.events.at(-1)
      // Told all, a browser would come back for more, again and again: this is how it is told to stop.
      if (isEnd(past.task.status) && last && compare(last.position, told) <= 0) return void res.writeHead(204).end()
      stream = openEventStream(req, res)
      await replayTask(id, from, past.events, following.position(type), stream, tell)
      await following.live(stream)
    })())
  })
  routes.all('/tasks/:id/events', notAllowed('GET'))
  return routes
}
