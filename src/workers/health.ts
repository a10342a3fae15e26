/** A worker's own health and metrics over HTTP, for its supervisor and for Prometheus. */
import type { IncomingMessage, Server } from 'node:http'
import type { Guard } from '../access/guard.ts'
import type { CheckVisitor } from '../access/visitor.ts'
import type { Redis } from '../redis/client.ts'
import { DEFAULT_NAMESPACE } from '../redis/keys.ts'
import type { Dispatchers } from './dispatchers.ts'
import type { Metrics } from './metrics.ts'
import type { Places } from './places.ts'

type HealthDeps = { dispatchers: Dispatchers; places: Places; redis: Redis; metrics: Metrics; guard: Guard; checkVisitor: CheckVisitor }

/** Why somebody may not look at the metrics: as at an API's, those may who have a key of role view, once there are keys; not a tenant's, for they are of all namespaces. */
const refusal = async (req: IncomingMessage, { guard, checkVisitor }: Pick<HealthDeps, 'guard' | 'checkVisitor'>): Promise<{ status: number; error: string } | null> => {
  if (!guard.inForce()) {
    const refused = checkVisitor(req)
    return refused && { status: 403, error: refused.message }
  }
  const shown = /^Bearer +([!-~]{1,512}) *$/i.exec(req.headers.authorization ?? '')?.[1]
  const caller = shown === undefined ? null : (guard.whoShows(shown) ?? (await guard.lookFor(shown)))
  if (!caller) return { status: 401, error: 'a key is needed here, of role view: send it as `Authorization: Bearer sy_…`' }
  return caller.kind === 'key' && caller.namespace === DEFAULT_NAMESPACE && caller.roles.some((role) => role === 'view' || role === 'admin') ? null : { status: 403, error: 'a key of role view or admin is needed here, of no namespace' }
}

/** Imported it would bring Node's own fetch and WebSocket along, which nothing here uses: a sixteenth of what a start takes. */
const { createServer } = process.getBuiltinModule('node:http')

/** `/health/live` never depends on Redis; `/health/ready` is 200 while Redis answers and work that can go out goes out. */
export const createHealthServer = ({ dispatchers, places, redis, metrics, guard, checkVisitor }: HealthDeps): Server =>
  createServer(async (req, res) => {
    const json = (status: number, body: object) => res.writeHead(status, { 'content-type': 'application/json', ...(status === 401 ? { 'www-authenticate': 'Bearer realm="switchyard"' } : {}) }).end(JSON.stringify(body))
    try {
      if (req.method !== 'GET' && req.method !== 'HEAD') return void json(405, { error: 'GET only' })
      switch (req.url?.split('?')[0]) {
        case '/health/live':
          return void json(200, { status: 'live' })
        case '/health':
        case '/health/ready': {
          const reason = redis.status !== 'ready' ? 'redis does not answer' : dispatchers.notReady()
          const state = { redis: redis.status === 'ready', dispatching: reason === null, in_flight: places.taken(), places: places.size }
          return void json(reason === null ? 200 : 503, { status: reason === null ? 'ready' : 'not ready', ...state, ...(reason === null ? {} : { reason }) })
        }
        case '/metrics': {
          const refused = await refusal(req, { guard, checkVisitor })
          if (refused) return void json(refused.status, { error: refused.error })
          const text = await metrics.register.metrics()
          return void res.writeHead(200, { 'content-type': metrics.register.contentType }).end(text)
        }
        default:
          return void json(404, { error: 'try /health/live, /health/ready or /metrics' })
      }
    } catch (error) {
      json(500, { error: String(error) })
    }
  })
