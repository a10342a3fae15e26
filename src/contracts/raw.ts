/**
 * Members of a JSON text, cut out byte for byte: parsing and writing again would round big integers and reorder nothing
 * we may reorder. All functions take a text that JSON.parse has already accepted; none of them recurses, so depth is no danger.
 */

export const QUOTE = 34
export const COMMA = 44
const BACKSLASH = 92
export const OPEN_BRACKET = 91
export const CLOSE_BRACKET = 93
export const OPEN_BRACE = 123
export const CLOSE_BRACE = 125

/** The position after the string that begins at `start`, its opening quote. */
export const afterString = (text: string, start: number): number => {
  for (let from = start + 1; ; ) {
    const quote = text.indexOf('"', from)
    if (quote < 0) return text.length
    let slash = quote - 1
    while (text.charCodeAt(slash) === BACKSLASH) slash -= 1
    // An even number of backslashes escape each other; an odd one is left for the quote.
    if ((quote - slash) % 2 === 1) return quote + 1
    from = quote + 1
  }
}

/** The position after the object or array that begins at `start`. */
const afterNested = (text: string, start: number): number => {
  let depth = 0
  for (let at = start; at < text.length; at += 1) {
    const c = text.charCodeAt(at)
    if (c === QUOTE) at = afterString(text, at) - 1
    else if (c === OPEN_BRACE || c === OPEN_BRACKET) depth += 1
    else if ((c === CLOSE_BRACE || c === CLOSE_BRACKET) && --depth === 0) return at + 1
  }
  return text.length
}

/** JSON's white space is all at or below the space; nothing else there can stand outside a string. */
export const afterSpace = (text: string, start: number): number => {
  let at = start
  while (text.charCodeAt(at) <= 32) at += 1
  return at
}

export const afterScalar = (text: string, start: number): number => {
  for (let at = start; at < text.length; at += 1) {
    const c = text.charCodeAt(at)
    if (c === COMMA || c === CLOSE_BRACE || c === CLOSE_BRACKET || c <= 32) return at
  }
  return text.length
}

export const afterValue = (text: string, start: number): number => {
  const c = text.charCodeAt(start)
  if (c === QUOTE) return afterString(text, start)
  return c === OPEN_BRACE || c === OPEN_BRACKET ? afterNested(text, start) : afterScalar(text, start)
}

/**
 * The raw JSON texts of several top-level members, in one pass.
 * Of members with the same name the last counts, as for JSON.parse; names are compared after unescaping.
 * @param text a JSON object, already accepted by JSON.parse
 * @returns the members found, without white space around them; a key that is missing in the text is missing here
 */
export const rawMembers = <K extends string>(text: string, keys: readonly K[]): Partial<Record<K, string>> => {
  const found = Object.create(null) as Partial<Record<K, string>>
  let at = afterSpace(text, 0) + 1
  for (;;) {
    at = afterSpace(text, at)
    if (text.charCodeAt(at) !== QUOTE) return found
    const nameEnd = afterString(text, at)
    const plain = text.slice(at + 1, nameEnd - 1)
    const name = plain.includes('\\') ? (JSON.parse(text.slice(at, nameEnd)) as string) : plain
    const start = afterSpace(text, afterSpace(text, nameEnd) + 1)
    const end = afterValue(text, start)
    if ((keys as readonly string[]).includes(name)) found[name as K] = text.slice(start, end)
    at = afterSpace(text, end) + 1
  }
}

/**
 * The raw JSON text of one top-level member; see {@link rawMembers}.
 * @param text a JSON object, already accepted by JSON.parse
 */
export const rawMember = (text: string, key: string): string | undefined => rawMembers(text, [key])[key]

/** How deep objects and arrays are nested: 0 for a scalar, 1 for `{}`. Brackets within strings do not count. */
export const maxDepth = (text: string): number => {
  let depth = 0
  let deepest = 0
  for (let at = 0; at < text.length; at += 1) {
    const c = text.charCodeAt(at)
    if (c === QUOTE) at = afterString(text, at) - 1
    else if (c === OPEN_BRACE || c === OPEN_BRACKET) {
      depth += 1
      if (depth > deepest) deepest = depth
    } else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) depth -= 1
  }
  return deepest
}
