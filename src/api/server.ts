/** What an API process is made of, in the order in which it comes up. */
import type { Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { createGuard, type Guard } from '../access/guard.ts'
import type { Config } from '../config.ts'
import { createHostPolicy, isLoopback } from '../contracts/host.ts'
import type { Core } from '../core.ts'
import { ConfigError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { listen, type Frame, type Role } from '../process.ts'
import { createAcknowledgement } from '../redis/acknowledgement.ts'
import { createRedis, whenReady } from '../redis/client.ts'
import { createSubscriber } from '../redis/subscriber.ts'
import { createFeeds } from '../tasks/feeds.ts'
import { acknowledgedCore } from './acknowledged.ts'
import { createApp } from './app.ts'
import { createDoors, type Doors } from './doors.ts'
import { MAX_HEADER_BYTES, refuseUnreadable } from './problem.ts'
import { createTurns } from './turns.ts'

/** Imported it would bring Node's own fetch and WebSocket along, which nothing here uses: a sixteenth of what a start takes. */
const { createServer } = process.getBuiltinModule('node:http')

/** Requests under way get so long to end when we stop. */
const LAST_REQUESTS_MS = 5_000
/** Connections that are kept open get so long to be told, by an answer, that there will be no more. */
const LAST_ANSWERS_MS = 1_000

/** A connection that was taken just before the end gets so long for its request to come. */
const LAST_TO_COME_MS = 250

/**
 * Takes nothing new, and resolves when the last request has ended or its time is over. Who comes now finds nobody; who had come is served: what the
 * system had taken for us and we have not would be reset, and so would one whose request is on its way, were it closed as idle (as `http.Server.close`
 * does at once). So it is done in the phase of the event loop that comes right behind the taking.
 */
const close = (server: Server, doors: Doors): Promise<void> =>
  new Promise((resolve) => {
    const cameAt = performance.now()
    setImmediate(() => {
      // A kept-alive connection whose request ends now is idle only then.
      const idle = setInterval(() => performance.now() - cameAt > LAST_TO_COME_MS && server.closeIdleConnections(), 50)
      const last = setTimeout(() => server.closeAllConnections(), LAST_REQUESTS_MS)
      void doors.close().then(() => {
        clearInterval(idle)
        clearTimeout(last)
        resolve()
      })
    })
  })

/**
 * How a server stops without a client noticing: still serving, it says that it is not ready, and that each answer is the last on its connection. A
 * connection that is simply closed breaks the request that is just being sent there. `leaveMs`: at least so long, for whoever asks now and then
 * whether we are ready.
 */
const createLeaving = (server: Server, doors: Doors, leaveMs: number) => {
  let stopping = false
  let open = 0
  /** Not answered yet. */
  const waiting = new Set<ServerResponse>()
  server.on('connection', (socket: Socket) => {
    open++
    socket.once('close', () => open--)
  })
  return {
    isStopping: () => stopping,
    serves: (res: ServerResponse): void => {
      if (stopping) res.shouldKeepAlive = false
      waiting.add(res)
      res.once('close', () => waiting.delete(res))
    },
    leave: async (): Promise<void> => {
      stopping = true
      for (const res of waiting) res.shouldKeepAlive = false
      const began = performance.now()
      const passed = () => performance.now() - began
      while (passed() < leaveMs || (open > 0 && passed() < LAST_ANSWERS_MS)) await new Promise((resolve) => setTimeout(resolve, 20))
      await close(server, doors)
    },
  }
}

/** What the API changes is told when a replica has it. */
const withAcknowledgement = async ({ config, core, log, onEnd }: Pick<Frame, 'config' | 'core' | 'log' | 'onEnd'>): Promise<Core> => {
  const own = createRedis({ url: core.redisUrl, cluster: config.redisCluster, tls: config.redisTls, name: 'switchyard-api-ack', log })
  onEnd(() => own.disconnect())
  await whenReady(own, core.redisUrl)
  const acknowledgement = createAcknowledgement({ redis: core.redis, own, keys: core.keys })
  await acknowledgement.ready()
  return acknowledgedCore(core, acknowledgement)
}

/**
 * Where strangers may reach us nobody may do anything without a key.
 * @throws ConfigError when there is none, so that nobody could
 */
const checkDoor = (guard: Guard, { host, insecureOpen }: Config, log: Logger): void => {
  if (isLoopback(host) || guard.hasAdminKey || guard.hasKeys()) return
  if (!insecureOpen) throw new ConfigError(`HOST ${host} can be reached from other machines, and there is no key yet: set ADMIN_KEY (\`openssl rand -hex 32\` makes one), make a key with \`switchyard keys create --local --role admin\`, or set HOST=127.0.0.1; INSECURE_OPEN=1 lets everyone do everything.`)
  log.warn({ host }, 'INSECURE_OPEN: whoever reaches this address may do everything, until the first key is made')
}

/** Looks after the agents of every namespace that this process was asked about. */
const sweepAll = async (core: Core): Promise<void> => {
  await Promise.allSettled((await core.made()).map(async ({ types, registry }) => Promise.allSettled((await types.list()).map((type) => registry.sweep(type)))))
}

export const api: Role = {
  name: 'api',
  endsWithinMs: (config) => config.leaveMs + LAST_ANSWERS_MS + LAST_REQUESTS_MS + 5_000,
  start: async ({ config, log, core: ofProcess, onEnd }) => {
    const core = config.ack === 'replica' ? await withAcknowledgement({ config, core: ofProcess, log, onEnd }) : ofProcess
    // Back after an outage, agents' silence is our own: settle that before anyone asks who is alive.
    core.redis.on('back', () => void sweepAll(core).catch(() => {}))
    const subscriber = await createSubscriber(core.redis, { url: core.redisUrl, tls: config.redisTls, name: 'switchyard-api-events', log })
    onEnd(() => subscriber.disconnect())
    const feeds = createFeeds({ subscriber, log })
    const guard = createGuard({ redis: core.redis, subscriber, keys: core.keys, adminKey: config.adminKey, closed: !isLoopback(config.host) && !config.insecureOpen, log })
    await guard.start()
    onEnd(guard.stop)
    checkDoor(guard, config, log)
    const server = createServer({ maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: 65_000, headersTimeout: 15_000, requestTimeout: 60_000, connectionsCheckingInterval: 5_000, requireHostHeader: false }) // app.ts requires it
    const doors = createDoors(server)
    const { isStopping, serves, leave } = createLeaving(server, doors, config.leaveMs)
    server.on('clientError', refuseUnreadable)
    onEnd(() => {
      const left = leave()
      feeds.close() // who waits or watches goes on elsewhere
      return left
    })
    const url = await listen(server, { host: config.host, port: config.port, setting: 'PORT', shared: doors.shared })
    // The port may have been chosen just now. From the turn on in which it became known requests come: whoever answers them must be there by its end,
    // so nothing may be awaited here.
    const { port } = server.address() as { port: number }
    const policy = createHostPolicy({ cidrs: config.agentCidrs, own: () => [{ host: config.host, port }, ...core.redisAt()], loopback: isLoopback(config.host) })
    const app = createApp({ core, feeds, config, policy, guard, log, isStopping })
    const serve = createTurns()((req, res) => {
      serves(res)
      app(req, res)
    })
    server.on('request', serve)
    server.on('checkContinue', serve) // app.ts says whether to go on
    // Other expectations may be ignored; Node would refuse them with an empty answer.
    server.on('checkExpectation', serve)
    await doors.open(config.host)
    log.info({ url }, 'listening')
    return url
  },
}
