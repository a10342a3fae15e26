/** What stands beside the tasks: health routes, connections that stay open, signatures. */
import { Agent } from 'node:http'
import { sign } from '../../../../sdk/typescript/signature.ts'
import { experiment } from '../check.ts'
import { came, did, member, unserved, type Exchange } from '../exchange.ts'
import { signed } from '../sign.ts'
import { newAttemptId, newTaskId, taskBody } from '../subject.ts'
import { pause } from '../waiting.ts'

export const health = experiment({
  checks: {
    health: { level: 'SHOULD', rule: 'H1', title: 'serves GET /health with its status' },
    'health-live': { level: 'MAY', rule: 'H2', title: 'GET /health/live is 200 if it is served' },
    'health-ready': { level: 'MAY', rule: 'H2', title: 'GET /health/ready is 200 if it is served' },
  },
  limitMs: 16_000,
  taskless: true,
  run: async (agent, judge) => {
    const x = await agent.ask('GET', '/health')
    const status = member(x.json, 'status')
    const { running, max_concurrency: most, capabilities } = (typeof x.json === 'object' && x.json !== null ? x.json : {}) as Record<string, unknown>
    const count = (value: unknown): boolean => value === undefined || (Number.isInteger(value) && (value as number) >= 0)
    const list = capabilities === undefined || (Array.isArray(capabilities) && capabilities.every((one) => typeof one === 'string'))
    if (x.status === 200 && (status === 'healthy' || status === 'draining') && count(running) && count(most) && list) judge.passed('health')
    else judge.broken('health', { sent: x.sent, came: came(x), todo: 'answer 200 {"status": "healthy", "running": how many, "max_concurrency": how many, "capabilities": [their names]}' })
    for (const name of ['health-live', 'health-ready'] as const) {
      const route = await agent.ask('GET', `/${name.replace('-', '/')}`)
      if (unserved(route)) judge.skipped(name, 'it is not served, and need not be')
      else if (route.status === 200) judge.passed(name)
      else judge.broken(name, { sent: route.sent, came: came(route), todo: 'answer 200 while it runs and takes tasks, or 404 when the route is not there' })
    }
  },
})

/** The router reuses a connection that has not been idle for longer. */
const IDLE_MS = 1500

/** Keeps its connection whatever the agent says about keeping it, and counts how many it made. */
class Keeping extends Agent {
  made = 0
  constructor() {
    super({ keepAlive: true, maxSockets: 1 })
  }
  override createConnection(...args: Parameters<Agent['createConnection']>): ReturnType<Agent['createConnection']> {
    this.made++
    return super.createConnection(...args)
  }
  override keepSocketAlive(): boolean {
    return true
  }
}

export const keepAlive = experiment({
  checks: { 'keep-alive': { level: 'SHOULD', rule: 'T9', title: 'keeps an idle connection open, and takes the next task on it' } },
  limitMs: 24_000,
  run: async (agent, judge) => {
    const connection = new Keeping()
    try {
      const first = await agent.deliver({ agent: connection })
      if (first.status === null || first.tooBig) return judge.skipped('keep-alive', `the first task on it got no whole answer: ${came(first)}`)
      await pause(IDLE_MS)
      const next = await agent.deliver({ agent: connection })
      const sent = `a task, nothing for ${IDLE_MS / 1000} s, and the next task on the same connection`
      const todo = 'speak HTTP/1.1 with a Content-Length, and keep idle connections for more than 2 s'
      if (connection.made > 1) judge.broken('keep-alive', { sent, came: 'the connection was closed', todo })
      else if (did(first) && !did(next)) judge.broken('keep-alive', { sent, came: came(next), todo })
      else judge.passed('keep-alive')
    } finally {
      connection.destroy()
    }
  },
})
export const signatures = experiment({
  checks: { signature: { level: 'MUST', rule: 'S1', title: 'answers 401 to what is not rightly signed, and takes what is', needs: ['secret'] } },
  limitMs: 20_000,
  run: async (agent, judge) => {
    const { key } = agent
    if (!key) return
    const make = (): Buffer => Buffer.from(JSON.stringify(taskBody(agent.task, { taskId: newTaskId(), attemptId: newAttemptId(), attempt: 1 }, agent.timeoutMs)))
    const body = make()
    const unsigned = { 'content-type': 'application/json', 'webhook-id': '', 'webhook-timestamp': '', 'webhook-signature': '' }
    const right = signed(key, body)
    const bad: [string, Record<string, string>][] = [
      ['no signature', unsigned],
      ['the signature of another key', { ...right, 'webhook-signature': sign([Buffer.from('another')], { id: right['webhook-id']!, timestamp: right['webhook-timestamp']!, body }) }],
      ['the signature of another body', signed(key, make())],
      ['a signature that is cut short', { ...right, 'webhook-signature': right['webhook-signature']!.slice(0, 20) }],
      ['another webhook-id than was signed', { ...right, 'webhook-id': 'msg_another' }],
      ['a right signature that is 10 minutes old', signed(key, body, 600)],
    ]
    const todo = 'check HMAC-SHA256 over id.timestamp.body, with the bytes as they came, against each signature in the header, in constant time, and that the timestamp is within 5 minutes'
    const broken = (x: Exchange): void => judge.broken('signature', { sent: x.sent, came: came(x), todo })
    for (const [what, headers] of bad) {
      const x = await agent.post(body, what, { 'content-type': 'application/json', ...headers })
      if (x.status !== 401) return broken({ ...x, sent: `${x.sent} (401 is due)` })
    }
    const several = { 'content-type': 'application/json', ...right, 'webhook-signature': `v1,${Buffer.alloc(32).toString('base64')} v2,abc ${right['webhook-signature']}` }
    const x = await agent.post(body, 'several signatures, of which one is right', several)
    if (!did(x)) return broken(x)
    judge.passed('signature')
  },
})
