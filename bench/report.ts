/** From trials to the table people read and the JSON machines read. */
import type { SystemName } from './systems.ts'
import type { Cpu, Trial } from './trial.ts'

export type Environment = Readonly<{ machine: string; versions: Readonly<Record<string, string>>; settings: Readonly<Record<string, string>>; command: string; startedAt: string }>
type Spread = Readonly<{ min: number; median: number; max: number }>
export type Summary = Readonly<{ trials: number; tasksPerSecond: Spread; pacedP50Ms: Spread; pacedP99Ms: Spread; answerP50Ms: Spread; cpuMicros: Cpu; repeated: number; agentPeak: number }>

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
const spread = (values: readonly number[]): Spread => ({ min: Math.min(...values), median: median(values), max: Math.max(...values) })

const summarise = (trials: readonly Trial[]): Summary => {
  const cpu = (name: keyof Cpu) => {
    const values = trials.map((t) => t.cpuMicros[name])
    return values.every((v) => v !== null) ? median(values) : null
  }
  return {
    trials: trials.length,
    tasksPerSecond: spread(trials.map((t) => t.throughput.tasksPerSecond)),
    pacedP50Ms: spread(trials.map((t) => t.paced.p50Ms)),
    pacedP99Ms: spread(trials.map((t) => t.paced.p99Ms)),
    answerP50Ms: spread(trials.map((t) => t.paced.answerP50Ms)),
    cpuMicros: { api: cpu('api'), worker: cpu('worker'), redis: cpu('redis'), agent: cpu('agent'), load: cpu('load') },
    repeated: trials.reduce((sum, t) => sum + t.throughput.repeated + t.paced.repeated, 0),
    agentPeak: Math.max(...trials.map((t) => t.throughput.peak)),
  }
}

/** ours / thin within each round, where both met the same weather. */
const pairedRatios = (trials: readonly Trial[]): Spread | null => {
  const of = (name: SystemName) => trials.filter((t) => t.system === name).map((t) => t.throughput.tasksPerSecond)
  const thin = of('thin')
  const ratios = of('ours').flatMap((ours, i) => (thin[i] === undefined ? [] : [ours / thin[i]]))
  return ratios.length ? spread(ratios) : null
}

export const createReport = (trials: readonly Trial[], environment: Environment) => {
  const names = [...new Set(trials.map((t) => t.system))]
  const summaries = Object.fromEntries(names.map((name) => [name, summarise(trials.filter((t) => t.system === name))])) as Partial<Record<SystemName, Summary>>
  return { environment, summaries, roundRatios: pairedRatios(trials), trials }
}
export type Report = ReturnType<typeof createReport>

/** What one task costs the machine, without the bench's own two processes. */
const systemMicros = ({ api, worker, redis }: Cpu): number | null => (api === null || worker === null || redis === null ? null : api + worker + redis)

const shown = (s: Spread, digits: number) => `${s.median.toFixed(digits)} (${s.min.toFixed(digits)}–${s.max.toFixed(digits)})`
const micros = (n: number | null) => (n === null ? 'not available' : n.toFixed(0))

export const formatReport = ({ environment, summaries, roundRatios }: Report): string => {
  const { thin, ours } = summaries
  const row = (title: string, cell: (s: Summary) => string, ratio?: (s: Summary) => number | null) => {
    const [a, b] = [thin && ratio?.(thin), ours && ratio?.(ours)]
    return [title, thin ? cell(thin) : '', ours ? cell(ours) : '', typeof a === 'number' && typeof b === 'number' && a > 0 ? (b / a).toFixed(2) : '']
  }
  const rows = [
    ['median (min–max)', 'thin', 'ours', 'ours/thin'],
    row('throughput, tasks/s', (s) => shown(s.tasksPerSecond, 0), (s) => s.tasksPerSecond.median),
    row('submit → agent, p50 ms', (s) => shown(s.pacedP50Ms, 2), (s) => s.pacedP50Ms.median),
    row('submit → agent, p99 ms', (s) => shown(s.pacedP99Ms, 2), (s) => s.pacedP99Ms.median),
    row('submit → 201, p50 ms', (s) => shown(s.answerP50Ms, 2), (s) => s.answerP50Ms.median),
    ...(['api', 'worker', 'redis', 'agent', 'load'] as const).map((name) => row(`CPU µs a task, ${name}`, (s) => micros(s.cpuMicros[name]), (s) => s.cpuMicros[name])),
    row('CPU µs a task, system', (s) => micros(systemMicros(s.cpuMicros)), (s) => systemMicros(s.cpuMicros)),
    row('tasks the agent got twice', (s) => String(s.repeated)),
  ]
  // A system that was not run has no column, and one alone no ratio.
  const columns = [true, thin !== undefined, ours !== undefined, thin !== undefined && ours !== undefined]
  const filled = rows.map((r) => r.filter((_, column) => columns[column]))
  const widths = filled[0]!.map((_, column) => Math.max(...filled.map((r) => r[column]!.length)))
  const table = filled.map((r) => r.map((cell, column) => (column ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))).join('  ').trimEnd())
  const list = (of: Readonly<Record<string, string>>) => Object.entries(of).map(([key, value]) => `${key} ${value}`).join(' · ')
  const round = roundRatios ? [`Throughput ours/thin round by round: ${shown(roundRatios, 2)}`] : []
  return [
    ...table,
    '',
    ...round,
    `Versions: ${list(environment.versions)}`,
    `Settings: ${list(environment.settings)}`,
    `Machine: ${environment.machine}`,
    `Repeat with: ${environment.command}`,
  ].join('\n')
}
