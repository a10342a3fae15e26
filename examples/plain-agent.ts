/**
 * An agent without an SDK, for whoever writes one in another language: all that docs/protocol.md asks for, in one file of plain HTTP.
 * The names in brackets are its rules. It has one capability, `checksum`: `{text, algorithm = "sha256"}` → the digest of the text.
 *
 *   node examples/plain-agent.ts
 *
 * Settings: SWITCHYARD_URL, SWITCHYARD_API_KEY (where keys are in force), AGENT_NAME, AGENT_HOST, AGENT_PORT (0 takes a free one).
 */
import { createHash, getHashes, randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

const { SWITCHYARD_URL: url = 'http://127.0.0.1:8080', SWITCHYARD_API_KEY: key, AGENT_NAME: name = 'plain-agent', AGENT_HOST: host = '127.0.0.1', AGENT_PORT = '0' } = process.env
const MAX_CONCURRENCY = 4
const MAX_BODY_BYTES = 2 * 1024 * 1024

/** Its fault lies in the parameters, so that another attempt would fare no better. */
class BadParameters extends Error {}

const checksum = async ({ text, algorithm = 'sha256' }: Record<string, unknown>, signal: AbortSignal): Promise<unknown> => {
  if (typeof text !== 'string') throw new BadParameters('text must be a string')
  if (typeof algorithm !== 'string' || !getHashes().includes(algorithm)) throw new BadParameters(`algorithm must be one of ${getHashes().join(', ')}`)
  const hash = createHash(algorithm)
  // In pieces, so that others get their turn and a task that nobody waits for is noticed.
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; at += 65_536) {
    hash.update(bytes.subarray(at, at + 65_536))
    await sleep(0, undefined, { signal })
  }
  return { algorithm, digest: hash.digest('hex'), bytes: bytes.length }
}
const capabilities = new Map([['checksum', checksum]])

// --- tasks -------------------------------------------------------------------------------------------------------------

/** What is being worked on, by attempt id. */
const running = new Map<string, AbortController>()
let leaving = false

const answer = (res: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void => {
  if (!res.destroyed) res.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(body))
}

/** @returns null when there is too much of it [T8] */
const readBody = async (req: IncomingMessage): Promise<string | null> => {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of req as AsyncIterable<Buffer>) if ((bytes += chunk.length) <= MAX_BODY_BYTES) chunks.push(chunk)
  return bytes > MAX_BODY_BYTES ? null : Buffer.concat(chunks).toString()
}

const readTask = (text: string): any => {
  try {
    const task = JSON.parse(text)
    const fits = typeof task.task_id === 'string' && typeof task.task_type === 'string' && typeof task.attempt_id === 'string' && typeof task.timeout_seconds === 'number'
    return fits && typeof task.parameters === 'object' && task.parameters !== null ? task : null
  } catch {
    return null
  }
}

const serveTask = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
  const body = await readBody(req)
  if (body === null) return answer(res, 413, { error: 'a task has 2 MiB at most' })
  const task = readTask(body)
  if (!task) return answer(res, 400, { error: 'send a task as a JSON object' }) // [T7]
  const { task_id, task_type, attempt_id } = task
  const work = capabilities.get(task_type)
  if (!work) return answer(res, 422, { task_id, error: `${name} has no capability ${task_type}` }) // [T2]
  // None of these costs the task an attempt; the router gives it to another agent, or comes back after that time. [T3, T4, L1]
  if (leaving) return answer(res, 503, { task_id, error: `${name} is leaving` }, { 'Retry-After': '5' })
  if (running.has(attempt_id)) return answer(res, 503, { task_id, error: 'this attempt is under way' }, { 'Retry-After': '1' })
  if (running.size >= MAX_CONCURRENCY) return answer(res, 429, { task_id, error: `${name} has all the ${MAX_CONCURRENCY} tasks it can do at once` }, { 'Retry-After': '1' })

  const stop = new AbortController()
  running.set(attempt_id, stop)
  res.once('close', () => stop.abort()) // the router hangs up when the task is cancelled or its time is over [T5]
  const timer = setTimeout(() => stop.abort(), task.timeout_seconds * 1000) // [T1]
  const began = performance.now()
  try {
    const result = await work(task.parameters, stop.signal)
    answer(res, 200, { task_id, status: 'completed', result, execution_time_ms: performance.now() - began })
  } catch (error) {
    answer(res, error instanceof BadParameters ? 422 : 500, { task_id, status: 'failed', error: (error as Error).message })
  } finally {
    clearTimeout(timer)
    running.delete(attempt_id)
  }
}

const server = createServer((req, res) => {
  if (req.method === 'POST' && req.url === '/task') void serveTask(req, res).catch(() => res.destroy())
  else if (req.method === 'GET' && req.url === '/health') answer(res, 200, { status: leaving ? 'draining' : 'healthy', running: running.size, max_concurrency: MAX_CONCURRENCY, capabilities: [...capabilities.keys()] }) // [H1]
  else answer(res, 404, { error: 'POST /task and GET /health are all there is' })
})
server.keepAliveTimeout = 65_000 // [T9]

// --- the router --------------------------------------------------------------------------------------------------------

// Made anew at each start: by it the router knows that what the process before was running is over. [R4]
const instance_id = randomUUID()
let agentId: string | undefined

const call = async (path: string, body: object): Promise<{ status: number; json: any }> => {
  const res = await fetch(url + path, { method: 'POST', headers: { 'content-type': 'application/json', ...(key ? { authorization: `Bearer ${key}` } : {}) }, body: JSON.stringify(body), signal: AbortSignal.timeout(5000) })
  return { status: res.status, json: await res.json() }
}

/** [R1, R3] @returns after how many seconds to beat */
const register = async (): Promise<number> => {
  const { port } = server.address() as AddressInfo
  const { status, json } = await call('/agents/register', { name, type: 'plain', host, port, capabilities: [...capabilities.keys()], max_concurrency: MAX_CONCURRENCY, instance_id, agent_id: agentId })
  if (status >= 300) throw new Error(`${status} ${json.error}`)
  agentId = json.agent_id as string
  console.log(`${name}: registered at ${url} as ${agentId}, listening at ${host}:${port}`)
  return json.heartbeat_interval_seconds
}

/** One beat: what runs here, against what the router thinks runs here. [B2, B3, B4] @returns after how many seconds to beat again */
const beat = async (): Promise<number> => {
  const { status, json } = await call(`/agents/${agentId}/heartbeat`, { running: [...running.keys()] })
  if (status === 404) return register()
  if (status !== 200) throw new Error(`${status} ${json.error}`)
  for (const attemptId of [...json.cancel, ...json.lost]) running.get(attemptId)?.abort()
  return json.next_interval_seconds
}

const leave = async (): Promise<void> => {
  leaving = true
  if (agentId) await call(`/agents/${agentId}/heartbeat`, { status: 'draining', running: [...running.keys()] }).catch(() => {}) // [L1]
  for (const deadline = Date.now() + 10_000; running.size > 0 && Date.now() < deadline; ) await sleep(20) // [L2]
  if (agentId) await call(`/agents/${agentId}/unregister`, {}).catch(() => {})
  process.exit(0)
}

process.once('SIGTERM', () => void leave())
process.once('SIGINT', () => void leave())
server.listen(Number(AGENT_PORT), host, async () => {
  while (!leaving) {
    let seconds = 2 // after a failure: the router may start later, or come back [R2, B5]
    try {
      seconds = await (agentId ? beat() : register())
    } catch (error) {
      console.error(`${name}: ${url} did not take it (${(error as Error).message}); trying on`)
    }
    await sleep(seconds * (900 + 200 * Math.random())) // [B1]
  }
})
