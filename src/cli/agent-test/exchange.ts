/**
 * One HTTP exchange with an agent that may be hostile: under one deadline that nothing it sends can move, its answer kept up to a
 * bound. It never throws: what went wrong is in what it returns.
 */
import { isUtf8 } from 'node:buffer'
import { Agent, request, type IncomingHttpHeaders } from 'node:http'
import { seconds, shown } from './shown.ts'
import { pause } from './waiting.ts'

/** The most that an answer may be (docs/protocol.md, T10). */
export const MAX_ANSWER_BYTES = 1024 * 1024

export type Exchange = {
  /** What was sent, in a few words. */
  sent: string
  /** Null when no answer came, and `error` says why. */
  status: number | null
  headers: IncomingHttpHeaders
  body: Buffer
  /** Its body as JSON; undefined when it is none. */
  json: unknown
  tooBig: boolean
  error: string | null
  /** Whether a connection was made at all. */
  connected: boolean
  /** By performance.now(). */
  startedAt: number
  endedAt: number
}

export type Sending = {
  method: string
  url: string
  headers?: Record<string, string>
  /** Pieces are sent without a Content-Length, in chunks. */
  body?: Buffer | readonly Buffer[]
  timeoutMs: number
  /** Hangs up. */
  signal?: AbortSignal | undefined
  agent?: Agent
}

export const exchange = ({ method, url, headers = {}, body, timeoutMs, signal, agent }: Sending): Promise<Exchange> => {
  const { promise, resolve } = Promise.withResolvers<Exchange>()
  const at = new URL(url)
  const x: Exchange = { sent: `${method} ${at.pathname}`, status: null, headers: {}, body: Buffer.alloc(0), json: undefined, tooBig: false, error: null, connected: false, startedAt: performance.now(), endedAt: 0 }
  const chunks: Buffer[] = []
  let bytes = 0
  let ended = false
  const end = (error: string | null): void => {
    if (ended) return
    ended = true
    clearTimeout(timer)
    signal?.removeEventListener('abort', hangUp)
    x.endedAt = performance.now()
    x.error = error
    x.body = Buffer.concat(chunks)
    if (error === null || x.tooBig) x.json = parse(x.body)
    else x.status = null
    if (error !== null) req.destroy()
    resolve(x)
  }
  const hangUp = (): void => end('we hung up')
  const timer = setTimeout(() => end(x.status === null ? `no answer within ${seconds(timeoutMs)}` : `the answer was not finished within ${seconds(timeoutMs)}`), timeoutMs)

  const pieces = body === undefined ? [] : Buffer.isBuffer(body) ? [body] : body
  const length: Record<string, string> = Buffer.isBuffer(body) ? { 'content-length': String(body.length) } : {}
  const req = request(at, { method, headers: { ...length, ...headers }, agent: agent ?? false })
  req.once('socket', (socket) => {
    if (!socket.connecting) x.connected = true
    socket.once('connect', () => (x.connected = true))
  })
  req.on('error', (error: NodeJS.ErrnoException) => end(x.connected ? `the connection broke without an answer (${error.code ?? error.message})` : `no connection (${error.code ?? error.message})`))
  req.on('upgrade', (_res, socket) => {
    socket.destroy()
    end('it switched protocols')
  })
  req.once('response', (res) => {
    x.status = res.statusCode ?? 0
    x.headers = res.headers
    res.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= MAX_ANSWER_BYTES) return void chunks.push(chunk)
      // The status stands: the one who asks sees that it was too big.
      const { status } = x
      x.tooBig = true
      end('the answer is too big')
      x.status = status
    })
    res.once('end', () => end(null))
    res.once('error', () => end('the connection broke in the answer'))
    res.once('aborted', () => end('the connection broke in the answer'))
  })
  if (signal?.aborted) hangUp()
  else {
    signal?.addEventListener('abort', hangUp, { once: true })
    void write(req, pieces, () => ended || x.status !== null)
  }
  return promise
}

/** After so much of a body there is a moment for an early answer: who refuses it by its Content-Length may hang up then. */
const FIRST_BYTES = 65_536
const MOMENT_MS = 60

/** Piece by piece, and no further when an answer has come. */
const write = async (req: ReturnType<typeof request>, pieces: readonly Buffer[], enough: () => boolean): Promise<void> => {
  for (const piece of pieces) {
    for (let at = 0; at < piece.length && !enough() && !req.destroyed; at += FIRST_BYTES) {
      if (!req.write(piece.subarray(at, at + FIRST_BYTES))) await drained(req)
      // So that an answer is read before the next write finds the connection closed.
      if (at === 0 && piece.length > FIRST_BYTES) await pause(MOMENT_MS)
      else await new Promise((done) => setImmediate(done))
    }
  }
  if (!req.destroyed) req.end()
}

const drained = (req: ReturnType<typeof request>): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      req.off('drain', done).off('close', done)
      resolve()
    }
    req.on('drain', done).on('close', done)
  })

/** Undefined when it is no JSON, or so deep that it could not be written again, and so not be told of. */
export const parse = (body: Buffer): unknown => {
  try {
    const value: unknown = isUtf8(body) ? JSON.parse(body.toString()) : undefined
    JSON.stringify(value)
    return value
  } catch {
    return undefined
  }
}

export const member = (json: unknown, name: string): unknown => (typeof json === 'object' && json !== null ? (json as Record<string, unknown>)[name] : undefined)

/** What came, for people. */
export const came = (x: Exchange): string => (x.status === null ? (x.error ?? 'nothing') : `${x.status} ${shown(x.body.toString('utf8', 0, 1000))}`.trim())

/** The agent did the task, as far as its status says; whether the answer has the right form is for a check of its own. */
export const did = (x: Exchange): boolean => x.status !== null && x.status >= 200 && x.status < 400 && member(x.json, 'status') !== 'failed'
/** It said that it has no room. */
export const declined = (x: Exchange): boolean => x.status === 429 || x.status === 503
/** It said that this will never do. */
export const refused = (x: Exchange): boolean => x.status !== null && x.status >= 400 && x.status < 500 && ![408, 425, 429].includes(x.status)
/** For routes that an agent need not serve. */
export const unserved = (x: Exchange): boolean => x.status === 404 || x.status === 405 || x.status === 501
