/** Where our Redis listens, each of its nodes, so that nobody has us post there. */
import type { Redis } from 'ioredis'
import { embeddedIPv4, isThisMachine, type HostPort } from '../contracts/host.ts'
import { nodesIn } from '../contracts/store-url.ts'
import { isCluster, nodesOf } from './nodes.ts'

/**
 * Where a Redis listens, as far as it is known: as the URL says it, and as its connection was last seen to lead, for another name or its address leads
 * there as well. One on this machine counts as listening on all its addresses. A Unix socket is nowhere.
 */
export const watchAddress = (redis: Redis, url: string): (() => readonly HostPort[]) => {
  if (url.startsWith('unix:')) return () => []
  const said = nodesIn(url).map((node) => new URL(node)).map(({ hostname, port }) => ({ host: hostname, port: Number(port || 6379) }))
  let places: HostPort[] = said
  const look = (): void => {
    const found = nodesOf(redis).flatMap((node) => {
      const { stream, options } = node as unknown as { stream?: { remoteAddress?: string | undefined }; options: { host: string; port: number } }
      const at = stream?.remoteAddress
      if (!isCluster(redis)) return at === undefined ? [] : [placed(at, said[0]!.port)]
      return [{ host: options.host, port: options.port }, placed(at ?? options.host, options.port)]
    })
    if (found.length > 0) places = [...said, ...found] // otherwise the last ones count on
  }
  redis.on('back', look)
  look()
  return () => places
}

const placed = (at: string, port: number): HostPort => {
  const host = (at.includes(':') && embeddedIPv4(at)) || at
  return { host: isThisMachine(host) ? '0.0.0.0' : host, port }
}
