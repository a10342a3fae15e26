/** Calls to the router. Each has a timeout, and fails in words that people can read. */
import { retryAfterSeconds } from './retry-after.ts'

export type RouterAnswer = { status: number; json: Record<string, unknown>; retryAfterMs: number }
/** A body that is text is JSON already. */
export type Call = (path: string, body: object | string, limits: { timeoutMs: number; signal: AbortSignal }) => Promise<RouterAnswer>

/** What fetch and sockets mean: the system's code where there is one. */
export const reasonOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  const { cause, name, message } = error as Error & { cause?: NodeJS.ErrnoException }
  if (name === 'TimeoutError') return 'no answer in time'
  return cause?.code ?? (error as NodeJS.ErrnoException).code ?? (cause?.message || message)
}

/** The words of an answer that is no success. */
export const wordsOf = ({ status, json }: RouterAnswer): string => {
  const said = [json['error'], json['detail'], json['title'], json['message']].find((text) => typeof text === 'string' && text !== '')
  const faults = Array.isArray(json['errors']) ? (json['errors'] as { pointer?: unknown; detail?: unknown }[]).slice(0, 5).map((f) => `${String(f?.pointer)} ${String(f?.detail)}`) : []
  return [String(status), said, faults.length > 0 ? `(${faults.join('; ')})` : ''].filter(Boolean).join(' ')
}

/** One that would have the agent silent for longer than any time to live is not kept. */
const MAX_RETRY_AFTER_SECONDS = 3600

const retryAfterMs = (headers: Headers): number => {
  const seconds = retryAfterSeconds(headers) ?? 0
  return seconds < MAX_RETRY_AFTER_SECONDS ? seconds * 1000 : 0
}

/** All that a router says to an agent is some KiB. */
const MAX_ANSWER_BYTES = 1024 * 1024

const readBody = async (res: Response): Promise<string> => {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of res.body ?? []) {
    bytes += chunk.length
    if (bytes > MAX_ANSWER_BYTES) throw new Error('an answer of more than 1 MiB')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

const readJson = (text: string): Record<string, unknown> => {
  try {
    const json: unknown = JSON.parse(text)
    return typeof json === 'object' && json !== null ? (json as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}

const REGISTER = '/agents/register'

/**
 * To be made once for an agent: from its registration on it shows the token that it was given then, which is good for itself alone.
 * @param url where the router is, without a slash at the end
 * @param apiKey sent as `Authorization: Bearer`
 */
export const createCall = (url: string, apiKey: string | undefined): Call => {
  let token: string | undefined
  const send = async (path: string, body: object | string, shown: string | undefined, signal: AbortSignal): Promise<RouterAnswer> => {
    const res = await fetch(url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(shown === undefined ? {} : { authorization: `Bearer ${shown}` }) },
      body: typeof body === 'string' ? body : JSON.stringify(body),
      // A followed redirect would arrive as a GET.
      redirect: 'manual',
      signal,
    })
    return { status: res.status, json: readJson(await readBody(res)), retryAfterMs: retryAfterMs(res.headers) }
  }
  return async (path, body, { timeoutMs, signal: given }) => {
    const signal = AbortSignal.any([given, AbortSignal.timeout(timeoutMs)])
    const own = path === REGISTER ? undefined : token
    const answer = await send(path, body, own ?? apiKey, signal)
    if (own !== undefined && apiKey !== undefined && (answer.status === 401 || answer.status === 403)) {
      // Another has registered under our id, or the router has lost what tokens are made with: the key counts still.
      token = undefined
      return send(path, body, apiKey, signal)
    }
    if (path === REGISTER && (answer.status === 200 || answer.status === 201)) {
      const { agent_token: text } = answer.json
      token = typeof text === 'string' && /^[!-~]{1,512}$/.test(text) ? text : undefined
    }
    return answer
  }
}
