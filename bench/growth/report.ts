/** What becomes of a curve's points: a file of all that was measured, drawings, and a table that takes its place in docs/scale.md. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { judge, type Curve, type Point } from './curve.ts'
import { draw } from './svg.ts'

export type Environment = Readonly<{ machine: string; versions: Readonly<Record<string, string>>; command: string; startedAt: string; loadAtEnd: number }>
export type Measured = Readonly<{ curve: string; environment: Environment; points: readonly Point[] }>

const number = (n: number | null | undefined, digits: number): string => (n == null ? '–' : n.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits }))
const fileOf = (out: string, name: string) => join(out, 'growth', name)

const drawAll = (curve: Curve, points: readonly Point[]): (readonly [file: string, svg: string])[] =>
  curve.plots.flatMap((plot) => {
    const lines = plot.measures.flatMap((key) => {
      const found = points.flatMap(({ x, median }) => (median[key] == null ? [] : [[x, median[key]] as const]))
      const words = (curve.measures.find((m) => m.key === key)?.words ?? key).replace(`, ${plot.unit}`, '')
      return found.length === 0 ? [] : [{ words, points: found }]
    })
    if (lines.length === 0) return []
    const limits = curve.limits.filter((limit) => plot.measures.includes(limit.measure)).flatMap((limit) => {
      const first = points[0]?.median[limit.measure]
      return limit.ratio && first == null ? [] : [{ y: limit.ratio ? first! * limit.at : limit.at, words: limit.words }]
    })
    return [[`${curve.name}${plot.suffix}.svg`, draw({ title: plot.title, x: { words: `${curve.x.words}${curve.x.unit === 'KB' ? ', KB' : ''}`, log: curve.x.log }, y: { unit: plot.unit, log: plot.log ?? false }, lines, limits })] as const]
  })

/** A row for each size, and what has become of each limit. */
export const tableOf = (curve: Curve, { points, environment }: Measured): string => {
  const measures = curve.measures.filter((m) => points.some((p) => p.median[m.key] != null))
  const rows = [
    [curve.x.words + (curve.x.unit === 'KB' ? ', KB' : ''), ...measures.map((m) => m.words)],
    ['---:', ...measures.map(() => '---:')],
    ...points.map((p) => [number(p.x, p.x > 0 && p.x < 1 ? 1 : 0), ...measures.map((m) => number(p.median[m.key], m.digits))]),
  ].map((cells) => `| ${cells.join(' | ')} |`)
  const verdicts = curve.limits.flatMap((limit) => {
    const verdict = judge(limit, points)
    const digits = curve.measures.find((m) => m.key === limit.measure)?.digits ?? 1
    return verdict ? [`- ${verdict.words}: **${verdict.kept ? 'kept' : 'not kept'}**, ${number(verdict.value, digits)} where ${limit.kind} ${number(verdict.limit, digits)} was to be.`] : []
  })
  const made = `Medians of ${Object.values(points[0]?.rounds ?? {})[0]?.length ?? 0} rounds. \`${environment.command}\`, ${environment.startedAt.slice(0, 10)}; ${environment.machine}, ${environment.loadAtEnd.toFixed(1)} at the end; ${Object.entries(environment.versions).map(([name, version]) => `${name} ${version}`).join(', ')}.`
  return [...rows, '', ...(verdicts.length ? [...verdicts, ''] : []), made].join('\n')
}

export const save = async (out: string, measured: Measured): Promise<void> => {
  await mkdir(join(out, 'growth'), { recursive: true })
  await writeFile(fileOf(out, `${measured.curve}.json`), `${JSON.stringify(measured, null, 1)}\n`)
}

export const load = async (out: string, curve: Pick<Curve, 'name'>): Promise<Measured | null> => {
  try {
    return JSON.parse(await readFile(fileOf(out, `${curve.name}.json`), 'utf8')) as Measured
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/** Between its marks; a page without them stays as it is. */
export const intoPage = async (page: string, name: string, table: string): Promise<void> => {
  const text = await readFile(page, 'utf8').catch(() => '')
  const [from, to] = [`<!-- growth ${name} -->\n`, `<!-- /growth ${name} -->`]
  const [start, end] = [text.indexOf(from), text.indexOf(to)]
  if (start < 0 || end < start) return
  await writeFile(page, `${text.slice(0, start + from.length)}${table}\n${text.slice(end)}`)
}

/** Makes the drawings of what was measured, and puts its table in the page beside them, `scale.md`. Returns the table. */
export const show = async (out: string, curve: Curve, measured: Measured): Promise<string> => {
  for (const [file, svg] of drawAll(curve, measured.points)) await writeFile(fileOf(out, file), svg)
  const table = tableOf(curve, measured)
  await intoPage(join(out, 'scale.md'), curve.name, table)
  return table
}
