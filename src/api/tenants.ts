/** To the routes of other namespaces than the default one: made when one is first asked about, and let go of when others are asked about. */
import type { RequestHandler } from 'express'
import { MAX_NAMESPACES } from '../access/namespaces.ts'
import type { Core } from '../core.ts'
import { DEFAULT_NAMESPACE } from '../redis/keys.ts'
import type { Feeds } from '../tasks/feeds.ts'
import { callerOf } from './caller.ts'
import { createRoutes, type Shared } from './routes.ts'

/** A few more than there are at once, as they come and go. */
const MAX_MADE = MAX_NAMESPACES + 20

/**
 * Leads each request to the routes of its caller's namespace. Those of the default one stand behind this handler, and cost nothing here; no request of another
 * gets there.
 * @param service what is there for every namespace, and what answers where nothing is
 */
export const createTenants = ({ core, feeds, shared, service }: { core: Core; feeds: Feeds; shared: Shared; service: RequestHandler }): RequestHandler => {
  /** The one used longest ago first. */
  const made = new Map<string, RequestHandler>()
  const underWay = new Map<string, Promise<RequestHandler>>()

  const make = async (namespace: string): Promise<RequestHandler> => {
    const parts = await core.of(namespace)
    const router = createRoutes(parts, feeds.of(parts), { ...shared, log: shared.log.child({ namespace }) })
    made.set(namespace, router)
    for (const oldest of made.keys()) {
      if (made.size <= MAX_MADE) break
      made.delete(oldest)
      feeds.forget(oldest)
      void core.letGo(oldest)
    }
    return router
  }
  /** All who ask first share one making; should it fail, who asks next tries again. */
  const makeOnce = (namespace: string): Promise<RequestHandler> => {
    const making = underWay.get(namespace) ?? make(namespace).finally(() => underWay.delete(namespace))
    underWay.set(namespace, making)
    return making
  }

  return (req, res, next) => {
    const { namespace } = callerOf(res)
    if (namespace === DEFAULT_NAMESPACE) return next()
    const beyond = (error?: unknown): unknown => (error ? next(error) : service(req, res, next))
    const routes = made.get(namespace)
    if (routes) {
      made.delete(namespace)
      made.set(namespace, routes)
      return routes(req, res, beyond)
    }
    return makeOnce(namespace).then((first) => first(req, res, beyond))
  }
}
