/** Draws a curve as SVG: axes with units, a line for each measure, what is to be kept as a dashed line. Readable on light and on dark ground. */
export type Line = Readonly<{ words: string; points: readonly (readonly [x: number, y: number])[] }>
export type Drawing = Readonly<{ title: string; x: Readonly<{ words: string; log: boolean }>; y: Readonly<{ unit: string; log: boolean }>; lines: readonly Line[]; limits: readonly Readonly<{ y: number; words: string }>[] }>

const [WIDTH, HEIGHT] = [720, 400]
const AREA = { left: 72, right: 700, top: 64, bottom: 340 }
const COLOURS = 5

const escape = (text: string): string => text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!)
/** As people write it: 1,000 and 0.2. */
const written = (n: number): string => (Math.abs(n) >= 1 ? n.toLocaleString('en', { maximumFractionDigits: 2 }) : String(Number(n.toPrecision(2))))

type Scale = Readonly<{ at: (value: number) => number; ticks: readonly number[] }>

/** Steps of 1, 2 or 5 times a power of ten: about so many of them up to `most`. */
const roundSteps = (most: number, count: number): number[] => {
  const raw = most / count
  const power = 10 ** Math.floor(Math.log10(raw))
  const step = [1, 2, 5, 10].find((n) => n * power >= raw)! * power
  return Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, i) => Number((i * step).toPrecision(12)))
}
const linear = (most: number, from: number, to: number): Scale => {
  const ticks = roundSteps(most || 1, 5)
  const end = ticks.at(-1)!
  return { ticks, at: (value) => from + (value / end) * (to - from) }
}
/** `ticks`: those that are written; without them each power of ten. */
const logarithmic = (least: number, most: number, from: number, to: number, ticks?: readonly number[]): Scale => {
  const [low, high] = ticks ? [Math.log10(least), Math.log10(most)] : [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most) - 1e-9)]
  const powers = Array.from({ length: Math.round(high - low) + 1 }, (_, i) => 10 ** (low + i))
  return { ticks: ticks ?? powers, at: (value) => from + ((Math.log10(value) - low) / (high - low || 1)) * (to - from) }
}

const STYLE = `
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: 600 }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .limit { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 6 4 } .limit-words { fill: #cf222e }
  .line { fill: none; stroke-width: 2 }
  .c0 { stroke: #0969da; fill: #0969da } .c1 { stroke: #1a7f37; fill: #1a7f37 } .c2 { stroke: #9a6700; fill: #9a6700 } .c3 { stroke: #8250df; fill: #8250df } .c4 { stroke: #57606a; fill: #57606a }
  path.line { fill: none }
  .ground { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .grid { stroke: #30363d } .ground { fill: #0d1117 } .limit { stroke: #ff7b72 } .limit-words { fill: #ff7b72 }
    .c0 { stroke: #58a6ff; fill: #58a6ff } .c1 { stroke: #3fb950; fill: #3fb950 } .c2 { stroke: #d29922; fill: #d29922 } .c3 { stroke: #bc8cff; fill: #bc8cff } .c4 { stroke: #8b949e; fill: #8b949e }
    path.line { fill: none }
  }`

export const draw = ({ title, x, y, lines, limits }: Drawing): string => {
  const xs = [...new Set(lines.flatMap((line) => line.points.map(([at]) => at)))].sort((a, b) => a - b)
  const ys = [...lines.flatMap((line) => line.points.map(([, value]) => value)), ...limits.map((limit) => limit.y)]
  const positive = ys.filter((value) => value > 0)
  const across = x.log ? logarithmic(xs[0]!, xs.at(-1)!, AREA.left + 12, AREA.right - 24, xs) : linear(xs.at(-1)!, AREA.left, AREA.right - 24)
  const up = y.log ? logarithmic(Math.min(...positive), Math.max(...positive), AREA.bottom, AREA.top) : linear(Math.max(...ys) * 1.05, AREA.bottom, AREA.top)
  const place = (scale: Scale, value: number) => scale.at(value).toFixed(1)
  const at = (value: number) => place(up, y.log ? Math.max(value, Math.min(...positive)) : value)

  const grid = up.ticks.map((tick) => `<line class="grid" x1="${AREA.left}" x2="${AREA.right}" y1="${at(tick)}" y2="${at(tick)}"/><text x="${AREA.left - 8}" y="${at(tick)}" dy="4" text-anchor="end">${written(tick)}</text>`)
  const below = (x.log ? across.ticks : xs).map((tick) => `<line class="grid" x1="${place(across, tick)}" x2="${place(across, tick)}" y1="${AREA.bottom}" y2="${AREA.bottom + 5}"/><text x="${place(across, tick)}" y="${AREA.bottom + 20}" text-anchor="middle">${written(tick)}</text>`)
  const drawn = lines.map(({ points }, i) => {
    const colour = `c${i % COLOURS}`
    const path = points.map(([px, py], n) => `${n === 0 ? 'M' : 'L'}${place(across, px)} ${at(py)}`).join('')
    return `<path class="line ${colour}" d="${path}"/>${points.map(([px, py]) => `<circle class="${colour}" cx="${place(across, px)}" cy="${at(py)}" r="3"><title>${written(px)}: ${written(py)} ${escape(y.unit)}</title></circle>`).join('')}`
  })
  let left = AREA.left
  const legend = lines.map(({ words }, i) => {
    const here = left
    left += 30 + words.length * 6.4
    return `<circle class="c${i % COLOURS}" cx="${here + 4}" cy="42" r="4"/><text x="${here + 13}" y="46">${escape(words)}</text>`
  })
  const dashed = limits.map((limit) => `<line class="limit" x1="${AREA.left}" x2="${AREA.right}" y1="${at(limit.y)}" y2="${at(limit.y)}"/><text class="limit-words" x="${AREA.right}" y="${Number(at(limit.y)) - 6}" text-anchor="end">${escape(limit.words)}</text>`)
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escape(title)}">
<style>${STYLE}
</style>
<rect class="ground" width="${WIDTH}" height="${HEIGHT}" rx="6"/>
<text class="title" x="${AREA.left}" y="24">${escape(title)}</text>
${legend.join('\n')}
${grid.join('\n')}
${below.join('\n')}
${dashed.join('\n')}
${drawn.join('\n')}
<text x="${(AREA.left + AREA.right) / 2}" y="${AREA.bottom + 44}" text-anchor="middle">${escape(x.words)}</text>
<text x="16" y="${(AREA.top + AREA.bottom) / 2}" text-anchor="middle" transform="rotate(-90 16 ${(AREA.top + AREA.bottom) / 2})">${escape(y.unit)}</text>
</svg>
`
}
