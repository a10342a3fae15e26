/**
 * What every agent does besides its work, in plain node:http: it registers, beats, takes tasks, and says when it leaves.
 * An agent in another language does the same; `plain_agent.py` is one.
 */
import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

export type Parameters = Record<string, unknown>
/** Does one task; what it returns is the result, any JSON value. `signal` says when nobody waits for that any longer. */
export type Work = (parameters: Parameters, task: { attempt: number; signal: AbortSignal }) => unknown
/** The parameters are at fault: another attempt would fare no better. */
export class BadParameters extends Error {}

export type AgentOptions = {
  type: string
  name: string
  /** Where Switchyard reaches this agent, and where it listens. */
  host: string
  /** 0 takes a free one. */
  port: number
  switchyardUrl: string
  maxConcurrency: number
  capabilities: Readonly<Record<string, Work>>
}

/** What the environment says; `name` is what AGENT_NAME is when it is not set. */
export const agentSettings = (name: string): Pick<AgentOptions, 'name' | 'host' | 'port' | 'switchyardUrl'> => ({
  name: process.env['AGENT_NAME'] || name,
  host: process.env['AGENT_HOST'] || '127.0.0.1',
  port: Number(process.env['AGENT_PORT'] || 0),
  switchyardUrl: (process.env['SWITCHYARD_URL'] || 'http://127.0.0.1:8080').replace(/\/+$/, ''),
})

/** The most that a task's parameters may be, and some more for what comes with them. */
const MAX_BODY_BYTES = 2 * 1024 * 1024
const CALL_TIMEOUT_MS = 5000
const LONGEST_PAUSE_MS = 5000
/** How long tasks may go on after SIGTERM. */
const DRAIN_MS = 10_000

/** Serves tasks until SIGTERM or Ctrl-C, then exits with 0. Ends with 1 when it cannot listen or is refused for good. */
export const runAgent = async ({ type, name, host, port, switchyardUrl, maxConcurrency, capabilities }: AgentOptions): Promise<void> => {
  /** What is being worked on, by attempt id. */
  const running = new Map<string, AbortController>()
  const leaving = new AbortController()
  // One for the life of the process: by it Switchyard tells a restart, after which nothing runs here, from a mere repeat.
  const instanceId = randomUUID()
  let agentId: string | undefined

  const say = (text: string): void => void process.stdout.write(`${name}: ${text}\n`)
  const fail = (text: string): never => {
    process.stderr.write(`${name}: ${text}\n`)
    process.exit(1)
  }

  // --- tasks -----------------------------------------------------------------------------------------------------------

  const serveTask = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const task = await readTask(req)
    if (task === null) return answer(res, 400, { error: 'send a task as a JSON object' })
    const work = Object.hasOwn(capabilities, task.task_type) ? capabilities[task.task_type] : undefined
    if (!work) return answer(res, 422, { task_id: task.task_id, error: `${name} has no capability ${task.task_type}` })
    // Neither costs the task an attempt; Switchyard gives it to another agent, or comes back after that time.
    if (leaving.signal.aborted) return answer(res, 503, { error: `${name} is leaving` }, { 'Retry-After': '5' })
    if (running.size >= maxConcurrency) return answer(res, 429, { error: `${name} has all the ${maxConcurrency} tasks it can do at once` }, { 'Retry-After': '1' })

    const controller = new AbortController()
    running.set(task.attempt_id, controller)
    // Switchyard hangs up when the time is over or the task is cancelled.
    res.once('close', () => controller.abort())
    const began = performance.now()
    try {
      const result = await work(task.parameters, { attempt: task.attempt, signal: controller.signal })
      answer(res, 200, { task_id: task.task_id, status: 'completed', result, execution_time_ms: Math.round((performance.now() - began) * 1000) / 1000 })
    } catch (error) {
      answer(res, error instanceof BadParameters ? 422 : 500, { task_id: task.task_id, status: 'failed', error: (error as Error).message })
    } finally {
      running.delete(task.attempt_id)
    }
  }

  const server = createServer((req, res) => {
    if (req.method === 'POST' && req.url === '/task') void serveTask(req, res).catch(() => res.destroy())
    else if (req.method === 'GET' && req.url === '/health') answer(res, 200, { status: leaving.signal.aborted ? 'draining' : 'healthy', running: running.size, max_concurrency: maxConcurrency })
    else answer(res, 404, { error: 'POST /task and GET /health are all there is' })
  })
  // Longer than Switchyard keeps an idle connection, so that none is closed just as a task is sent on it.
  server.keepAliveTimeout = 65_000

  // --- Switchyard ------------------------------------------------------------------------------------------------------

  const call = async (path: string, body: object): Promise<{ status: number; json: any }> => {
    const res = await fetch(switchyardUrl + path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body), signal: AbortSignal.timeout(CALL_TIMEOUT_MS) })
    return { status: res.status, json: await res.json().catch(() => ({})) }
  }

  /** Tries until it is taken. @returns after how many seconds to beat */
  const register = async (): Promise<number> => {
    const body = { name, type, host, port, capabilities: Object.keys(capabilities), version: '1.0.0', max_concurrency: maxConcurrency, instance_id: instanceId, ...(agentId ? { agent_id: agentId } : {}) }
    for (let pauseMs = 250; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      let why: string
      try {
        const { status, json } = await call('/agents/register', body)
        if (status === 200 || status === 201) {
          agentId = json.agent_id as string
          say(`registered at ${switchyardUrl} as ${agentId} (${type}: ${body.capabilities.join(', ')}), listening at ${host}:${port}`)
          return json.heartbeat_interval_seconds
        }
        why = `${status} ${json.error ?? ''}`
        if (status < 500 && status !== 429) fail(`Switchyard refused the registration: ${why}`)
      } catch (error) {
        why = reasonOf(error)
      }
      if (pauseMs === 250) say(`cannot register at ${switchyardUrl} (${why}); is it running (npm start), and SWITCHYARD_URL right? Trying on`)
      await sleep(pauseMs, undefined, { signal: leaving.signal })
    }
  }

  /** One beat: what runs here, against what Switchyard thinks runs here. @returns when to beat next, s */
  const beat = async (): Promise<number | null> => {
    const { status, json } = await call(`/agents/${agentId}/heartbeat`, { status: 'healthy', running: [...running.keys()] })
    if (status === 404) return register() // it was forgotten, or unregistered by someone
    if (status !== 200) return null
    for (const attemptId of [...json.cancel, ...json.lost]) running.get(attemptId)?.abort()
    return json.next_interval_seconds
  }

  const keepBeating = async (): Promise<void> => {
    let seconds = await register()
    for (;;) {
      await sleep(seconds * 1000, undefined, { signal: leaving.signal })
      // A beat that is missed does no harm: three fit into the time after which an agent counts as dead.
      seconds = (await beat().catch(() => null)) ?? seconds
    }
  }

  const leave = async (): Promise<void> => {
    if (leaving.signal.aborted) return
    leaving.abort()
    if (agentId) await call(`/agents/${agentId}/heartbeat`, { status: 'draining', running: [...running.keys()] }).catch(() => {})
    const deadline = Date.now() + DRAIN_MS
    while (running.size > 0 && Date.now() < deadline) await sleep(20)
    // Switchyard may be gone by now as well; the time to live ends the registration then.
    if (agentId) await call(`/agents/${agentId}/unregister`, {}).catch(() => {})
    say('left')
    process.exit(0)
  }

  process.on('SIGTERM', () => void leave())
  process.on('SIGINT', () => void leave())
  await new Promise<void>((listening, refused) => server.once('error', refused).listen(port, host, listening)).catch((error: Error) =>
    fail(`cannot listen at ${host}:${port} (${error.message}): set AGENT_PORT to a free port, or 0, and AGENT_HOST to a name or address of this machine`),
  )
  port = (server.address() as { port: number }).port
  await keepBeating().catch((error: unknown) => {
    if (!leaving.signal.aborted) throw error
  })
}

type Task = { task_id: string; task_type: string; parameters: Parameters; attempt: number; attempt_id: string }

const readTask = async (req: IncomingMessage): Promise<Task | null> => {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of req as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > MAX_BODY_BYTES) throw new Error('the task is too big')
    chunks.push(chunk)
  }
  try {
    const task = JSON.parse(Buffer.concat(chunks).toString()) as Task
    return typeof task.task_type === 'string' && typeof task.attempt_id === 'string' && typeof task.parameters === 'object' ? task : null
  } catch {
    return null
  }
}

const answer = (res: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void => {
  if (!res.destroyed) res.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(body))
}

/** fetch says only that it failed; the cause says why. */
const reasonOf = (error: unknown): string => {
  const { cause, message } = error as Error
  return (cause as NodeJS.ErrnoException | undefined)?.code ?? message
}
