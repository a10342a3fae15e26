/** What comes in: bodies as text (so that a task's payload keeps its bytes), queries and ids, each checked before anything is stored. */
import type { IncomingMessage } from 'node:http'
import type { Request, RequestHandler } from 'express'
import { z } from 'zod'
import { maxDepth } from '../contracts/raw.ts'
import { CURSOR_FORM, isObject, oneOf, pattern, text } from '../contracts/members.ts'
import { InvalidJson, InvalidRequest, NotFound, SwitchyardError, type Fault } from '../errors.ts'
import { typeOfTask } from '../redis/keys.ts'
import { hasBody, readBytes } from './body.ts'
import { localsOf } from './gate.ts'

const MIB = 1024 * 1024
export const MAX_BODY_BYTES = MIB
const MAX_BATCH_BYTES = 10 * MIB
export const MAX_DEPTH = 32
/** What is parsed of a larger one is worth sweeping away. */
export const LARGE_TEXT = 64 * 1024

/** How many bytes the body of a request may have, by where it goes. */
const bodyLimit = (req: IncomingMessage): number => (/^\/tasks\/batch\/?(?:\?|$)/i.test(req.url ?? '') ? MAX_BATCH_BYTES : MAX_BODY_BYTES)

// A BOM is kept, and is then no JSON; bytes that are not UTF-8 are refused rather than replaced.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** For what takes no members: a body or a query. */
export const Empty = z.strictObject({})

/** A JSON body: its text, and what it says until that is checked: a value may take thirty times the room of its text, and many requests may wait at once. */
export type Body = { text: string; value?: unknown }
/** A body that is not parsed yet. */
export type TextBody = { text: string }

const isJson = (contentType: string | undefined): boolean => {
  const [type, ...parameters] = (contentType ?? '').toLowerCase().split(';').map((s) => s.trim())
  const charset = parameters.find((p) => p.startsWith('charset='))?.slice(8).replaceAll('"', '')
  return type === 'application/json' && (charset === undefined || charset === 'utf-8' || charset === 'utf8')
}

/** Whether a body is announced that is larger than we read. */
export const announcesTooMuch = (req: IncomingMessage): boolean => Number(req.headers['content-length'] ?? 0) > bodyLimit(req)

/** What is wrong with a text that is no JSON, without the piece of it that V8 may show: that may be of a payload. */
const faultOf = (error: unknown): string => (error as Error).message.replace(/,? ?(?:\.\.\.)?".*$/s, '').slice(0, 200) || 'this is no JSON value'

export const notAnObject = (): InvalidJson => new InvalidJson('the body must be a JSON object')
/**
 * @param where in the body the text stands, for people
 * @throws InvalidJson
 */
export const parse = (text: string, where = ''): unknown => {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new InvalidJson(`the body is not JSON: ${where}${faultOf(error)}`)
  }
}

/**
 * Reads the body into `req.body` as a `TextBody`, for who parses it. With `optional`, no body at all (whatever its content type) reads as `{}`.
 * @throws InvalidJson (400) when it is not UTF-8, unsupported-media-type (415), payload-too-large (413)
 */
export const readText = (o: { optional?: boolean } = {}): RequestHandler[] => [
  async (req, res, next) => {
    const { part } = localsOf(res)
    const raw = hasBody(req) ? await readBytes(req, bodyLimit(req), part) : undefined
    part?.hasCome()
    if (raw === undefined || raw.length === 0) {
      if (!o.optional) {
        if (req.headers['content-type'] !== undefined && !isJson(req.headers['content-type'])) throw new SwitchyardError('unsupported-media-type', 'send the body as application/json in UTF-8')
        throw new InvalidJson('the body is empty; send a JSON object')
      }
      req.body = { text: '{}' } satisfies TextBody
      return next()
    }
    if (!isJson(req.headers['content-type'])) throw new SwitchyardError('unsupported-media-type', 'send the body as application/json in UTF-8')
    try {
      req.body = { text: utf8.decode(raw) } satisfies TextBody
    } catch {
      throw new InvalidJson('the body is not UTF-8')
    }
    next()
  },
]

/**
 * Reads the body into `req.body` as a `Body`. `depth`: how deep it may be nested (32). `before` may refuse it by its text, before it is parsed: it may be any text.
 * @throws as `readText`; InvalidJson (400), InvalidRequest (422) when nested too deep
 */
export const readBody = (o: { optional?: boolean; depth?: number; before?: (req: Request, text: string) => void } = {}): RequestHandler[] => [
  ...readText(o),
  (req, res, next) => {
    const { text } = req.body as TextBody
    o.before?.(req, text)
    // Before it is parsed: 400,000 brackets are 30 MB of arrays.
    const depth = o.depth ?? MAX_DEPTH
    if (maxDepth(text) > depth) throw new InvalidRequest([{ pointer: '', detail: `the body is nested deeper than ${depth} levels` }])
    const { room } = localsOf(res)
    const value = room && text.length > LARGE_TEXT ? room.tidy(() => parse(text)) : parse(text)
    if (!isObject(value)) throw notAnObject()
    req.body = { text, value } satisfies Body
    next()
  },
]

/** More are not told: whoever sent them has something else in mind. */
const MAX_FAULTS = 20
const jsonPointer = (path: readonly PropertyKey[]): string => path.map((p) => `/${String(p).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
const parameterName = (path: readonly PropertyKey[]): string => path.join('.')

export type Read<T> = { data: T } | { faults: Fault[] }
/** What a schema makes of a value, or each fault in it. Two rules with the same sentence are one fault. */
export const read = <T>(schema: z.ZodType<T>, value: unknown, place = jsonPointer): Read<T> => {
  const result = schema.safeParse(value)
  if (result.success) return { data: result.data }
  const faults = new Map<string, Fault>()
  for (const issue of result.error.issues) {
    const found = issue.code === 'unrecognized_keys' ? issue.keys.map((key) => ({ path: [...issue.path, key.slice(0, 100)], detail: 'is not known here' })) : [{ path: issue.path, detail: issue.message }]
    for (const { path, detail } of found) {
      if (faults.size < MAX_FAULTS) faults.set(`${place(path)} ${detail}`, { pointer: place(path), detail })
    }
  }
  return { faults: [...faults.values()] }
}

const MAX_QUERY = 4096

/** What schemas make of no query at all, which nearly every submit has. */
const ofNoQuery = new WeakMap<z.ZodType, Read<unknown>>()

/** The query, each parameter once, by a strict schema. */
const readQuery = <T>(schema: z.ZodType<T>, req: Request): Read<T> => {
  const search = req.originalUrl.indexOf('?')
  const text = search < 0 ? '' : req.originalUrl.slice(search + 1)
  if (text === '') {
    const known = (ofNoQuery.get(schema) as Read<T> | undefined) ?? read(schema, {}, parameterName)
    ofNoQuery.set(schema, known)
    return known
  }
  if (text.length > MAX_QUERY) return { faults: [{ pointer: '', detail: `the query is longer than ${MAX_QUERY} characters` }] }
  const values: Record<string, string> = Object.create(null)
  const doubled = new Set<string>()
  for (const [name, value] of new URLSearchParams(text)) {
    if (name in values) doubled.add(name.slice(0, 100))
    values[name] = value
  }
  const result = read(schema, { ...values }, parameterName)
  if (doubled.size === 0) return result
  return { faults: [...[...doubled].map((name) => ({ pointer: name, detail: 'is given more than once' })), ...('faults' in result ? result.faults : [])].slice(0, MAX_FAULTS) }
}

const whole = <T>(result: Read<T>): T => {
  if ('faults' in result) throw new InvalidRequest(result.faults)
  return result.data
}

/**
 * A request's query, checked by a strict schema.
 * @throws InvalidRequest naming each fault
 */
export const query = <T>(schema: z.ZodType<T>, req: Request): T => whole(readQuery(schema, req))

/** For routes that take no query: a parameter is refused rather than silently ignored. */
export const noQuery: RequestHandler = (req, _res, next) => {
  query(Empty, req)
  next()
}

/**
 * A request's body, after `readBody`, and its query.
 * @throws InvalidRequest naming each fault of both
 */
export const bodyAndQuery = <B, Q>(req: Request, schemas: { body: z.ZodType<B>; query: z.ZodType<Q> }): { body: B; query: Q } => {
  const query = readQuery(schemas.query, req)
  const body = read(schemas.body, (req.body as Body).value)
  delete (req.body as Body).value
  if ('faults' in query || 'faults' in body) throw new InvalidRequest([...('faults' in query ? query.faults : []), ...('faults' in body ? body.faults : [])])
  return { body: body.data, query: query.data }
}

/** The body of a route that takes no query. */
export const body = <B>(schema: z.ZodType<B>, req: Request): B => bodyAndQuery(req, { body: schema, query: Empty }).body

/** A task's id. One that cannot be ours is simply not there. */
export const taskId = (id: string): string => {
  if (typeOfTask(id) === undefined) throw new NotFound('there is no such task; its id is not of the form that ids have')
  return id
}

export const Flag = oneOf('true', 'false')
  .transform((s) => s === 'true')
  .meta({ type: 'boolean' })
const LIMIT_FORM = 'must be a whole number from 1 to 200'
export const Limit = pattern(/^\d{1,4}$/, LIMIT_FORM)
  .transform(Number)
  .refine((n) => n >= 1 && n <= 200, LIMIT_FORM)
  .meta({ type: 'integer', minimum: 1, maximum: 200, description: 'How many in a page at most; there are fewer where tasks are large.' })

/** A cursor is ours to read: base64url of where to go on. */
export const toCursor = (at: string): string => Buffer.from(at).toString('base64url')
export const Cursor = (form: RegExp) =>
  text(300, CURSOR_FORM)
    .transform((s, context) => {
      const at = Buffer.from(s, 'base64url').toString()
      if (form.test(at) && toCursor(at) === s) return at
      context.addIssue({ code: 'custom', message: CURSOR_FORM })
      return z.NEVER
    })
    .describe('`next_cursor` of the page before.')
