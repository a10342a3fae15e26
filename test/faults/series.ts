/** Measures over time, as lines of text, and whether they end as they began. */

export type Sample = { at: number; value: number }
export type Series = {
  name: string
  unit: string
  /** It may end so much higher than it began, whatever a tenth of that is: what is small is never quite the same. */
  slack: number
  samples: Sample[]
}
/** A time, on the clock of the samples. */
export type Span = { from: number; to: number }

const GROWTH = 1.1
const BARS = '▁▂▃▄▅▆▇█'
const WIDTH = 60

const valuesIn = ({ samples }: Series, span: Span): number[] => samples.filter((s) => s.at >= span.from && s.at <= span.to && Number.isFinite(s.value)).map((s) => s.value)
const medianOf = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN
export const quantile = (values: readonly number[], share: number): number => values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? NaN

/** A column for each stretch of time: its median, between the least and the most of all. */
export const sparkline = (series: Series): string => {
  const all = series.samples.filter((s) => Number.isFinite(s.value))
  if (all.length === 0) return ''
  const [first, last] = [all[0]!.at, all.at(-1)!.at]
  const columns = Math.min(WIDTH, all.length)
  const step = Math.max(1, (last - first) / columns)
  const medians = Array.from({ length: columns }, (_, i) => medianOf(valuesIn(series, { from: first + i * step, to: i === columns - 1 ? last : first + (i + 1) * step - 1e-6 })))
  const known = medians.filter(Number.isFinite)
  const [least, most] = [Math.min(...known), Math.max(...known)]
  return medians.map((m) => (Number.isFinite(m) ? BARS[most === least ? 0 : Math.round(((m - least) / (most - least)) * (BARS.length - 1))] : ' ')).join('')
}

/** @returns what it was at first and at last, and whether that is as it should be; more is not, less is nobody's loss */
export const compare = (series: Series, first: Span, last: Span): { from: number; to: number; holds: boolean } => {
  const [from, to] = [medianOf(valuesIn(series, first)), medianOf(valuesIn(series, last))]
  return { from, to, holds: to <= Math.max(from * GROWTH, from + series.slack) }
}

const short = (n: number): string => (Number.isFinite(n) ? (Math.abs(n) >= 100 ? Math.round(n).toLocaleString('en') : n.toFixed(1)) : '–')

export const formatSeries = (all: readonly Series[], first: Span | null, last: Span | null): string => {
  const lines = all.map((s) => {
    const values = s.samples.map((one) => one.value).filter(Number.isFinite)
    const found = first && last ? compare(s, first, last) : null
    return [`${s.name}, ${s.unit}`, sparkline(s), `${short(Math.min(...values))}–${short(Math.max(...values))}`, found ? `${short(found.from)} → ${short(found.to)}` : '', found ? (found.holds ? 'level' : 'GREW') : '']
  })
  const widths = [0, 1, 2, 3].map((i) => Math.max(...lines.map((line) => line[i]!.length)))
  return lines.map((line) => line.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i] ?? 0))).join('  ').trimEnd()).join('\n')
}
