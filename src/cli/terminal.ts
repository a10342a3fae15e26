/** Where a command writes: results to stdout, remarks to stderr; and what a terminal adds, colours and a line that changes. */
import { styleText } from 'node:util'
import { cut } from './text.ts'

export type Style = Parameters<typeof styleText>[0]
export type Stream = NodeJS.WriteStream

export type Terminal = {
  /** A line of the result. */
  out(line: string): void
  /** A line for people beside the result. */
  note(line: string): void
  /** Whether people see what `note` writes. */
  readonly watched: boolean
  /** Columns of stdout; without end when it is no terminal. */
  readonly width: number
  /** A text for stdout; coloured only on a terminal, and not with NO_COLOR. */
  paint(style: Style, text: string): string
  /** Shows a line that changes, on stderr when that is a terminal, once a second has gone by; returns what ends it. */
  progress(line: () => string): () => void
}

const FIRST_SHOWN_MS = 1000
const REDRAWN_MS = 250
const CLEAR_LINE = '\r\x1b[2K'

export const createTerminal = (stdout: Stream, stderr: Stream): Terminal => {
  let shown = false
  const clear = (): void => {
    if (shown) stderr.write(CLEAR_LINE)
    shown = false
  }
  return {
    out: (line) => {
      clear()
      stdout.write(`${line}\n`)
    },
    note: (line) => {
      clear()
      stderr.write(`${line}\n`)
    },
    watched: stderr.isTTY === true,
    width: stdout.isTTY ? stdout.columns || 80 : Infinity,
    paint: (style, text) => styleText(style, text, { stream: stdout }),
    progress: (line) => {
      if (!stderr.isTTY) return () => {}
      const began = performance.now()
      const timer = setInterval(() => {
        if (performance.now() - began < FIRST_SHOWN_MS) return
        shown = true
        stderr.write(`${CLEAR_LINE}${cut(line(), (stderr.columns || 80) - 1)}`)
      }, REDRAWN_MS)
      return () => {
        clearInterval(timer)
        clear()
      }
    },
  }
}
