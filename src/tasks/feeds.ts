/** A feed for each namespace, all on one connection that subscribes. */
import type { Logger } from '../logger.ts'
import type { Redis } from '../redis/client.ts'
import { createFeed, type Feed, type FeedDeps } from './feed.ts'

export type Feeds = ReturnType<typeof createFeeds>

/** @param deps.subscriber a connection of its own: a subscriber can do nothing else */
export const createFeeds = ({ subscriber, log }: { subscriber: Redis; log: Logger }) => {
  const feeds = new Map<string, Feed>()
  /** All their followers. */
  const followers = { count: 0 }
  let closed = false

  // One listener each, however many feeds: a channel says whose it is.
  const heard = (channel: string, message: string): void => {
    const start = channel.lastIndexOf(':') + 1
    const feed = feeds.get(channel.slice(start, channel.indexOf('/', start)))
    // Others listen on this connection, too.
    if (feed && channel.startsWith(feed.channelStart)) feed.heard(channel, message)
  }
  subscriber.on('message', heard)
  subscriber.on('pmessage', (_pattern: string, channel: string, message: string) => heard(channel, message))
  subscriber.on('close', () => {
    for (const feed of feeds.values()) feed.cut()
  })
  subscriber.on('ready', () => {
    for (const feed of feeds.values()) feed.back()
  })

  const make = (parts: Pick<FeedDeps, 'events' | 'keys' | 'types'>): Feed => {
    const leavesPattern = (): void => {
      if (![...feeds.values()].some((one) => one.needsPattern())) void subscriber.punsubscribe(parts.keys.eventsPattern).catch(() => {})
    }
    const feed = createFeed({ ...parts, subscriber, followers, leavesPattern, log })
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
