/**
 * One slot's work: fence an attempt at its job, post it, end it, go on with the slot and the job that the end handed over.
 *
 * The order is what the promises rest on. `begin` is awaited before the POST, so a cancelled or ended task is never sent and only one
 * attempt may speak. `finish` ends the record, and with it the job of what has completed; any other job is moved behind it, so a crash in between makes it come
 * round, find what its record has come to, and do as that says. Any call may fail at any point: what is left behind is a lock, a hold or a lease, and each ends by itself.
 */
import { randomUUID } from 'node:crypto'
import type { Logger } from '../logger.ts'
import { declineDelayMs, restMs, retryDelayMs } from '../queues/backoff.ts'
import { LOCK_MS } from '../queues/job.ts'
import type { Lane } from '../queues/lane.ts'
import type { Queues } from '../queues/queues.ts'
import type { Registry, Slot } from '../registry/registry.ts'
import type { Signing } from '../registry/signing.ts'
import { loggedFailure, type AttemptEnd, type Begun, type Finished, type Held } from '../tasks/attempt.ts'
import type { Tasks } from '../tasks/tasks.ts'
import { isEnd } from '../contracts/task.ts'
import type { Outcome, Target, Transport } from '../transports/transport.ts'
import type { Locks } from './locks.ts'
import type { Metrics } from './metrics.ts'
import type { Stops } from './stops.ts'

/** Without a job it goes back. Null: nothing is left in hand. */
type Hand = Slot | null
/** Of a slot's work: when its present step should be over. */
type Step = { until: number; posted: boolean }
type Go = Extract<Begun, { verdict: 'go' }>

export type DispatchDeps = {
  /** This dispatcher's name in Redis. */
  id: string
  tasks: Tasks
  registry: Registry
  queues: Queues
  transport: Transport
  signing: Signing
  locks: Locks
  stops: Stops
  log: Logger
  metrics: Metrics
  /** Attempts in hand, for the balance between dispatchers. */
  inFlight: () => number
  /** False while draining: no slot is taken on. */
  takesMore: () => boolean
  /** False while other queues wait for one of our places: a finished attempt's slot is given up, so that they have their turn. */
  goesOn: (type: string, queue: string) => boolean
  /** A task of the type is due then: someone is to look. */
  dueIn: (type: string, ms: number) => void
  /** We lack something, and had better not take more for now. */
  cannotSend: (why: string) => void
  /** An agent's rest ends then. */
  restsFor: (type: string, ms: number) => void
}

/** So long a slot rests whose attempt could not be sent for want of something of ours. */
const UNSENT_MS = 250

export type Dispatch = ReturnType<typeof createDispatch>

/** So long a step may take beside the attempt itself: longer than any that Redis answers. */
const STEP_MS = 30_000

/** When an attempt began, ms of Redis time. */
const begunMs = (attemptId: string): number => Number.parseInt(attemptId, 10)

export const createDispatch = (deps: DispatchDeps) => {
  const { id, tasks, registry, queues, transport, signing, locks, stops, log, metrics } = deps
  /** Attempts at agents now, by attempt id. */
  const sent = new Map<string, { cut: (why: 'cancelled' | 'drained') => void; extend: (ms: number) => void }>()
  /** Attempts to be cancelled that we do not know yet: a cancel may overtake the answer of its `begin`, on the other connection. */
  const early = new Set<string>()
  const targetOf = ({ agentId, name, host, port, salts }: Slot): Target => ({ agentId, name, host, port, keys: signing.keys(agentId, salts) })
  let hurry = false
  const steps = new Set<Step>()
  let attempts = 0

  /** Repeats until Redis takes it: the outcome is known and only we know it. A second run of one that was taken changes nothing and answers the same. */
  const finish = async (type: string, end: AttemptEnd, held: Held, sent: () => void): Promise<Finished> => {
    for (let wait = 50; ; wait = Math.min(wait * 2, 1000)) {
      try {
        if (held.next) held.next.askedAt = performance.now()
        return await tasks.finish(type, end, held, sent)
      } catch (error) {
        if (hurry) throw error
        held.again = true
        log.debug({ task: end.taskId, error: String(error) }, 'could not record an outcome; trying again')
        await new Promise((resolve) => setTimeout(resolve, wait))
      }
    }
  }

  /** Repeated for a while: an attempt begun, whose answer was lost, would hold its slot until its deadline. */
  const begin = async (taskId: string, slot: Slot, asked: number): Promise<Begun> => {
    for (;;) {
      try {
        return await tasks.begin(taskId, slot, id) // by the slot's token the script knows an attempt that nobody has heard of
      } catch (error) {
        await new Promise((resolve) => setTimeout(resolve, 100))
        if (hurry || performance.now() - asked > LOCK_MS / 2) throw error
      }
    }
  }

  /**
   * Lets go of an attempt that goes on at its agent: neither a place of ours nor a lock that we renew is held for it.
   * @returns false when it was cancelled meanwhile, and is ours to end
   */
  const park = async (slot: Slot, lane: Lane, job: string, go: Go): Promise<boolean> => {
    locks.letGo(job, slot.lock)
    const asked = performance.now()
    for (;;) {
      try {
        const parked = await tasks.park(slot.type, job, go.attemptId, slot.lock)
        if (parked.verdict === 'parked') {
          log.info({ task: job, attempt: go.attempt, agent: slot.agentId, status: 'running' }, 'running')
          deps.dueIn(slot.type, parked.leftMs)
        } else if (parked.verdict === 'over') {
          await lane.settle(job, slot.lock, { status: parked.status, error: '', waitMs: parked.waitMs })
          if (parked.waitMs > 0) deps.dueIn(slot.type, parked.waitMs)
          else if (!isEnd(parked.status)) await tasks.wake(slot.type, job, slot.queue).catch(() => {})
        }
        return parked.verdict !== 'cancelled'
      } catch (error) {
        await new Promise((resolve) => setTimeout(resolve, 100))
        if (hurry || performance.now() - asked > LOCK_MS / 2) throw error // its lock runs out, and it is sent again
      }
    }
  }

  /** What an outcome means to the record. */
  const endOf = (o: Exclude<Outcome, { kind: 'accepted' }>, why: 'cancelled' | 'drained', taskId: string, agentId: string, go: Go): AttemptEnd => {
    const end: AttemptEnd = { taskId, attemptId: go.attemptId, agentId, outcome: 'failed', statusCode: 'statusCode' in o ? o.statusCode : null, error: 'error' in o ? o.error : '', result: '', executionMs: null, retryInMs: 0, restMs: 0, maxRetries: go.maxRetries }
    switch (o.kind) {
      case 'completed':
        return { ...end, outcome: 'completed', result: o.result, executionMs: o.executionTimeMs }
      case 'aborted':
        return { ...end, outcome: why }
      case 'no_room':
        return { ...end, outcome: 'no_room', restMs: restMs(o.retryAfterMs), retryInMs: declineDelayMs(go.attempt - 1 - go.retries) }
      case 'unsent':
        return { ...end, outcome: 'no_room', error: `the dispatcher could not send it: ${o.error}`, retryInMs: declineDelayMs(go.attempt - 1 - go.retries) }
      case 'rejected':
        return { ...end, outcome: 'rejected' }
      default:
        return { ...end, outcome: o.kind, excused: o.kind === 'failed' && o.excused === true, retryInMs: retryDelayMs({ backoff: go.backoff, retryDelayMs: go.retryDelayMs, retries: go.retries, retryAfterMs: o.kind === 'failed' ? o.retryAfterMs : undefined }) }
    }
  }

  /** Posts the attempt and says how it ended; 'accepted': it goes on, and its result comes by callback. */
  const attempt = async (slot: Slot, taskId: string, go: Go, step: Step): Promise<AttemptEnd | 'accepted'> => {
    const began = performance.now()
    let why: 'cancelled' | 'drained' = 'drained'
    const target = targetOf(slot)
    const sending = transport.send({
      target,
      taskId, taskType: go.taskType, attempt: go.attempt, attemptId: go.attemptId, timeMs: begunMs(go.attemptId), parameters: go.parameters, metadata: go.metadata, priority: go.priority, timeoutMs: go.timeoutMs, traceparent: go.traceparent,
    })
    const cut = (reason: typeof why) => {
      why = reason
      sending.abort()
      if (reason === 'cancelled') stops.tell({ target, taskId, attemptId: go.attemptId, timeMs: begunMs(go.attemptId) + performance.now() - began })
    }
    attempts++
    step.posted = true
    step.until = began + go.timeoutMs + STEP_MS
    const extend = (ms: number) => {
      step.until = performance.now() + ms + STEP_MS
      sending.extend(ms)
    }
    sent.set(go.attemptId, { cut, extend })
    if (early.delete(go.attemptId)) cut('cancelled')
    log.info({ task: taskId, attempt: go.attempt, agent: slot.agentId, status: 'sent' }, 'sent')
    metrics.wait(slot.type).observe(go.waitedMs / 1000)
    const outcome = await sending.outcome
    sent.delete(go.attemptId)
    step.until = performance.now() + STEP_MS
    if (outcome.kind === 'accepted') return 'accepted'
    if (outcome.kind === 'unsent') {
      deps.cannotSend(outcome.error)
      await new Promise((resolve) => setTimeout(resolve, UNSENT_MS)) // or what waits would go round and round
    }
    const end = endOf(outcome, why, taskId, slot.agentId, go)
    metrics.run(slot.type, end.outcome).observe((performance.now() - began) / 1000)
    return end
  }

  const report = (type: string, end: AttemptEnd, go: Go, fin: Finished) => {
    metrics.attempts(type, end.outcome).inc()
    const line = { task: end.taskId, attempt: go.attempt, agent: end.agentId, outcome: end.outcome, status: fin.status, ...loggedFailure(end), ...(fin.status === 'retrying' ? { retry_in_ms: fin.waitMs } : {}), ...(fin.poison ? { poison: true } : {}) }
    if (fin.verdict === 'stale') {
      log.warn(line, 'an outcome came too late and changed nothing')
      if (end.statusCode !== null && end.outcome !== 'no_room') void tasks.keepLate(end.taskId, end.attemptId, { completed: end.outcome === 'completed', result: end.result, error: end.error }).catch(() => {})
    } else log.info(line, fin.status)
  }

  /** Tells BullMQ what the record has come to, unless another attempt has the job, or it is done already. */
  const settle = async (lane: Lane, slot: Slot, end: AttemptEnd, fin: Finished): Promise<void> => {
    const isOver = fin.status === '' || isEnd(fin.status)
    if (fin.verdict === 'stale' ? !isOver : fin.status === 'completed') return
    await lane.settle(end.taskId, slot.lock, { status: fin.status, error: end.error, waitMs: fin.waitMs }).catch((error: unknown) => {
      log.debug({ task: end.taskId, error: String(error) }, 'could not move a job; it comes round again')
    })
  }

  /** The same slot with the next job of its queue, perhaps. */
  const another = async (slot: Slot, lane: Lane): Promise<Slot> => ({ ...slot, begun: null, job: await lane.take(slot.lock) })

  /** One job with one slot, from begin to end. */
  const step = async (slot: Slot, job: string, current: Step): Promise<Hand> => {
    const { lock } = slot
    const lane = queues.lane(slot.type, slot.queue)
    if (!deps.takesMore() && slot.begun === null) {
      await lane.putBack(job, lock)
      return { ...slot, job: null }
    }
    locks.hold(job, lane, lock)
    try {
      const asked = slot.begun === null ? performance.now() : slot.askedAt
      const begun = await begin(job, slot, asked)
      switch (begun.verdict) {
        case 'unknown':
        case 'ended':
          await lane.settle(job, lock, { status: begun.verdict === 'ended' ? begun.status : '', error: '', waitMs: 0 })
          return another(slot, lane)
        case 'later':
          await lane.defer(job, begun.ms, lock)
          deps.dueIn(slot.type, begun.ms)
          return another(slot, lane)
        case 'no_slot':
          await lane.putBack(job, lock)
          await tasks.wake(slot.type, job, slot.queue).catch(() => {})
          return null
      }
      // We stood still in between (a stopped process, a paused machine): the job is somebody else's by now, or will be.
      if (performance.now() - asked > LOCK_MS / 2) throw new Error(`the answer to begin was read ${Math.round(performance.now() - asked)} ms late`)
      const at: Slot = begun.movedTo === null ? slot : { ...begun.movedTo, queue: slot.queue, job }
      const ended = await attempt(at, job, begun, current)
      if (ended === 'accepted' && (await park(at, lane, job, begun))) return null // the attempt keeps the slot
      if (ended === 'accepted') stops.tell({ target: targetOf(at), taskId: job, attemptId: begun.attemptId, timeMs: begunMs(begun.attemptId) + performance.now() - asked })
      const end = ended === 'accepted' ? endOf({ kind: 'aborted' }, 'cancelled', job, at.agentId, begun) : ended

      // Said once, and no longer asked for: what is handed over is ours.
      const goesOn = deps.takesMore() && deps.goesOn(at.type, at.queue)
      const next = goesOn ? { token: randomUUID(), lock, askedAt: 0 } : null // the same token each time: by it a slot whose answer was lost is found again
      const held: Held = { queue: at.queue, lock, keep: end.outcome === 'completed' && lane.keeps(), dispatcher: id, next }
      const fin = await finish(at.type, end, held, () => locks.letGo(job, lock)) // a renewal behind it would find no lock, and warn of nothing
      report(at.type, end, begun, fin)
      await settle(lane, at, end, fin)
      if (fin.waitMs > 0) deps.dueIn(at.type, fin.waitMs)
      // No room there, or we are leaving: another agent or dispatcher may have some.
      if (fin.verdict === 'ok' && (fin.status === 'queued' || fin.status === 'retrying') && fin.waitMs === 0) await tasks.wake(at.type, end.taskId, at.queue).catch(() => {})
      if (end.restMs > 0) deps.restsFor(at.type, end.restMs)
      return fin.next
    } finally {
      locks.letGo(job, lock)
    }
  }

  return {
    /** Works with a slot until nothing is left for it. Never rejects. */
    run: async (first: Slot): Promise<void> => {
      const current: Step = { until: performance.now() + STEP_MS, posted: false }
      steps.add(current)
      let slot: Slot | null = first
      try {
        while (slot !== null && slot.job !== null) {
          current.until = performance.now() + STEP_MS
          current.posted = false
          slot = await step(slot, slot.job, current)
        }
      } catch (error) {
        log.warn({ queue: first.queue, error: String(error) }, 'a step failed; the job comes round again')
        if (current.posted) slot = null // its agent may be running it: the lease ends by itself
      }
      if (slot) await registry.release(slot).catch(() => {})
      steps.delete(current)
    },
    /** Cuts an attempt off, also one whose `begin` we have yet to hear of. */
    cancel: (attemptId: string): void => {
      const at = sent.get(attemptId)
      if (at) return at.cut('cancelled')
      early.add(attemptId)
      setTimeout(() => early.delete(attemptId), 5000).unref()
    },
    /** Gives an attempt more time: it ends so many ms from now at the latest. */
    extend: (attemptId: string, ms: number): void => sent.get(attemptId)?.extend(ms),
    /** Attempts that we have sent, ever. */
    begun: () => attempts,
    /** Places taken by what should be over. */
    overdue: (): number => {
      const now = performance.now()
      let count = 0
      for (const { until } of steps) if (until < now) count++
      return count
    },
    /** Cuts all off, and gives up what Redis does not take. */
    abortAll: () => {
      hurry = true
      for (const { cut } of sent.values()) cut('drained')
    },
  }
}
