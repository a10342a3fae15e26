/** The routes of one namespace: what they are made of knows the keys of no other one. */
import { Router, type RequestHandler } from 'express'
import type { Guard } from '../access/guard.ts'
import { batchTaskSchema } from '../contracts/batch.ts'
import type { HostPolicy } from '../contracts/host.ts'
import { newScheduleSchema } from '../contracts/schedule.ts'
import { newTaskSchema } from '../contracts/task.ts'
import type { Parts } from '../core.ts'
import type { Logger } from '../logger.ts'
import { isCluster } from '../redis/nodes.ts'
import type { Pressure } from '../redis/pressure.ts'
import { createCensus } from '../registry/census.ts'
import { createExplain } from '../tasks/explain.ts'
import type { Feed } from '../tasks/feed.ts'
import { agentRoutes } from './agents.ts'
import { batchRoutes } from './batch.ts'
import { createOwn } from './caller.ts'
import { deadLetterRoutes } from './dead-letters.ts'
import type { OpenEventStream } from './event-stream.ts'
import { eventRoutes } from './events.ts'
import { explainRoutes } from './explain.ts'
import { refusingFull } from './full.ts'
import { metricsRoutes, type CountShed, type Measures } from './metrics.ts'
import { createPlaces } from './places.ts'
import { notAllowed } from './problem.ts'
import { progressRoutes } from './progress.ts'
import { describeSchedule, scheduleRoutes } from './schedules.ts'
import { describeTask, taskRoutes } from './tasks.ts'
import { createWaiter } from './wait.ts'
import { webhookRoutes } from './webhooks.ts'

/** Pages of lists that are made at once: each may take tens of megabytes. */
const PAGES_AT_ONCE = 2
/** Tasks that are read one by one at once: each may take a few. */
const READS_AT_ONCE = 12
/** So far apart may what a cluster's servers say come: their clocks, and how long it takes to get here. */
const CLUSTER_APART_MS = 2_000
/** A look at the Board has its place for so long at most. */
const BOARD_MS = 10_000

/** The places of a process for reads that may be large: of all namespaces together. */
export const createReads = () => ({ pages: createPlaces(PAGES_AT_ONCE), ones: createPlaces(READS_AT_ONCE) })

/** What bodies are read by; each is large. */
export const createForms = (maxTimeoutSeconds: number) => ({ task: newTaskSchema(maxTimeoutSeconds), batchTask: batchTaskSchema(maxTimeoutSeconds), schedule: newScheduleSchema(maxTimeoutSeconds) })

/** The parts whose reads may be large, a few of them at a time. */
const boundReads = ({ tasks, registry }: Pick<Parts, 'tasks' | 'registry'>, { pages, ones }: ReturnType<typeof createReads>) => {
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

/** Nothing under it may be written, whatever the library behind it has routes for. */
const readOnly: RequestHandler = (req, res, next) => (req.method === 'GET' || req.method === 'HEAD' ? next() : notAllowed('GET')(req, res, next))

/** For what few processes are ever asked for, and which would make the start of each take longer. */
const atFirstUse = (make: () => Promise<RequestHandler>): RequestHandler => {
  let made: Promise<RequestHandler> | undefined
  return async (req, res, next) => {
    const handle = await (made ??= make())
    return handle(req, res, next)
  }
}

/** Their routes in one router: each that a request passes through costs more than the routes in it, in time and in garbage. */
const inOne = (routers: readonly Router[]): Router => {
  const one = Router()
  one.stack = routers.flatMap(({ stack }) => stack)
  return one
}

/** What all namespaces of a process have in common. */
export type Shared = {
  forms: ReturnType<typeof createForms>
  policy: HostPolicy
  guard: Guard
  log: Logger
  reads: ReturnType<typeof createReads>
  openEventStream: OpenEventStream
  pressure: Pressure
  shed: CountShed
}

/**
 * @param parts of the namespace
 * @param measures what else its `/metrics` tell, if anything
 * @returns all routes, those asked most first
 */
export const createRoutes = (parts: Parts, feed: Feed, { forms, policy, guard, log, reads, openEventStream, pressure, shed }: Shared, measures?: Measures): Router => {
  const { redis, keys, types, queues, callbacks, webhooks, events, schedules, presence } = parts
  const { tasks: bound, registry, onePage } = boundReads(parts, reads)
  const tasks = isCluster(redis) ? refusingFull(bound, pressure, keys) : bound
  const own = createOwn({ registry, tasks })
  const board = atFirstUse(async () => (await import('../queues/board.ts')).createBoard({ redis, keys, types, queues, describe: describeTask(parts.tasks), describeSchedule: describeSchedule(schedules), path: '/queues' }))
  const routes = inOne([
    batchRoutes({ tasks, callbacks, registry, form: forms.batchTask, shed, log }), // before /tasks/:id
    taskRoutes({ tasks, callbacks, whenEnded: createWaiter({ tasks, feed }), registry, own, form: forms.task, log }),
    progressRoutes({ tasks, own }),
    agentRoutes({ registry, policy, own, namespace: keys.namespace, guard, log }),
    eventRoutes({ events, feed, types, apartMs: isCluster(redis) ? CLUSTER_APART_MS : 0, openEventStream, log }),
    explainRoutes({ explain: createExplain({ redis, keys, presence }), tasks }),
    webhookRoutes({ webhooks, log }),
    deadLetterRoutes({ tasks, log }),
    scheduleRoutes({ schedules, callbacks, registry, form: forms.schedule, log }),
    metricsRoutes({ census: createCensus({ redis, keys, types }), measures }),
  ])
  return routes.use('/queues', readOnly, onePage, board)
}
