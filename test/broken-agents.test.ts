/** Agents with one fault each, and the check of `agent-test` that must find it: that one and no other. */
import { fileURLToPath } from 'node:url'
import { beforeAll, expect, test } from 'vitest'
import { agentTest, CHECKS } from '../src/cli/agent-test/agent-test.ts'
import type { Report } from '../src/cli/agent-test/report.ts'
import { serve } from './agents/broken.ts'
import { LIVING_FAULTS, SERVING_FAULTS, type Fault } from './agents/faults.ts'

const BROKEN = fileURLToPath(new URL('agents/broken.ts', import.meta.url))
const SECRET = `whsec_${Buffer.from('a secret of the tests, long enough').toString('base64')}`
/** Nearly all of a run is waiting; those of the living start two processes each. */
const AT_ONCE = { serving: 9, living: 5 }
/** Between the first starts of processes: all at once would starve the agents of this process. */
const APART_MS = 400

/** Runs so many at a time, in order; each test waits for its own. */
const createPool = (size: number, apartMs: number) => {
  let begun = 0
  let free = size
  const waiting: (() => void)[] = []
  return async <T>(work: () => Promise<T>): Promise<T> => {
    if (free > 0) free--
    else await new Promise<void>((go) => waiting.push(go))
    try {
      if (begun < size) await new Promise((go) => setTimeout(go, apartMs * begun++))
      return await work()
    } finally {
      const next = waiting.shift()
      if (next) next()
      else free++
    }
  }
}
/** Nearly all checks measure times: of an agent that a busy machine made look otherwise the second look counts, taken alone. */
const alone = createPool(1, 0)
/** All begin with the first test of any. */
const once = <K extends string>(keys: readonly K[], atOnce: number, apartMs: number, work: (key: K) => Promise<Report>, isAsExpected: (report: Report, key: K) => boolean) => {
  const pool = createPool(atOnce, apartMs)
  let runs: Map<K, Promise<Report>> | undefined
  const atBest = async (key: K): Promise<Report> => {
    const report = await pool(() => work(key))
    return isAsExpected(report, key) ? report : alone(() => work(key))
  }
  return (key: K): Promise<Report> => {
    runs ??= new Map(keys.map((one) => {
      const run = atBest(one)
      run.catch(() => {})
      return [one, run]
    }))
    return runs.get(key)!
  }
}

const broken = (report: Report): string[] => report.results.filter((result) => result.status === 'failed' || result.status === 'warning').map((result) => result.name)
const isOnly = (report: Report, name: string | undefined): boolean => broken(report).join() === (name ?? '')
const told = (report: Report): string => report.results.filter((result) => result.sent !== undefined).map(({ name, sent, came }) => `${name}: ${sent}: ${came}`).join('\n')

/** @param perhaps what may be broken too, by when things happen to come */
const expectOnly = (report: Report, name: string, perhaps?: string): void => {
  expect(broken(report).filter((one) => one !== perhaps), told(report)).toEqual([name])
  const result = report.results.find((one) => one.name === name)!
  expect(report.exit_code).toBe(result.level === 'MUST' ? 1 : 0)
  expect(result).toMatchObject({ sent: expect.stringMatching(/./), came: expect.stringMatching(/./), todo: expect.stringMatching(/./), link: expect.stringMatching(/^docs\/protocol\.md#/) })
}

/** The names of the checks that stand beside one, decided by the same or by neighbouring requests. */
const KINDS = ['register', 'instance', 'heartbeat', 'later', 'progress', 'drain']
const beside = (name: string): string[] => {
  const kind = KINDS.find((one) => name.startsWith(one))!
  return Object.keys(CHECKS).filter((one) => one.startsWith(kind === 'instance' ? 'register' : kind))
}

const serving = once(['none', ...Object.keys(SERVING_FAULTS)] as Fault[], AT_ONCE.serving, 0, async (fault) => {
  await using agent = await serve(fault, { secret: SECRET })
  return await agentTest({ url: `http://127.0.0.1:${agent.port}`, secret: SECRET, timeoutMs: 4000 })
}, (report, fault) => isOnly(report, SERVING_FAULTS[fault as keyof typeof SERVING_FAULTS]))
const living = once(Object.keys(LIVING_FAULTS) as (keyof typeof LIVING_FAULTS)[], AT_ONCE.living, APART_MS, (fault) => agentTest({ command: `env 'FAULT=${fault}' ${process.execPath} ${BROKEN}`, only: beside(LIVING_FAULTS[fault]), ...(/^(later|progress)/.test(LIVING_FAULTS[fault]) ? { timeoutMs: 4000 } : {}) }), (report, fault) => isOnly(report, LIVING_FAULTS[fault]))

/** They run beside each other, and each test waits for its own. */
beforeAll(() => {
  void serving('none')
  void living('does not beat')
})

const patient = { timeout: 120_000 }

test('an agent without a fault passes all that can be done over HTTP', patient, async () => {
  const report = await serving('none')
  expect(broken(report), told(report)).toEqual([])
  const skipped = report.results.filter((result) => result.status === 'skipped')
  expect(skipped.map((result) => result.name).sort()).toEqual(Object.keys(CHECKS).filter((name) => CHECKS[name]!.needs?.some((need) => need === 'command' || need === 'process')).sort())
  for (const { because } of skipped) expect(because).toMatch(/^give --(command|pid)/)
})

test('there is an agent with a fault for every check', () => {
  const found = new Set<string>([...Object.values(SERVING_FAULTS), ...Object.values(LIVING_FAULTS)])
  expect([...found].sort()).toEqual(Object.keys(CHECKS).sort())
})

/** What stands behind a body that does not come, or answers of 2 MiB that are being sent, may begin when others have ended: that looks like a queue, and is one. */
const LIKE_A_QUEUE: readonly string[] = ['reads one request at a time', 'answers 2 MiB']

test.for(Object.entries(SERVING_FAULTS) as [keyof typeof SERVING_FAULTS, string][])('an agent that %s breaks %s and nothing else', patient, async ([fault, name]) => {
  expectOnly(await serving(fault), name, LIKE_A_QUEUE.includes(fault) ? 'over-limit-declined' : undefined)
})

test.for(Object.entries(LIVING_FAULTS) as [keyof typeof LIVING_FAULTS, string][])('an agent that %s breaks %s and nothing else', patient, async ([fault, name]) => {
  expectOnly(await living(fault), name)
})
