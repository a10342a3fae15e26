/** What no member or parameter should be: by its schema, and by its name where the schema cannot say it. */
import type { Schema } from '../src/api/openapi.ts'
import { accepts, known } from './api-document.ts'

/** A JSON text, and what it reads as. */
export type Text = { text: string; value: unknown }
const raw = (text: string): Text => ({ text, value: JSON.parse(text) })
const json = (value: unknown): Text => ({ text: JSON.stringify(value), value })

const many = <T>(n: number, make: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => make(i))

/** Offered to every member; those that its schema lets pass are not wrong. */
export const HOSTILE: Text[] = [
  ...['null', 'true', 'false', '[]', '{}', '[[]]', '[null]', '{"a":1}', '0', '5', '-1', '0.5', '-0.1', '1e9', '1e12', '1e15', '1e999', '-1e999', '1e-999', '9007199254740993', '"5"', '"\\ud800"', '"\\u0000"'].map(raw),
  ...['', ' ', 'x', 'a:b', '{x}', '.a', '-a', '_a', 'a b', 'ä', 'a\n', '\na', 'a\u0000', 'a/b', '../x', '..', '@x', '__proto__', 'constructor', 'toString', '\u202eevil', '①', 'a\r\nx: y', 'x'.repeat(5000)].map(json),
]

/** The first values beyond its bounds. */
const beyond = ({ type, minimum, maximum, maxLength, maxItems, items }: Schema & { minimum?: number; maximum?: number; maxLength?: number; maxItems?: number }): Text[] => [
  ...(minimum === undefined ? [] : [json(type === 'integer' ? minimum - 1 : minimum - 0.001)]),
  ...(maximum === undefined ? [] : [json(type === 'integer' ? maximum + 1 : maximum + 0.001)]),
  ...(maxLength === undefined ? [] : [json('x'.repeat(maxLength + 1))]),
  ...(maxItems === undefined || !items ? [] : [json(many(maxItems + 1, (i) => (known(items).type === 'string' ? `c${i}` : 0))), json(many(10_000, () => 'same'))]),
]

const CONTROL = ['a\u0000b', 'a\nb', 'a\u0085b', '\u007f'].map(json).concat(raw('"\\ud800"'))
const TIMES = ['tomorrow', '2026-02-30T00:00:00Z', '2026-01-01', '2026-01-01T00:00:00', '20260101T000000Z', '2026-01-01T25:00:00Z'].map(json)
const METADATA = [json(Object.fromEntries(many(65, (i) => [`k${i}`, i]))), raw('{"\\ud800":1}'), raw('{"\\udfff":1}')]

/** What a schema cannot say, by the name of the member, and the route where a name means several things. */
const BY_NAME: Record<string, Text[]> = {
  host: [
    'h h', '2130706433', '0x7f.1', '0177.0.0.1', '①②⑦.0.0.1', '127.1', '127.0.0.1.', '169.254.169.254.', '256.1.1.1', '::127.0.0.1', '::ffff:127.0.0.1', '64:ff9b::7f00:1', 'fe80::1%lo', '[::1', 'u@h', 'u:p@h', 'h#', 'h/', 'h?', 'h\\',
    'h\r\nx: y', 'h\u0000', 'http://h', 'h:0', 'h:65536', 'h:080', 'h:', 'h:9:9', 'h:x', '..', 'a..b', '-a', 'ℎost', '\u212aelvin', 'x'.repeat(301),
  ].map(json),
  callback_url: [
    '', 'app.example', 'ftp://a.example/', 'javascript:alert(1)', 'https://u:p@a.example/', 'https://2130706433/', 'https://0x7f.1/', 'https://127.1/', 'https://①②⑦.0.0.1/', 'https://a.example/#x', 'https://[::ffff:127.0.0.1]/', 'https://[::127.0.0.1]/',
    'https://a.example/\r\nx: y', 'https://a.example:0/', 'https://a.example:65536/', 'https://a.example\\@b.example/', 'https:a.example', 'https:///a.example', `https://a.example/${'x'.repeat(2048)}`,
  ].map(json),
  name: CONTROL,
  agent_name: CONTROL,
  version: CONTROL,
  run_at: [...TIMES, ...['9999-12-31T23:59:59Z', '+275760-09-13T00:00:00Z', `2026-01-01T00:00:00.${'0'.repeat(1000)}Z`].map(json)],
  timestamp: TIMES,
  cron: ['* * * *', '* * * * * * *', '60 * * * *', '* * 31 2 *', '@every 5s', '*/0 * * * *', '1-0 * * * *', 'a b c d e', '* * * * *\r\nx', '0'.repeat(200)].map(json),
  tz: ['Mars/Base', '../../etc/passwd', 'UTC\u0000', 'GMT+25'].map(json),
  cursor: ['x', '\u0000', '../..', 'A'.repeat(300)].map(json),
  metadata: METADATA,
}
/** A task's metadata is the client's: its bytes are kept as they are. So is what an agent says beside its result. */
const FREE_METADATA = ['/tasks', '/schedules']

const kindOf = (value: unknown): string => (value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value)
/** All of the kinds that it may be of; of any other kind two: one rule refuses them all. */
const telling = (texts: Text[], parts: Schema[]): Text[] => {
  const own = parts.map(({ type }) => (type === 'integer' ? 'number' : type))
  return texts.filter(({ value }, i) => own.includes(kindOf(value)) || texts.slice(0, i).filter((t) => kindOf(t.value) === kindOf(value)).length < 2)
}

/** Values that a member must not have, each alone. */
export const wrongFor = (name: string, of: Schema, path: string): Text[] => {
  const schema = known(of)
  const parts = [schema, ...(schema.anyOf ?? [])]
  const judged = telling([...HOSTILE, ...parts.flatMap((part) => beyond(known(part)))].filter(({ value }) => !accepts(schema, value)), parts.map(known))
  const special = name === 'metadata' && FREE_METADATA.some((p) => path.startsWith(p)) ? [] : (BY_NAME[name] ?? [])
  const items = schema.type === 'array' && schema.items && known(schema.items).type !== 'object' ? HOSTILE.filter(({ value }) => !accepts(schema.items!, value)).map(({ text }) => raw(`[${text}]`)) : []
  return [...judged, ...special, ...items]
}

/** Of a parameter of a query: all are text there. `a=1` is a whole parameter of its own. */
export const wrongInQuery = (name: string, of: Schema): string[] => {
  const schema = known(of)
  const numbers = ['-1', '1e9', '0x10', '1.5.5', '%201', '%D9%A1', '99999999999999999999', 'NaN', 'Infinity', '1e999', '0'.repeat(4000)]
  const texts = ['%00', 'a:b', 'a%0d%0ax', '..%2f..', '%7bx%7d', '%E0%A4%A', '%ED%A0%80', 'x'.repeat(301)]
  const values = { integer: [...numbers, '1.5', '0', String(Number(schema.maximum) + 1)], number: [...numbers, String(Number(schema.maximum) + 1)], boolean: ['1', 'yes', 'TRUE', 'null'] }[String(schema.type)]
  const bounded = schema.pattern !== undefined || schema.enum !== undefined || name === 'cursor'
  return ['', ...(values ?? (bounded ? texts : ['x'.repeat(Number(schema.maxLength) + 1)]))]
}

/** Of the headers that mean something: a header of the document that is not here fails a test. Bytes as they go over the wire. */
export const WRONG_HEADERS: Record<string, string[]> = {
  'Idempotency-Key': ['', 'x'.repeat(256), 'a b', '"', '"a', '"a"b"', '""', '\u00e4', 'a\tb', `"${'x'.repeat(256)}"`],
  'Idempotency-Key-Seconds': ['', '0', '-1', '86401', '1.5', '1e3', 'x', '5, 5', '99999999999999999999'],
  'Last-Event-ID': ['x', 'cost', 'cost.', 'cost.1', 'cost.1-', 'cost.-1', '{x}.1-1', 'cost.1-1,', `cost.${'1'.repeat(16)}-1`, '\u00e4', '../..'],
}

/** In the place of an id: none can be one of ours. */
export const WRONG_IDS = ['..%2f..', '%2e%2e', '%00', '%0d%0a', 'a%0d%0aSet-Cookie:%20x', 'x'.repeat(5120), '%7bx%7d', 'a%3ab', '%40x', '%F0%9F%92%A9', 'a%20b', '*', '__proto__', '%e2%80%ae', '.', '-', `a${'b'.repeat(128)}`]
/** These cannot even be decoded. */
export const UNDECODABLE_IDS = ['%E0%A4%A', '%', '%zz', '%c0%af', '%ff', '%ED%A0%80']
