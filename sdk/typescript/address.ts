/** Where an agent listens, and by which address the router reaches it, when nobody says. */
import { connect, isIPv6 } from 'node:net'

const CONNECT_MS = 5000

/** A host as URLs write it, without the brackets. */
const bare = (host: string): string => host.replace(/^\[(.*)\]$/, '$1')

export const isLoopback = (host: string): boolean => {
  const name = bare(host).toLowerCase()
  return name === '::1' || name === 'localhost' || name.endsWith('.localhost') || /^127(\.\d{1,3}){3}$/.test(name)
}

/** A host that may hold a port too, `name:port` or `[v6]:port`. The port of a bare IPv6 address is undefined. */
export const splitHost = (host: string): { name: string; port: number | undefined } => {
  const parts = /^(\[[^\]]*\]|[^:]*):(\d{1,5})$/.exec(host)
  return parts ? { name: bare(parts[1]!), port: Number(parts[2]) } : { name: bare(host), port: undefined }
}

/**
 * The address to listen at: loopback for a router on this machine, so that nobody else gets in; else every one there is (undefined).
 * A router on this machine that is told of a host other than loopback (a container's way to its machine, say) comes in by that.
 */
export const bindFor = (routerUrl: string, host: string | undefined): string | undefined => {
  const router = bare(new URL(routerUrl).hostname)
  if (!isLoopback(router) || (host !== undefined && !isLoopback(splitHost(host).name))) return undefined
  const wanted = host === undefined ? router : splitHost(host).name
  return isIPv6(wanted) ? '::1' : '127.0.0.1'
}

/**
 * This machine's address on the way to the router: that of a connection to it.
 * @throws Error with the system's code (ECONNREFUSED, ENOTFOUND, …) when there is no way
 */
export const localAddress = (routerUrl: string, signal: AbortSignal): Promise<string> =>
  new Promise((resolve, reject) => {
    const { hostname, port, protocol } = new URL(routerUrl)
    const socket = connect({ host: bare(hostname), port: Number(port || (protocol === 'https:' ? 443 : 80)), signal, autoSelectFamily: true })
    const timer = setTimeout(() => socket.destroy(new Error(`no connection within ${CONNECT_MS / 1000} s`)), CONNECT_MS)
    socket.once('close', () => clearTimeout(timer))
    socket.once('error', reject)
    socket.once('connect', () => {
      const address = socket.localAddress
      socket.destroy()
      if (address) resolve(address.replace(/^::ffff:(?=\d+\.)/, ''))
      else reject(new Error('the connection closed at once'))
    })
  })
