/**
 * One spelling for JSON texts that say the same, whatever their order of members, white space, escapes and way of writing numbers. Much
 * like RFC 8785, which we cannot use: it rounds numbers to doubles, and 9007199254740993 would be 9007199254740992. Here each keeps its digits.
 */
import { afterScalar, afterSpace, afterString, CLOSE_BRACE, CLOSE_BRACKET, OPEN_BRACE, OPEN_BRACKET, QUOTE } from './raw.ts'

const ZERO = 48
/** An exponent of more digits is kept as it is written: nobody means it. */
const MAX_EXPONENT_DIGITS = 15

/** `-12.50e1` is -125: a sign, digits that neither begin nor end with 0, and the power of ten they are multiplied with. */
const canonicalNumber = (text: string): string => {
  const negative = text.startsWith('-')
  const e = text.search(/[eE]/)
  const mantissa = text.slice(negative ? 1 : 0, e < 0 ? undefined : e)
  const exponent = e < 0 ? '0' : text.slice(e + 1)
  if (exponent.length > MAX_EXPONENT_DIGITS) return text
  const point = mantissa.indexOf('.')
  const digits = point < 0 ? mantissa : mantissa.slice(0, point) + mantissa.slice(point + 1)
  // Not by a pattern: /0+$/ takes a time that grows with the square of what it is given.
  let first = 0
  let last = digits.length
  while (first < last && digits.charCodeAt(first) === ZERO) first++
  while (last > first && digits.charCodeAt(last - 1) === ZERO) last--
  if (first === last) return '0'
  const power = Number(exponent) - (point < 0 ? 0 : mantissa.length - point - 1) + (digits.length - last)
  return `${negative ? '-' : ''}${digits.slice(first, last)}e${power}`
}

/** A string without escapes is written as it would be anyway: no surrogate can stand alone in what was UTF-8. */
const canonicalString = (text: string): string => (text.includes('\\') ? JSON.stringify(JSON.parse(text)) : text)

/**
 * @param text JSON that JSON.parse has accepted, and that is not nested deep: this recurses. Of members with one name the last counts, as there.
 * @param without a member of the whole that is left out
 */
export const canonicalJson = (text: string, without?: string): string => {
  let at = 0
  const string = (): string => {
    const start = at
    at = afterString(text, at)
    return canonicalString(text.slice(start, at))
  }
  /** What stands between brackets, `item` by `item`; leaves `at` behind them. */
  const each = (close: number, item: () => void): void => {
    at = afterSpace(text, at + 1)
    while (text.charCodeAt(at) !== close) {
      item()
      at = afterSpace(text, at)
      if (text.charCodeAt(at) !== close) at = afterSpace(text, at + 1)
    }
    at++
  }
  const object = (left?: string): string => {
    const members = new Map<string, string>()
    each(CLOSE_BRACE, () => {
      const name = string()
      at = afterSpace(text, afterSpace(text, at) + 1)
      members.set(name, value())
    })
    if (left !== undefined) members.delete(JSON.stringify(left))
    return `{${[...members.keys()].sort().map((name) => `${name}:${members.get(name)}`).join(',')}}`
  }
  const array = (): string => {
    const items: string[] = []
    each(CLOSE_BRACKET, () => items.push(value()))
    return `[${items.join(',')}]`
  }
  const value = (): string => {
    const c = text.charCodeAt(at)
    if (c === QUOTE) return string()
    if (c === OPEN_BRACE) return object()
    if (c === OPEN_BRACKET) return array()
    const start = at
    at = afterScalar(text, at)
    const scalar = text.slice(start, at)
    return scalar === 'true' || scalar === 'false' || scalar === 'null' ? scalar : canonicalNumber(scalar)
  }
  at = afterSpace(text, 0)
  return text.charCodeAt(at) === OPEN_BRACE ? object(without) : value()
}
