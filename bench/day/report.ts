/** What was seen of a day: whether each measure ended as it was once all had filled up, a table and drawings of its hours. */
import { draw } from '../growth/svg.ts'
import { median } from '../median.ts'
import { MEASURES, type Sample } from './samples.ts'

/** Simulated hours: by the first of these all that is kept has filled up; by those of `warm` V8 has sized its heaps, for which it takes real minutes. */
export const SPANS = { first: [6, 10], warm: [12, 16], last: [20, 24] } as const
const GROWTH = 1.1
const BARS = '▁▂▃▄▅▆▇█'

export type Seen = Readonly<{ key: string; words: string; unit: string; first: number; last: number; flat: boolean; hours: readonly number[] }>
type Measure = (typeof MEASURES)[number]

const valuesIn = (samples: readonly Sample[], key: Measure['key'], hour: number, [from, to]: readonly [number, number]): number[] =>
  samples.filter(({ at }) => at >= from * hour && at < to * hour).map((sample) => sample[key]).filter(Number.isFinite)
const levelOf = (values: readonly number[]): number => (values.length === 0 ? NaN : median([...values]))

/** @param hour seconds of a simulated one */
export const judgeDay = (samples: readonly Sample[], hour: number): Seen[] =>
  MEASURES.map((measure) => {
    const { key, words, unit, slack } = measure
    const level = (span: readonly [number, number]) => levelOf(valuesIn(samples, key, hour, span))
    const [first, last] = [level('warmsUp' in measure ? SPANS.warm : SPANS.first), level(SPANS.last)]
    return { key, words, unit, first, last, flat: !(last > Math.max(first * GROWTH, first + slack)), hours: Array.from({ length: 24 }, (_, h) => level([h, h + 1])) }
  })

const number = (n: number): string => (Number.isFinite(n) ? n.toLocaleString('en', { maximumFractionDigits: Math.abs(n) < 10 ? 2 : Math.abs(n) < 1000 ? 1 : 0 }) : '–')
const spark = (values: readonly number[]): string => {
  const known = values.filter(Number.isFinite)
  const [least, most] = [Math.min(...known), Math.max(...known)]
  return values.map((n) => (Number.isFinite(n) ? BARS[most === least ? 0 : Math.round(((n - least) / (most - least)) * 7)]! : ' ')).join('')
}
export const formatDay = (seen: readonly Seen[]): string =>
  [
    ['', 'hours 0 to 24', 'once filled', `hours ${SPANS.last.join('–')}`, ''],
    ['---', '---', '---:', '---:', '---'],
    ...seen.map((s) => [s.unit ? `${s.words}, ${s.unit}` : s.words, spark(s.hours), number(s.first), number(s.last), s.flat ? 'flat' : '**grew**']),
  ].map((cells) => `| ${cells.join(' | ')} |`).join('\n')

const PLOTS = [
  { file: 'day.svg', title: 'Memory and file over a simulated day at 500 tasks/s', unit: 'MiB', log: false, keys: ['used', 'file', 'api', 'dispatcher'] },
  { file: 'day-keys.svg', title: 'Keys in Redis over a simulated day at 500 tasks/s', unit: 'keys', log: true, keys: ['all', 'records', 'jobs', 'idempotency', 'webhooks'] },
]
export const drawDay = (seen: readonly Seen[], rate: number): (readonly [file: string, svg: string])[] =>
  PLOTS.map(({ file, title, unit, log, keys }) => {
    const lines = keys.flatMap((key) => {
      const { words, hours } = seen.find((s) => s.key === key)!
      const points = hours.flatMap((value, h) => (Number.isFinite(value) && (!log || value > 0) ? [[h + 1, value] as const] : []))
      return points.length === 0 ? [] : [{ words, points }]
    })
    return [file, draw({ title: title.replace('500', String(rate)), x: { words: 'simulated hour', log: false }, y: { unit, log }, lines, limits: [] })] as const
  })
