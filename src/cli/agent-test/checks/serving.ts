/** What stands beside the tasks: health routes, and connections that stay open. */
import { Agent } from 'node:http'
import { experiment } from '../check.ts'
import { came, did, member, unserved } from '../exchange.ts'
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
