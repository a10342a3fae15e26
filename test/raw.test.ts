import { describe, expect, test } from 'vitest'
import { maxDepth, rawMember, rawMembers } from '../src/contracts/raw.ts'

describe('rawMember', () => {
  test.each([
    ['{"a":1}', '1'],
    ['{"a":9007199254740993}', '9007199254740993'],
    ['{"a":1.0e+10}', '1.0e+10'],
    ['{"a":-0}', '-0'],
    ['{"a":[]}', '[]'],
    ['{"a":{}}', '{}'],
    ['{"a":""}', '""'],
    ['{"a":null,"b":1}', 'null'],
    ['{"b":{"a":1},"a":2}', '2'],
    ['{"b":"\\"a\\":3","a":4}', '4'],
    ['{"b":"\\\\","a":5}', '5'],
    ['{"b":"\\\\\\"","a":6}', '6'],
    [' \n{ "a"\t:\r\n [ 1 , "}" , {"x":"]"} ] \n , "z":0 } ', '[ 1 , "}" , {"x":"]"} ]'],
    ['{"a":"\\u00e9é\\ud83d\\ude00😀"}', '"\\u00e9é\\ud83d\\ude00😀"'],
    ['{"a" : true }', 'true'],
    ['{"\\u0061":7}', '7'],
  ])('takes the member from %s as it stands', (text, expected) => {
    expect(rawMember(text, 'a')).toBe(expected)
  })

  test.each(['{}', ' { } ', '{"b":1}', '{"b":{"a":1}}', '{"b":"a"}', '{"A":1}', '{"b":["a",1]}'])('finds nothing in %s', (text) => {
    expect(rawMember(text, 'a')).toBeUndefined()
  })

  test('takes the last of several members of one name, as JSON.parse does', () => {
    const text = '{"a":1,"\\u0061":2,"b":{"a":4},"a":[3]}'
    expect(rawMember(text, 'a')).toBe('[3]')
    expect(JSON.parse(text).a).toEqual([3])
  })

  test('takes several members in one pass, and __proto__ does no harm', () => {
    const found = rawMembers('{"__proto__":{"x":1},"metadata":{"n":1e400},"other":0,"parameters":{"n":18446744073709551616}}', ['parameters', 'metadata'])
    expect({ ...found }).toEqual({ parameters: '{"n":18446744073709551616}', metadata: '{"n":1e400}' })
    expect(rawMember('{"__proto__":{"x":1}}', '__proto__')).toBe('{"x":1}')
    expect(rawMember('{}', 'constructor')).toBeUndefined()
  })

  test('agrees with JSON.parse on many made-up objects', () => {
    let seed = 1
    const random = (n: number): number => (seed = (seed * 48271) % 2147483647) % n
    const made = (depth: number): unknown => {
      const kind = random(depth > 3 ? 5 : 7)
      if (kind === 0) return random(1e9) / 7
      if (kind === 1) return ['"', '\\', '\\"', '}', ']', ',', ':', '\n', 'é', '\\\\"', ''][random(11)]
      if (kind === 2) return null
      if (kind === 3) return random(2) === 0
      if (kind === 4) return '"{[\\'.repeat(random(4))
      const size = random(4)
      if (kind === 5) return Array.from({ length: size }, () => made(depth + 1))
      return Object.fromEntries(Array.from({ length: size }, (_, i) => [`${'"\\k}'.slice(0, random(5))}${i}`, made(depth + 1)]))
    }
    for (let i = 0; i < 2000; i += 1) {
      const value = { before: made(0), wanted: made(0), after: made(0) }
      const text = JSON.stringify(value, null, random(3))
      expect(JSON.parse(rawMember(text, 'wanted') ?? '')).toEqual(value.wanted)
      expect(JSON.parse(rawMember(text, 'after') ?? '')).toEqual(value.after)
    }
  })

  test('takes a value nested 500,000 deep', () => {
    const deep = '['.repeat(500_000) + ']'.repeat(500_000)
    expect(rawMember(`{"a":${deep},"b":2}`, 'a')).toBe(deep)
    expect(rawMember(`{"a":${deep},"b":2}`, 'b')).toBe('2')
  })

  test('takes time in proportion to the text, whatever it is made of', () => {
    const began = performance.now()
    for (const part of ['\\"', '\\\\', '{}', '[],']) rawMember(`{"b":"${part.repeat(500_000)}","a":1}`, 'a')
    expect(performance.now() - began).toBeLessThan(10_000) // some milliseconds; in proportion to its square it would be minutes
  })
})

describe('maxDepth', () => {
  test.each([
    ['1', 0],
    ['"[[["', 0],
    ['{}', 1],
    ['[[],[[]]]', 3],
    ['{"a":{"b":[1,{"c":"}]"}]}}', 4],
    ['{"a":"\\"[","b":[]}', 2],
  ])('of %s is %i', (text, depth) => {
    expect(maxDepth(text)).toBe(depth)
  })

  test('counts 500,000 levels without a stack', () => {
    expect(maxDepth('['.repeat(500_000) + ']'.repeat(500_000))).toBe(500_000)
  })
})
