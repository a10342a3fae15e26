/** From trials to the table people read and the JSON machines read. */
import type { Environment } from './environment.ts'
import { PARTS, type Part, type SystemName } from './system.ts'
import type { Cpu, Trial } from './trial.ts'
import { median } from './median.ts'

type Spread = Readonly<{ min: number; median: number; max: number }>
export type Summary = Readonly<{
  trials: number
  tasksPerSecond: Spread
  pacedP50Ms: Spread
  pacedP99Ms: Spread
  answerP50Ms: Spread
  waitedP50Ms: Spread | null
  waitedP99Ms: Spread | null
  cpuMicros: Cpu
  repeated: number
  agentPeak: number
}>

const spread = (values: readonly number[]): Spread => ({ min: Math.min(...values), median: median(values), max: Math.max(...values) })

const summarise = (trials: readonly Trial[]): Summary => {
  const cpu = (part: Part) => {
    const values = trials.map((t) => t.cpuMicros[part]!)
    return values.every((v) => v !== null) ? median(values) : null
  }
  const waits = trials.flatMap((t) => t.waited ?? [])
  return {
    trials: trials.length,
    tasksPerSecond: spread(trials.map((t) => t.throughput.tasksPerSecond)),
    pacedP50Ms: spread(trials.map((t) => t.paced.p50Ms)),
    pacedP99Ms: spread(trials.map((t) => t.paced.p99Ms)),
    answerP50Ms: spread(trials.map((t) => t.paced.answerP50Ms)),
    waitedP50Ms: waits.length ? spread(waits.map((w) => w.p50Ms)) : null,
    waitedP99Ms: waits.length ? spread(waits.map((w) => w.p99Ms)) : null,
    cpuMicros: Object.fromEntries(PARTS.filter((part) => part in trials[0]!.cpuMicros).map((part) => [part, cpu(part)])),
    repeated: trials.reduce((sum, t) => sum + t.throughput.repeated + t.paced.repeated, 0),
    agentPeak: Math.max(...trials.map((t) => t.throughput.peak)),
  }
}

/** What ours is compared with: each other system of the run. */
const othersOf = (names: readonly SystemName[]) => (names.includes('ours') ? names.filter((name) => name !== 'ours') : [])

/** ours / other of throughput within each round, where both met the same weather. */
const pairedRatios = (trials: readonly Trial[], other: SystemName): Spread => {
  const of = (name: SystemName) => trials.filter((t) => t.system === name).map((t) => t.throughput.tasksPerSecond)
  const theirs = of(other)
  return spread(of('ours').map((ours, i) => ours / theirs[i]!))
}

export const createReport = (trials: readonly Trial[], environment: Environment) => {
  const names = [...new Set(trials.map((t) => t.system))]
  const summaries = Object.fromEntries(names.map((name) => [name, summarise(trials.filter((t) => t.system === name))])) as Partial<Record<SystemName, Summary>>
  const roundRatios = Object.fromEntries(othersOf(names).map((name) => [name, pairedRatios(trials, name)])) as Partial<Record<SystemName, Spread>>
  return { environment, summaries, roundRatios, trials }
}
export type Report = ReturnType<typeof createReport>

/** What one task costs the machine, without the bench's own two processes. */
const systemMicros = ({ agent: _agent, load: _load, ...parts }: Cpu): number | null => {
  const all = Object.values(parts)
  return all.includes(null) ? null : all.reduce<number>((sum, micros) => sum + micros!, 0)
}

const shown = (s: Spread, digits: number) => `${s.median.toFixed(digits)} (${s.min.toFixed(digits)}–${s.max.toFixed(digits)})`
const micros = (n: number | null | undefined) => (n === undefined ? '–' : n === null ? 'not available' : n.toFixed(0))

type Row = readonly [title: string, cell: (s: Summary) => string, ratio?: (s: Summary) => number | null | undefined]

const rowsOf = (summaries: readonly Summary[]): Row[] => {
  const spreadRow = (title: string, of: (s: Summary) => Spread | null, digits: number): Row => [title, (s) => (of(s) ? shown(of(s)!, digits) : '–'), (s) => of(s)?.median]
  return [
    spreadRow('throughput, tasks/s', (s) => s.tasksPerSecond, 0),
    spreadRow('submit → agent, p50 ms', (s) => s.pacedP50Ms, 2),
    spreadRow('submit → agent, p99 ms', (s) => s.pacedP99Ms, 2),
    spreadRow('submit → answer, p50 ms', (s) => s.answerP50Ms, 2),
    ...(summaries.some((s) => s.waitedP50Ms) ? [spreadRow("agent's answer → who waits, p50 ms", (s) => s.waitedP50Ms, 2), spreadRow("agent's answer → who waits, p99 ms", (s) => s.waitedP99Ms, 2)] : []),
    ...PARTS.filter((part) => summaries.some((s) => part in s.cpuMicros)).map((part): Row => [`CPU µs a task, ${part}`, (s) => micros(s.cpuMicros[part]), (s) => s.cpuMicros[part]]),
    ['CPU µs a task, system', (s) => micros(systemMicros(s.cpuMicros)), (s) => systemMicros(s.cpuMicros)],
    ['tasks the agent got twice', (s) => String(s.repeated)],
  ]
}

const tableOf = (summaries: Report['summaries']): string[] => {
  const names = Object.keys(summaries) as SystemName[]
  const others = othersOf(names)
  const ratio = (of: Row[2], other: SystemName): string => {
    const [ours, theirs] = [of?.(summaries.ours!), of?.(summaries[other]!)]
    return ours && theirs ? (ours / theirs).toFixed(2) : ''
  }
  const rows = [
    ['median (min–max)', ...names, ...others.map((name) => `ours/${name}`)],
    ...rowsOf(Object.values(summaries)).map(([title, cell, of]) => [title, ...names.map((name) => cell(summaries[name]!)), ...others.map((name) => ratio(of, name))]),
  ]
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((r) => r[column]!.length)))
  return rows.map((r) => r.map((cell, column) => (column ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))).join('  ').trimEnd())
}

export const formatReport = ({ environment, summaries, roundRatios }: Report): string => {
  const list = (of: Readonly<Record<string, string>>) => Object.entries(of).map(([key, value]) => `${key} ${value}`).join(' · ')
  return [
    ...tableOf(summaries),
    '',
    ...Object.entries(roundRatios).map(([name, ratios]) => `Throughput ours/${name} round by round: ${shown(ratios, 2)}`),
    `Versions: ${list(environment.versions)}`,
    `Settings: ${list(environment.settings)}`,
    `Machine: ${environment.machine}`,
    `Repeat with: ${environment.command}`,
  ].join('\n')
}
