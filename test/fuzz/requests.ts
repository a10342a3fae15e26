/**
 * Requests made up from the API's document: valid ones, some that are nearly so, and hostile ones, for every route. What only a running system
 * knows, as ids, stands in them as `@@task3@@`, and is filled in when one is sent: so one that failed can be printed, shrunk and sent again.
 */
import fc, { type Arbitrary } from 'fast-check'
import type { Parameter, Schema } from '../../src/api/openapi.ts'
import { filled, known, routes, type Route } from '../api-document.ts'
import { HOSTILE, UNDECODABLE_IDS, WRONG_HEADERS, WRONG_IDS, wrongInQuery } from '../hostile.ts'

/** How much of a request may be wrong. */
type Mood = 'valid' | 'nearly' | 'hostile'
export type Made = {
  route: Route
  mood: Mood
  method: string
  path: string
  headers: [name: string, value: string][]
  body: Buffer | null
  /** How its body is told of: by its length, in chunks, or by a length that is not its own; the connection's end is then its end. */
  framing: 'length' | 'chunks' | 'lies'
  /** Bytes replaced in what is sent, by their place: no longer HTTP, perhaps. */
  blows: { at: number; bytes: string }[]
}

const json = (value: unknown): string => JSON.stringify(value)
const texts = (values: readonly unknown[]): Arbitrary<string> => fc.constantFrom(...values.map(json))
const thing = (kind: string, count: number): Arbitrary<string> => fc.nat(count - 1).map((n) => `@@${kind}${n}@@`)

const TYPES = ['fuzz', 'fuzz', 'fuzz', 'cost', 'A_-9']
const NAMES = ['echo', 'echo', 'a.b', 'analyze_cost']
const instant = fc.integer({ min: -5_000, max: 100_000 }).map((ms) => json(new Date(Date.now() + ms).toISOString()))

/** Members of which a schema does not say enough, or from which more would come than a test needs. JSON texts. */
const BY_NAME: Record<string, Arbitrary<string>> = {
  agent_type: texts(TYPES),
  type: texts(TYPES),
  task_type: texts(NAMES),
  capabilities: fc.uniqueArray(fc.constantFrom(...NAMES), { maxLength: 4 }).map(json),
  agent_id: thing('agent', 4).map(json),
  task_id: thing('running', 2).map(json),
  attempt_id: thing('attempt', 2).map(json),
  running: fc.array(thing('attempt', 4), { maxLength: 4 }).map(json),
  cursor: thing('cursor', 4).map(json),
  // Nobody is there, or our own agent is: tasks are really sent to them.
  host: texts(['127.0.0.1', 'localhost', 'agent.invalid', '[::1]', '127.0.0.1:9', 'Agent-1.invalid.']),
  port: fc.constantFrom('9', '@@port@@'),
  callback_url: texts(['https://hooks.invalid/x', 'https://hooks.invalid:8443/?a=%20b&c', 'HTTPS://HOOKS.INVALID']),
  cron: texts(['* * * * *', '*/5 * * * * *', '0 9 * * MON-FRI', '@daily', '0 0 29 2 *', '59 59 23 31 12 *']),
  tz: texts(['UTC', 'Europe/Berlin', 'America/St_Johns', 'Pacific/Apia']),
  run_at: instant,
  timestamp: instant,
  timeout_seconds: fc.oneof(fc.constantFrom('0.01', '300', '1'), fc.double({ min: 0.01, max: 5, noNaN: true }).map(json)),
  idempotency_key: texts(['k1', 'k2', 'k3', '~!"']),
}

const anyString = fc.oneof(fc.string({ unit: 'binary', maxLength: 40 }), fc.string({ unit: 'grapheme-ascii', maxLength: 300 }), fc.constantFrom('__proto__', 'constructor', '\u202e\u0000\r\n', '\ud800', '@@task0@@', '💥'.repeat(100)))
const anyJson = fc.oneof(fc.jsonValue({ maxDepth: 4 }).map(json), fc.constantFrom(...HOSTILE.map(({ text }) => text)))
const anyObject = fc.array(fc.tuple(anyString, anyJson), { maxLength: 5 }).map((members) => `{${members.map(([k, v]) => `${json(k)}:${v}`).join(',')}}`)

/** A JSON text that its schema lets pass, mostly. */
const validText = (name: string, of: Schema, mood: Mood): Arbitrary<string> => {
  const schema = known(of) as Schema & { minimum?: number; maximum?: number; minLength?: number; maxLength?: number; maxItems?: number; pattern?: string }
  const { minimum: min = 0, maximum: max = 1e6 } = schema
  if (BY_NAME[name]) return schema.pattern === undefined ? BY_NAME[name] : fc.oneof({ weight: 12, arbitrary: BY_NAME[name] }, { weight: 1, arbitrary: fc.stringMatching(new RegExp(schema.pattern)).map(json) })
  if (schema.enum) return texts(schema.enum)
  if (schema.anyOf && schema.type === undefined) return fc.oneof(...schema.anyOf.map((one) => validText('', one, mood)))
  if (schema.type === 'integer') return fc.integer({ min, max }).map(json)
  if (schema.type === 'number') return fc.oneof(fc.double({ min, max, noNaN: true }), fc.constantFrom(min, max)).map(json)
  if (schema.type === 'boolean') return fc.constantFrom('true', 'false')
  if (schema.type === 'string') return fc.string({ unit: 'grapheme', minLength: schema.minLength ?? 0, maxLength: Math.min(schema.maxLength ?? 300, 300) }).map(json)
  if (schema.type === 'array') return fc.array(memberText('', schema.items ?? {}, mood), { maxLength: 5 }).map((items) => `[${items.join(',')}]`)
  if (schema.properties) return objectText(schema, mood)
  return schema.type === 'object' ? anyObject : anyJson
}

const memberText = (name: string, of: Schema, mood: Mood): Arbitrary<string> => {
  const valid = validText(name, of, mood)
  if (mood === 'valid') return valid
  return fc.oneof({ weight: mood === 'nearly' ? 20 : 1, arbitrary: valid }, { weight: 1, arbitrary: fc.constantFrom(...HOSTILE.map(({ text }) => text)) })
}

/** An object: what it must have, and some of the rest; not always the first of its alternatives. */
const objectText = (schema: Schema, mood: Mood): Arbitrary<string> => {
  const alternatives = (schema.anyOf ?? []).flatMap((one) => one.required ?? [])
  const needed = new Set(schema.required)
  const members = Object.entries(schema.properties!)
  return fc
    .tuple(
      fc.nat(Math.max(0, alternatives.length - 1)),
      fc.subarray(members.map(([name]) => name)),
      fc.tuple(...members.map(([name, of]) => memberText(name, of, mood))),
      mood === 'valid' ? fc.constant('') : fc.oneof({ weight: 15, arbitrary: fc.constant('') }, { weight: 1, arbitrary: fc.tuple(anyString, anyJson).map(([k, v]) => `${json(k)}:${v}`) }),
      fc.boolean(),
    )
    .map(([which, some, values, extra, first]) => {
      const has = (name: string) => (alternatives.includes(name) ? alternatives[which] === name : needed.has(name) || some.includes(name))
      const chosen = members.flatMap(([name], i) => (has(name) ? [`${json(name)}:${values[i]}`] : []))
      return `{${(extra === '' ? chosen : first ? [extra, ...chosen] : [...chosen, extra]).join(',')}}`
    })
}

const badText = (good: Arbitrary<string>): Arbitrary<Buffer> =>
  fc.oneof(
    fc.tuple(good, fc.nat(200), fc.constantFrom('', '{', '"', ',', '\u0000', '\\', ']', '\ud800')).map(([text, at, put]) => Buffer.from(text.slice(0, at) + put + text.slice(at + 1))),
    fc.tuple(good, fc.nat(200)).map(([text, at]) => Buffer.from(text.slice(0, at))),
    anyJson.map((text) => Buffer.from(text)),
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    fc.tuple(good, fc.constantFrom('utf16le' as const, 'base64' as const)).map(([text, encoding]) => Buffer.from(text, encoding)),
    fc.tuple(fc.integer({ min: 20, max: 5_000 }), fc.constantFrom('{"metadata":', '[')).map(([levels, open]) => Buffer.from(open.repeat(levels))),
  )

const bodyOf = ({ body }: Route, mood: Mood): Arbitrary<Buffer | null> => {
  if (!body) return mood === 'hostile' ? fc.option(anyJson.map((text) => Buffer.from(text)), { freq: 2 }) : fc.constant(null)
  const text = validText('', body.schema, mood)
  const good = text.map((t): Buffer | null => Buffer.from(t))
  const none = body.required && mood !== 'hostile' ? [] : [{ weight: 1, arbitrary: fc.constant(null) }]
  return mood === 'hostile' ? fc.oneof({ weight: 2, arbitrary: good }, { weight: 3, arbitrary: badText(text) as Arbitrary<Buffer | null> }, ...none) : fc.oneof({ weight: 4, arbitrary: good }, ...none)
}

const unquoted = (text: string): string => (text.startsWith('"') ? String(JSON.parse(text)) : text)
const parameterText = ({ name, schema }: Parameter, mood: Mood): Arbitrary<string> => {
  const valid = name === 'wait' ? fc.constantFrom('0', '0.01', '0.1') : validText(name === 'capability' ? 'task_type' : name, schema, mood).map((text) => (text.startsWith('"@@') ? unquoted(text) : encodeURIComponent(unquoted(text).toWellFormed())))
  if (mood === 'valid') return valid
  return fc.oneof({ weight: mood === 'nearly' ? 10 : 1, arbitrary: valid }, { weight: 1, arbitrary: fc.constantFrom(...wrongInQuery(name, schema)) })
}
const queryOf = (route: Route, mood: Mood): Arbitrary<string> => {
  const parameters = route.parameters('query')
  const each = parameters.map((p) => fc.option(parameterText(p, mood).map((value) => `${p.name}=${value}`), { freq: 2 }))
  const extra = mood === 'hostile' ? fc.option(fc.constantFrom('x=1', 'a[b]=1', '__proto__=1', '%00', '&&', '=', '?', 'limit=1&limit=1', `q=${'x'.repeat(5000)}`, '%E0%A4%A=1')) : fc.constant(null)
  return fc.tuple(fc.tuple(...each), extra).map(([some, more]) => {
    const given = [...some, more].filter((p) => p !== null)
    return given.length === 0 ? '' : `?${given.join('&')}`
  })
}

const idOf = (path: string, name: string, mood: Mood): Arbitrary<string> => {
  const kind = name === 'type' ? fc.constantFrom(...TYPES) : /\/(?:result|progress)$/.test(path) ? thing('running', 2) : path.startsWith('/tasks') ? thing('task', 8) : path.startsWith('/keys') ? fc.constantFrom('000000000000', 'AAAAAAAAAAAA') : path.startsWith('/schedules') ? fc.constantFrom('s1', 's2', 's.3') : thing('agent', 4)
  if (mood === 'valid') return kind
  const wrong = fc.oneof(fc.constantFrom(...WRONG_IDS, ...UNDECODABLE_IDS), fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }).map((s) => encodeURIComponent(s.toWellFormed()).replace(/^\.+$/, 'x')), fc.uuid().map((id) => `cost.${id}`))
  return fc.oneof({ weight: mood === 'nearly' ? 10 : 2, arbitrary: kind }, { weight: 1, arbitrary: wrong })
}

const GOOD_HEADERS: Record<string, Arbitrary<string>> = {
  'Idempotency-Key': fc.constantFrom('k1', 'k2', '"k3"', '~'.repeat(255)),
  'Idempotency-Key-Seconds': fc.constantFrom('1', '60', '86400'),
  'Last-Event-ID': fc.constantFrom('', 'fuzz.1-1', 'fuzz.999999999999999-0', 'cost.0-0,fuzz.5-5', '@@event0@@'),
}
const ODD_HEADERS: [string, string][] = [
  ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'], ['traceparent', 'x'], ['accept', 'text/html'], ['accept-encoding', 'gzip'], ['range', 'bytes=0-1'], ['if-none-match', '*'], ['cookie', 'a=b'],
  ['authorization', 'Basic Og=='], ['x-http-method-override', 'DELETE'], ['x-forwarded-host', 'evil.example'], ['origin', 'null'], ['expect', '100-continue'], ['expect', 'tea'], ['upgrade', 'websocket'], ['te', 'trailers'], ['x-long', 'x'.repeat(20_000)],
  ['content-type', 'text/plain'], ['content-type', 'application/json; charset=utf-16'], ['content-type', 'APPLICATION/JSON ; charset="UTF-8"'], ['content-encoding', 'gzip'], ['content-encoding', 'identity'], ['content-encoding', 'br, gzip'], ['__proto__', 'x'],
]
const headersOf = (route: Route, mood: Mood): Arbitrary<[string, string][]> => {
  const ours = route.parameters('header').map(({ name }) => {
    const good = GOOD_HEADERS[name] ?? fc.constant('1')
    const value = mood === 'valid' ? good : fc.oneof({ weight: 3, arbitrary: good }, { weight: 1, arbitrary: fc.constantFrom(...(WRONG_HEADERS[name] ?? [''])) })
    return fc.option(value.map((v): [string, string] => [name, v]), { freq: 2 })
  })
  const odd = mood === 'hostile' ? fc.array(fc.constantFrom(...ODD_HEADERS), { maxLength: 2 }) : fc.constant([])
  return fc.tuple(fc.tuple(...ours), odd).map(([some, more]) => [...some.filter((h) => h !== null), ...more])
}

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND', 'QUERY']

const requestFor = (route: Route, mood: Mood): Arbitrary<Made> => {
  const names = route.parameters('path').map(({ name }) => name)
  const hostile = mood === 'hostile'
  return fc
    .record({
      ids: fc.tuple(...names.map((name) => idOf(route.path, name, mood))),
      query: queryOf(route, mood),
      headers: headersOf(route, mood),
      body: bodyOf(route, mood),
      method: hostile ? fc.oneof({ weight: 6, arbitrary: fc.constant(route.method) }, { weight: 1, arbitrary: fc.constantFrom(...METHODS) }) : fc.constant(route.method),
      framing: hostile ? fc.oneof({ weight: 8, arbitrary: fc.constant('length' as const) }, { weight: 1, arbitrary: fc.constantFrom('chunks' as const, 'lies' as const) }) : fc.constant('length' as const),
      blows: hostile ? fc.oneof({ weight: 6, arbitrary: fc.constant<Made['blows']>([]) }, { weight: 1, arbitrary: fc.array(fc.record({ at: fc.nat(250), bytes: fc.constantFrom('', '\u0000', '\r', '\n', '\r\n\r\n', ' ', ':', '\u00ff', '%', '\t', '/', '?', 'x'.repeat(100)) }), { minLength: 1, maxLength: 3 }) }) : fc.constant<Made['blows']>([]),
    })
    .map(({ ids, query, ...rest }) => ({ route, mood, path: filled(route.path, (name) => ids[names.indexOf(name)]!) + query, ...rest }))
}

/** A header with a name of its own is replaced by a later one, as content-type; others stand beside each other. */
const ONCE = ['content-type', 'content-encoding', 'expect']

/** What goes over the wire. */
/** Some of the requests make keys, and one is needed then. */
export const KEY = 'k'.repeat(32)

export const wireOf = ({ method, path, headers, body, framing, blows }: Made, fill: (text: string) => string): Buffer => {
  const sent = body && Buffer.from(fill(body.toString('latin1')), 'latin1')
  const type: [string, string][] = sent && !headers.some(([name]) => name === 'content-type') ? [['content-type', 'application/json']] : []
  const length: [string, string][] = !sent ? [] : framing === 'chunks' ? [['transfer-encoding', 'chunked']] : [['content-length', String(sent.length + (framing === 'lies' ? 7 : 0))]]
  const given = headers.filter(([name], i) => !ONCE.includes(name) || headers.findIndex(([n]) => n === name) === i)
  const head = `${method} ${fill(path)} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${KEY}\r\n${[...type, ...length, ...given].map(([name, value]) => `${name}: ${fill(value)}\r\n`).join('')}\r\n`
  const chunks = framing === 'chunks' && sent ? [Buffer.from(`${Math.max(1, sent.length).toString(16)}\r\n`), sent.length > 0 ? sent : Buffer.from(' '), Buffer.from('\r\n0\r\n\r\n')] : sent ? [sent] : []
  let bytes = Buffer.concat([Buffer.from(head, 'latin1'), ...chunks])
  for (const { at, bytes: put } of blows) bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from(put, 'latin1'), bytes.subarray(at + 1)])
  return bytes
}

/** Whether it must be answered, and by its own route: its method and its form are what they should be. */
export const isWhole = ({ method, route, framing, blows }: Made): boolean => method === route.method && framing !== 'lies' && blows.length === 0

export const request: Arbitrary<Made> = fc.oneof(
  ...routes.flatMap((route) => (['valid', 'nearly', 'hostile'] as const).map((mood) => ({ weight: (route.body?.required ? 5 : route.body ? 2 : 1) * (mood === 'valid' ? 1 : 2), arbitrary: requestFor(route, mood) }))),
)
