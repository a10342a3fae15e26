/** What comes in: bodies as text (so that a task's payload keeps its bytes), queries and ids, each checked before anything is stored. */
import express, { type Request, type RequestHandler } from 'express'
import { z } from 'zod'
import { maxDepth } from '../contracts/raw.ts'
import { InvalidJson, InvalidRequest, SwitchyardError } from '../errors.ts'

export const MAX_BODY_BYTES = 1024 * 1024
const MAX_DEPTH = 32

const bytes = express.raw({ type: () => true, limit: MAX_BODY_BYTES })
// A BOM is kept, and is then no JSON; bytes that are not UTF-8 are refused rather than replaced.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** For what takes no members: a body or a query. */
export const Empty = z.strictObject({})

/** A JSON body: its text and what it says. */
export type Body = { text: string; value: unknown }

const isJson = (contentType: string | undefined): boolean => {
  const [type, ...parameters] = (contentType ?? '').toLowerCase().split(';').map((s) => s.trim())
  const charset = parameters.find((p) => p.startsWith('charset='))?.slice(8).replaceAll('"', '')
  return type === 'application/json' && (charset === undefined || charset === 'utf-8' || charset === 'utf8')
}

/**
 * Reads the body into `req.body` as a `Body`. With `optional`, no body at all (whatever its content type) reads as `{}`.
 * @throws InvalidJson (400), unsupported-media-type (415), payload-too-large (413), InvalidRequest (422) when nested too deep
 */
export const readBody = (o: { optional?: boolean } = {}): RequestHandler[] => [
  (req, _res, next) => {
    // Told at once, not after so many bytes have come, which is when the reader would say so.
    if (Number(req.headers['content-length'] ?? 0) > MAX_BODY_BYTES) throw new SwitchyardError('payload-too-large', 'the body is larger than 1 MiB')
    next()
  },
  bytes,
  (req, _res, next) => {
    const raw: Buffer | undefined = Buffer.isBuffer(req.body) ? req.body : undefined
    if (raw === undefined || raw.length === 0) {
      if (!o.optional) {
        if (req.headers['content-type'] !== undefined && !isJson(req.headers['content-type'])) throw new SwitchyardError('unsupported-media-type', 'send the body as application/json in UTF-8')
        throw new InvalidJson('the body is empty; send a JSON object')
      }
      req.body = { text: '{}', value: {} } satisfies Body
      return next()
    }
    if (!isJson(req.headers['content-type'])) throw new SwitchyardError('unsupported-media-type', 'send the body as application/json in UTF-8')
    let text: string
    let value: unknown
    try {
      text = utf8.decode(raw)
    } catch {
      throw new InvalidJson('the body is not UTF-8')
    }
    try {
      value = JSON.parse(text)
    } catch (error) {
      throw new InvalidJson(`the body is not JSON: ${(error as Error).message.replace(/[\p{Cc}]/gu, ' ').slice(0, 200)}`)
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new InvalidJson('the body must be a JSON object')
    if (maxDepth(text) > MAX_DEPTH) throw new InvalidRequest([{ pointer: '', detail: `is nested deeper than ${MAX_DEPTH} levels` }])
    req.body = { text, value } satisfies Body
    next()
  },
]

const pointer = (path: readonly PropertyKey[]): string => path.map((p) => `/${String(p).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')

/** @throws InvalidRequest naming each fault */
export const check = <T>(schema: z.ZodType<T>, value: unknown): T => {
  const read = schema.safeParse(value)
  if (read.success) return read.data
  throw new InvalidRequest(
    read.error.issues.slice(0, 20).flatMap((i) =>
      i.code === 'unrecognized_keys'
        ? i.keys.slice(0, 20).map((k) => ({ pointer: pointer([...i.path, k.slice(0, 100)]), detail: 'is not known here' }))
        : [{ pointer: pointer(i.path), detail: i.message }],
    ),
  )
}

const MAX_QUERY = 4096
/** For routes that take no query: a parameter is refused rather than silently ignored. */
export const noQuery: RequestHandler = (req, _res, next) => {
  query(Empty, req)
  next()
}

/** The query, each parameter once, checked by a strict schema. */
export const query = <T>(schema: z.ZodType<T>, req: Request): T => {
  const search = req.originalUrl.indexOf('?')
  const text = search < 0 ? '' : req.originalUrl.slice(search + 1)
  if (text.length > MAX_QUERY) throw new InvalidRequest([{ pointer: '', detail: `the query is longer than ${MAX_QUERY} characters` }])
  const values: Record<string, string> = Object.create(null)
  if (text === '') return check(schema, {})
  for (const [name, value] of new URLSearchParams(text)) {
    if (name in values) throw new InvalidRequest([{ pointer: name.slice(0, 100), detail: 'is given more than once' }])
    values[name] = value
  }
  return check(schema, { ...values })
}

export const Flag = z.enum(['true', 'false']).transform((s) => s === 'true')
export const Limit = z
  .string()
  .regex(/^\d{1,4}$/, 'must be a whole number from 1 to 200')
  .transform(Number)
  .refine((n) => n >= 1 && n <= 200, 'must be a whole number from 1 to 200')
  .meta({ type: 'integer', minimum: 1, maximum: 200, description: 'How many in a page.' })

/** A cursor is ours to read: base64url of where to go on. */
export const toCursor = (at: string): string => Buffer.from(at).toString('base64url')
export const Cursor = (form: RegExp) =>
  z
    .string()
    .max(300)
    .transform((s, context) => {
      const at = Buffer.from(s, 'base64url').toString()
      if (form.test(at) && toCursor(at) === s) return at
      context.addIssue({ code: 'custom', message: 'is not a cursor that this server gave' })
      return z.NEVER
    })
    .describe('`next_cursor` of the page before.')
