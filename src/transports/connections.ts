/**
 * Connections to agents, and to the receivers of webhooks, one undici Client each. A Client is taken by one attempt at a time, kept while its connection lives, and dropped
 * with it: so an attempt can stop its own connection, also while that is still being made, and what nobody talks to takes no memory.
 * The last one used is taken first; the others fall idle and close. How many there are is bounded by the agents' slots.
 */
import dns from 'node:dns/promises'
import net, { isIP, type LookupFunction, type Socket } from 'node:net'
import tls from 'node:tls'
import { createRequire } from 'node:module'
import type * as undici from 'undici'
import { parseHost, type HostPolicy } from '../contracts/host.ts'

/** Of undici only this: the whole of it is an eighth of a worker's start. */
const Client = createRequire(import.meta.url)('undici/lib/dispatcher/client.js') as typeof undici.Client

const CONNECT_MS = 10_000
/** Below the keep-alive of the servers that people run agents on (gunicorn 2 s, uvicorn and Node 5 s): they close, the POST is lost. */
const IDLE_MS = 1_500
const MAX_HEADER_BYTES = 16_384

/** Resolves a name to all its addresses, best first. */
export type Resolve = (hostname: string) => Promise<{ address: string; family: number }[]>

/** One connection, made or to be made. `connectError` is why it could not be made. */
export type Link = { readonly client: undici.Client; readonly origin: Origin; connectError: Error | null; socket: Socket | null; idle: boolean; /** It has served an attempt before. */ used: boolean }
type Origin = { key: string; url: string; host: string; port: number; idle: Link[]; links: number }

const noop = (): void => {}
const describe = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** Every failed address of a host in one line; Node leaves the message of its AggregateError empty. */
export const describeConnectError = (error: Error): string => (error instanceof AggregateError && error.errors.length > 0 ? error.errors.map(describe).join('; ') : error.message)

/** No address of a host is one that we may connect to. */
export class AddressesNotAllowed extends Error {}

/** Each reason once, with the first address that it is of. */
const noneAllowed = (hostname: string, objections: readonly (readonly [address: string, why: string])[]): AddressesNotAllowed => {
  const reasons = new Map(objections.toReversed().map(([address, why]) => [why, address]))
  const all = objections.map(([address]) => address).join(', ') || 'none'
  return new AddressesNotAllowed([`${hostname} resolves only to addresses that are not allowed: ${all}`, ...[...reasons].map(([why, address]) => `${address} ${why}`)].join('; '))
}

/**
 * @param deps.secure whether they are made with TLS
 * @param deps.policy literals are held against it when the first connection is made, every resolved address, and the one that was connected to
 * @param deps.resolve the system's resolver unless given
 */
export const createConnections = (deps: { policy: HostPolicy; resolve?: Resolve | undefined; secure?: boolean }) => {
  const { policy, resolve = (hostname) => dns.lookup(hostname, { all: true }), secure = false } = deps
  const origins = new Map<string, Origin>()
  const resolving = new Map<string, ReturnType<Resolve>>()
  let closed = false

  /** One look-up a name at a time: getaddrinfo has few threads, and one slow name must not take them all. */
  const resolveOnce = (hostname: string): ReturnType<Resolve> => {
    const running = resolving.get(hostname)
    if (running) return running
    const started = resolve(hostname).finally(() => resolving.delete(hostname))
    resolving.set(hostname, started)
    return started
  }

  /** Called by net.connect for names, never for IP literals; gives it all addresses to try, but the forbidden ones. */
  const guardedLookup =
    (port: number): LookupFunction =>
    (hostname, _options, callback) => {
      resolveOnce(hostname).then(
        (all) => {
          const allowed = all.filter(({ address }) => policy.objection(address, port) === null)
          if (allowed.length > 0) callback(null, allowed)
          else callback(noneAllowed(hostname, all.map(({ address }) => [address, policy.objection(address, port) ?? ''])), [])
        },
        (error) => callback(error as Error, []),
      )
    }

  const connect =
    (link: Link): undici.buildConnector.connector =>
    (_options, callback) => {
      const { host, port } = link.origin
      const to = { host, port, lookup: guardedLookup(port), autoSelectFamily: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 }
      // An address has no name to be asked for, and a certificate's names end in no dot.
      const socket = secure ? tls.connect({ ...to, servername: isIP(host) === 0 ? host.replace(/\.$/, '') : '', ALPNProtocols: ['http/1.1'] }) : net.connect(to)
      const timer = setTimeout(() => socket.destroy(new Error(`no connection to ${host}:${port} within ${CONNECT_MS / 1000} s`)), CONNECT_MS)
      link.socket = socket
      socket.once('close', () => clearTimeout(timer))
      // What was resolved is what is connected to, and yet: the address that counts is the one at the other end, before a byte goes there. First of
      // all listeners, for TLS begins to speak in one of its own.
      socket.prependOnceListener('connect', () => {
        const at = socket.remoteAddress
        const why = at === undefined ? null : policy.objection(at, port)
        if (at === undefined) socket.destroy(new Error(`the connection to ${host}:${port} ended as it began`))
        else if (why !== null) socket.destroy(new AddressesNotAllowed(`${host} led to ${at}, which ${why}`))
      })
      socket.once(secure ? 'secureConnect' : 'connect', () => {
        if (socket.destroyed) return // `failed` is told why
        clearTimeout(timer)
        socket.off('error', failed)
        callback(null, socket)
      })
      const failed = (error: Error): void => {
        link.connectError = error
        callback(error, null)
      }
      socket.on('error', failed)
    }

  const originOf = (host: string, port: number): Origin => {
    const key = `${host} ${port}`
    const known = origins.get(key)
    if (known) return known
    // Checked at registration too; here for what a record of older rules may hold. Without this the URL below would read 2130706433 as 127.0.0.1.
    const at = parseHost(host, port)
    policy.checkLiteral(at.host, at.port)
    const made = { key, url: `${secure ? 'https' : 'http'}://${at.host.includes(':') ? `[${at.host}]` : at.host}:${at.port}`, ...at, idle: [], links: 0 }
    origins.set(key, made)
    return made
  }

  const forget = (link: Link): void => {
    if (link.idle) link.origin.idle.splice(link.origin.idle.indexOf(link), 1)
    link.idle = false
    link.origin.links -= 1
    if (link.origin.links === 0) origins.delete(link.origin.key)
  }

  const open = (origin: Origin): Link => {
    const client = new Client(origin.url, {
      connect: (options, callback) => connect(link)(options, callback),
      pipelining: 1,
      headersTimeout: 0, // the attempt's deadline rules: these two are blind to dribbled bytes and endless 1xx answers
      bodyTimeout: 0,
      keepAliveTimeout: IDLE_MS,
      keepAliveMaxTimeout: 30_000,
      keepAliveTimeoutThreshold: 1_000,
      maxHeaderSize: MAX_HEADER_BYTES,
    })
    const link: Link = { client, origin, connectError: null, socket: null, idle: false, used: false }
    origin.links += 1
    client.on('disconnect', () => {
      if (link.idle) drop(link)
    })
    return link
  }

  /**
   * A connection for one attempt; give it back with `give` or `drop`.
   * @param fresh not one that was kept
   * @throws InvalidRequest or HostNotAllowed when nothing may be posted there
   */
  const take = (host: string, port: number, fresh = false): Link => {
    const origin = originOf(host, port)
    const link = (fresh ? undefined : origin.idle.pop()) ?? open(origin)
    link.idle = false
    return link
  }

  /** After an answer was read to its end: the connection may serve the next attempt. */
  const give = (link: Link): void => {
    if (closed || link.socket === null || link.socket.destroyed) return drop(link)
    link.idle = link.used = true
    link.origin.idle.push(link)
  }

  /** After anything else: nobody may read what still comes. Ends the connection at once, made or not. */
  const drop = (link: Link): void => {
    forget(link)
    link.client.destroy(null, noop)
    if (link.socket?.connecting) link.socket.destroy(new Error('no longer wanted'))
  }

  return {
    take,
    give,
    drop,
    /** Ends idle connections, and each of the others when its attempt ends. */
    close() {
      closed = true
      for (const origin of [...origins.values()]) for (const link of [...origin.idle]) drop(link)
    },
    /** How many connections there are, made or being made, idle ones included. */
    count: () => [...origins.values()].reduce((sum, origin) => sum + origin.links, 0),
  }
}

export type Connections = ReturnType<typeof createConnections>
