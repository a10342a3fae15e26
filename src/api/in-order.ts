/** What each request passes before its route. */
import type { RequestHandler } from 'express'

/**
 * Handlers that stand everywhere, as one: it does what a router would do with them, which looks for each whether its path fits, and makes half a kilobyte of garbage at it.
 * What one throws, or its promise is rejected with, goes to `next`.
 */
export const inOrder =
  (...handlers: readonly RequestHandler[]): RequestHandler =>
  (req, res, next) => {
    let at = 0
    const step = (error?: unknown): void => {
      const handler = handlers[at++]
      if (error || !handler) return next(error) // a router that is left says null
      try {
        const result: unknown = handler(req, res, step)
        if (result instanceof Promise) result.catch(next)
      } catch (thrown) {
        next(thrown)
      }
    }
    step()
  }
