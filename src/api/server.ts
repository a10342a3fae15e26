/** What an API process is made of, in the order in which it comes up. */
import { createServer, type Server } from 'node:http'
import { createHostPolicy } from '../contracts/host.ts'
import { listen, type Role } from '../process.ts'
import { addressOf, createRedis, whenReady } from '../redis/client.ts'
import { createFeed } from '../tasks/feed.ts'
import { createApp } from './app.ts'
import { announcesTooMuch } from './input.ts'
import { MAX_HEADER_BYTES, refuseUnreadable } from './problem.ts'

/** Requests under way get so long to end when we stop. */
const LAST_REQUESTS_MS = 5_000

/** Takes nothing new, and resolves when the last request has ended or its time is over. */
const close = (server: Server): Promise<void> =>
  new Promise((resolve) => {
    // A kept-alive connection whose request ends now is idle only then.
    const idle = setInterval(() => server.closeIdleConnections(), 50)
    const last = setTimeout(() => server.closeAllConnections(), LAST_REQUESTS_MS)
    server.close(() => {
      clearInterval(idle)
      clearTimeout(last)
      resolve()
    })
  })

export const api: Role = {
  name: 'api',
  endsWithinMs: () => LAST_REQUESTS_MS + 5_000,
  start: async ({ config, log, core, onEnd }) => {
    // Back after an outage, agents' silence is our own: settle that before anyone asks who is alive.
    core.redis.on('ready', () => {
      void core.types.list().then((types) => Promise.all(types.map((type) => core.registry.sweep(type)))).catch(() => {})
    })
    const server = createServer({ maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: 65_000, requireHostHeader: false }) // app.ts requires it
    server.on('clientError', refuseUnreadable)
    onEnd(() => close(server)) // behind the feed, whose end ends those who wait
    const subscriber = createRedis({ url: core.redisUrl, name: 'switchyard-api-events', log })
    onEnd(() => subscriber.disconnect())
    await whenReady(subscriber, core.redisUrl)
    const feed = createFeed({ ...core, subscriber, log })
    onEnd(() => feed.close())
    const url = await listen(server, { host: config.host, port: config.port, setting: 'PORT' })
    // The port may have been chosen just now. From the turn on in which it became known requests come: whoever answers them must be there by its end,
    // so nothing may be awaited here.
    const { port } = server.address() as { port: number }
    const policy = createHostPolicy({ cidrs: config.agentCidrs, own: [{ host: config.host, port }, ...addressOf(core.redisUrl)] })
    const app = createApp({ core, feed, config, policy, log })
    server.on('request', app)
    // Who asks before it sends a body gets its answer instead, if it would be too large; it will not send it, so the connection is of no more use.
    server.on('checkContinue', (req, res) => {
      if (announcesTooMuch(req)) res.setHeader('Connection', 'close')
      else res.writeContinue()
      app(req, res)
    })
    // Other expectations may be ignored; Node would refuse them with an empty answer.
    server.on('checkExpectation', app)
    log.info({ url }, 'listening')
    return url
  },
}
