/** The API's Express app: every route, and what happens to everything else. */
import { readFileSync } from 'node:fs'
import express, { Router, type Express, type RequestHandler } from 'express'
import type { Guard } from '../access/guard.ts'
import { createVisitorCheck } from '../access/visitor.ts'
import type { Config } from '../config.ts'
import { isLoopback, type HostPolicy } from '../contracts/host.ts'
import type { Core } from '../core.ts'
import { SwitchyardError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { createPressure } from '../redis/pressure.ts'
import { createHeldUp } from '../registry/held-up.ts'
import type { Feeds } from '../tasks/feeds.ts'
import { accountFor, createAccess } from './access.ts'
import { createEventStreams } from './event-stream.ts'
import { goOn } from './expectation.ts'
import { createGate } from './gate.ts'
import { healthRoutes } from './health.ts'
import { inOrder } from './in-order.ts'
import { keyRoutes } from './keys.ts'
import { createLimit } from './limit.ts'
import { loginRoutes, whoIsIn } from './login.ts'
import { createMetrics } from './metrics.ts'
import { createDocument } from './openapi.ts'
import { BROWSER_OPERATIONS, createOperations } from './operations.ts'
import { pageRoutes } from './pages.ts'
import { notFound, problemHandler } from './problem.ts'
import { createRoom } from './room.ts'
import { createForms, createReads, createRoutes, type Shared } from './routes.ts'
import { createTenants } from './tenants.ts'

/** Node would refuse it with an empty answer. A client that sends none is broken, or up to something. */
const namesHost: RequestHandler = (req, _res, next) => {
  if (req.headers.host === undefined && req.httpVersion === '1.1') throw new SwitchyardError('malformed-request', 'an HTTP/1.1 request must have a Host header')
  next()
}

export type AppDeps = { core: Core; feeds: Feeds; config: Config; policy: HostPolicy; guard: Guard; log: Logger; isStopping: () => boolean }

/** What is there whichever namespace one asks about, and the end of the way. */
const createService = ({ core, config, guard, log, isStopping }: AppDeps): Router => {
  const { redis, keys, types, presence, keyring } = core
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
  const service = Router()
  service.use(keyRoutes({ keyring, guard, log }))
  service.use(loginRoutes({ guard, log }))
  service.use(healthRoutes({ redis, presence, heldUp: createHeldUp({ redis, keys, types }), isStopping }))
  service.use(pageRoutes(() => createDocument({ version, maxTimeoutSeconds: config.maxTaskTimeoutSeconds }), (res) => whoIsIn(guard, res)))
  service.use(notFound)
  return service
}

export const createApp = (deps: AppDeps): Express => {
  const { core, feeds, config, policy, guard, log } = deps
  const { redis, keys } = core
  const metrics = createMetrics()
  const operations = { ...createOperations(config.maxTaskTimeoutSeconds), ...BROWSER_OPERATIONS }
  const checkVisitor = createVisitorCheck({ host: config.host, loopback: isLoopback(config.host), allowed: config.allowedHosts })
  const pressure = createPressure({ redis, fullPercent: config.admission.maxRedisPercent })
  const shared: Shared = { forms: createForms(config.maxTaskTimeoutSeconds), policy, guard, log, reads: createReads(), openEventStream: createEventStreams(), pressure, shed: metrics.shed }
  const service = createService(deps)

  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('query parser', false) // input.ts reads queries
  app.use(
    inOrder(
      metrics.measured,
      namesHost,
      createAccess({ guard, operations, checkVisitor }),
      createLimit({ redis, keys }),
      createGate({ pressure, room: createRoom() }),
      goOn,
      createTenants({ core, feeds, shared, service }),
    ),
  )
  app.router.stack.push(...createRoutes(core, feeds.of(core), shared, metrics).stack) // not behind a router of their own (routes.ts)
  app.use(service)
  accountFor(app, operations)
  app.use(problemHandler(log, metrics.shed))
  return app
}
