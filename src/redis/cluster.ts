/**
 * The connections to a Redis Cluster or Valkey Cluster: one to each master, each of which behaves as the one to a single Redis does (client.ts). When a master is away,
 * what is asked of it fails at once, and what is asked of the others does not notice.
 *
 * Nothing is sent twice behind the caller's back but what a server has said that it did not do (MOVED, TRYAGAIN).
 */
import { isIP } from 'node:net'
import { Cluster, type ClusterOptions, type Redis, type RedisOptions } from 'ioredis'
import type { Logger } from '../logger.ts'
import { addressOf, ownersOf } from './nodes.ts'

/** Who has what is asked for so often while a master is away: its replica may have taken its place. */
const LOOK_MS = 250
/** And so often otherwise. */
const REFRESH_MS = 5_000
/** A node that does not tell within this is not waited for; the next one is asked. */
const TELLS_MS = 1_000

export type ClusterDeps = {
  /** `host` and `port` of some of its nodes. */
  startAt: { host: string; port: number }[]
  /** Of the connection to each. */
  options: RedisOptions & { retryStrategy: (times: number) => number }
  /** Makes a connection to a node what ours are. */
  equip: (node: Redis) => void
  log: Logger
}

/** As the library's types want them. */
type NodeOptions = NonNullable<ClusterOptions['redisOptions']> & { replyMapping?: 'legacy' }

/** Remembers who has what; says whose slots have gone over to whom since it was last asked. */
const createWatch = (cluster: Cluster) => {
  const before: (string | undefined)[] = []
  return (): Set<string> => {
    const moved = new Set<string>()
    const isFirst = before.length === 0
    for (const [slot, [owner] = []] of ownersOf(cluster).entries()) {
      const was = before[slot]
      if (was === owner) continue
      before[slot] = owner
      if (!isFirst) for (const place of [was, owner]) if (place !== undefined) moved.add(place)
    }
    return moved
  }
}

export const createCluster = ({ startAt, options, equip, log }: ClusterDeps): Redis => {
  const { retryStrategy } = options
  const cluster = new Cluster(startAt, {
    redisOptions: options as unknown as NodeOptions,
    clusterRetryStrategy: retryStrategy,
    clusterNodeRetryStrategy: retryStrategy,
    enableOfflineQueue: false,
    enableReadyCheck: false, // its other masters can be worked with while it says that one is missing
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    retryDelayOnTryAgain: 50,
    maxRedirections: 8,
    slotsRefreshTimeout: TELLS_MS,
    slotsRefreshInterval: REFRESH_MS,
    dnsLookup: (address, done) => done(null, address), // a certificate is for a name
    lazyConnect: true,
  })
  cluster.setMaxListeners(1000)
  const told = (what: 'lost' | 'back', place: string): boolean => cluster.emit(what, place)

  cluster.on('+node', (node: Redis) => {
    const { host } = node.options
    if (node.options.tls && host !== undefined && isIP(host) === 0) node.options.tls = { ...node.options.tls, servername: host }
    equip(node)
    const place = addressOf(node)
    let up = false
    node.on('close', () => {
      if (up) told('lost', place)
      up = false
    })
    node.on('ready', () => {
      up = true
      told('back', place)
    })
    // Who is asked before there is a connection is told that there is none.
    if (!node.options.readOnly) node.connect().catch(() => {})
  })

  // A slot that goes over to another node may do so without its last writes.
  const moved = createWatch(cluster)
  cluster.on('refresh', () => {
    const places = [...moved()]
    if (places.length > 0) log.info({ nodes: places }, 'slots of the cluster have moved')
    for (const place of places) told('lost', place)
    for (const place of places) told('back', place)
  })
  const isWhole = (): boolean => cluster.nodes('master').every((node) => node.status === 'ready')
  const timer = setInterval(() => {
    for (const node of cluster.nodes('master')) if (node.status === 'wait') node.connect().catch(() => {}) // a replica that was promoted
    if (cluster.status === 'ready' && !isWhole()) cluster.refreshSlotsCache()
  }, LOOK_MS).unref()
  cluster.once('end', () => clearInterval(timer))

  // A slot that is just being moved key by key would have a part of a type's keys here and a part there, and our scripts go over all of them. So nothing follows it: until the
  // slot has moved, its types wait.
  const inner = cluster as unknown as { handleError(error: Error, ttl: object, handlers: { defaults(): void }): void }
  const handleError = inner.handleError.bind(cluster)
  inner.handleError = (error, ttl, handlers) => (error.message.startsWith('ASK ') ? handlers.defaults() : handleError(error, ttl, handlers))

  // What is of no key goes to any master that is there; the library would ask any at all.
  const send = cluster.sendCommand.bind(cluster)
  cluster.sendCommand = (command, stream, node) => {
    if (node === undefined && (command as unknown as { getSlot(): number | null }).getSlot() === null && command.name !== 'cluster') {
      const up = cluster.nodes('master').find((one) => one.status === 'ready')
      if (up) return up.sendCommand(command, stream)
    }
    return send(command, stream, node)
  }
  cluster.connect().catch(() => {})
  return cluster as unknown as Redis
}

/**
 * Resolves when there is a connection to each master, or none could be made in time to those that are away.
 * @returns why that is no use: none of them can be reached, or is known; else null
 */
export const mastersReady = async (redis: Redis, timeoutMs: number): Promise<string | null> => {
  const cluster = redis as unknown as Cluster
  const until = performance.now() + timeoutMs
  const isUp = (node: Redis): boolean => node.status === 'ready'
  while (!(cluster.status === 'ready' && cluster.nodes('master').every(isUp)) && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 10))
  if (cluster.nodes('master').some(isUp)) return null
  if (cluster.nodes('master').length === 0) return 'The cluster does not say at which addresses its nodes are, as those do not that have met no other: let them announce some (cluster-announce-ip).'
  return `The cluster says that its nodes are at ${cluster.nodes('master').map(addressOf).join(', ')}, and none of them can be reached from here: let them announce addresses that can (cluster-announce-ip, cluster-announce-port).`
}
