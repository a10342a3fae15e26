/**
 * `/health/live` never depends on Redis; `/health/ready` (and `/health`) do, and on a dispatcher that makes progress. A process that is about to
 * stop is not ready either, while it still serves.
 */
import { Router } from 'express'
import { z } from 'zod'
import type { Redis } from '../redis/client.ts'
import type { HeldUp } from '../registry/held-up.ts'
import type { Presence } from '../registry/presence.ts'
import { sendJson } from './json.ts'
import { notAllowed } from './problem.ts'

export const Live = z.object({ status: z.literal('live') }).meta({ id: 'Live' })
const Waits = z.object({ queue: z.string(), tasks: z.int().describe('How many wait.'), seconds: z.number().describe('How long the oldest has waited.') })
export const Ready = z
  .object({
    status: z.enum(['ready', 'not ready']),
    redis: z.boolean().describe('Redis answers.'),
    dispatchers: z.int().describe('How many dispatchers make progress; at least one must.'),
    reason: z.string().optional().describe('Why not, for people.'),
    waiting: z.array(Waits).optional().describe('Queues that have work and a free slot while no dispatcher makes progress: up to 10, the one that has waited longest first.'),
  })
  .meta({ id: 'Ready' })
type Ready = z.infer<typeof Ready>

export type HealthDeps = { redis: Redis; presence: Presence; heldUp: () => Promise<HeldUp[]>; isStopping: () => boolean }

/** What keeps us from being ready. */
const reasonOf = (dispatchers: number | null, waiting: Ready['waiting'], stopping: boolean): string | null => {
  if (stopping) return 'this process is stopping'
  if (dispatchers === null) return 'redis does not answer'
  if (dispatchers > 0) return null
  const first = waiting?.[0]
  return `no dispatcher makes progress${first ? `: ${first.queue} has ${first.tasks} ${first.tasks === 1 ? 'task' : 'tasks'} and a free slot, and has waited for ${first.seconds} s` : ''}`
}

export const healthRoutes = ({ redis, presence, heldUp, isStopping }: HealthDeps): Router => {
  const routes = Router()
  routes.get('/health/live', (_req, res) => sendJson(res, 200, '{"status":"live"}'))
  routes.get(['/health', '/health/ready'], async (_req, res) => {
    const dispatchers = redis.status === 'ready' ? await presence.count().catch(() => null) : null
    const found = dispatchers === 0 ? await heldUp().catch(() => []) : []
    const waiting = found.map(({ queue, tasks, sinceMs }) => ({ queue, tasks, seconds: sinceMs / 1000 }))
    const reason = reasonOf(dispatchers, waiting, isStopping())
    if (reason !== null) res.setHeader('Retry-After', '2')
    const body: Ready = { status: reason === null ? 'ready' : 'not ready', redis: dispatchers !== null, dispatchers: dispatchers ?? 0, ...(reason === null ? {} : { reason }), ...(waiting.length === 0 ? {} : { waiting }) }
    sendJson(res, reason === null ? 200 : 503, JSON.stringify(body))
  })
  routes.all(['/health', '/health/live', '/health/ready'], notAllowed('GET'))
  return routes
}
