/** One call of the API: sent, bounded in time, sent again where that is safe, and its answer read or made an error. */
import { setTimeout as sleep } from 'node:timers/promises'
import { ConnectionFailed, fromProblem, SwitchyardError, TimedOut, UnexpectedAnswer } from './errors.ts'
import { retryAfterSeconds } from './retry-after.ts'
import { urlFault } from './url.ts'
import type { Problem } from './wire.ts'

export type CallOptions = {
  /** Ends the call; it then throws the signal's reason. */
  signal?: AbortSignal | undefined
  /** For the whole call, tries and pauses included; the client's own unless given. */
  timeoutSeconds?: number | undefined
}

export type Request = CallOptions & {
  query?: Record<string, string | number | boolean | undefined> | undefined
  body?: object | undefined
  headers?: Readonly<Record<string, string>> | undefined
  /**
   * When it may be sent again: `always`, as a repeat changes nothing, also when the connection broke; or only when it cannot have
   * been taken (`untaken`): no connection was made, or the answer was 429 or 503.
   */
  again: 'always' | 'untaken'
  /** A member that the answer always has: what lacks it is no router's. */
  holds?: string
  /** Answers to be read like 200. */
  accept?: readonly number[]
}

export type Http = {
  /** Opens a stream of events: the answer once its head is there. One try. */
  stream(path: string, request: { query?: Request['query']; lastEventId: string | undefined; signal: AbortSignal }): Promise<Response>
  json<T>(method: string, path: string, request: Request): Promise<T>
  text(method: string, path: string, request: Request): Promise<string>
  /** How long a call may take in which that is not said. */
  readonly timeoutSeconds: number
}

export type HttpOptions = {
  url: string
  apiKey: string | undefined
  timeoutSeconds: number
  parseJson: (text: string) => unknown
  fetch: typeof globalThis.fetch
}

const MAX_TRIES = 3
const FIRST_PAUSE_MS = 100
/** A pause that the router asks for is kept; one longer than this is left to the caller. */
const MAX_PAUSE_MS = 15_000

/** Nothing was sent: no connection was made. */
const UNSENT = /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|UND_ERR_CONNECT_TIMEOUT)$/
const WORDS: Record<string, string> = { ECONNREFUSED: 'nothing listens there', ENOTFOUND: 'there is no such host', ECONNRESET: 'the connection broke', UND_ERR_SOCKET: 'the connection broke' }

/** What lies under fetch's "fetch failed": one error, or one for each address that was tried. */
const connectionFailed = (url: string, error: unknown): ConnectionFailed => {
  const cause = (error as { cause?: unknown }).cause ?? error
  const causes = (cause instanceof AggregateError ? cause.errors : [cause]) as { code?: string; message?: string }[]
  const { code, message } = causes[0] ?? {}
  const refused = causes.every(({ code }) => code !== undefined && UNSENT.test(code))
  return new ConnectionFailed(url, error, refused, WORDS[code ?? ''] ?? message ?? String(cause))
}

const isProblem = (value: unknown): value is Problem => typeof value === 'object' && value !== null && typeof (value as Problem).type === 'string' && typeof (value as Problem).detail === 'string'

const mayRepeat = (error: unknown, again: Request['again']): boolean => {
  if (error instanceof ConnectionFailed) return again === 'always' || error.refused
  if (!(error instanceof SwitchyardError)) return false
  // An answer that was asked for, and that a second later is the same.
  if (error.type === 'no-agent') return false
  return error.status === 429 || error.status === 503
}

export const createHttp = ({ url, apiKey, timeoutSeconds, parseJson, fetch }: HttpOptions): Http => {
  const base = baseOf(url)
  // What fetch says of such a header has the key in it.
  if (apiKey !== undefined && !/^[!-~]+$/.test(apiKey)) throw new TypeError('the API key must be visible ASCII characters, without blanks')
  const authorization: Record<string, string> = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }

  const target = (path: string, query: Request['query']): string => {
    const search = new URLSearchParams()
    for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined) search.set(name, String(value))
    return `${base}${path}${search.size > 0 ? `?${search}` : ''}`
  }

  const once = async (method: string, path: string, r: Request, signal: AbortSignal): Promise<string> => {
    const address = target(path, r.query)
    let response: Response
    let text: string
    try {
      response = await fetch(address, {
        method,
        headers: { ...authorization, ...r.headers, accept: 'application/json', ...(r.body === undefined ? {} : { 'content-type': 'application/json' }) },
        ...(r.body === undefined ? {} : { body: JSON.stringify(r.body) }),
        // Followed, a POST would arrive as a GET.
        redirect: 'manual',
        signal,
      })
      text = await response.text()
    } catch (error) {
      signal.throwIfAborted()
      throw connectionFailed(base, error)
    }
    if (response.ok || r.accept?.includes(response.status)) return text
    throw faultOf(response, text, address)
  }

  const faultOf = (response: Response, text: string, address: string): SwitchyardError => {
    const { status } = response
    try {
      const problem = parseJson(text)
      if (isProblem(problem)) return fromProblem(problem, status, retryAfterSeconds(response.headers))
    } catch {
      // Not JSON, so not the router's.
    }
    if (status === 429 || status === 503) return new SwitchyardError({ type: 'unexpected-answer', title: 'Not available', detail: `${address} answered ${status}`, status, body: text, retryAfterSeconds: retryAfterSeconds(response.headers) })
    const location = response.headers.get('location')
    return new UnexpectedAnswer(`${address} answered ${status}${location === null ? ', but not as a Switchyard router does' : ` and leads to ${location}; use that as url`}`, status, text)
  }

  const text = async (method: string, path: string, r: Request): Promise<string> => {
    // Timers take whole milliseconds, and no more than these.
    const limitMs = Math.min(Math.ceil((r.timeoutSeconds ?? timeoutSeconds) * 1000), 2 ** 31 - 1)
    const end = performance.now() + limitMs
    const limit = AbortSignal.timeout(limitMs)
    const signal = r.signal === undefined ? limit : AbortSignal.any([r.signal, limit])
    for (let tries = 1; ; tries++) {
      try {
        return await once(method, path, r, signal)
      } catch (error) {
        r.signal?.throwIfAborted()
        if (limit.aborted) throw new TimedOut(`no answer from ${base} within ${limitMs / 1000} s`)
        const asked = error instanceof SwitchyardError ? error.retryAfterSeconds : undefined
        const pauseMs = asked === undefined ? FIRST_PAUSE_MS * 2 ** (tries - 1) * (0.5 + Math.random()) : asked * 1000
        if (tries === MAX_TRIES || !mayRepeat(error, r.again) || pauseMs > MAX_PAUSE_MS || performance.now() + pauseMs > end) throw error
        await pause(pauseMs, r.signal)
      }
    }
  }

  const json = async <T>(method: string, path: string, r: Request): Promise<T> => {
    const answer = await text(method, path, r)
    const unexpected = (how: string) => new UnexpectedAnswer(`${target(path, r.query)} did not answer ${how}, as a Switchyard router does`, 200, answer)
    let value: unknown
    try {
      value = parseJson(answer)
    } catch {
      throw unexpected('with JSON')
    }
    if (typeof value !== 'object' || value === null) throw unexpected('with a JSON object')
    if (r.holds !== undefined && !Object.hasOwn(value, r.holds)) throw unexpected(`with the ${r.holds}`)
    return value as T
  }

  const stream: Http['stream'] = async (path, { query, lastEventId, signal }) => {
    const address = target(path, query)
    const headers = { ...authorization, accept: 'text/event-stream', ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }) }
    let response: Response
    try {
      response = await fetch(address, { method: 'GET', headers, redirect: 'manual', signal })
      if (response.ok) return response
      throw faultOf(response, await response.text(), address)
    } catch (error) {
      signal.throwIfAborted()
      throw error instanceof SwitchyardError ? error : connectionFailed(base, error)
    }
  }

  return { json, text, stream, timeoutSeconds }
}

/** @throws the signal's reason when it comes first */
export const pause = async (ms: number, signal: AbortSignal | undefined): Promise<void> => {
  await sleep(ms, undefined, { signal }).catch((error: unknown) => {
    signal?.throwIfAborted()
    throw error
  })
}

const baseOf = (url: string): string => {
  const fault = urlFault(url)
  if (fault !== null) throw new TypeError(`the router's url ${fault}`)
  const { origin, pathname } = new URL(url)
  return `${origin}${pathname.replace(/\/+$/, '')}`
}
