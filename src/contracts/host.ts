/**
 * Where an agent may be: the grammar of `host` (a fault is 422), and the policy of addresses we never post to (403).
 * The grammar takes one spelling of each address, so that the policy, the resolver and the HTTP client all see the same one.
 */
import { BlockList, isIP, isIPv4, isIPv6 } from 'node:net'
import { networkInterfaces } from 'node:os'
import { ConfigError, HostNotAllowed, InvalidRequest, type Fault } from '../errors.ts'
import { isMetadataName, neverPostedTo } from './forbidden.ts'

/** A host without brackets, and its port. */
export type HostPort = { host: string; port: number }

export type HostPolicy = {
  /**
   * Checks what can be told without resolving: IP literals, names of metadata services, our own ports.
   * @throws HostNotAllowed
   */
  checkLiteral(host: string, port: number): void
  /** Why we may not connect to an address, as a resolver or a socket gave it, or null; with a port, also whether that is ourselves. */
  objection(address: string, port?: number): string | null
}

/** What a host may be, for people. */
export const HOST_FORM = 'must be a host name or address such as agent.example or 10.0.0.5, alone or as name:port, without http:// or a path'

const NAME = /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*\.?$/
/** Whatever ends in a number is read as IPv4 by URL parsers and resolvers: `2130706433`, `0x7f.1`, `127.0.0.1.`. */
const ENDS_IN_NUMBER = /(?:^|\.)(?:\d+|0x[0-9a-f]*)\.?$/
const PORT = /^[1-9]\d{0,4}$/

const hextets = (address: string): number[] => {
  // The URL parser writes any spelling as RFC 5952 does, in hexadecimal only.
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const gap = tail === undefined ? [] : new Array<string>(8 - left.length - right.length).fill('0')
  return [...left, ...gap, ...right].map((h) => parseInt(h, 16))
}

const dotted = (high: number, low: number): string => `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`

/** The IPv4 address that an IPv6 address stands for (mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP), or null. */
export const embeddedIPv4 = (address: string): string | null => {
  const [a, b, c, d, e, f, g, h] = hextets(address) as [number, number, number, number, number, number, number, number]
  const low = dotted(g, h)
  if ((a | b | c | d) === 0) {
    if (e === 0 && f === 0xffff) return low
    if (e === 0xffff && f === 0) return low
    if (e === 0 && f === 0) return g === 0 && h <= 1 ? null : low // `::` and `::1` are themselves
  }
  if (a === 0x64 && b === 0xff9b) return low
  if ((e | 0x200) === 0x200 && f === 0x5efe) return low
  if (a === 0x2002) return dotted(b, c)
  if (a === 0x2001 && b === 0) return dotted(g ^ 0xffff, h ^ 0xffff)
  return null
}

const readAddress = (text: string): string | Fault => {
  const lower = text.toLowerCase()
  if (!isIPv6(lower) || lower.includes('%')) return { pointer: '/host', detail: 'is not an IPv6 address' }
  if (embeddedIPv4(lower) !== null) return { pointer: '/host', detail: 'stands for an IPv4 address: write that one' }
  const canonical = new URL(`http://[${lower}]`).hostname.slice(1, -1)
  return canonical === lower ? lower : { pointer: '/host', detail: `must be written as ${canonical}` }
}

const readName = (text: string): string | Fault => {
  const lower = text.toLowerCase()
  if (ENDS_IN_NUMBER.test(lower)) {
    return isIPv4(lower) ? lower : { pointer: '/host', detail: 'an IPv4 address is four decimal numbers without leading zeros, like 10.0.0.7' }
  }
  const fault = { pointer: '/host', detail: HOST_FORM }
  // Tested before lower-casing, which turns the Kelvin sign into a k.
  if (/[^!-~]/.test(text) || !NAME.test(lower)) return fault
  // The HTTP client goes through a URL: what that reads otherwise (bad punycode) would be another host.
  const url = `http://${lower}/`
  return URL.canParse(url) && new URL(url).hostname === lower ? lower : fault
}

/** Splits off a port, without judging either part. A bare IPv6 address has two colons or more. */
const split = (text: string): { name: string; v6: boolean; port: string | undefined } => {
  const bracketed = /^\[([^[\]]*)\](?::(.*))?$/s.exec(text)
  if (bracketed) return { name: bracketed[1] ?? '', v6: true, port: bracketed[2] }
  const first = text.indexOf(':')
  if (first < 0) return { name: text, v6: false, port: undefined }
  if (text.indexOf(':', first + 1) >= 0) return { name: text, v6: true, port: undefined }
  return { name: text.slice(0, first), v6: false, port: text.slice(first + 1) }
}

/** What people give who think of URLs: `http://agent:8001/task`. Never a host, but it may hold a port. */
const hostInUrl = (text: string): string => text.replace(/^[^/]*:\/\//, '').split('/', 1)[0]!

const read = (host: string, port?: number): HostPort | Fault[] => {
  const parts = split(host.includes('/') ? hostInUrl(host) : host)
  const name = host.includes('/') ? { pointer: '/host', detail: HOST_FORM } : parts.v6 ? readAddress(parts.name) : readName(parts.name)
  const faults: Fault[] = typeof name === 'string' ? [] : [name]
  const inHost = parts.port === undefined ? undefined : Number(parts.port)
  if (inHost !== undefined && !(PORT.test(parts.port ?? '') && inHost <= 65535)) {
    faults.push({ pointer: '/host', detail: 'the port in it must be a whole number from 1 to 65535' })
  } else if (port !== undefined && !(Number.isInteger(port) && port >= 1 && port <= 65535)) {
    faults.push({ pointer: '/port', detail: 'must be a whole number from 1 to 65535' })
  } else if (inHost === undefined && port === undefined) {
    faults.push({ pointer: '/port', detail: 'is required (or host as name:port)' })
  } else if (inHost !== undefined && port !== undefined && inHost !== port) {
    faults.push({ pointer: '/port', detail: 'differs from the port in host; give one of them' })
  }
  return faults.length > 0 || typeof name !== 'string' ? faults : { host: name, port: (inHost ?? port) as number }
}

/**
 * What is wrong with a host and the port beside it, as they came: one that is no text, or no number, leaves the other to be judged
 * as if beside a good one.
 */
export const hostFaults = (host: unknown, port: unknown): Fault[] => {
  const at = read(typeof host === 'string' ? host : 'agent', port === undefined || typeof port === 'number' ? port : NaN)
  return Array.isArray(at) ? at : []
}

/**
 * Reads a host by its grammar: a name, an IPv4 address, an IPv6 address, `name:port` or `[v6]:port`, each in its usual spelling.
 * @param port the port given beside it, if any
 * @returns the host in lower case, without brackets, and its port
 * @throws InvalidRequest with the pointer /host or /port
 */
export const parseHost = (host: string, port?: number): HostPort => {
  const at = read(host, port)
  if (Array.isArray(at)) throw new InvalidRequest(at)
  return at
}

type Range = { address: string; prefix: number; family: 'ipv4' | 'ipv6' }

/** A range of addresses as text: `10.0.0.0/8`, `fd00::/8`, or one address. */
const readRange = (cidr: string): Range | null => {
  const [address = '', bits, more] = cidr.split('/')
  const family = isIP(address)
  const widest = family === 4 ? 32 : 128
  const prefix = bits === undefined ? widest : /^\d{1,3}$/.test(bits) ? Number(bits) : NaN
  if (family === 0 || address.includes('%') || more !== undefined || !(prefix <= widest)) return null
  return { address, prefix, family: family === 4 ? 'ipv4' : 'ipv6' }
}
export const isRange = (cidr: string): boolean => readRange(cidr) !== null

export const ranges = (cidrs: readonly string[]): BlockList | null => {
  if (cidrs.length === 0) return null
  const list = new BlockList()
  for (const cidr of cidrs) {
    const range = readRange(cidr)
    if (range === null) throw new ConfigError(`${cidr} is not a range of addresses like 10.0.0.0/8 or fd00::/8`)
    list.addSubnet(range.address, range.prefix, range.family)
  }
  return list
}

export const holds = (list: BlockList, address: string): boolean => list.check(address, isIPv4(address) ? 'ipv4' : 'ipv6')
/** Whether an address, or a name as it is written, is that of this machine as only it sees itself. */
export const isLoopback = (host: string): boolean => {
  if (isIPv4(host)) return host.startsWith('127.')
  if (isIPv6(host)) return host === '::1' || isLoopback(embeddedIPv4(host) ?? '')
  return host === 'localhost' || host.endsWith('.localhost')
}
export const isThisMachine = (host: string): boolean => isLoopback(host) || Object.values(networkInterfaces()).some((cards) => cards?.some((card) => card.address === host))
const isWildcard = (host: string): boolean => host === '0.0.0.0' || host === '::' || host === ''

/** Whether `host` is one that `own`, an address we listen at, answers to. */
const isOwn = (own: string, host: string): boolean => own === host || (isWildcard(own) ? isThisMachine(host) : isLoopback(own) && isLoopback(host))

/** Where we and our Redis listen: asked anew each time, as a failover leads to another Redis. */
export type Own = () => readonly HostPort[]

/** Tells of a host and a port, if that is known, whether we or our Redis listen there. */
export const createOwn =
  (own: Own): ((host: string, port: number | undefined) => boolean) =>
  (host, port) =>
    port !== undefined && own().some((at) => at.port === port && isOwn(at.host.toLowerCase().replace(/^\[(.*)\]$/, '$1'), host))

const OF_THIS_MACHINE =
  'is of this machine alone, and this Switchyard listens for others (HOST): register the address at which the agent is reached from Switchyard, or let AGENT_CIDRS name the ranges of your agents with 127.0.0.0/8 and ::1 among them (0.0.0.0/0,::/0 is all of them)'

/**
 * The policy of hosts: never metadata services, `0.0.0.0/8`, link-local, multicast or broadcast addresses, in whatever form; private networks
 * are where agents live and are allowed, unless `cidrs` says otherwise.
 * @param rules.cidrs if any, agents are limited to these ranges
 * @param rules.own never an agent
 * @param rules.loopback whether agents may be on this machine's loopback although `cidrs` names no range of it; so they may unless it is false
 * @throws ConfigError when a range is none
 */
export const createHostPolicy = (rules: { cidrs: readonly string[]; own?: Own; loopback?: boolean }): HostPolicy => {
  const { loopback = true, own = () => [] } = rules
  const forbidden = neverPostedTo()
  const allowed = ranges(rules.cidrs)
  const isOurs = createOwn(own)

  const objection = (address: string, port?: number): string | null => {
    if (isIP(address) === 0 || address.includes('%')) return 'is not an address we post to'
    const meant = (isIPv6(address) && embeddedIPv4(address)) || address
    if (holds(forbidden, address) || holds(forbidden, meant)) return 'is never posted to: metadata, link-local, multicast, broadcast and unspecified addresses are not agents'
    if (allowed !== null && !holds(allowed, address) && !holds(allowed, meant)) return 'is outside the ranges that agents are limited to (AGENT_CIDRS)'
    if (allowed === null && !loopback && isLoopback(meant)) return OF_THIS_MACHINE
    return isOurs(meant, port) ? 'is where this Switchyard or its store listens, not an agent' : null
  }
  /** A name that means loopback by itself; what others mean is seen when they are resolved. */
  const objectionToLocal = (): string | null => (['127.0.0.1', '::1'].some((address) => objection(address) === null) ? null : objection('127.0.0.1'))

  return {
    checkLiteral(host, port) {
      const name = host.toLowerCase().replace(/\.$/, '')
      if (isIP(name) !== 0) {
        const why = objection(name, port)
        if (why !== null) throw new HostNotAllowed(`${host}:${port} ${why}`)
        return
      }
      if (isMetadataName(name)) throw new HostNotAllowed(`${host} is never posted to: it is a metadata service`)
      if (isOurs(name, port)) throw new HostNotAllowed(`${host}:${port} is where this Switchyard or its store listens, not an agent`)
      const local = isLoopback(name) ? objectionToLocal() : null
      if (local !== null) throw new HostNotAllowed(`${host}:${port} ${local}`)
    },
    objection,
  }
}
