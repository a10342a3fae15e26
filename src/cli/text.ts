/** Words for people: safe to show, of a known width, with times as one says them. */

/** What agents and clients wrote may hold anything; on a terminal, control characters would act. */
export const plain = (text: string): string => text.replace(/[\t\r\n\u2028\u2029]+/g, ' ').replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, '\ufffd')
/** The same, with its lines kept. */
export const plainLines = (text: string): string => text.split(/\r?\n/).map(plain).join('\n')

const WIDE = /\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]/u
/** Made when it is first needed, which is not by most commands: it takes as long as the rest of their start. */
let segmenter: Intl.Segmenter | undefined
const graphemesOf = (text: string): Intl.Segments => (segmenter ??= new Intl.Segmenter()).segment(text)
const widthOf = (grapheme: string): number => (WIDE.test(grapheme) ? 2 : 1)

/** How many columns of a terminal a text takes. */
export const displayWidth = (text: string): number => (/^[\x20-\x7e]*$/.test(text) ? text.length : [...graphemesOf(text)].reduce((sum, { segment }) => sum + widthOf(segment), 0))

/** A text in at most so many columns, with `…` for what is left out. */
export const cut = (text: string, columns: number): string => {
  if (displayWidth(text) <= columns) return text
  let kept = ''
  let left = columns - 1
  for (const { segment } of graphemesOf(text)) {
    left -= widthOf(segment)
    if (left < 0) break
    kept += segment
  }
  return `${kept}…`
}

const UNITS = [
  [86_400, 'd'],
  [3600, 'h'],
  [60, 'min'],
] as const

/** 30 ms, 1.3 s, 12 s, 5 min, 3 h, 2 d. */
export const duration = (ms: number): string => {
  const seconds = Math.abs(ms) / 1000
  for (const [size, unit] of UNITS) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`
  if (seconds < 1) return `${Number((seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0))} ms`
  return seconds < 10 ? `${Number(seconds.toFixed(1))} s` : `${Math.floor(seconds)} s`
}

/** `3 s ago`, or `in 3 s`. Within a second it is `now`: the router's clock need not be ours. */
export const ago = (time: string, nowMs: number = Date.now()): string => {
  const ms = nowMs - Date.parse(time)
  if (Math.abs(ms) < 1000) return 'now'
  const words = duration(Math.trunc(ms / 1000) * 1000)
  return ms > 0 ? `${words} ago` : `in ${words}`
}

/** 1 agent, 2 agents. */
export const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`
