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
    /** Never as if all were well: what stands here refuses by throwing. */
    const fail = (thrown: unknown): void => next(thrown || new Error('a handler failed and did not say how'))
    const step = (error?: unknown): void => {
      const handler = handlers[at++]
      if (error === 'route' || error === 'router') return fail(null) // there is no way round those behind
      if (error || !handler) return next(error) // a router that is left says null
      try {
        const result: unknown = handler(req, res, step)
        if (result instanceof Promise) result.catch(fail)
      } catch (thrown) {
        fail(thrown)
      }
    }
    step()
  }
