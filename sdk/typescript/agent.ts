/** Turns functions into an agent: an HTTP service that registers with a Switchyard router and does its tasks (docs/protocol.md has the rules). */
import { setTimeout as sleep } from 'node:timers/promises'
import { createAttempts } from './attempts.ts'
import { createMembership } from './membership.ts'
import { createCall } from './router.ts'
import { createServing, type Health } from './serve.ts'
import { readSettings, type AgentOptions } from './settings.ts'
import { stopOnSignal } from './signals.ts'
import { createTrust } from './trust.ts'

export type { Fields, Log, Logger } from './log.ts'
export type { AgentOptions } from './settings.ts'
export { NonRetryableError, TaskAborted } from './task.ts'
export type { AbortWhy, Handler, Parameters, Progress, TaskContext } from './task.ts'

/** An agent of this process. */
export type Agent = {
  /**
   * Listens and resolves; the registration goes on by itself until it succeeds, and the agent beats from then on.
   * @throws Error in plain words when it cannot listen; it does not wait for the router
   */
  start(): Promise<void>
  /**
   * Leaves: takes nothing new, answers what it works on (for `drainSeconds` at most; the rest is told to stop and goes to other agents), unregisters
   * and closes its server. Never rejects; a second call waits for the first.
   */
  stop(): Promise<void>
  /** Where it listens; undefined while it does not. */
  readonly port: number | undefined
  /** Undefined until it is registered for the first time, unless it was given. */
  readonly agentId: string | undefined
  /** How many tasks it works on. */
  readonly running: number
  /** Its id, once it is registered for the first time. Never comes when it leaves before that; rejects when it was told not to register. */
  readonly registered: Promise<string>
}

/** The router may have sent a task just before it heard that none is wanted: it is declined, not cut off. */
const LAST_TASKS_MS = 50

/**
 * Makes an agent; `start()` starts it.
 * @throws TypeError that names every option and environment variable at fault
 */
export const createAgent = (options: AgentOptions): Agent => {
  const settings = readSettings(options)
  const { name, logger, register } = settings
  const call = createCall(settings.url, settings.apiKey)
  let leaving = false

  const attempts = createAttempts(settings, call, { isLeaving: () => leaving, onStopped: () => membership.beatSoon() })
  const trust = createTrust(settings)
  const membership = createMembership({ settings, call, attempts, trust, port: () => serving.port() ?? 0 })

  const health = (): Health => {
    const problem = register ? membership.problem() : null
    const draining = leaving || (register && membership.isDrained())
    const { type, version, maxConcurrency } = settings
    return {
      body: {
        status: draining ? 'draining' : 'healthy',
        running: attempts.count(),
        max_concurrency: maxConcurrency,
        capabilities: [...settings.capabilities.keys()],
        name,
        type,
        version,
        agent_id: membership.id() ?? null,
        ...(problem === null ? {} : { problem }),
      },
      ready: !draining && problem === null,
      reason: leaving ? 'leaving' : problem,
    }
  }
  const serving = createServing({ settings, attempts, trust, health })

  const begin = async (): Promise<void> => {
    if (leaving) throw new Error(`${name} was stopped; make another agent`)
    await serving.listen(settings.port, settings.bind)
    if (settings.handleSignals) forget = stopOnSignal(agent)
    logger.info(`listening at ${settings.bind ?? 'all addresses'}, port ${serving.port()}`)
    if (register) membership.join()
  }

  const leave = async (): Promise<void> => {
    leaving = true
    await started?.catch(() => {})
    if (serving.port() === undefined) return membership.leave(false)
    if (attempts.count() > 0) logger.info(`leaving; ${attempts.count()} tasks are still being worked on`)
    const [, idle] = await Promise.all([register && membership.drain(), attempts.idle(settings.drainMs)])
    if (!idle) await attempts.stopAll()
    if (register) {
      await membership.leave(!idle)
      await sleep(LAST_TASKS_MS)
    }
    await serving.close()
    logger.info('left')
    forget()
  }

  let forget = (): void => {}
  let started: Promise<void> | undefined
  let stopped: Promise<void> | undefined
  const agent: Agent = {
    start: () => (started ??= begin()),
    stop: () => (stopped ??= leave()),
    get port() {
      return serving.port()
    },
    get agentId() {
      return membership.id()
    },
    get running() {
      return attempts.count()
    },
    registered: register ? membership.registered : unregistered(name),
  }
  return agent
}

const unregistered = (name: string): Promise<never> => {
  const never = Promise.reject(new Error(`${name} was told not to register`))
  never.catch(() => {}) // nobody need wait for it
  return never
}
