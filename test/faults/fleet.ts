/** The system of a trial: Redis, APIs, dispatchers and agents, each a process of its own at an address that stays, with a proxy on the links where one is asked for. */
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { ALLOCATOR } from '../../src/allocator.ts'
import { createKeys } from '../../src/redis/keys.ts'
import { startProxy, type Proxy } from '../proxy.ts'
import { startProcess, startRedis, until, call, type Proc, type RedisOptions } from '../system.ts'
import { mono, wallAhead } from './clock.ts'
import type { AgentSettings, HostSettings } from './host.ts'
import { append, createLedger } from './ledger.ts'
import type { Random } from './random.ts'

export type Link = 'api-redis' | 'dispatcher-redis' | 'dispatcher-agent' | 'agent-api'

export type FleetOptions = {
  apis?: number
  dispatchers?: number
  /** Processes with agents, and agents in each. */
  hosts?: number
  agentsPerHost?: number
  ttlSeconds?: number
  /** Links that go through a proxy. */
  links?: readonly Link[]
  /** Settings of our processes. */
  env?: Record<string, string>
  /** Of those of one role, by their number; hosts have no others. */
  envOf?: (role: Member['role'], index: number) => Record<string, string>
  /** A command that our processes are started through. */
  within?: (role: 'api' | 'dispatcher', index: number) => readonly string[]
  /** Settings of Redis, and of its process. */
  redis?: Omit<RedisOptions, 'port'>
}

/** Agent types and what their agents can do. */
export const TYPES = ['alpha', 'beta'] as const
export const CAPABILITIES = ['work', 'slow'] as const

/** One of the processes, at an address that stays. */
export type Member = {
  name: string
  role: 'api' | 'dispatcher' | 'host'
  /** Where it serves; of a dispatcher, its health. */
  url: string
  proc: Proc
  /** Which agents a host has. */
  agents: readonly AgentSettings[]
  /** Its link to Redis, of an API or a dispatcher, where that has a proxy. */
  toRedis: Proxy | null
  /** A host's links to the APIs, where those have proxies. */
  toApis: readonly Proxy[]
  kill: (signal?: NodeJS.Signals) => Promise<void>
  /** Starts it again, at the same address. */
  restart: (env?: Record<string, string>) => Promise<void>
  stop: () => boolean
  go: () => boolean
  residentMiB: () => number
  /** CPU that it has taken, ms. */
  cpuMs: () => number
  /** What it logged between two times of clock.ts. */
  logged: (from: number, to?: number) => LogLine[]
}
export type LogLine = { at: number; level: string; msg: string; task?: string }

/** Below those that the machine gives to whoever asks for any (and to connections): what is killed finds its own free when it comes back. */
const PORTS = { from: 12_000, to: 32_000 }
export const freePorts = async (count: number): Promise<number[]> => {
  const ports = new Set<number>()
  while (ports.size < count) {
    const port = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from))
    const server = createServer()
    const free = await new Promise<boolean>((resolve) => server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true)))
    if (!free) continue
    ports.add(port)
    await new Promise((resolve) => server.close(resolve))
  }
  return [...ports]
}

export const startFleet = async (o: FleetOptions, random: Random) => {
  const { apis: apiCount = 2, dispatchers: dispatcherCount = 4, hosts: hostCount = 4, agentsPerHost = 5, ttlSeconds = 6, links = [], env = {}, envOf = () => ({}), within = () => [] } = o
  const dir = await mkdtemp(join(tmpdir(), 'sy-faults-'))
  const ports = await freePorts(1 + apiCount + dispatcherCount + hostCount * agentsPerHost)
  const nextPort = () => ports.pop()!
  const redisPort = nextPort()
  const store = await startRedis({ port: redisPort, ...o.redis })
  const redis = new Redis({ path: store.socket, maxRetriesPerRequest: null, retryStrategy: () => 50 })
  redis.on('error', () => {})
  const prefix = 'sy'
  const keys = createKeys(prefix)
  const proxies: Proxy[] = []
  const proxyTo = async (port: number, link: Link): Promise<Proxy | null> => {
    if (!links.includes(link)) return null
    const proxy = await startProxy({ port })
    proxies.push(proxy)
    return proxy
  }
  const members: Member[] = []

  const member = async (m: Omit<Member, 'kill' | 'restart' | 'stop' | 'go' | 'proc' | 'residentMiB' | 'cpuMs' | 'logged'>, start: (env: Record<string, string>) => Promise<Proc>): Promise<Member> => {
    const self: Member = {
      ...m,
      proc: await start({}),
      kill: async (signal = 'SIGKILL') => {
        await self.proc.kill(signal)
        for (const a of self.agents) append(ledgerOf(self.name), { what: 'killed', at: mono(), agent: a.id })
      },
      restart: async (more = {}) => void (self.proc = await start(more)),
      stop: () => self.proc.child.kill('SIGSTOP'),
      go: () => self.proc.child.kill('SIGCONT'),
      residentMiB: () => Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${self.proc.child.pid}/status`, 'latin1'))?.[1]) / 1024,
      // In ticks of 10 ms, the fields behind the name in parentheses.
      cpuMs: () => readFileSync(`/proc/${self.proc.child.pid}/stat`, 'latin1').replace(/^.*\) /, '').split(' ').slice(11, 13).reduce((sum, ticks) => sum + Number(ticks) * 10, 0),
      logged: (from, to = Infinity) => self.proc.log.join('').split('\n').flatMap((line) => {
        if (!line.startsWith('{') || !line.endsWith('}')) return []
        const { time, ...rest } = JSON.parse(line) as LogLine & { time: string }
        const at = Date.parse(time) - wallAhead()
        return at >= from && at <= to ? [{ ...rest, at }] : []
      }),
    }
    members.push(self)
    return self
  }

  const ours = async (role: 'api' | 'dispatcher', index: number) => {
    const port = nextPort()
    const toRedis = await proxyTo(redisPort, `${role}-redis`)
    const settings = { ...ALLOCATOR, REDIS_URL: toRedis ? `redis://127.0.0.1:${toRedis.port}` : store.url, REDIS_PREFIX: prefix, HOST: '127.0.0.1', LOG_LEVEL: 'info', PORT: String(port), HEALTH_PORT: String(port), ...env, ...envOf(role, index) }
    return member({ name: `${role}-${index}`, role, url: `http://127.0.0.1:${port}`, agents: [], toRedis, toApis: [] }, (more) => startProcess(role === 'api' ? 'src/api/main.ts' : 'src/workers/main.ts', { ...settings, ...more }, { within: within(role, index) }))
  }
  const [apis, dispatchers] = await Promise.all([
    Promise.all(Array.from({ length: apiCount }, (_, i) => ours('api', i))),
    Promise.all(Array.from({ length: dispatcherCount }, (_, i) => ours('dispatcher', i))),
  ])

  const ledgerOf = (name: string) => join(dir, `${name}.jsonl`)
  const toAgents = new Map<string, Proxy>()
  const startHost = async (index: number) => {
    const name = `host-${index}`
    const agents: AgentSettings[] = []
    for (let i = 0; i < agentsPerHost; i++) {
      const n = index * agentsPerHost + i
      const port = nextPort()
      const proxy = await proxyTo(port, 'dispatcher-agent')
      const agent = { id: `agent-${n}`, type: TYPES[n % TYPES.length]!, capabilities: [...CAPABILITIES], slots: random.whole(1, 5), port, ttlSeconds, ...(proxy ? { shownPort: proxy.port } : {}) }
      if (proxy) toAgents.set(agent.id, proxy)
      agents.push(agent)
    }
    const toApis = (await Promise.all(apis.map((a) => proxyTo(Number(new URL(a.url).port), 'agent-api')))).filter((p) => p !== null)
    const routers = toApis.length > 0 ? toApis.map((p) => `http://127.0.0.1:${p.port}`) : apis.map((a) => a.url)
    const settings: HostSettings = { routers, ledger: ledgerOf(name), agents }
    return member({ name, role: 'host', url: '', agents, toRedis: null, toApis }, () => startProcess('test/faults/host.ts', envOf('host', index), { args: [JSON.stringify(settings)] }))
  }
  const hosts = await Promise.all(Array.from({ length: hostCount }, (_, i) => startHost(i)))
  const ledger = createLedger(hosts.map((h) => ledgerOf(h.name)))

  /** Attempts that a dispatcher has answers for, since it was started. */
  const attemptsOf = async (d: Member): Promise<number> => {
    const text = await call('GET', `${d.url}/metrics`).then((r) => r.text)
    return [...text.matchAll(/^switchyard_worker_attempts_total\S* (\d+)/gm)].reduce((sum, m) => sum + Number(m[1]), 0)
  }
  // Broken off, a trial leaves nothing behind; not what stands still either, which does not see us go.
  const leave = () => {
    for (const m of members) m.proc.child.kill('SIGKILL')
    process.kill(store.pid(), 'SIGKILL')
  }
  process.once('exit', leave)
  let turn = 0
  return {
    store, redis, keys, dir, apis, dispatchers, hosts, members, ledger, proxies, toAgents, attemptsOf, prefix, redisPort,
    agents: hosts.flatMap((h) => h.agents),
    /** The APIs in turn. */
    api: () => apis[turn++ % apis.length]!.url,
    /** How many attempts a dispatcher has in hand. */
    inHand: async (d: Member): Promise<number> => (await call('GET', `${d.url}/health/ready`)).json.in_flight as number,
    /** Waits until the API says that all agents are alive. */
    allAlive: () => until(async () => {
      const answer = await call('GET', `${apis[0]!.url}/agents?limit=200`)
      return answer.status === 200 && answer.json.agents.length >= hosts.length * agentsPerHost
    }, { timeoutMs: 30_000, what: 'all agents being alive' }),
    end: async ({ keep }: { keep: boolean }) => {
      process.off('exit', leave)
      await Promise.all(members.map((m) => m.proc.kill('SIGKILL')))
      ledger.close()
      for (const p of proxies) p.close()
      redis.disconnect()
      await store.close()
      if (!keep) await rm(dir, { recursive: true, force: true })
    },
  }
}
export type Fleet = Awaited<ReturnType<typeof startFleet>>
