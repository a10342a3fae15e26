/** What a curve is: something measured at each of several sizes, in turn and several times over, so that all sizes meet the same weather. */
import { median } from '../median.ts'
import type { Start } from './system.ts'
import type { Values } from './values.ts'

export type Point = Readonly<{ x: number; /** By measure, one for each round. */ rounds: Readonly<Record<string, readonly (number | null)[]>>; median: Values }>

/** `at`: where a dashed line says what is to be kept; of a ratio, times what the first size has. */
export type Limit = Readonly<{ measure: string; kind: 'at most' | 'at least'; at: number; /** Of what the first size has, rather than as such. */ ratio?: boolean; /** Where it is to hold; else at the last size. */ x?: number; words: string }>
export type Plot = Readonly<{ /** Behind the curve's name in that of the file; '' for its main plot. */ suffix: string; title: string; unit: string; log?: boolean; measures: readonly string[] }>
export type Measure = Readonly<{ key: string; words: string; digits: number }>

export type Context = Readonly<{ start: Start; say: (line: string) => void; /** Tasks of a measurement: fewer in a quick run, whose figures say little. */ tasks: (usual: number) => number; /** Seconds of a measurement. */ seconds: (usual: number) => number }>
export type Sizes = Readonly<{ quick: readonly number[]; usual: readonly number[]; full?: readonly number[] }>

export type Curve = Readonly<{
  name: string
  x: Readonly<{ words: string; unit: string; log: boolean }>
  sizes: Sizes
  rounds: number
  measures: readonly Measure[]
  plots: readonly Plot[]
  limits: readonly Limit[]
  /** Makes all that is measured at one size, and measures. */
  at: (size: number, context: Context) => Promise<() => Promise<Values>>
  /** Sizes are measured one after the other instead of in turn: they cannot be kept up side by side. */
  oneByOne?: boolean
  /** Nothing is to be warmed up by measuring once for nothing. */
  cold?: boolean
}>

const medians = (all: readonly Values[]): Values => {
  const keys = Object.keys(all[0] ?? {})
  return Object.fromEntries(keys.map((key) => [key, all.some((v) => v[key] == null) ? null : median(all.map((v) => v[key]!))]))
}

const pointOf = (x: number, all: readonly Values[]): Point => ({ x, rounds: Object.fromEntries(Object.keys(all[0] ?? {}).map((key) => [key, all.map((v) => v[key] ?? null)])), median: medians(all) })

const shown = (values: Values): string => Object.entries(values).map(([key, n]) => `${key} ${n === null ? '–' : n.toPrecision(4)}`).join('  ')

/** The first measurement at each size is not counted, as code gets compiled then; unless the curve says otherwise. */
export const measureCurve = async (curve: Curve, sizes: readonly number[], rounds: number, context: Context): Promise<Point[]> => {
  const { say } = context
  const first = curve.cold ? 1 : 0
  const found = new Map<number, Values[]>(sizes.map((size) => [size, []]))
  const measure = async (size: number, round: number, work: () => Promise<Values>) => {
    const values = await work()
    if (round > 0) found.get(size)!.push(values)
    say(`  ${curve.name} ${size} ${curve.x.unit}, ${round === 0 ? 'warm-up  ' : `round ${round}/${rounds}`}  ${shown(values)}`)
  }
  if (curve.oneByOne) {
    for (const size of sizes) {
      const work = await curve.at(size, context)
      for (let round = first; round <= rounds; round++) await measure(size, round, work)
    }
  } else {
    const works = new Map<number, () => Promise<Values>>()
    for (const size of sizes) works.set(size, await curve.at(size, context))
    for (let round = first; round <= rounds; round++) {
      // There and back, so that what only grows with time weighs on all alike.
      const order = round % 2 === 0 ? sizes : [...sizes].reverse()
      for (const size of order) await measure(size, round, works.get(size)!)
    }
  }
  return sizes.map((size) => pointOf(size, found.get(size)!))
}

export type Verdict = Readonly<{ words: string; value: number; limit: number; kept: boolean; x: number }>
/** What a limit comes to in figures: what is seen where it is to hold, and what may be. */
export const judge = (limit: Limit, points: readonly Point[]): Verdict | null => {
  const first = points[0]?.median[limit.measure]
  const point = limit.x === undefined ? points.at(-1) : points.find((p) => p.x === limit.x)
  const value = point?.median[limit.measure]
  if (first == null || value == null || !point) return null
  const bound = limit.ratio ? first * limit.at : limit.at
  return { words: limit.words, value, limit: bound, kept: limit.kind === 'at most' ? value <= bound : value >= bound, x: point.x }
}
