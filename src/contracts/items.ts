/**
 * The items of `{"tasks": [...]}`, each as the JSON text that was sent, found without parsing the whole: a batch may be large, and each item is
 * parsed by itself. What is between the items is checked here, so that texts whose items are JSON are JSON as a whole.
 */
import { afterValue, CLOSE_BRACE, CLOSE_BRACKET, COMMA, OPEN_BRACE, OPEN_BRACKET } from './raw.ts'

const COLON = 58

/** Unlike raw.ts's, this looks at text that nobody has looked at. */
const afterSpace = (text: string, start: number): number => {
  for (let at = start; ; at++) {
    const c = text.charCodeAt(at)
    if (c !== 32 && c !== 10 && c !== 13 && c !== 9) return at
  }
}

/**
 * @param text anything
 * @yields each item, which may be no JSON
 * @returns false when the text is not of this form: it may be JSON of another, or none
 */
export function* itemsOf(text: string, member: string): Generator<string, boolean> {
  let at = afterSpace(text, 0)
  /** Goes on behind the character, if that is the next. */
  const take = (c: number): boolean => {
    if (text.charCodeAt(at) !== c) return false
    at = afterSpace(text, at + 1)
    return true
  }
  if (!take(OPEN_BRACE) || !text.startsWith(`"${member}"`, at)) return false
  at = afterSpace(text, at + member.length + 2)
  if (!take(COLON) || !take(OPEN_BRACKET)) return false
  if (!take(CLOSE_BRACKET)) {
    do {
      const end = afterValue(text, at)
      if (end === at) return false
      yield text.slice(at, end)
      at = afterSpace(text, end)
    } while (take(COMMA))
    if (!take(CLOSE_BRACKET)) return false
  }
  return take(CLOSE_BRACE) && at === text.length
}
