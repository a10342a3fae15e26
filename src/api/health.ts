/** `/health/live` never depends on Redis; `/health/ready` (and `/health`) do, and on a dispatcher that makes progress. */
import { Router } from 'express'
import { z } from 'zod'
import type { Redis } from '../redis/client.ts'
import type { Presence } from '../registry/presence.ts'
import { sendJson } from './json.ts'
import { notAllowed } from './problem.ts'

export const Live = z.object({ status: z.literal('live') }).meta({ id: 'Live' })
export const Ready = z
  .object({ status: z.enum(['ready', 'not ready']), redis: z.boolean().describe('Redis answers.'), dispatchers: z.int().describe('How many dispatchers make progress; at least one must.') })
  .meta({ id: 'Ready' })

export const healthRoutes = ({ redis, presence }: { redis: Redis; presence: Presence }): Router => {
  const routes = Router()
  routes.get('/health/live', (_req, res) => sendJson(res, 200, '{"status":"live"}'))
  routes.get(['/health', '/health/ready'], async (_req, res) => {
    const dispatchers = redis.status === 'ready' ? await presence.count().catch(() => null) : null
    const ready = dispatchers !== null && dispatchers > 0
    if (!ready) res.setHeader('Retry-After', '2')
    sendJson(res, ready ? 200 : 503, JSON.stringify({ status: ready ? 'ready' : 'not ready', redis: dispatchers !== null, dispatchers: dispatchers ?? 0 }))
  })
  routes.all(['/health', '/health/live', '/health/ready'], notAllowed('GET'))
  return routes
}
