/** A feed for each namespace, all on one connection that subscribes. */
import type { Logger } from '../logger.ts'
import type { Subscriber } from '../redis/subscriber.ts'
import { createFeed, type Feed, type FeedDeps } from './feed.ts'

export type Feeds = ReturnType<typeof createFeeds>

/** @param deps.subscriber a connection of its own: a subscriber can do nothing else */
export const createFeeds = ({ subscriber, log }: { subscriber: Subscriber; log: Logger }) => {
  const feeds = new Map<string, Feed>()
  /** All their followers. */
  const followers = { count: 0 }
  let closed = false

  // One listener each, however many feeds: a channel says whose it is.
  const heard = (channel: string, message: string): void => {
    const start = channel.indexOf('{') + 1
    feeds.get(channel.slice(start, channel.indexOf('/', start)))?.heard(channel, message)
  }
  subscriber.on('message', heard)
  subscriber.on('close', () => {
    for (const feed of feeds.values()) feed.cut()
  })
  subscriber.on('ready', () => {
    for (const feed of feeds.values()) feed.back()
  })

  const make = (parts: Pick<FeedDeps, 'events' | 'keys' | 'types'>): Feed => {
    const feed = createFeed({ ...parts, subscriber, followers, log })
    feeds.set(parts.keys.namespace, feed)
    if (closed) feed.close()
    return feed
  }

  return {
    /** That of a namespace, by its parts; made when it is first asked for. */
    of: (parts: Pick<FeedDeps, 'events' | 'keys' | 'types'>): Feed => feeds.get(parts.keys.namespace) ?? make(parts),
    /** Whoever follows there is told that nothing more comes; they go on with the next feed of that namespace. */
    forget: (namespace: string): void => {
      feeds.get(namespace)?.drop()
      feeds.delete(namespace)
    },
    /** Nothing is told any more, also to who comes now. */
    close: (): void => {
      closed = true
      for (const feed of feeds.values()) feed.close()
    },
  }
}
