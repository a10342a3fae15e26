/** A router of the kit's own, as small as an agent can be told of one: it takes registrations, beats, results and progress, and keeps what was said. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { parse } from './exchange.ts'

export type Said = { at: number; body: Record<string, unknown>; bad: string | null; status: number }
export type BeatAnswer = { status?: number; cut?: boolean; cancel?: string[]; lost?: string[]; nextSeconds?: number }
/** What an agent told of an attempt, and where. */
export type Told = Said & { taskId: string; attemptId: string }
export type Router = {
  url: string
  agentId: string
  registrations: Said[]
  /** With what was answered to each. */
  beats: (Said & { answer: BeatAnswer })[]
  unregistered: () => boolean
  /** What was delivered: the task of each attempt. Only these may be told of. */
  attempts: Map<string, string>
  results: Told[]
  progress: Told[]
  /** From now on it is there. */
  open: () => Promise<void>
  /** How registrations and beats are answered; may be changed at any time. */
  registration: (said: Said, index: number) => number
  beat: (said: Said, index: number) => BeatAnswer
  /** How results and reports of progress are, when they are of an attempt that there is. */
  result: (told: Told) => number
  report: (told: Told) => number
  /** Of another start of the agent. */
  forget: () => void
  close: () => Promise<void>
}

/** Beats that come as often as this let a test be short; agents are told so at their registration and at each beat. */
export const INTERVAL_SECONDS = 0.5
const TTL_SECONDS = 5
const MAX_BODY_BYTES = 1024 * 1024
const MAX_KEPT = 2000
/** Nobody looks into a result. */
const MAX_RESULT_CHARS = 10_000

/** Ports below those that the system gives to outgoing connections: what is free there now stays free a moment longer. */
const PORTS = { first: 20_000, count: 12_000 }
/** Where the next is looked for. Each process begins elsewhere and gives none twice in a row, so kits side by side stay out of each other's way. */
let nextPort = (process.pid * 499) % PORTS.count

/** A port that nothing listens on. */
export const freePort = async (): Promise<number> => {
  for (let tries = 0; tries < 1000; tries++) {
    const port = PORTS.first + nextPort
    nextPort = (nextPort + 1) % PORTS.count
    const server = createServer()
    const free = await new Promise<boolean>((done) => server.once('error', () => done(false)).listen(port, '127.0.0.1', () => done(true)))
    if (!free) continue
    await new Promise((done) => server.close(done))
    return port
  }
  throw new Error(`there is no free port between ${PORTS.first} and ${PORTS.first + PORTS.count}`)
}

const read = async (req: IncomingMessage): Promise<{ body: Record<string, unknown>; bad: string | null }> => {
  let text = ''
  for await (const chunk of req as AsyncIterable<Buffer>) {
    text += chunk.toString('latin1')
    if (text.length > MAX_BODY_BYTES) return { body: {}, bad: 'a body over 1 MiB' }
  }
  if (text === '') return { body: {}, bad: null }
  const body = parse(Buffer.from(text, 'latin1'))
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) return { body: body as Record<string, unknown>, bad: null }
  return { body: {}, bad: 'a body that is no JSON object' }
}

/** @param secret told to who registers, if any */
export const createRouter = async (secret?: string): Promise<Router> => {
  const port = await freePort()
  let gone = false
  const router: Router = {
    url: `http://127.0.0.1:${port}`,
    agentId: `agent-test-${port}`,
    registrations: [],
    beats: [],
    unregistered: () => gone,
    attempts: new Map(),
    results: [],
    progress: [],
    registration: () => 201,
    beat: () => ({}),
    result: () => 200,
    report: () => 200,
    open: () => new Promise<void>((done, failed) => server.once('error', failed).listen(port, '127.0.0.1', done)),
    forget: () => {
      router.registrations.length = 0
      router.beats.length = 0
      router.results.length = 0
      router.progress.length = 0
      router.registration = () => 201
      router.beat = () => ({})
      router.result = () => 200
      router.report = () => 200
      gone = false
    },
    close: async () => {
      server.closeAllConnections()
      if (server.listening) await new Promise((done) => server.close(done))
    },
  }
  const answer = (res: ServerResponse, status: number, body: object): void =>
    void res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(status >= 400 ? { type: 'about:blank', title: 'a test', status, error: `a test answers ${status}` } : body))

  const register = (res: ServerResponse, said: Said): void => {
    said.status = router.registration(said, router.registrations.length)
    if (router.registrations.length < MAX_KEPT) router.registrations.push(said)
    const { body } = said
    // Its own choice, or ours.
    if (typeof body['agent_id'] === 'string' && body['agent_id'] !== '') router.agentId = body['agent_id']
    const { agentId } = router
    if (said.status < 400) gone = false
    if (said.status === 201 && body['agent_id'] !== undefined && router.registrations.some((r) => r !== said && r.status < 300)) said.status = 200
    const name = body['name'] ?? body['agent_name']
    answer(res, said.status, {
      id: agentId, agent_id: agentId, name, agent_name: name, type: body['type'] ?? 'default', host: body['host'], port: body['port'], capabilities: body['capabilities'] ?? [], status: 'healthy',
      version: body['version'] ?? null, ttl_seconds: TTL_SECONDS, max_concurrency: body['max_concurrency'] ?? 10, in_flight: 0, is_alive: true, generation: 1, metadata: body['metadata'] ?? {},
      registered_at: new Date().toISOString(), last_seen: new Date().toISOString(), last_heartbeat: new Date().toISOString(),
      heartbeat_url: `/agents/${agentId}/heartbeat`, heartbeat_interval_seconds: INTERVAL_SECONDS,
      ...(secret === undefined ? {} : { signing_secret: secret, signing_secret_id: 'agent-test' }),
    })
  }
  const hear = (res: ServerResponse, said: Said): void => {
    const how = router.beat(said, router.beats.length)
    said.status = how.status ?? 200
    if (router.beats.length < MAX_KEPT) router.beats.push({ ...said, answer: how })
    if (how.cut) return void res.destroy()
    answer(res, said.status, { received: true, next_interval_seconds: how.nextSeconds ?? INTERVAL_SECONDS, timestamp: new Date().toISOString(), cancel: how.cancel ?? [], lost: how.lost ?? [], drain: false })
  }

  /** A result, or a report of progress. */
  const hearOf = (res: ServerResponse, taskId: string, what: 'result' | 'progress', said: Said): void => {
    const attemptId = typeof said.body['attempt_id'] === 'string' ? said.body['attempt_id'] : ''
    const { result } = said.body
    const isLarge = result !== undefined && JSON.stringify(result).length > MAX_RESULT_CHARS
    const told: Told = { ...said, ...(isLarge ? { body: { ...said.body, result: 'too much to be kept' } } : {}), taskId, attemptId }
    const isKnown = router.attempts.get(attemptId) === taskId
    told.status = isKnown ? router[what === 'result' ? 'result' : 'report'](told) : [...router.attempts.values()].includes(taskId) ? 409 : 404
    const kept = what === 'result' ? router.results : router.progress
    if (kept.length < MAX_KEPT) kept.push(told)
    answer(res, told.status, what === 'result' ? { task_id: taskId, status: said.body['status'] } : { task_id: taskId, status: 'running', deadline_at: new Date(Date.now() + 60_000).toISOString(), cancel_requested: false })
  }

  const server = createServer((req, res) => {
    const path = (req.url ?? '').split('?')[0]!
    const [, taskId, what] = /^\/tasks\/([^/]+)\/(result|progress)$/.exec(path) ?? []
    void read(req).then(({ body, bad }) => {
      const { agentId } = router
      const said: Said = { at: performance.now(), body, bad, status: 0 }
      if (req.method === 'POST' && path === '/agents/register') return register(res, said)
      if (req.method === 'POST' && path === `/agents/${agentId}/heartbeat`) return hear(res, said)
      if (req.method === 'POST' && taskId !== undefined) return hearOf(res, decodeURIComponent(taskId), what as 'result' | 'progress', said)
      const leaves = (req.method === 'POST' && path === `/agents/${agentId}/unregister`) || (req.method === 'DELETE' && path === `/agents/${agentId}`)
      if (!leaves) return answer(res, 404, {})
      gone = true
      answer(res, 200, { agent_id: agentId, unregistered: true })
    }).catch(() => res.destroy())
  })
  server.requestTimeout = 10_000
  return router
}
