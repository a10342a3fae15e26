/** Where our Redis listens, so that nobody has us post there. */
import type { Redis } from 'ioredis'
import { embeddedIPv4, isThisMachine, type HostPort } from '../contracts/host.ts'

/**
 * Where a Redis listens, as far as it is known: as the URL says it, and as its connection was last seen to lead, for another name or its address leads
 * there as well. One on this machine counts as listening on all its addresses. A Unix socket is nowhere.
 */
export const watchAddress = (redis: Redis, url: string): (() => readonly HostPort[]) => {
  if (url.startsWith('unix:')) return () => []
  const { hostname, port: said } = new URL(url)
  const port = Number(said || 6379)
  let places: HostPort[] = []
  const look = (): void => {
    const { stream } = redis as unknown as { stream?: { remoteAddress?: string | undefined } }
    const at = stream?.remoteAddress
    if (at === undefined) return // the last one counts on
    const host = (at.includes(':') && embeddedIPv4(at)) || at
    places = [{ host: hostname, port }, { host: isThisMachine(host) ? '0.0.0.0' : host, port }]
  }
  places = [{ host: hostname, port }]
  redis.on('ready', look)
  look()
  return () => places
}
