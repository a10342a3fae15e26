/**
 * How many requests a key may make: counted in Redis, so over all API processes, by windows of a second. What work under way needs (heartbeats, results, cancels) is
 * not counted. A key without a limit costs nothing; one that is beyond its own is refused from memory for the rest of the second.
 */
import type { NextFunction, RequestHandler, Response } from 'express'
import type { RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible'
import { RateLimited } from '../errors.ts'
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { callerOf } from './caller.ts'
import { laneOf } from './lanes.ts'

const WINDOW_SECONDS = 1

export const createLimit = ({ redis, keys }: { redis: Redis; keys: Keys }): RequestHandler => {
  /** By how many it lets through: it is made for a number. */
  const limiters = new Map<number, Promise<RateLimiterRedis>>()
  // Few installations have limits, and the library takes a while to load.
  const make = async (points: number): Promise<RateLimiterRedis> => {
    const { RateLimiterRedis } = await import('rate-limiter-flexible')
    return new RateLimiterRedis({ storeClient: redis, rejectIfRedisNotReady: true, keyPrefix: keys.rate, points, duration: WINDOW_SECONDS, inMemoryBlockOnConsumed: points + 1 })
  }
  const limiterOf = (points: number): Promise<RateLimiterRedis> => {
    const limiter = limiters.get(points) ?? make(points)
    limiters.set(points, limiter)
    return limiter
  }

  const count = async (id: string, limit: number, res: Response, next: NextFunction): Promise<void> => {
    const limiter = await limiterOf(limit)
    // It rejects with the count what is beyond the limit; of what it refuses from memory the count says nothing.
    const [passes, counted] = await limiter.consume(id).then(
      (made) => [true, made] as const,
      (error: RateLimiterRes | Error) => [false, error] as const,
    )
    // The store does not answer: what that means for this request the gate decides.
    if (counted instanceof Error) return next()
    const seconds = Math.max(1, Math.ceil(counted.msBeforeNext / 1000))
    res.setHeader('RateLimit-Policy', `"key";q=${limit};w=${WINDOW_SECONDS}`)
    res.setHeader('RateLimit', `"key";r=${passes ? counted.remainingPoints : 0};t=${seconds}`)
    if (!passes) throw new RateLimited(limit, seconds)
    next()
  }

  return (req, res, next) => {
    const caller = callerOf(res)
    if (caller.kind !== 'key' || caller.requestsPerSecond === null || req.method === 'OPTIONS' || laneOf(req.method, req.url) === 'running') return next()
    return count(caller.id, caller.requestsPerSecond, res, next)
  }
}
