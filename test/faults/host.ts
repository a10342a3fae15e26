/**
 * A process with several agents, as plain as an agent can be, that writes a ledger. It works on whatever becomes of the connection, like an agent
 * that does not watch it, until it is done or told to stop. `process.argv[2]` is a `HostSettings` as JSON; it is told nothing else.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { request } from 'undici'
import { mono, wallAhead } from './clock.ts'
import { createWriter } from './ledger.ts'

export type AgentSettings = { id: string; type: string; capabilities: string[]; slots: number; port: number; /** Where the router is to look for it, when that is somewhere else. */ shownPort?: number; ttlSeconds: number }
export type HostSettings = { routers: string[]; ledger: string; agents: AgentSettings[] }

/** What the load asks of an agent: to work for so long, and answer at once or later. */
export type Work = { ms: number; how: 'answer' | 'later' }

const { routers, ledger: path, agents } = JSON.parse(process.argv[2]!) as HostSettings
const ledger = createWriter(path)
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** As long as the SDKs wait: half of a short TTL. */
const CALL_MS = Math.min(5_000, ...agents.map((a) => (a.ttlSeconds * 1000) / 2))

let turn = 0
/** Asks one router after the other until one answers something that is no 429 or 5xx. `body` is made anew for each try. */
const ask = async (method: 'POST' | 'DELETE', to: string, body: () => unknown, forMs: number, tryMs = CALL_MS): Promise<{ status: number; json: any } | null> => {
  for (const end = mono() + forMs; mono() < end; await sleep(200)) {
    try {
      const res = await request(routers[turn++ % routers.length]! + to, { method, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body()), headersTimeout: tryMs, bodyTimeout: tryMs })
      const text = await res.body.text()
      if (res.statusCode !== 429 && res.statusCode < 500) return { status: res.statusCode, json: JSON.parse(text) }
    } catch {}
  }
  return null
}

const startAgent = async (a: AgentSettings) => {
  const inHand = new Map<string, { task: string; stop: () => void }>()
  /** Done, and the router has yet to take the result: its beats list them still (docs/protocol.md, T12). */
  const untold = new Set<string>()
  let registered = false

  const work = (delivery: any, res: ServerResponse) => {
    const { task_id: task, attempt_id: attempt, attempt: number, timeout_seconds: seconds, parameters } = delivery
    const { ms, how } = parameters as Work
    // An attempt's id begins with the time at which it was sent, by Redis's clock, which is this machine's.
    ledger.write({ what: 'start', at: mono(), agent: a.id, slots: a.slots, task, attempt, number, until: Number(attempt.split('.')[0]) - wallAhead() + seconds * 1000, how })
    const end = (why: 'answered' | 'told to stop') => {
      if (!inHand.delete(attempt)) return false
      ledger.write({ what: 'end', at: mono(), agent: a.id, task, attempt, why })
      return true
    }
    const result = { status: 'completed', result: { attempt_id: attempt }, execution_time_ms: ms }
    const timer = setTimeout(async () => {
      if (!end('answered')) return
      if (how === 'answer') return void res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ task_id: task, ...result }))
      untold.add(attempt)
      const answer = await ask('POST', `/tasks/${task}/result`, () => ({ attempt_id: attempt, ...result }), 60_000)
      untold.delete(attempt)
      ledger.write({ what: 'told', at: mono(), agent: a.id, task, attempt, status: answer?.status ?? 0 })
    }, ms)
    const stop = () => {
      clearTimeout(timer)
      if (end('told to stop') && how === 'answer') res.destroy()
    }
    inHand.set(attempt, { task, stop })
    if (how === 'later') res.writeHead(202).end()
  }

  const server = createServer((req: IncomingMessage, res) => {
    if (req.method === 'DELETE') {
      const one = inHand.get(String(req.headers['switchyard-attempt']))
      one?.stop()
      return void res.writeHead(one ? 200 : 404).end()
    }
    // What comes before counts as the former process's, whose slots are free once this one is known.
    if (!registered) return void res.writeHead(503, { 'retry-after': '1' }).end()
    const chunks: Buffer[] = []
    req.on('data', (chunk: Buffer) => chunks.push(chunk))
    req.on('error', () => {})
    req.on('end', () => work(JSON.parse(Buffer.concat(chunks).toString()), res))
  })
  server.keepAliveTimeout = 60_000
  await new Promise<void>((resolve) => server.listen(a.port, '127.0.0.1', resolve))
  const self = { agent_id: a.id, name: a.id, type: a.type, host: '127.0.0.1', port: a.shownPort ?? a.port, capabilities: a.capabilities, max_concurrency: a.slots, ttl_seconds: a.ttlSeconds, instance_id: String(process.pid) }
  const asked = mono()
  /** The router's time at its last answer, which a beat that comes late is known by. */
  let heard: string | undefined = (await ask('POST', '/agents/register', () => self, 60_000))?.json.last_seen
  registered = true
  ledger.write({ what: 'registered', at: mono(), asked, agent: a.id })
  // One at a time, or the list of one would be older than the other's coming: what began between the two would be taken for over (B2).
  const beatMs = (a.ttlSeconds * 1000) / 3
  const beat = async () => {
    const answer = await ask('POST', `/agents/${a.id}/heartbeat`, () => ({ running: [...inHand.keys(), ...untold], ...(heard === undefined ? {} : { timestamp: heard }) }), beatMs, beatMs / 2) // a router that is cut off must not cost the whole beat: with a TTL this short the next might come too late
    if (answer?.status === 404) return void (await ask('POST', '/agents/register', () => self, 60_000))
    if (answer?.status === 200) heard = answer.json.timestamp
    for (const attempt of [...(answer?.json?.cancel ?? []), ...(answer?.json?.lost ?? [])]) inHand.get(attempt)?.stop()
  }
  let beating = false
  setInterval(() => {
    if (beating) return
    beating = true
    void beat().finally(() => (beating = false))
  }, beatMs)
}

process.on('disconnect', () => process.exit()) // the trial has gone
await Promise.all(agents.map(startAgent))
process.send?.({ ready: true, url: '' })
