/** What to send to an agent, and how much of it: as told, or as it says of itself. */
import { UsageError } from '../failure.ts'
import { came, did, exchange, member, refused } from './exchange.ts'
import { seconds } from './shown.ts'
import type { Router } from './router.ts'
import { DEFAULT_TIMEOUT_MS } from './waiting.ts'
import { createSubject, QUICK_MS, type Known, type SlowTask, type Task } from './subject.ts'

/** There is no agent to test. */
export class UnreachableError extends Error {}

export type Told = {
  task?: string | undefined
  parameters?: Record<string, unknown> | undefined
  slowTask?: string | undefined
  slowParameters?: Record<string, unknown> | undefined
  laterTask?: string | undefined
  laterParameters?: Record<string, unknown> | undefined
  maxConcurrency?: number | undefined
  secret?: string | undefined
  timeoutMs?: number | undefined
}
export type Discovered = { known: Known; capabilities: string[] | null }

/** Below this nothing can be done in the midst of a task. */
const LEAST_SLOW_MS = 300
const PROBE_SECONDS = 0.4

const strings = (value: unknown): string[] | null => (Array.isArray(value) && value.every((one) => typeof one === 'string') ? value : null)
const count = (value: unknown): number | null => (Number.isInteger(value) && (value as number) > 0 ? (value as number) : null)
const sleepFor = (later: boolean) => (ms: number): SlowTask => ({ type: 'sleep', parameters: { seconds: ms / 1000 }, ms, later })

/**
 * @param registered what it said at its registration, which counts more than /health
 * @param key what it is sent is signed with, if anything
 * @param router where it tells the results of what it answers 202
 */
export const discover = async (url: string, told: Told, signal: AbortSignal, key: Buffer | null, registered: Record<string, unknown> = {}, router?: Router): Promise<Discovered> => {
  const timeoutMs = told.timeoutMs ?? DEFAULT_TIMEOUT_MS
  const health = await exchange({ method: 'GET', url: `${url}/health`, headers: {}, timeoutMs: QUICK_MS, signal })
  if (!health.connected) throw new UnreachableError(`there is no agent at ${url}: ${health.error}`)
  const capabilities = strings(registered['capabilities']) ?? strings(member(health.json, 'capabilities'))
  const limit = told.maxConcurrency ?? count(registered['max_concurrency']) ?? count(member(health.json, 'max_concurrency'))
  const type = told.task ?? (capabilities?.includes('echo') ? 'echo' : capabilities?.[0])
  if (type === undefined) throw new UsageError('it is not known what to send: GET /health names no capabilities. Give --task TYPE, and --param k=v or --json-parameters')
  const task: Task = { type, parameters: told.parameters ?? (type === 'echo' ? { text: 'agent-test' } : {}) }
  const known: Known = { task, slow: null, later: (ms) => ({ ...task, ms }), limit, key, verifies: told.secret !== undefined, timeoutMs }
  const agent = createSubject(known, { url, signal, ...(router ? { router } : {}) })
  if (told.parameters === undefined && type !== 'echo') {
    const x = await agent.deliver()
    if (refused(x) && x.status !== 401) throw new UsageError(`it is not known which parameters ${type} takes: to none it answered ${came(x)}. Give --param k=v or --json-parameters${told.task === undefined ? ', or another --task' : ''}`)
  }
  const { slow, ...rest } = await findSlow(told, agent.deliver, capabilities)
  const later = (ms: number): Task & { ms: number } => {
    if (told.laterTask !== undefined) return { type: told.laterTask, parameters: told.laterParameters ?? {}, ms }
    if (capabilities?.includes('later')) return { type: 'later', parameters: { seconds: ms / 1000 }, ms }
    const its = slow?.(ms)
    return its?.later ? its : { ...task, ms }
  }
  return { known: { ...known, slow, ...rest, later }, capabilities }
}

/** A task that takes long enough to do something in the midst of it; tried once. */
const findSlow = async (told: Told, deliver: ReturnType<typeof createSubject>['deliver'], capabilities: string[] | null): Promise<Pick<Known, 'slow' | 'slowMissing'>> => {
  if (told.slowTask === undefined) {
    if (!capabilities?.includes('sleep')) return { slow: null }
    const task = sleepFor(false)(PROBE_SECONDS * 1000)
    const x = await deliver({ task })
    // Its own way with `seconds`: then it is not the one that is meant.
    return did(x) && x.endedAt - x.startedAt > 0.8 * task.ms ? { slow: sleepFor(x.later) } : { slow: null, slowMissing: `its sleep does not take {"seconds": ${PROBE_SECONDS}} (${came(x)}): give --slow-task` }
  }
  const task: Task = { type: told.slowTask, parameters: told.slowParameters ?? {} }
  const x = await deliver({ task })
  const ms = x.endedAt - x.startedAt
  if (!did(x)) return { slow: null, slowMissing: `the slow task was not done (${came(x)}): give other --slow-param` }
  if (ms < LEAST_SLOW_MS) return { slow: null, slowMissing: `the slow task took only ${seconds(ms)}: give one of about a second` }
  return { slow: () => ({ ...task, ms, later: x.later }) }
}
