/**
 * Where the end of a task is told: the grammar of `callback_url` (a fault is 422), and the policy of where webhooks go (403).
 * A client chooses the URL and we fetch it from inside: so unlike agents, receivers are public and spoken to over https, but for the
 * ranges that the operator names.
 */
import { BlockList, isIP, isIPv4 } from 'node:net'
import { z } from 'zod'
import { HostNotAllowed, InvalidRequest } from '../errors.ts'
import { isMetadataName, neverPostedTo } from './forbidden.ts'
import { createOwn, embeddedIPv4, holds, isLoopback, parseHost, ranges, type HostPolicy, type Own } from './host.ts'

const MAX_CHARS = 2048
const FORM = `must be a URL such as https://app.example/hooks, of at most ${MAX_CHARS} printable ASCII characters`

/** A URL that was accepted by the grammar, in its parts. */
export type Receiver = { origin: string; secure: boolean; host: string; port: number; path: string }

/** What is wrong with a text as `callback_url`, or null. Whatever passes is read alike by us, by the resolver and by the HTTP client. */
const faultOf = (text: string): string | null => {
  if (text.length > MAX_CHARS || !/^[!-~]+$/.test(text) || !/^https?:\/\//i.test(text) || !URL.canParse(text)) return FORM
  const { protocol, hostname, username, password, port } = new URL(text)
  if (username !== '' || password !== '') return 'must hold no user and no password: a webhook is signed instead'
  if (text.includes('#')) return 'must have no #fragment: it is never sent'
  // What the URL parser reads otherwise than it is written (2130706433, 0x7f.1, 127.0.0.1., %31) is somebody's disguise, or a mistake.
  const written = `${protocol}//${hostname}`
  if (!text.toLowerCase().startsWith(written) || !/^(?:$|[:/?])/.test(text.slice(written.length))) return `must have its host in the usual spelling, as ${hostname}`
  try {
    parseHost(hostname, port === '' ? 443 : Number(port))
    return null
  } catch (error) {
    if (error instanceof InvalidRequest) return `must have a host and a port that can be: ${error.faults![0]!.detail}`
    throw error
  }
}

export const CallbackUrl = z
  .string({ error: FORM })
  .max(MAX_CHARS, FORM)
  .superRefine((text, context) => {
    const message = faultOf(text)
    if (message !== null) context.addIssue({ code: 'custom', message })
  })
  .meta({ format: 'uri' })

/** @param url one that the grammar has accepted */
export const readReceiver = (url: string): Receiver => {
  const { origin, protocol, hostname, port, pathname, search } = new URL(url)
  const secure = protocol === 'https:'
  return { origin, secure, host: hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(port || (secure ? 443 : 80)), path: `${pathname}${search}` }
}

/** Not reached over the internet (IANA's special-purpose registries); what is never posted to is not repeated here. */
const notPublic = (): BlockList => {
  const list = new BlockList()
  const v4 = ['10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '172.16.0.0/12', '192.0.0.0/24', '192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24']
  const v6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20']
  for (const [family, all] of [['ipv4', v4], ['ipv6', v6]] as const) {
    for (const range of all) list.addSubnet(range.slice(0, range.indexOf('/')), Number(range.slice(range.indexOf('/') + 1)), family)
  }
  return list
}

const globalUnicast = (): BlockList => {
  const list = new BlockList()
  list.addSubnet('2000::', 3, 'ipv6')
  return list
}

export type CallbackPolicy = {
  /**
   * Checks what can be told of a URL without resolving its host.
   * @throws HostNotAllowed
   */
  check(url: string): void
  /** For connections by https, and by http. */
  readonly https: HostPolicy
  readonly http: HostPolicy
}

/**
 * Webhooks go to public addresses by https; to those in `cidrs` whatever they are, and by http too. Never, whatever `cidrs` says, to
 * metadata services, link-local, multicast, broadcast or unspecified addresses.
 * @param rules.own where we and our Redis listen
 * @throws ConfigError when a range is none
 */
export const createCallbackPolicy = (rules: { cidrs: readonly string[]; own?: Own }): CallbackPolicy => {
  const forbidden = neverPostedTo()
  const special = notPublic()
  const global = globalUnicast()
  const allowed = ranges(rules.cidrs)
  const isOurs = createOwn(rules.own ?? (() => []))

  const isPublic = (address: string, meant: string): boolean => !holds(special, address) && !holds(special, meant) && (isIPv4(meant) || holds(global, meant))

  /** Why nothing is sent to an address, or null. */
  const objection = (secure: boolean, address: string, port: number | undefined): string | null => {
    if (isIP(address) === 0 || address.includes('%')) return 'is not an address that webhooks go to'
    const meant = (!isIPv4(address) && embeddedIPv4(address)) || address
    if (holds(forbidden, address) || holds(forbidden, meant)) return 'is an address that webhooks never go to'
    if (isOurs(meant, port)) return 'is where this Switchyard or its store listens'
    if (allowed !== null && (holds(allowed, address) || holds(allowed, meant))) return null
    if (!isPublic(address, meant)) return 'is not a public address; webhooks go to others only where the operator allows it (WEBHOOK_CIDRS)'
    return secure ? null : 'may be sent webhooks by https only (http is for the ranges of WEBHOOK_CIDRS)'
  }

  const policyOf = (secure: boolean): HostPolicy => ({
    checkLiteral(host, port) {
      const name = host.toLowerCase().replace(/\.$/, '')
      if (isIP(name) !== 0) {
        const why = objection(secure, name, port)
        if (why !== null) throw new HostNotAllowed(`${host} ${why}`)
        return
      }
      if (isMetadataName(name)) throw new HostNotAllowed(`${host} is a metadata service, and gets no webhooks`)
      if (isOurs(name, port)) throw new HostNotAllowed(`${host} is where this Switchyard or its store listens`)
      if (allowed !== null) return
      if (isLoopback(name)) throw new HostNotAllowed(`${host} is not a public address; webhooks go to others only where the operator allows it (WEBHOOK_CIDRS)`)
      if (!secure) throw new HostNotAllowed('a callback_url must begin with https:// (http is for the ranges of WEBHOOK_CIDRS)')
    },
    objection: (address, port) => objection(secure, address, port),
  })
  const [https, http] = [policyOf(true), policyOf(false)]

  return {
    https,
    http,
    check(url) {
      const { secure, host, port } = readReceiver(url)
      ;(secure ? https : http).checkLiteral(host, port)
    },
  }
}
