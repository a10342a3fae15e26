/** What came of the trials: a table for people, Markdown for docs/reliability.md, JSON for machines. */
import type { Outcome } from './trial.ts'

const seconds = (ms: number): string => (ms / 1000).toFixed(ms < 10_000 ? 2 : 1)
const recovery = ({ recoveries }: Outcome): string => {
  if (recoveries.length === 0) return '–'
  const sorted = recoveries.toSorted((a, b) => a - b)
  return `${seconds(sorted[sorted.length >> 1]!)} / ${seconds(sorted.at(-1)!)}`
}

const COLUMNS: readonly (readonly [title: string, of: (o: Outcome) => string])[] = [
  ['row', (o) => o.row],
  ['fault', (o) => o.fault],
  ['made/bit', (o) => `${o.injected}/${o.bit}`],
  ['tasks', (o) => String(o.tasks)],
  ['lost', (o) => String(o.lost)],
  ['doubled', (o) => String(o.doubled)],
  ['changed ends', (o) => String(o.changed)],
  ['over limit', (o) => String(o.overLimit)],
  ['slots leaked', (o) => String(o.leaked)],
  ['recovery p50/max s', recovery],
  ['verdict', (o) => (o.violations.length === 0 ? 'held' : 'BROKEN')],
]

export const formatTable = (outcomes: readonly Outcome[]): string => {
  const cells = [COLUMNS.map(([title]) => title), ...outcomes.map((o) => COLUMNS.map(([, of]) => of(o)))]
  const widths = COLUMNS.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)))
  return cells.map((row) => row.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ').trimEnd()).join('\n')
}

export const formatMarkdown = (outcomes: readonly Outcome[]): string =>
  [COLUMNS.map(([title]) => title), COLUMNS.map((_, i) => (i < 2 ? '---' : '---:')), ...outcomes.map((o) => COLUMNS.map(([, of]) => of(o).replaceAll('|', '\\|')))].map((row) => `| ${row.join(' | ')} |`).join('\n')

/** What did not hold in one trial, and how to see it again. */
export const formatFault = (o: Outcome): string =>
  [`${o.row} (seed ${o.seed}):`, ...o.violations.map((v) => `  ${v}`), `  Again: npm run test:faults -- --row ${o.row} --seed ${o.seed}`, ...(o.kept ? [`  Ledgers: ${o.kept}`] : [])].join('\n')
