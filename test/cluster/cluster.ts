/** A Redis Cluster of processes on this machine: so many masters, and replicas of the first ones. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'

const SLOTS = 16_384
/** A master that is silent for so long has failed; its replica takes over within about as much again. */
const NODE_TIMEOUT_MS = 2_000

/** Free ports, all different. */
export const freePorts = async (count: number): Promise<number[]> => {
  const servers = Array.from({ length: count }, () => createServer())
  const ports = await Promise.all(servers.map((server) => new Promise<number>((resolve) => server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)))))
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

const until = async (what: string, look: () => Promise<boolean>): Promise<void> => {
  for (const end = Date.now() + 30_000; !(await look().catch(() => false)); await new Promise((resolve) => setTimeout(resolve, 25))) if (Date.now() > end) throw new Error(`${what} did not happen`)
}

export type ClusterNode = {
  port: number
  dir: string
  /** To ask it alone. */
  redis: Redis
  start: () => void
  /** Resolves when the process has gone. */
  kill: (signal?: NodeJS.Signals) => Promise<void>
  pause: () => void
  go: () => void
}

const createNode = async (dir: string, port: number, busPort: number, settings: Record<string, string>): Promise<ClusterNode> => {
  await mkdir(dir)
  const all = {
    port: String(port), 'cluster-port': String(busPort), bind: '127.0.0.1', 'cluster-enabled': 'yes', 'cluster-node-timeout': String(NODE_TIMEOUT_MS), 'cluster-require-full-coverage': 'no',
    'repl-diskless-sync-delay': '0', appendonly: 'yes', appendfsync: 'no', save: '', 'maxmemory-policy': 'noeviction', dir, ...settings,
  }
  let child: ChildProcess
  const start = (): void => void (child = spawn('redis-server', Object.entries(all).flatMap(([name, value]) => [`--${name}`, value]), { stdio: 'ignore' }))
  start()
  const redis = new Redis({ host: '127.0.0.1', port, retryStrategy: () => 20, maxRetriesPerRequest: null })
  redis.on('error', () => {})
  const kill = async (signal: NodeJS.Signals = 'SIGKILL'): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((resolve) => child.once('exit', resolve))
    child.kill(signal)
    await gone
  }
  return { port, dir, redis, start, kill, pause: () => void child.kill('SIGSTOP'), go: () => void child.kill('SIGCONT') }
}

const isWhole = async ({ redis }: ClusterNode): Promise<boolean> => ((await redis.call('CLUSTER', 'INFO')) as string).includes('cluster_state:ok')

/** A cluster in the place of a Redis of the test's own: what is done to it is done to all of its nodes. */
export const startClusterAsStore = async () => {
  const { nodes, url, close } = await startCluster()
  return {
    url,
    start: async (): Promise<void> => {
      for (const { start } of nodes) start()
      await Promise.all(nodes.map((node) => until('the cluster', () => isWhole(node))))
    },
    kill: async (signal?: NodeJS.Signals): Promise<void> => void (await Promise.all(nodes.map(({ kill }) => kill(signal)))),
    pause: (): void => nodes.forEach(({ pause }) => pause()),
    go: (): void => nodes.forEach(({ go }) => go()),
    close,
  }
}

export type TestCluster = Awaited<ReturnType<typeof startCluster>>

/** @param replicas of the masters in their order, one each, as far as they go */
export const startCluster = async ({ masters: count = 3, replicas: copies = 0, settings = {} }: { masters?: number; replicas?: number; settings?: Record<string, string> | ((node: number) => Record<string, string>) } = {}) => {
  const dir = await mkdtemp(join(tmpdir(), 'sy-cluster-'))
  const ports = await freePorts(2 * (count + copies))
  const nodes = await Promise.all(Array.from({ length: count + copies }, (_, i) => createNode(join(dir, String(i)), ports[2 * i]!, ports[2 * i + 1]!, typeof settings === 'function' ? settings(i) : settings)))
  const close = async (): Promise<void> => {
    for (const { redis } of nodes) redis.disconnect()
    await Promise.all(nodes.map((node) => node.kill()))
    await rm(dir, { recursive: true, force: true })
  }
  try {
    const masters = nodes.slice(0, count)
    const slaves = nodes.slice(count)
    await Promise.all(nodes.map(({ redis }) => until('a node', async () => (await redis.ping()) === 'PONG')))
    await Promise.all(masters.map(({ redis }, i) => redis.call('CLUSTER', 'ADDSLOTSRANGE', Math.floor((SLOTS * i) / count), Math.floor((SLOTS * (i + 1)) / count) - 1)))
    await Promise.all(nodes.map(({ redis }, i) => redis.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)))
    for (const [i, { port }] of nodes.entries()) if (i > 0) await nodes[0]!.redis.call('CLUSTER', 'MEET', '127.0.0.1', port, ports[2 * i + 1]!)
    await Promise.all(nodes.map(({ redis }) => until('a meeting', async () => ((await redis.call('CLUSTER', 'NODES')) as string).trim().split('\n').filter((line) => / connected/.test(line) && !/handshake/.test(line)).length === nodes.length)))
    for (const [i, { redis }] of slaves.entries()) await redis.call('CLUSTER', 'REPLICATE', (await masters[i]!.redis.call('CLUSTER', 'MYID')) as string)
    await Promise.all(slaves.map(({ redis }) => until('a replica', async () => (await redis.info('replication')).includes('master_link_status:up'))))
    await Promise.all(nodes.map((node) => until('the cluster', () => isWhole(node))))
    // Every node knows of every replica: its clients are told by any.
    await Promise.all(nodes.map(({ redis }) => until('its replicas', async () => ((await redis.call('CLUSTER', 'NODES')) as string).split('\n').filter((line) => /\bslave\b/.test(line)).length === copies)))
    return { url: `redis://${masters.map(({ port }) => `127.0.0.1:${port}`).join(',')}`, masters, replicas: slaves, nodes, close }
  } catch (error) {
    await close()
    throw error
  }
}
