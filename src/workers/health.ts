/** A worker's own health and metrics over HTTP, for its supervisor and for Prometheus. */
import { createServer, type Server } from 'node:http'
import type { Redis } from '../redis/client.ts'
import type { Dispatchers } from './dispatchers.ts'
import type { Metrics } from './metrics.ts'
import type { Places } from './places.ts'

/** `/health/live` never depends on Redis; `/health/ready` is 200 while Redis answers and work that can go out goes out. */
export const createHealthServer = ({ dispatchers, places, redis, metrics }: { dispatchers: Dispatchers; places: Places; redis: Redis; metrics: Metrics }): Server =>
  createServer(async (req, res) => {
    const json = (status: number, body: object) => res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
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
