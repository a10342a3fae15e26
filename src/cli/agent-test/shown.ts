/** The agent's words on a terminal or in a report: one line, short, and no escape sequence of its own. */

const MAX_CHARS = 160

export const shown = (text: string, max = MAX_CHARS): string => {
  const line = text
    .slice(0, 4 * max)
    .replace(/\s+/g, ' ')
    .trim()
    .replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, '\ufffd')
    .toWellFormed()
  return line.length > max ? `${line.slice(0, max - 1)}…` : line
}

export const seconds = (ms: number): string => `${Math.round(ms / 10) / 100} s`
