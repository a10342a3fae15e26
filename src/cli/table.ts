/** Tables for people: as wide as what they hold, and no wider than the terminal. */
import type { Style } from './terminal.ts'
import { cut, displayWidth } from './text.ts'

export type Column<Row> = {
  title: string
  of: (row: Row) => string
  style?: (row: Row) => Style | undefined
  /** It may be cut down to so many columns, and left out if there is no room for these; without this it is always whole, as an id must be. */
  least?: number
}

type Paint = (style: Style, text: string) => string
const GAP = '  '

/** How wide each column may be; 0 for one that is left out. Those furthest to the right go first. */
const fit = (natural: readonly number[], least: readonly (number | undefined)[], width: number): number[] => {
  const total = (widths: readonly number[]): number => widths.reduce((sum, w) => sum + (w > 0 ? w + GAP.length : 0), -GAP.length)
  const smallest = natural.map((w, i) => Math.min(w, least[i] ?? w))
  const widths = [...natural]
  while (total(smallest) > width) {
    const last = smallest.findLastIndex((w, i) => w > 0 && least[i] !== undefined)
    if (last < 0) break
    smallest[last] = widths[last] = 0
  }
  while (total(widths) > width) {
    // The widest of those that can gives.
    const room = widths.map((w, i) => (w > smallest[i]! ? w : 0))
    const widest = room.indexOf(Math.max(...room))
    if (room[widest] === 0) break
    widths[widest]!--
  }
  return widths
}

/** @param width of the terminal */
export const table = <Row>(rows: readonly Row[], columns: readonly Column<Row>[], width: number, paint: Paint): string[] => {
  const cells = rows.map((row) => columns.map((column) => column.of(row)))
  const natural = columns.map((column, i) => Math.max(displayWidth(column.title), ...cells.map((row) => displayWidth(row[i]!))))
  const widths = fit(natural, columns.map((column) => column.least), width)
  const last = widths.findLastIndex((w) => w > 0)
  const line = (texts: string[], styleOf: (column: Column<Row>) => Style | undefined): string =>
    texts
      .flatMap((text, i) => {
        const columns_ = widths[i]!
        if (columns_ === 0) return []
        const shown = cut(text, columns_)
        const style = styleOf(columns[i]!)
        const padding = i === last ? '' : ' '.repeat(columns_ - displayWidth(shown))
        return [`${style === undefined ? shown : paint(style, shown)}${padding}`]
      })
      .join(GAP)
      .trimEnd()
  return [line(columns.map((c) => c.title), () => 'bold'), ...rows.map((row, i) => line(cells[i]!, (column) => column.style?.(row)))]
}

/** Names and values, one a line; a value of several lines is indented below its name. */
export const fields = (pairs: readonly (readonly [name: string, value: string | undefined])[], paint: Paint): string[] => {
  const given = pairs.filter((pair): pair is readonly [string, string] => pair[1] !== undefined)
  const width = Math.max(...given.map(([name]) => name.length)) + GAP.length
  return given.map(([name, value]) => `${paint('bold', name.padEnd(width))}${value.replaceAll('\n', `\n${' '.repeat(width)}`)}`)
}
