/**
 * The door of the API: what is asked of it is let in, or told to come again, by what is known before its body is read. What work under way
 * depends on is turned away last: by its own part of the room, and only when Redis is away altogether.
 */
import type { RequestHandler, Response } from 'express'
import { StoreFull, StoreUnavailable } from '../errors.ts'
import type { Pressure } from '../redis/pressure.ts'
import { hasBody } from './body.ts'
import { laneOf } from './lanes.ts'
import type { Part, Room } from './room.ts'

/** What the gate leaves to those who read and answer. */
type Locals = { part?: Part; room?: Room }
export const localsOf = (res: Response): Locals => res.locals as Locals

export const createGate =
  ({ pressure, room }: { pressure: Pressure; room: Room }): RequestHandler =>
  (req, res, next) => {
    const lane = laneOf(req.method, req.url)
    if (lane === 'free') return next()
    const state = pressure.state()
    if (state === 'away') throw new StoreUnavailable()
    if (state === 'full' && lane === 'submit') throw new StoreFull()
    const locals = localsOf(res)
    locals.room = room
    if (lane !== 'other' || hasBody(req)) {
      const part = room.enter(lane, () => req.destroy())
      locals.part = part
      res.once('close', part.end)
    }
    next()
  }
