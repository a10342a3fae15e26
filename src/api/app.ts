/** The API's Express app: every route, and what happens to everything else. */
import { readFileSync } from 'node:fs'
import express, { type Express, type RequestHandler } from 'express'
import type { Guard } from '../access/guard.ts'
import { createVisitorCheck } from '../access/visitor.ts'
import type { Config } from '../config.ts'
import { isLoopback, type HostPolicy } from '../contracts/host.ts'
import type { Core } from '../core.ts'
import { SwitchyardError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { createPressure } from '../redis/pressure.ts'
import { createCensus } from '../registry/census.ts'
import { createHeldUp } from '../registry/held-up.ts'
import { createExplain } from '../tasks/explain.ts'
import type { Feed } from '../tasks/feed.ts'
import { accountFor, createAccess } from './access.ts'
import { agentRoutes } from './agents.ts'
import { batchRoutes } from './batch.ts'
import { createOwn } from './caller.ts'
import { eventRoutes } from './events.ts'
import { goOn } from './expectation.ts'
import { deadLetterRoutes } from './dead-letters.ts'
import { explainRoutes } from './explain.ts'
import { healthRoutes } from './health.ts'
import { createGate } from './gate.ts'
import { keyRoutes } from './keys.ts'
import { createLimit } from './limit.ts'
import { loginRoutes, whoIsIn } from './login.ts'
import { createMetrics } from './metrics.ts'
import { createDocument } from './openapi.ts'
import { BROWSER_OPERATIONS, createOperations } from './operations.ts'
import { pageRoutes } from './pages.ts'
import { createPlaces } from './places.ts'
import { notAllowed, notFound, problemHandler } from './problem.ts'
import { progressRoutes } from './progress.ts'
import { createRoom } from './room.ts'
import { describeSchedule, scheduleRoutes } from './schedules.ts'
import { describeTask, taskRoutes } from './tasks.ts'
import { createWaiter } from './wait.ts'
import { webhookRoutes } from './webhooks.ts'

/** Nothing under it may be written, whatever the library behind it has routes for. */
const readOnly: RequestHandler = (req, res, next) => (req.method === 'GET' || req.method === 'HEAD' ? next() : notAllowed('GET')(req, res, next))

/** Node would refuse it with an empty answer. A client that sends none is broken, or up to something. */
const namesHost: RequestHandler = (req, _res, next) => {
  if (req.headers.host === undefined && req.httpVersion === '1.1') throw new SwitchyardError('malformed-request', 'an HTTP/1.1 request must have a Host header')
  next()
}

/** For what few processes are ever asked for, and which would make the start of each take longer. */
const atFirstUse = (make: () => Promise<RequestHandler>): RequestHandler => {
  let made: Promise<RequestHandler> | undefined
  return async (req, res, next) => {
    const handle = await (made ??= make())
    return handle(req, res, next)
  }
}

export type AppDeps = { core: Core; feed: Feed; config: Config; policy: HostPolicy; guard: Guard; log: Logger; isStopping: () => boolean }

/** Pages of lists that are made at once: each may take tens of megabytes. */
const PAGES_AT_ONCE = 2
/** Tasks that are read one by one at once: each may take a few. */
const READS_AT_ONCE = 12
/** A look at the Board has its place for so long at most. */
const BOARD_MS = 10_000

/** The parts whose reads may be large, a few of them at a time. */
const boundReads = ({ tasks, registry }: Pick<Core, 'tasks' | 'registry'>) => {
  const pages = createPlaces(PAGES_AT_ONCE)
  const ones = createPlaces(READS_AT_ONCE)
  const onePage: RequestHandler = async (_req, res, next) => {
    await pages.enter()
    const leave = once(pages.leave)
    res.once('close', leave)
    setTimeout(leave, BOARD_MS).unref()
    next()
  }
  return {
    tasks: { ...tasks, get: ones.bound(tasks.get), list: pages.bound(tasks.list), deadLetters: { ...tasks.deadLetters, list: pages.bound(tasks.deadLetters.list) } },
    registry: { ...registry, list: pages.bound(registry.list) },
    onePage,
  }
}

const once = (act: () => void): (() => void) => {
  let done = false
  return () => {
    if (!done) act()
    done = true
  }
}

export const createApp = ({ core, feed, config, policy, guard, log, isStopping }: AppDeps): Express => {
  const { redis, keys, types, queues, callbacks, webhooks, events, schedules, presence, keyring } = core
  const { tasks, registry, onePage } = boundReads(core)
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
  const maxTimeoutSeconds = config.maxTaskTimeoutSeconds
  const metrics = createMetrics({ census: createCensus({ redis, keys, types }) })

  const operations = { ...createOperations(maxTimeoutSeconds), ...BROWSER_OPERATIONS }
  const checkVisitor = createVisitorCheck({ host: config.host, loopback: isLoopback(config.host), allowed: config.allowedHosts })
  const own = createOwn({ registry, tasks })

  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('query parser', false) // input.ts reads queries
  app.use(metrics.measured)
  app.use(namesHost)
  app.use(createAccess({ guard, operations, checkVisitor }))
  app.use(createLimit({ redis, keys }))
  app.use(createGate({ pressure: createPressure({ redis, fullPercent: config.admission.maxRedisPercent }), room: createRoom() }))
  app.use(goOn)
  app.use(batchRoutes({ tasks, callbacks, registry, maxTimeoutSeconds, shed: metrics.shed, log })) // before /tasks/:id
  app.use(taskRoutes({ tasks, callbacks, whenEnded: createWaiter({ tasks, feed }), registry, own, maxTimeoutSeconds, log }))
  app.use(eventRoutes({ events, feed, types, log }))
  app.use(explainRoutes({ explain: createExplain({ redis, keys, presence }), tasks }))
  app.use(webhookRoutes({ webhooks, log }))
  app.use(deadLetterRoutes({ tasks, log }))
  app.use(progressRoutes({ tasks, own }))
  app.use(scheduleRoutes({ schedules, callbacks, registry, maxTimeoutSeconds, log }))
  app.use(agentRoutes({ registry, policy, own, guard, log }))
  app.use(keyRoutes({ keyring, guard, log }))
  app.use(loginRoutes({ guard, log }))
  app.use(healthRoutes({ redis, presence, heldUp: createHeldUp({ redis, keys, types }), isStopping }))
  app.use(metrics.routes)
  app.use('/queues', readOnly, onePage, atFirstUse(async () => (await import('../queues/board.ts')).createBoard({ redis, keys, types, queues, describe: describeTask(core.tasks), describeSchedule: describeSchedule(schedules), path: '/queues' })))
  app.use(pageRoutes(() => createDocument({ version, maxTimeoutSeconds }), (res) => whoIsIn(guard, res)))
  accountFor(app, operations)
  app.use(notFound)
  app.use(problemHandler(log, metrics.shed))
  return app
}
