/**
 * A connection that listens. Of one Redis it is a plain one. In a cluster a channel belongs to the master of its key, so that what is said of one type costs the others
 * nothing, and who says it learns whether anybody hears: here is a connection to each master, which together look like that one. `ready` says each time that a part of
 * them is there again, or that a channel's master is another one: then whoever listens subscribes again, which does nothing where he still is, and looks what he has missed.
 */
import { EventEmitter } from 'node:events'
import type { Cluster } from 'ioredis'
import { nodesIn } from '../contracts/store-url.ts'
import { createRedis, reconnect, whenReady, type Redis, type RedisDeps } from './client.ts'
import { goneError, isCluster, mastersOf, addressOf, placeOf } from './nodes.ts'

export interface Subscriber {
  readonly status: string
  on(event: 'message', heard: (channel: string, message: string) => void): this
  on(event: 'ready' | 'close', told: () => void): this
  off(event: 'message', heard: (channel: string, message: string) => void): this
  off(event: 'ready' | 'close', told: () => void): this
  subscribe(...channels: string[]): Promise<unknown>
  unsubscribe(...channels: string[]): Promise<unknown>
  disconnect(): void
}

/** A connection that was just begun is waited for so long. */
const CONNECT_MS = 1_800

class ClusterSubscriber extends EventEmitter implements Subscriber {
  status = 'ready'
  readonly #main: Redis
  readonly #deps: RedisDeps
  readonly #links = new Map<string, Redis>()
  /** Channel → whose connection it is heard on, or undefined while it is on none. */
  readonly #heardAt = new Map<string, string | undefined>()

  constructor(main: Redis, deps: RedisDeps) {
    super()
    this.setMaxListeners(1000)
    this.#main = main
    this.#deps = deps
    ;(main as unknown as Cluster).on('back', this.#look)
  }

  async subscribe(...channels: string[]): Promise<void> {
    await Promise.all(channels.map((channel) => this.#subscribe(channel)))
  }

  async #subscribe(channel: string): Promise<void> {
    const place = placeOf(this.#main, channel)
    if (place !== undefined && this.#heardAt.get(channel) === place) return
    this.#heardAt.set(channel, undefined)
    if (place === undefined) throw goneError()
    const link = this.#links.get(place) ?? this.#open(place)
    if (link.status !== 'ready') await connected(link)
    await link.ssubscribe(channel)
    // Unless it was given up meanwhile, or the connection.
    if (this.#heardAt.has(channel) && this.#links.get(place) === link && link.status === 'ready') this.#heardAt.set(channel, place)
  }

  async unsubscribe(...channels: string[]): Promise<void> {
    await Promise.all(
      channels.map(async (channel) => {
        const place = this.#heardAt.get(channel)
        this.#heardAt.delete(channel)
        await (place === undefined ? undefined : this.#links.get(place)?.sunsubscribe(channel))
      }),
    )
  }

  #open(place: string): Redis {
    const first = new URL(nodesIn(this.#deps.url)[0]!)
    const at = place.lastIndexOf(':')
    const host = place.slice(0, at)
    first.host = `${host.includes(':') ? `[${host}]` : host}:${place.slice(at + 1)}`
    const link = createRedis({ ...this.#deps, url: first.href, cluster: false })
    this.#links.set(place, link)
    link.on('smessage', (channel: string, message: string) => this.emit('message', channel, message))
    link.on('close', () => {
      for (const [channel, where] of this.#heardAt) if (where === place) this.#heardAt.set(channel, undefined)
      this.emit('close')
    })
    link.on('ready', () => this.emit('ready'))
    // The server says that it does not have a channel's slot any more.
    link.on('moved', () => (this.#main as unknown as Cluster).refreshSlotsCache())
    return link
  }

  /** Who has what may have changed. */
  readonly #look = (): void => {
    const masters = new Set(mastersOf(this.#main).map(addressOf))
    for (const [place, link] of this.#links) {
      if (masters.has(place)) continue
      this.#links.delete(place)
      link.disconnect()
    }
    let moved = false
    for (const [channel, where] of this.#heardAt) if (where === undefined || where !== placeOf(this.#main, channel)) moved = true
    if (!moved) return
    this.emit('close')
    this.emit('ready')
  }

  /** Breaks all connections off, to be made anew. */
  reconnect(): void {
    for (const link of this.#links.values()) reconnect(link)
  }

  disconnect(): void {
    this.status = 'end'
    ;(this.#main as unknown as Cluster).off('back', this.#look)
    for (const link of this.#links.values()) link.disconnect()
    this.#links.clear()
  }
}

const connected = (link: Redis): Promise<void> =>
  new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer)
      link.off('ready', ready).off('close', failed)
    }
    const ready = (): void => (end(), resolve())
    const failed = (): void => (end(), reject(goneError()))
    const timer = setTimeout(failed, CONNECT_MS)
    link.on('ready', ready).on('close', failed)
  })

/** @param main the process's own connection, which knows who has what */
export const createSubscriber = async (main: Redis, deps: RedisDeps): Promise<Subscriber> => {
  if (isCluster(main)) return new ClusterSubscriber(main, deps)
  const redis = createRedis(deps)
  await whenReady(redis, deps.url).catch((error: unknown) => {
    redis.disconnect()
    throw error
  })
  return redis as unknown as Subscriber
}

/** Breaks what listens off, to be made anew at once. */
export const reconnectSubscriber = (subscriber: Subscriber): void => (subscriber instanceof ClusterSubscriber ? subscriber.reconnect() : reconnect(subscriber as unknown as Redis))
