/** One trial: a system under load, calm at first, then broken by one row or several, healed, watched until all has ended, and held against the promises. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { call, sleep, until } from '../system.ts'
import { check, sentAt, type AgentRecord, type Allowed, type Findings, type TaskRecord, type Window } from './checker.ts'
import { mono, wallAhead } from './clock.ts'
import { startFleet, TYPES, type Fleet, type FleetOptions } from './fleet.ts'
import { createLoad, ENDS, type Load, type LoadOptions } from './load.ts'
import { createRandom, type Random } from './random.ts'
import type { Row, Trial } from './row.ts'

const CALM_MS = 2_000
const QUIET_MS = 90_000
/** What each process must do after the last fault. */
const TAIL_TASKS = 10
const TAIL_MS = 45_000

export type Outcome = Findings & { row: string; fault: string; seed: number; injected: number; bit: number; recoveries: number[]; seconds: number; kept: string | null }

/** Lists of records that have not ended. */
const OPEN = ['pending', 'queued', 'sent', 'running', 'retrying']
export const openTasks = async (fleet: Fleet): Promise<number> =>
  (await Promise.all(TYPES.flatMap((type) => OPEN.map((status) => fleet.redis.zcard(fleet.keys.tasks(type, status)))))).reduce((a, b) => a + b, 0)

export const readAll = async (fleet: Fleet, ids: readonly string[]): Promise<Map<string, TaskRecord>> => {
  const records = new Map<string, TaskRecord>()
  const left = [...ids]
  await Promise.all(Array.from({ length: 16 }, async () => {
    for (let id; (id = left.pop()) !== undefined; ) {
      const answer = await call('GET', `${fleet.api()}/tasks/${id}`)
      if (answer.status === 200) records.set(id, answer.json as TaskRecord)
      else if (answer.status !== 404) left.push(id)
    }
  }))
  return records
}

/** After the last fault each process does some work again: dispatchers deliver, APIs take tasks, agents end some. */
export const tail = async ({ fleet, load, violate }: Trial): Promise<void> => {
  const since = mono()
  const before = await Promise.all(fleet.dispatchers.map((d) => fleet.attemptsOf(d)))
  const idle = async (): Promise<string[]> => {
    const after = await Promise.all(fleet.dispatchers.map((d) => fleet.attemptsOf(d)))
    const ends = fleet.ledger.ends(since)
    return [
      ...fleet.dispatchers.filter((_, i) => after[i]! - before[i]! < TAIL_TASKS).map((d) => d.name),
      ...fleet.apis.filter((_, i) => load.calls.filter((c) => c.api === i && c.status === 201 && c.at > since).length < TAIL_TASKS).map((a) => a.name),
      ...fleet.hosts.filter((h) => ends.filter((e) => h.agents.some((a) => a.id === e.agent)).length < TAIL_TASKS).map((h) => h.name),
    ]
  }
  let left: string[] = []
  await until(async () => (left = await idle()).length === 0, { timeoutMs: TAIL_MS, everyMs: 200, what: 'work at every process' }).catch(() => violate(`P11: with the fault gone, fewer than ${TAIL_TASKS} tasks in ${TAIL_MS / 1000} s at ${left.join(', ')}`))
}

export const logFaults = (fleet: Fleet): string[] =>
  fleet.members.flatMap((m) => {
    const line = m.proc.log.join('').split('\n').find((l) => /unhandled|uncaught|"level":"(fatal)"|TypeError|ReferenceError/i.test(l))
    return [...(line ? [`${m.name} logged: ${line.slice(0, 400)}`] : []), ...(m.proc.child.exitCode !== null && m.proc.child.exitCode !== 0 ? [`${m.name} ended with ${m.proc.child.exitCode}`] : [])]
  })

/** What rows have to work with, and what comes of it. */
export const createTrial = ({ fleet, load, random, say, short = false }: { fleet: Fleet; load: Load; random: Random; say: (line: string) => void; short?: boolean }) => {
  const windows: Window[] = []
  const violations: string[] = []
  const recoveries: number[] = []
  const cleanings: (() => unknown)[] = []
  const counts = new Map<string, { injected: number; bit: number }>()
  let row = ''
  const add = (to: string, what: 'injected' | 'bit', times: number): void => {
    const one = counts.get(to) ?? { injected: 0, bit: 0 }
    one[what] += times
    counts.set(to, one)
  }
  const trial: Trial = {
    fleet, load, random, windows, records: new Map(),
    broken: async (during) => {
      const window = { row, from: mono(), to: Infinity }
      windows.push(window)
      return during().finally(() => (window.to = mono()))
    },
    times: (usual) => (short ? 1 : usual),
    injected: (times = 1) => add(row, 'injected', times),
    bit: (times = 1) => add(row, 'bit', times),
    recovered: (ms) => void recoveries.push(ms),
    violate: (what) => void violations.push(what),
    goesOn: async (since = mono(), timeoutMs = 60_000) => {
      // Not what was on the way before.
      const first = () => fleet.ledger.starts(since).find((s) => sentAt(s.attempt, wallAhead()) >= since - 1)
      await until(() => first() !== undefined, { timeoutMs, everyMs: 5, what: 'work going on' })
      return first()!.at - since
    },
    note: say,
    readEnded: async () => {
      for (const [id, record] of await readAll(fleet, load.told.flatMap((t) => [...t.ids]))) if (ENDS.includes(record.status)) trial.records.set(id, record)
    },
    atEnd: (clean) => void cleanings.push(clean),
  }
  const begin = (one: Row): void => {
    row = one.name
    add(row, 'injected', 0)
    say(one.fault)
  }
  return {
    trial, violations, recoveries, cleanings, begin,
    /** As a row sees it whose check comes when others have been made too. */
    ofRow: ({ name }: Row): Trial => ({ ...trial, windows: trial.windows.filter((w) => w.row === name), injected: (times = 1) => add(name, 'injected', times), bit: (times = 1) => add(name, 'bit', times) }),
    count: () => [...counts.values()].reduce((sum, one) => ({ injected: sum.injected + one.injected, bit: sum.bit + one.bit }), { injected: 0, bit: 0 }),
    /** The rows of which it is not proven that they bit. */
    unproven: (): string[] => [...counts].filter(([, { injected, bit }]) => bit < injected || injected === 0).map(([name, { injected, bit }]) => `${name} was made ${injected} times, and seen to bite only ${bit} times: this proves nothing`),
  }
}

export const allowedBy = (rows: readonly Row[]): Allowed =>
  Object.assign({}, ...rows.map(({ agentsFail, lateEnds, lost }) => ({ ...(agentsFail && { agentsFail }), ...(lateEnds && { lateEnds }), ...(lost && { lost }) }))) as Allowed

/** @param rows one, or several that mix: one after the other on the same system */
export const runTrial = async (rows: readonly Row[], { seed, say, fleet: more = {}, load: moreLoad = {}, keep = false, short = false }: { seed: number; say: (line: string) => void; fleet?: FleetOptions; load?: LoadOptions; keep?: boolean; /** Each fault once. */ short?: boolean }): Promise<Outcome> => {
  const began = mono()
  const random = createRandom(seed)
  const links = [...new Set([...(more.links ?? []), ...rows.flatMap((r) => r.fleet?.links ?? [])])]
  const fleet = await startFleet({ ...(rows.length === 1 && rows[0]?.fleet), ...more, links }, random)
  const load = createLoad({ ...(rows.length === 1 && rows[0]?.load), ...moreLoad, apis: fleet.apis.map((a) => a.url), random: createRandom(seed + 1) })
  const { trial, count, unproven, ofRow, violations, recoveries, cleanings, begin } = createTrial({ fleet, load, random, say, short })
  let failed = true
  try {
    await fleet.allAlive()
    load.start()
    await sleep(CALM_MS)
    for (const one of rows) {
      begin(one)
      await one.run(trial)
    }
    if (!rows.some((r) => r.noTail)) await tail(trial)
    say(`${load.told.length} tasks: waiting for the last ends`)
    await load.stop()
    await until(async () => (await openTasks(fleet)) === 0, { timeoutMs: QUIET_MS, everyMs: 100, what: 'the end of all tasks' }).catch(() => {}) // the checker names those that are left
    for (const [id, record] of await readAll(fleet, load.told.flatMap((t) => [...t.ids]))) trial.records.set(id, record)
    const agentsNow = async () => (await call('GET', `${fleet.api()}/agents?include_dead=true&limit=200`)).json.agents as AgentRecord[]
    await until(async () => (await agentsNow()).every((a) => a.in_flight === 0), { timeoutMs: 25_000, everyMs: 250 }).catch(() => {})
    for (const one of rows) await one.check?.(ofRow(one))
    const allowed = allowedBy(rows)
    const findings = check({ told: load.told, calls: load.calls, events: fleet.ledger.read(), records: trial.records, agents: await agentsNow(), windows: trial.windows, allowed })
    findings.violations.push(...violations, ...unproven(), ...logFaults(fleet))
    failed = findings.violations.length > 0
    return { ...findings, row: rows.map((r) => r.name).join('+'), fault: rows.map((r) => r.fault).join('; '), seed, ...count(), recoveries, seconds: (mono() - began) / 1000, kept: failed || keep ? fleet.dir : null }
  } finally {
    for (const [name, lines] of [['told', load.told.map((one) => ({ ...one, ids: [...one.ids] }))], ['calls', load.calls], ['records', [...trial.records.values()]]] as const) await writeFile(join(fleet.dir, `${name}.jsonl`), lines.map((line) => JSON.stringify(line)).join('\n'))
    for (const m of fleet.members) await writeFile(join(fleet.dir, `${m.name}.log`), m.proc.log.join(''))
    load.close()
    for (const clean of cleanings) await clean()
    await fleet.end({ keep: failed || keep })
  }
}


