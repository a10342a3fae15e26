/** Errors on the wire: RFC 9457 `application/problem+json`. The only place that gives an error its HTTP status; a 500 says nothing internal. */
import type { Duplex } from 'node:stream'
import type { ErrorRequestHandler, RequestHandler, Response } from 'express'
import { z } from 'zod'
import { oneLine } from '../contracts/words.ts'
import { StoreUnavailable, SwitchyardError, type ProblemType } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { isStoreFailure } from '../redis/client.ts'

export const MAX_HEADER_BYTES = 16 * 1024

/** Status and title by problem type. Each has a heading in docs/errors.md. */
export const PROBLEMS: Record<ProblemType, { status: number; title: string }> = {
  'malformed-request': { status: 400, title: 'The request could not be read' },
  'invalid-json': { status: 400, title: 'The body is not JSON' },
  'invalid-request': { status: 422, title: 'The request is not valid' },
  'unsupported-media-type': { status: 415, title: 'The body is not application/json in UTF-8' },
  'payload-too-large': { status: 413, title: 'The body is too large' },
  'headers-too-large': { status: 431, title: 'The headers are too large' },
  'request-timeout': { status: 408, title: 'The request took too long to arrive' },
  unauthorized: { status: 401, title: 'A key is needed' },
  forbidden: { status: 403, title: 'That is not allowed' },
  'not-found': { status: 404, title: 'There is no such thing' },
  'method-not-allowed': { status: 405, title: 'The method is not allowed here' },
  'host-not-allowed': { status: 403, title: 'This host is never posted to' },
  'agent-type-conflict': { status: 409, title: 'The agent id is in use under another type' },
  'task-ended': { status: 409, title: 'The task has already ended' },
  'task-not-ended': { status: 409, title: 'The task has not ended' },
  'stale-attempt': { status: 409, title: 'The attempt is not the current one' },
  'already-retried': { status: 409, title: 'The task was already retried' },
  'idempotency-key-reused': { status: 422, title: 'The Idempotency-Key was used for another task' },
  'no-agent': { status: 503, title: 'No agent is alive for this task' },
  'too-many-queues': { status: 429, title: 'Too many queues' },
  'too-many-agents': { status: 429, title: 'Too many agents' },
  'too-many-watchers': { status: 503, title: 'Too many requests that wait or watch' },
  'too-many-schedules': { status: 409, title: 'Too many schedules' },
  'too-many-keys': { status: 409, title: 'Too many keys' },
  'rate-limited': { status: 429, title: 'Too many requests by this key' },
  'queue-full': { status: 429, title: 'The queue is full' },
  'store-full': { status: 503, title: 'The store is nearly full' },
  overloaded: { status: 503, title: 'Too much at once' },
  'store-unavailable': { status: 503, title: 'The store is not available' },
  internal: { status: 500, title: 'Something went wrong on our side' },
}

/** A problem on the wire. Some types add members of their own, as task-ended does `task_id` and `task_status`. */
export const Problem = z
  .looseObject({
    type: z.string().describe('/docs/errors#<type>: where it is explained.'),
    title: z.string(),
    status: z.int().describe('The HTTP status.'),
    detail: z.string().describe('What went wrong this time.'),
    instance: z.string().describe('The path that was asked for.'),
    errors: z
      .array(z.object({ pointer: z.string().describe('A JSON Pointer into the body, or the name of a parameter.'), detail: z.string() }))
      .optional()
      .describe('Each fault of the input, for invalid-request.'),
    error: z.string().describe('The same as detail.'),
  })
  .meta({ id: 'Problem' })

/** A detail may name what was sent, as an unknown member: it is one line, and does nothing to the terminal it is shown on. */
const MAX_DETAIL_CHARS = 10_000

/** An error as a problem; that of a task among many has no path of its own. */
export const problemOf = (error: SwitchyardError, instance?: string): Record<string, unknown> => {
  const { status, title } = PROBLEMS[error.type]
  const detail = oneLine(error.message, MAX_DETAIL_CHARS)
  return {
    type: `/docs/errors#${error.type}`,
    title,
    status,
    detail,
    instance, // left out by JSON.stringify when there is none
    ...(error.faults === undefined ? {} : { errors: error.faults }),
    ...error.extra,
    error: detail,
  }
}
const problemText = (instance: string, error: SwitchyardError): string => JSON.stringify(problemOf(error, instance))

/** Sends a problem document. `error` repeats the detail as a string, which older clients read. */
export const sendProblem = (res: Response, path: string, error: SwitchyardError): void => {
  if (error.retryAfterSeconds !== undefined) res.set('Retry-After', String(error.retryAfterSeconds))
  if (error.type === 'unauthorized') res.set('WWW-Authenticate', 'Bearer realm="switchyard"')
  res.status(PROBLEMS[error.type].status).type('application/problem+json').send(problemText(path, error))
}

/** What Express throws, in our words. */
const fromHttpError = ({ status }: { status?: number }): SwitchyardError | null =>
  status === 400 ? new SwitchyardError('malformed-request', 'the request could not be read: its path is malformed') : null

/** Whatever was thrown, as what the client is told. */
export const toldOf = (error: unknown, { method, path }: { method: string; path: string }, log: Logger): SwitchyardError => {
  if (error instanceof SwitchyardError) return error
  const known = fromHttpError(error as object)
  if (known) return known
  if (isStoreFailure(error)) {
    log.debug({ error: String(error) }, 'the store failed a request')
    return new StoreUnavailable()
  }
  // Not the error as it is: Redis's carry the whole command, payload and all.
  log.error({ error: error instanceof Error ? error.stack : String(error), method, path }, 'a request failed')
  return new SwitchyardError('internal', 'something went wrong on our side; the log says more')
}

/** @param tell is told the type of each problem sent */
export const problemHandler =
  (log: Logger, tell: (type: ProblemType) => void = () => {}): ErrorRequestHandler =>
  (error, req, res, next) => {
    if (res.headersSent) return next(error)
    const told = toldOf(error, req, log)
    tell(told.type)
    sendProblem(res, req.path, told)
  }

/** For a known path: 405 with Allow, and Allow alone for OPTIONS. `HEAD` goes with `GET`, as Express has it. */
export const notAllowed =
  (...methods: string[]): RequestHandler =>
  (req, res) => {
    res.set('Allow', [...methods.flatMap((m) => (m === 'GET' ? ['GET', 'HEAD'] : [m])), 'OPTIONS'].join(', '))
    if (req.method === 'OPTIONS') return void res.status(204).end()
    sendProblem(res, req.originalUrl.split('?', 1)[0]!, new SwitchyardError('method-not-allowed', `use ${methods.join(' or ')} here`))
  }
export const notFound: RequestHandler = (req, res) => {
  sendProblem(res, req.path, new SwitchyardError('not-found', 'there is nothing here; /docs lists what there is'))
}

/**
 * What cannot even be read as HTTP never reaches Express: the server's `clientError`. It gets a problem too, as the last word on its connection.
 * Whatever else the connection was waiting for (an answer under way to an earlier request) ends with it.
 */
export const refuseUnreadable = (error: NodeJS.ErrnoException, socket: Duplex): void => {
  // An answer half sent cannot be followed by another; Node's own handler looks at the same private member.
  const current = (socket as { _httpMessage?: { headersSent: boolean } })._httpMessage
  if (!socket.writable || error.code === 'ECONNRESET' || current?.headersSent) return void socket.destroy()
  const problem =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new SwitchyardError('headers-too-large', `the request line and the headers are larger than ${MAX_HEADER_BYTES / 1024} KiB together`)
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? new SwitchyardError('request-timeout', 'the request did not arrive in time')
        : new SwitchyardError('malformed-request', 'this is not HTTP/1.1 as it should be')
  const { status, title } = PROBLEMS[problem.type]
  const text = problemText('', problem)
  socket.end(`HTTP/1.1 ${status} ${title}\r\nContent-Type: application/problem+json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`)
}
