/**
 * The HTTP transport: one POST an attempt, under one deadline that nothing the agent sends can move.
 * undici's `dispatch` with a handler is 30–40 µs of CPU cheaper than its `request`; it follows no redirects and inflates nothing.
 */
import type { HostPolicy } from '../contracts/host.ts'
import { deliveryId, signedHeaders } from '../contracts/signature.ts'
import { TRACEPARENT } from '../contracts/task.ts'
import { readAnswer, type Headers } from './answer.ts'
import { createConnections, describeConnectError, type Link, type Resolve } from './connections.ts'
import { createStop } from './stop.ts'
import type { DeliveryRequest, Outcome, Sending, Transport } from './transport.ts'

const MIB = 1024 * 1024
/** Beyond this Node's timers fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1
const EMPTY = Buffer.alloc(0)
/** A kept connection that breaks so soon after a POST was being closed already; later, it is more likely that the agent died of the task. */
const CLOSED_UNDER_US_MS = 250

const bodyOf = (r: DeliveryRequest): string =>
  `{"task_id":${JSON.stringify(r.taskId)},"task_type":${JSON.stringify(r.taskType)},"parameters":${r.parameters},"timeout_seconds":${r.timeoutMs / 1000},"priority":${r.priority},"metadata":${r.metadata},"attempt":${r.attempt},"attempt_id":${JSON.stringify(r.attemptId)}}`

const headersOf = (r: DeliveryRequest, body: Buffer): string[] => {
  const headers = ['content-type', 'application/json', 'accept-encoding', 'identity', 'idempotency-key', r.taskId, 'switchyard-attempt', String(r.attempt)]
  // A malformed trace context is left out: it is not worth an attempt.
  if (r.traceparent && TRACEPARENT.test(r.traceparent)) headers.push('traceparent', r.traceparent)
  if (r.target.keys.length > 0) headers.push(...Object.entries(signedHeaders(r.target.keys, { id: deliveryId(r.attemptId), timestamp: Math.floor(r.timeMs / 1000), body })).flat())
  return headers
}

/**
 * Collects a body up to a cap. One chunk is kept as it is; more are copied into one buffer that grows,
 * for a body sent byte by byte would otherwise cost a hundred times its size.
 */
const createCollector = (maxBytes: number) => {
  let bytes: Buffer = EMPTY
  let length = 0
  return {
    /** False when the cap is passed; the chunk is not kept then. */
    add(chunk: Buffer): boolean {
      const total = length + chunk.length
      if (total > maxBytes) return false
      if (length === 0) bytes = chunk
      else {
        if (total > bytes.length) {
          const larger = Buffer.allocUnsafeSlow(Math.min(maxBytes, Math.max(2 * total, 4096)))
          bytes.copy(larger, 0, 0, length)
          bytes = larger
        }
        chunk.copy(bytes, length)
      }
      length = total
      return true
    },
    all: (): Buffer => bytes.subarray(0, length),
  }
}

type Progress = 'connect' | 'send' | 'answer'
const timeoutError = (progress: Progress, ms: number): string => {
  const within = `within ${ms / 1000} s`
  if (progress === 'connect') return `no connection to the agent ${within}`
  return progress === 'send' ? `no answer from the agent ${within}` : `the agent's answer was not finished ${within}`
}

/** What this machine has no more of, when a connection is to be made. */
const OURS: readonly (string | undefined)[] = ['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL']
const isOurs = (error: Error): boolean => (error instanceof AggregateError ? error.errors.every(isOurs) : OURS.includes((error as NodeJS.ErrnoException).code))

/** What broke, for people: undici says "other side closed", Node says "read ECONNRESET". */
const brokenOutcome = (link: Link, progress: Progress, error: Error, afterMs: number): Outcome => {
  const code = (error as NodeJS.ErrnoException).code
  if (progress === 'connect' && link.connectError !== null) return { kind: isOurs(link.connectError) ? 'unsent' : 'unreachable', error: describeConnectError(link.connectError) }
  if (code === 'UND_ERR_HEADERS_OVERFLOW') return { kind: 'failed', error: "the agent's answer has too large headers", statusCode: null }
  if (error.name === 'HTTPParserError') return { kind: 'failed', error: `the agent's answer is not HTTP: ${error.message}`, statusCode: null }
  const where = progress === 'answer' ? 'in its answer' : 'without an answer'
  return { kind: 'failed', error: `the agent closed the connection ${where} (${error.message})`, statusCode: null, excused: link.used && progress === 'send' && afterMs < CLOSED_UNDER_US_MS }
}

/**
 * A transport that posts each attempt to `http://host:port/task`.
 * @param deps.policy which hosts and addresses may be connected to
 * @param deps.maxBodyBytes answers over this are failed attempts, and their download stops (default 1 MiB)
 * @param deps.resolve resolves names; the system's resolver unless given
 */
export const createHttpTransport = (deps: { policy: HostPolicy; maxBodyBytes?: number; resolve?: Resolve }): Transport => {
  const { maxBodyBytes = MIB } = deps
  const connections = createConnections(deps)

  const post = (link: Link, request: DeliveryRequest): Sending => {
    const { taskId, timeoutMs } = request // and no more: what the handlers below close over lives as long as the attempt
    const { promise, resolve } = Promise.withResolvers<Outcome>()
    const body = createCollector(maxBodyBytes)
    let progress: Progress = 'connect'
    let statusCode = 0
    let headers: Headers = {}
    let ended = false
    let allowedMs = timeoutMs
    const began = performance.now()

    const end = (outcome: Outcome): void => {
      ended = true
      clearTimeout(timer)
      resolve(outcome)
    }
    /** Ends the attempt and its connection, whatever the other side would still say. */
    const stop = (outcome: Outcome): void => {
      if (ended) return
      end(outcome)
      connections.drop(link)
    }
    const overCap = (): void => stop({ kind: 'failed', error: `the agent's answer is larger than ${maxBodyBytes} bytes`, statusCode })
    // More time may have been given while we stood still: what has been said of that is read before the end is believed.
    const startTimer = (ms: number): NodeJS.Timeout => {
      const mine = setTimeout(() => setImmediate(() => timer === mine && stop({ kind: 'timeout', error: timeoutError(progress, allowedMs) })), Math.min(ms, MAX_TIMER_MS))
      return mine
    }
    let timer = startTimer(timeoutMs)
    const extend = (ms: number): void => {
      if (ended) return
      clearTimeout(timer)
      allowedMs = Math.round(performance.now() - began + ms)
      timer = startTimer(ms)
    }

    const sent = Buffer.from(bodyOf(request))
    link.client.dispatch(
      { path: '/task', method: 'POST', headers: headersOf(request, sent), body: sent },
      {
        onRequestStart() {
          progress = 'send'
        },
        onResponseStart(_controller, status, head) {
          if (ended || status < 200) return
          progress = 'answer'
          statusCode = status
          headers = head
          if (Number(head['content-length']) > maxBodyBytes) overCap()
        },
        onResponseData(_controller, chunk) {
          if (!ended && !body.add(chunk)) overCap()
        },
        onResponseEnd() {
          if (ended) return
          const outcome = readAnswer({ statusCode, headers, body: body.all() }, taskId)
          end(outcome)
          connections.give(link)
        },
        onResponseError(_controller, error) {
          stop(brokenOutcome(link, progress, error, performance.now() - began))
        },
      },
    )
    return { outcome: promise, abort: () => stop({ kind: 'aborted' }), extend }
  }

  return {
    send(request) {
      let link: Link
      try {
        // What has been sent before may have met a kept connection that its agent was just closing: it gets one of its own, or it might again and again.
        link = connections.take(request.target.host, request.target.port, request.attempt > 1)
      } catch (error) {
        // A host that may not be posted to; nothing was begun.
        return { outcome: Promise.resolve({ kind: 'unreachable', error: (error as Error).message }), abort: () => {}, extend: () => {} }
      }
      return post(link, request)
    },
    stop: createStop({ connections, maxBodyBytes }),
    async close() {
      connections.close()
    },
  }
}
