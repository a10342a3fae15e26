/** The agent's HTTP server: tasks, their cancellation, and its health. All answers are JSON. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { refusal, type Answer } from './answer.ts'
import type { Attempts } from './attempts.ts'
import type { Settings } from './settings.ts'
import { readTask } from './task.ts'
import type { Trust } from './trust.ts'

/** The most that is read of a body. The router sends hardly more than half of it. */
const MAX_BODY_BYTES = 2 * 1024 * 1024
/** What is too large is read to its end, and dropped, so that the sender hears why; but no more than this. */
const MAX_DROPPED_BYTES = 16 * MAX_BODY_BYTES
const HEADERS_MS = 15_000
const REQUEST_MS = 60_000
/** Longer than the router keeps an idle connection, so that none is closed just as a task is sent on it. */
const KEEP_ALIVE_MS = 65_000
/** Beside two for each task: the router's idle ones, probes, people. */
const SPARE_CONNECTIONS = 100
/** How long answers may take to go out when the server closes. */
const FLUSH_MS = 2000
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/

/** What the agent says of itself. */
export type Health = { body: Record<string, unknown>; ready: boolean; reason: string | null }

const readBody = async (req: IncomingMessage): Promise<Buffer | null> => {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of req.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes <= MAX_BODY_BYTES) chunks.push(chunk)
    else chunks.length = 0
    if (bytes > MAX_DROPPED_BYTES) return null
  }
  return bytes <= MAX_BODY_BYTES ? Buffer.concat(chunks) : null
}

const send = (res: ServerResponse, { status, headers, body }: Answer): void => {
  if (res.destroyed || res.headersSent) return
  res.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), ...headers }).end(body)
}
const sendJson = (res: ServerResponse, status: number, value: object, headers: Record<string, string> = {}): void => send(res, { status, headers, body: JSON.stringify(value) })

const idOf = (text: string): string | null => {
  try {
    return decodeURIComponent(text)
  } catch {
    return null
  }
}

/** What is no HTTP, or came too slowly, in the form of all other answers. */
const onClientError = (error: NodeJS.ErrnoException, socket: Socket): void => {
  if (!socket.writable || error.code === 'ECONNRESET') return void socket.destroy()
  const status = error.code === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? '408 Request Timeout' : '400 Bad Request'
  const body = JSON.stringify({ error: `the request could not be read: ${status.slice(4).toLowerCase()}` })
  socket.end(`HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`)
}

/** @param deps.health asked anew for each request */
export const createServing = ({ settings, attempts, trust, health }: { settings: Settings; attempts: Attempts; trust: Trust; health: () => Health }) => {
  const { maxConcurrency, logger } = settings
  const open = new Set<ServerResponse>()
  const connections = new Set<Socket>()
  /** Those of the connections on which no whole request waits for its answer, the oldest first. */
  const idle = new Set<Socket>()

  /** The body of a request that may be obeyed; null when it was answered already. `isFor`: whether it was signed for this, by its `webhook-id`. */
  const readTrusted = async (req: IncomingMessage, res: ServerResponse, isFor: (id: string) => boolean): Promise<Buffer | null> => {
    const body = await readBody(req)
    idle.delete(req.socket)
    if (body === null) {
      send(res, { ...refusal(413, `a body may have ${MAX_BODY_BYTES} bytes at most`), headers: req.complete ? {} : { Connection: 'close' } })
      return null
    }
    const refused = trust.refusalOf(req.headers, body, isFor)
    if (refused === null) return body
    send(res, refused)
    return null
  }

  const serveTask = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const body = await readTrusted(req, res, (id) => id.startsWith('task_'))
    if (body === null) return
    const task = readTask(body)
    if ('fault' in task) return sendJson(res, 400, { error: task.fault })
    if (res.destroyed) return
    const { traceparent } = req.headers
    const taken = attempts.take(task, typeof traceparent === 'string' && TRACEPARENT.test(traceparent) ? traceparent : undefined)
    if ('status' in taken) return send(res, taken)
    res.once('close', taken.attach())
    send(res, await taken.answer)
  }

  const serveCancel = async (req: IncomingMessage, res: ServerResponse, taskId: string | null): Promise<void> => {
    // Here it is the attempt's id; in a delivery it counts them.
    const attemptId = req.headers['switchyard-attempt']
    if ((await readTrusted(req, res, (id) => id === `stop_${attemptId ?? taskId}`)) === null) return
    if (taskId !== null && attempts.cancelTask(taskId, typeof attemptId === 'string' ? attemptId : undefined)) return sendJson(res, 200, { task_id: taskId, status: 'cancelled' })
    sendJson(res, 404, { error: 'no such task is being worked on here' })
  }

  const serveHealth = (res: ServerResponse, which: string): void => {
    const { body, ready, reason } = health()
    if (which === '/health') return sendJson(res, 200, body)
    if (which === '/health/live') return sendJson(res, 200, { status: 'live' })
    sendJson(res, ready ? 200 : 503, ready ? { status: 'ready' } : { status: 'not ready', reason })
  }

  const serve = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const path = (req.url ?? '').split('?', 1)[0]!
    const allow = path === '/task' ? 'POST' : path.startsWith('/task/') ? 'DELETE' : /^\/health(\/live|\/ready)?$/.test(path) ? 'GET, HEAD' : null
    if (allow === null) return sendJson(res, 404, { error: 'POST /task, DELETE /task/{id}, GET /health, /health/live and /health/ready are all there is' })
    if (!allow.split(', ').includes(req.method ?? '')) return sendJson(res, 405, { error: `${path} takes ${allow}` }, { Allow: allow })
    if (allow === 'POST') return serveTask(req, res)
    if (allow === 'DELETE') return serveCancel(req, res, idOf(path.slice('/task/'.length)))
    serveHealth(res, path)
  }

  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS, headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS, connectionsCheckingInterval: 5000, noDelay: true }, (req, res) => {
    const { socket } = req
    open.add(res)
    res.once('close', () => {
      open.delete(res)
      if (connections.has(socket)) idle.add(socket)
    })
    res.on('error', () => {}) // who asked has gone
    serve(req, res).catch((error: unknown) => {
      if (!req.destroyed && !res.destroyed) logger.error('could not serve a request', { error })
      res.destroy()
    })
  })
  const maxConnections = 2 * maxConcurrency + SPARE_CONNECTIONS
  server.on('connection', (socket: Socket) => {
    connections.add(socket)
    idle.add(socket)
    socket.once('close', () => {
      connections.delete(socket)
      idle.delete(socket)
    })
    if (connections.size <= maxConnections) return
    // However many say nothing, or send slowly, there is room for one that has something to say.
    const [oldest = socket] = idle
    connections.delete(oldest)
    idle.delete(oldest)
    oldest.destroy()
  })
  server.on('clientError', onClientError)

  /** @throws Error in plain words when it cannot listen there */
  const listen = async (port: number, bind: string | undefined): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    server.once('error', reject)
    server.listen({ port, ...(bind === undefined ? {} : { host: bind }) }, resolve)
    await promise.catch((error: NodeJS.ErrnoException) => {
      throw new Error(cannotListen(error, bind, port), { cause: error })
    })
    server.off('error', reject)
    server.on('error', (error) => logger.error('the server has trouble', { error })) // out of file descriptors, say
  }

  /** Lets the answers go out, then ends every connection. */
  const close = async (): Promise<void> => {
    if (!server.listening) return
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, FLUSH_MS)
    void Promise.all([...open].map((res) => new Promise((done) => res.once('close', done)))).then(() => resolve())
    await promise
    clearTimeout(timer)
    server.closeAllConnections()
    await closed
  }

  return { listen, close, port: (): number | undefined => (server.address() as AddressInfo | null)?.port }
}

const cannotListen = ({ code, message }: NodeJS.ErrnoException, bind: string | undefined, port: number): string => {
  const at = `${bind ?? 'all addresses'}, port ${port}`
  switch (code) {
    case 'EADDRINUSE':
      return `cannot listen at ${at}: the port is taken. Set AGENT_PORT (or port) to a free one, or to 0`
    case 'EACCES':
      return `cannot listen at ${at}: that needs more rights. Set AGENT_PORT (or port) to one from 1024 on, or to 0`
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return `cannot listen at ${at}: that is no address of this machine. Set AGENT_BIND (or bind) to one, or leave it out`
    default:
      return `cannot listen at ${at}: ${message}`
  }
}
