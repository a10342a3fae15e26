/** What a system keeps its tasks in: one Redis, or a cluster of so many masters without replicas, each a process of its own with the settings that the one has. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { freePort, type Processes, type Running } from '../processes.ts'
import { REDIS_SETTINGS } from '../settings.ts'
import { startRedis } from '../trial.ts'

export const SLOTS = 16_384
const WHOLE_MS = 20_000

/** `redis`: a connection to it alone, to ask it. */
export type Server = Readonly<{ running: Running; redis: Redis }>
/** `env`: by which API and dispatchers find it. */
export type Store = Readonly<{ servers: readonly Server[]; env: Readonly<Record<string, string>> }>
export type StoreDeps = Readonly<{ processes: Processes; file: string; dir: string; onEnd: (end: () => unknown) => void }>

const connect = (port: number, { onEnd }: StoreDeps): Redis => {
  const redis = new Redis({ host: '127.0.0.1', port, retryStrategy: (times) => (times > 100 ? null : 50) }).on('error', () => {}) // one that is gone is told of by its owner
  onEnd(() => redis.disconnect())
  return redis
}

const startOne = async (deps: StoreDeps): Promise<Store> => {
  const port = await freePort()
  const running = await startRedis(deps.processes, deps.file, deps.dir, port)
  return { servers: [{ running, redis: connect(port, deps) }], env: { REDIS_URL: `redis://127.0.0.1:${port}` } }
}

const until = async (what: string, look: () => Promise<boolean>): Promise<void> => {
  for (const end = performance.now() + WHOLE_MS; !(await look()); await sleep(20)) if (performance.now() > end) throw new Error(`${what} did not come about in ${WHOLE_MS / 1000} s`)
}

/** Slots are shared out evenly, in their order; each master has met the others, and all agree, when this resolves. */
const unite = async (servers: readonly Server[], ports: readonly number[], buses: readonly number[]): Promise<void> => {
  const call = (redis: Redis, ...words: (string | number)[]) => redis.call('CLUSTER', ...words) as Promise<string>
  await Promise.all(servers.map(({ redis }, i) => call(redis, 'ADDSLOTSRANGE', Math.floor((SLOTS * i) / servers.length), Math.floor((SLOTS * (i + 1)) / servers.length) - 1)))
  await Promise.all(servers.map(({ redis }, i) => call(redis, 'SET-CONFIG-EPOCH', i + 1)))
  for (let i = 1; i < servers.length; i++) await call(servers[0]!.redis, 'MEET', '127.0.0.1', ports[i]!, buses[i]!)
  await Promise.all(servers.map(({ redis }) => until('the cluster', async () => {
    const said = await call(redis, 'INFO')
    return said.includes('cluster_state:ok') && said.includes(`cluster_known_nodes:${servers.length}`) && said.includes(`cluster_size:${servers.length}`)
  })))
}

const startCluster = async (masters: number, deps: StoreDeps): Promise<Store> => {
  const ports: number[] = []
  const buses: number[] = []
  const servers: Server[] = []
  for (let i = 0; i < masters; i++) {
    const [port, bus, dir] = [await freePort(), await freePort(), join(deps.dir, `master-${i}`)]
    await mkdir(dir)
    const running = deps.processes.start({ name: `master-${i + 1}`, file: deps.file, args: ['--port', String(port), '--cluster-port', String(bus), '--bind', '127.0.0.1', '--dir', dir, '--loglevel', 'warning', '--cluster-enabled', 'yes', '--cluster-require-full-coverage', 'no', '--cluster-announce-ip', '127.0.0.1', ...REDIS_SETTINGS] })
    await sleep(200)
    ports.push(port)
    buses.push(bus)
    servers.push({ running, redis: connect(port, deps) })
  }
  await unite(servers, ports, buses)
  return { servers, env: { REDIS_URL: ports.map((port) => `redis://127.0.0.1:${port}`).join(','), REDIS_CLUSTER: '1' } }
}

/** @param masters of a cluster; 0: one Redis that is none */
export const startStore = (masters: number, deps: StoreDeps): Promise<Store> => (masters === 0 ? startOne(deps) : startCluster(masters, deps))

/** CPU seconds of a server, to the µs as it says itself; `main` of the thread that runs commands, which is the one that a server cannot have more of. */
export const cpuOfServer = async ({ redis }: Server): Promise<{ main: number; all: number }> => {
  const said = await redis.info('cpu')
  const sum = (of: string) => ['sys', 'user'].reduce((n, mode) => n + Number(new RegExp(`^used_cpu_${mode}${of}:([\\d.]+)`, 'm').exec(said)?.[1]), 0)
  return { main: sum('_main_thread'), all: sum('') }
}
/** What of a server's main thread so many things have taken each while something was done, in µs, for each server. */
export const mainThreads = async (servers: readonly Server[], things: number, work: () => Promise<unknown>): Promise<number[]> => {
  const read = () => Promise.all(servers.map(cpuOfServer))
  const before = await read()
  await work()
  return (await read()).map(({ main }, i) => ((main - before[i]!.main) / things) * 1e6)
}
/** Calls of scripts that servers have had, and the packets that all commands came in: fewer than commands, where several came in one. */
export const callsOf = async (servers: readonly Server[]): Promise<{ calls: number; packets: number }> => {
  const all = await Promise.all(servers.map(async ({ redis }) => {
    const [stats, commands] = await Promise.all([redis.info('stats'), redis.info('commandstats')])
    return { calls: Number(/^cmdstat_evalsha:calls=(\d+)/m.exec(commands)?.[1] ?? 0), packets: Number(/^total_reads_processed:(\d+)/m.exec(stats)?.[1] ?? 0) }
  }))
  return { calls: all.reduce((n, one) => n + one.calls, 0), packets: all.reduce((n, one) => n + one.packets, 0) }
}
