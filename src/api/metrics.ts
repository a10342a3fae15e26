/**
 * `/metrics` for Prometheus: what all processes did together, read from Redis at scrape time, so any API process tells the same; and what
 * this one process measures of itself, for those of the default namespace; others see what is theirs. Totals never go back, except when Redis is emptied
 * or the agent type is forgotten.
 */
import { Router, type RequestHandler } from 'express'
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import { END_STATUSES } from '../contracts/task.ts'
import type { ProblemType } from '../errors.ts'
import { isStoreFailure } from '../redis/client.ts'
import type { Census } from '../registry/census.ts'
import { notAllowed } from './problem.ts'

const createInstruments = (register: Registry) => {
  const registers = [register]
  const counter = (name: string, help: string, ...labelNames: string[]) => new Counter({ name: `switchyard_${name}_total`, help, labelNames, registers })
  const gauge = (name: string, help: string, ...labelNames: string[]) => new Gauge({ name: `switchyard_${name}`, help, labelNames, registers })
  return {
    submitted: counter('tasks_submitted', 'Tasks taken.', 'agent_type'),
    ended: counter('tasks_ended', 'Tasks that reached their end, by the end.', 'agent_type', 'status'),
    attempts: counter('attempts', 'Attempts that ended, by outcome.', 'agent_type', 'outcome'),
    redeliveries: counter('redeliveries', 'Deliveries repeated at no cost to the task: no room, a stopped or a lost dispatcher.', 'agent_type', 'reason'),
    retries: counter('retries', 'Retries of failed attempts.', 'agent_type'),
    webhooks: counter('webhooks', 'Webhooks by what came of them: delivered, failed, disabled by a 410, or dropped as there were too many.', 'agent_type', 'status'),
    webhookTries: counter('webhook_attempts', 'Tries to deliver a webhook, by outcome.', 'agent_type', 'outcome'),
    poisoned: counter('tasks_poisoned', 'Tasks that failed on so many different agents that they were not tried again.', 'agent_type'),
    refunded: counter('attempts_refunded', 'Failed attempts not charged to their tasks, as the agent was sick.', 'agent_type'),
    takenOut: counter('agents_taken_out', 'How often agents were found sick and taken out.', 'agent_type'),
    probesFailed: counter('agent_probes_failed', 'Tasks that failed at a sick agent that nothing could replace; it is tried every 5 seconds.', 'agent_type'),
    cleared: counter('agents_cleared', 'Agents taken out as sick and brought back, as the tasks that failed there failed elsewhere, too.', 'agent_type'),
    postponed: counter('retries_postponed', 'Retries that wait for longer than their own delay, as too much of the agent type fails.', 'agent_type'),
    massSilences: counter('mass_silences', 'How often most agents fell silent at once, and were kept.', 'agent_type'),
    scheduled: counter('schedule_runs', 'Runs of schedules, by what came of them: submitted, missed (nobody could make them in time), failed (their task was refused).', 'agent_type', 'outcome'),
    waiting: gauge('queue_waiting', 'Tasks that could go now.', 'agent_type', 'queue'),
    delayed: gauge('queue_delayed', 'Tasks whose time has not come: delayed, or waiting to be retried.', 'agent_type', 'queue'),
    active: gauge('queue_active', 'Tasks at a dispatcher or an agent.', 'agent_type', 'queue'),
    oldest: gauge('queue_oldest_seconds', 'How long the oldest waiting task could have gone; 0 when none waits.', 'agent_type', 'queue'),
    agents: gauge('agents', 'Agents known, by status.', 'agent_type', 'status'),
    resting: gauge('agents_resting', 'Agents alive that asked for a rest (429 or 503 with Retry-After) and get nothing meanwhile, whatever their status.', 'agent_type'),
    suspects: gauge('agents_suspect', 'Agents that fell silent together with most others, and are kept for a while.', 'agent_type'),
    slotsUsed: gauge('slots_used', 'Slots taken at living agents.', 'agent_type'),
    slotsFree: gauge('slots_free', 'Slots that could be taken now.', 'agent_type'),
    omitted: gauge('metrics_omitted', 'What there was too much of to be counted in this scrape.', 'kind'),
    storeUp: gauge('store_up', 'Whether Redis answered this scrape; without it only this process is told of.'),
  }
}
type Instruments = ReturnType<typeof createInstruments>

const prefixed = (stats: Record<string, number>, prefix: string): [string, number][] => Object.entries(stats).flatMap(([k, n]) => (k.startsWith(prefix) ? [[k.slice(prefix.length), n]] : []))

/** Everything is set anew: what is no longer there shows no more. */
const fill = (m: Instruments, census: Census | null): void => {
  for (const instrument of Object.values(m)) instrument.reset()
  m.storeUp.set(census === null ? 0 : 1)
  if (census === null) return
  for (const { type: agent_type, stats, agents, resting, suspects, slotsUsed, slotsFree } of census.types) {
    m.submitted.inc({ agent_type }, stats.submitted ?? 0)
    m.retries.inc({ agent_type }, stats.retried ?? 0)
    m.poisoned.inc({ agent_type }, stats.poisoned ?? 0)
    m.refunded.inc({ agent_type }, stats.refunded ?? 0)
    m.takenOut.inc({ agent_type }, stats.agents_out ?? 0)
    m.probesFailed.inc({ agent_type }, stats.probes_failed ?? 0)
    m.cleared.inc({ agent_type }, stats.agents_cleared ?? 0)
    m.postponed.inc({ agent_type }, stats.postponed ?? 0)
    m.massSilences.inc({ agent_type }, stats.mass_silences ?? 0)
    m.suspects.set({ agent_type }, suspects)
    // Each end is shown, so that a query for one finds 0 rather than nothing.
    for (const status of END_STATUSES) m.ended.inc({ agent_type, status }, stats[`ended:${status}`] ?? 0)
    for (const [outcome, n] of prefixed(stats, 'attempts:')) m.attempts.inc({ agent_type, outcome }, n)
    for (const [reason, n] of prefixed(stats, 'redelivered:')) m.redeliveries.inc({ agent_type, reason }, n)
    for (const [status, n] of prefixed(stats, 'webhooks:')) m.webhooks.inc({ agent_type, status }, n)
    for (const [outcome, n] of prefixed(stats, 'webhook_tries:')) m.webhookTries.inc({ agent_type, outcome }, n)
    for (const [outcome, n] of prefixed(stats, 'scheduled:')) m.scheduled.inc({ agent_type, outcome }, n)
    for (const [status, n] of Object.entries(agents)) m.agents.set({ agent_type, status }, n)
    m.resting.set({ agent_type }, resting)
    m.slotsUsed.set({ agent_type }, slotsUsed)
    m.slotsFree.set({ agent_type }, slotsFree)
  }
  for (const { type: agent_type, queue, waiting, delayed, active, oldestMs } of census.queues) {
    m.waiting.set({ agent_type, queue }, waiting)
    m.delayed.set({ agent_type, queue }, delayed)
    m.active.set({ agent_type, queue }, active)
    m.oldest.set({ agent_type, queue }, oldestMs / 1000)
  }
  for (const [kind, n] of Object.entries(census.omitted)) m.omitted.set({ kind }, n)
}

/** The duration of every request by its route's pattern, never its path: so there are only so many. */
const measured = (register: Registry): RequestHandler => {
  const seconds = new Histogram({
    name: 'switchyard_http_request_seconds',
    help: 'From a request’s arrival until its answer was handed over, in this process.',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers: [register],
  })
  // Finding a histogram by its labels costs more than observing: once is enough.
  const known = new Map<string, Histogram.Internal<'method' | 'route' | 'status'>>()
  return (req, res, next) => {
    const began = performance.now()
    res.once('finish', () => {
      const path: unknown = req.route?.path
      const route = req.baseUrl + String((Array.isArray(path) ? path[0] : path) ?? '') || 'none'
      const key = `${req.method} ${route} ${res.statusCode}`
      let labelled = known.get(key)
      if (!labelled) known.set(key, (labelled = seconds.labels({ method: req.method, route, status: res.statusCode })))
      labelled.observe((performance.now() - began) / 1000)
    })
    next()
  }
}

/** What is refused because there is too much, or because Redis is away: to be sent again. */
const SHED: ReadonlySet<string> = new Set<ProblemType>(['queue-full', 'store-full', 'overloaded', 'store-unavailable', 'too-many-watchers', 'rate-limited'])

/** Counts those that are shed, by problem type; others it passes over. */
export type CountShed = (type: ProblemType) => void

const createCountShed = (register: Registry): CountShed => {
  const shed = new Counter({ name: 'switchyard_shed_total', help: 'Requests, and tasks of a batch, that this process turned away for now, by problem type.', labelNames: ['reason'], registers: [register] })
  // Each is there from the start: a rate is known of a counter that was 0 before.
  for (const reason of SHED) shed.inc({ reason }, 0)
  return (reason) => {
    if (SHED.has(reason)) shed.inc({ reason })
  }
}

/** What a process measures of itself, whichever namespace it was asked about. */
export type Measures = { register: Registry; measured: RequestHandler; shed: CountShed }

export const createMetrics = (): Measures => {
  const register = new Registry()
  collectDefaultMetrics({ register })
  return { register, measured: measured(register), shed: createCountShed(register) }
}

/** @param measures told too; without, only what is there of the namespace */
export const metricsRoutes = ({ census, measures }: { census: () => Promise<Census>; measures?: Pick<Measures, 'register'> | undefined }): Router => {
  const register = measures?.register ?? new Registry()
  let instruments: Instruments | undefined

  const scrape = async (): Promise<string> => {
    const seen = await census().catch((error: unknown) => {
      if (!isStoreFailure(error)) throw error
      return null
    })
    fill((instruments ??= createInstruments(register)), seen)
    return register.metrics()
  }
  // Scrapes that meet share one reading: ten scrapers cost Redis no more than one.
  let underway: Promise<string> | null = null
  const shared = () => (underway ??= scrape().finally(() => (underway = null)))

  const routes = Router()
  routes.get('/metrics', async (_req, res) => {
    const text = await shared()
    res.writeHead(200, { 'Content-Type': register.contentType, 'Content-Length': Buffer.byteLength(text) }).end(text)
  })
  routes.all('/metrics', notAllowed('GET'))
  return routes
}
