/** Redis connections: how they fail, come back and write. */
import { isIP } from 'node:net'
import { Redis, type RedisOptions } from 'ioredis'
import { nodesIn } from '../contracts/store-url.ts'
import { ConfigError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { createCluster, mastersReady } from './cluster.ts'
import { watchLiveness } from './liveness.ts'
import { addressOf, isCluster, mastersOf } from './nodes.ts'
import { refusalOf, shown } from './refusals.ts'

export type { Redis }

/** Of ioredis's commands; it clears the timer when one is settled. */
type Timed = { setTimeout(ms: number): void; reject(error: Error): void; _commandTimeoutTimer?: NodeJS.Timeout }

/**
 * Timers run before sockets are read: a process that stood still (a burst, a busy machine) would find a command timed out whose answer
 * is there. So a time that is up lets what has come be read first. Rejecting what has been answered meanwhile does nothing.
 */
const timeOutBehindRead = function (this: Timed, ms: number): void {
  this._commandTimeoutTimer ??= setTimeout(() => setImmediate(() => this.reject(new Error('Command timed out'))), ms)
}

type Corkable = { cork(): void; uncork(): void }

/** Commands in a packet: more, and Redis would begin late and answer all at once, while we and everyone else wait for it. */
const PACKET = 16

/**
 * Writes what one turn of the event loop has to say in few packets: corks the socket at the first command, uncorks behind the turn.
 * Costs no visible latency and saves about a third of Redis's and our own time per task; ioredis's pipelines are slower than this.
 */
const cork = (redis: Redis): void => {
  const send = redis.sendCommand.bind(redis)
  let corked: Corkable | undefined
  let commands = 0
  redis.sendCommand = (command, stream) => {
    ;(command as unknown as Timed).setTimeout = timeOutBehindRead
    const { stream: socket } = redis as unknown as { stream?: Corkable }
    if (!corked && socket) {
      corked = socket
      commands = 0
      socket.cork()
      setImmediate(() => {
        corked = undefined
        socket.uncork()
      })
    }
    const answer = send(command, stream)
    if (++commands % PACKET === 0) {
      corked?.uncork()
      corked?.cork()
    }
    return answer
  }
}

/** So long may a command or a connection take before it fails: whoever asked is told within 2 s. */
const TIMEOUT_MS = 1800

const target = (url: string): { path?: string } => (url.startsWith('unix://') ? { path: decodeURIComponent(url.slice('unix://'.length)) } : {})

/** By TLS a server is asked for by its name, as one address may serve several; an address has none. */
const serverName = (url: string): { servername?: string } => {
  const { hostname } = new URL(url)
  return isIP(hostname.replace(/^\[(.*)\]$/, '$1')) === 0 ? { servername: hostname } : {}
}

/** Replies of a Redis that takes nothing now. One older than 7 puts a script's own words before them, 7.0 an `ERR` where a script has caught them. */
const TAKES_NOTHING = /(?:^(?:ERR )?| -)(?:OOM|READONLY|NOREPLICAS|LOADING|MISCONF|CLUSTERDOWN|BUSY|MASTERDOWN|TRYAGAIN|ASK|MOVED|UNKILLABLE) /
const NO_MEMORY = /(?:^(?:ERR )?| -)OOM /
/** Whether Redis has reached its `maxmemory`. */
export const isOutOfMemory = (error: unknown): boolean => error instanceof Error && NO_MEMORY.test(error.message)
/** What the client says of a command that it could not send, or that was not answered. */
const NO_ANSWER = /^(?:Command timed out|Connection is closed\.|Stream isn't writeable|Command aborted due to connection close|Too many Cluster redirections|Cluster isn't ready|Cluster is ended|None of startup nodes is available)/

/**
 * Whether an error is the store's rather than ours: no connection, no answer in time, no memory, no writes.
 * By what the client is known to throw: a file that we miss, or a socket of another kind, has nothing to do with it.
 */
export const isStoreFailure = (error: unknown): boolean => {
  if (!(error instanceof Error)) return false
  if (error.name === 'ReplyError') return TAKES_NOTHING.test(error.message)
  if (error.name === 'MaxRetriesPerRequestError' || NO_ANSWER.test(error.message)) return true
  return (error as NodeJS.ErrnoException).syscall === 'connect' // nobody but the client connects to anything where this is asked
}

export type RedisTls = Readonly<{ ca?: string | undefined; cert?: string | undefined; key?: string | undefined }>

export type RedisDeps = {
  /** `redis://`, `rediss://` or `unix:///path`; of a cluster some of its nodes, apart by commas */
  url: string
  /** The URL names one node of a cluster. */
  cluster?: boolean | undefined
  /** For `rediss://`, as PEM: whom to trust instead of what this machine does, and our own certificate. */
  tls?: RedisTls | undefined
  /** Shown by CLIENT LIST. */
  name: string
  log: Logger
}

const optionsOf = (name: string) => ({
  connectionName: name,
  disableClientInfo: true, // what nobody needs, no ACL need allow
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false, // whoever subscribes does it again: the library would not do so twice, nor say that it failed
  maxRetriesPerRequest: null,
  commandTimeout: TIMEOUT_MS,
  connectTimeout: TIMEOUT_MS,
  keepAlive: 10_000,
  noDelay: true,
  maxLoadingRetryTime: 500,
  retryStrategy: (times: number) => Math.min(50 * times, 500),
}) satisfies RedisOptions

/**
 * The connection to one Redis, or those to a cluster's masters (cluster.ts), which look the same. While Redis is away commands fail at once instead of piling up; nothing
 * is sent twice behind the caller's back; it reconnects within a second of Redis's return.
 *
 * Beside the library's events it tells `lost` and `back`: of a connection to a server that holds data, be it the only one or one of many (then with its place).
 */
export const createRedis = ({ url, cluster = false, tls, name, log }: RedisDeps): Redis => {
  const options = optionsOf(name)
  const isTls = url.startsWith('rediss://')
  const nodes = nodesIn(url)
  if (cluster || nodes.length > 1) {
    const startAt = nodes.map((node) => new URL(node))
    const { username, password } = startAt[0]!
    return createCluster({
      startAt: startAt.map(({ hostname, port }) => ({ host: hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(port || 6379) })),
      options: {
        ...options,
        ...(username === '' ? {} : { username: decodeURIComponent(username) }),
        ...(password === '' ? {} : { password: decodeURIComponent(password) }),
        ...(isTls ? { tls: { ...tls } } : {}),
      },
      equip: (node) => equip(node, name, log),
      log,
    })
  }
  const more = { ...options, ...target(url), ...(isTls ? { tls: { ...tls, ...serverName(url) } } : {}), reconnectOnError: leavesReplica() }
  const redis = url.startsWith('unix://') ? new Redis(more) : new Redis(url, more)
  equip(redis, name, log)
  redis.on('close', () => redis.emit('lost'))
  redis.on('ready', () => redis.emit('back'))
  return redis
}

/** What makes a connection of the library's one of ours. */
const equip = (redis: Redis, name: string, log: Logger): void => {
  redis.setMaxListeners(1000) // 0 would mean any number, but BullMQ adds 3 to it
  cork(redis)
  watchLiveness(redis)
  // What was under way fails now: the library would let it wait for its timeout, as it is not sent again.
  redis.on('close', () => {
    const inner = redis as unknown as { prevCommandQueue?: { length: number; shift(): { command: Pick<Timed, 'reject'> } | undefined } | null }
    const unanswered = inner.prevCommandQueue
    inner.prevCommandQueue = null
    while (unanswered && unanswered.length > 0) unanswered.shift()?.command.reject(new Error('Connection is closed.'))
  })
  // One line when it goes and one when it comes back, however many attempts lie between.
  let away = false
  const which = redis.options.path === undefined ? { connection: name, node: addressOf(redis) } : { connection: name }
  redis.on('error', (error: Error) => {
    if (away) return
    away = true
    log.warn({ ...which, error: error.message }, 'redis is away; trying again')
  })
  redis.on('close', () => {
    if (away || redis.status === 'end') return
    away = true
    log.warn(which, 'redis is away; trying again')
  })
  redis.on('ready', () => {
    if (away) log.info(which, 'redis is back')
    away = false
  })
}

/** Breaks connections off, to be made anew at once. What is under way on them fails. */
export const reconnect = (redis: Redis): void => {
  for (const one of mastersOf(redis)) {
    const { stream } = one as unknown as { stream?: { destroy(error: Error): void } }
    stream?.destroy(new Error('made anew'))
  }
}

/** A Redis that has become a replica: whoever answers at its address by now may be the master. Asked again every so often, not at each command. */
const ANOTHER_MASTER_MS = 2000
const leavesReplica = () => {
  let last = -Infinity
  return (error: Error): boolean => {
    if (!/(?:^| -)READONLY /.test(error.message) || performance.now() - last < ANOTHER_MASTER_MS) return false
    last = performance.now()
    return true
  }
}

/** A master of a cluster that does not answer within this is away as we start. */
const MASTER_MS = 4_000

/**
 * Resolves when the connection is ready.
 * @throws ConfigError when Redis does not let us in, at once, and after `timeoutMs` when nobody answers: it says what to do
 */
export const whenReady = (redis: Redis, url: string, timeoutMs = 10_000): Promise<void> =>
  new Promise((resolve, reject) => {
    if (redis.status === 'ready' && !isCluster(redis)) return resolve()
    const end = (): void => {
      clearTimeout(timer)
      redis.off('ready', ready)
      redis.off('error', failed)
    }
    const ready = (): void => {
      end()
      if (!isCluster(redis)) return resolve()
      void mastersReady(redis, MASTER_MS).then((why) => (why === null ? resolve() : fail(why)))
    }
    const fail = (why: string): void => (end(), reject(new ConfigError(why)))
    const failed = (error: Error & { lastNodeError?: Error }): void => {
      const why = refusalOf(error.lastNodeError ?? error, url)
      if (why !== null) fail(why)
    }
    const timer = setTimeout(() => fail(`No Redis answers at ${shown(url)}: start it, or mend REDIS_URL.`), timeoutMs)
    redis.on('ready', ready)
    redis.on('error', failed)
    if (redis.status === 'ready') ready()
  })
