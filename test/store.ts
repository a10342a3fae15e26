/**
 * The store as a test looks at it, past what we made of it: one Redis, or a whole cluster as if it were one. Of a cluster, what is asked of a server (its keys, its clients,
 * its settings) is asked of every master, and what names many keys is done with each.
 */
import { Cluster, Redis } from 'ioredis'

const WITH_MANY_KEYS = ['del', 'unlink', 'exists'] as const

const openCluster = (url: string): Redis => {
  const cluster = new Cluster(url.split(',').map((one) => `redis://${one.replace(/^redis:\/\//, '')}`), { retryDelayOnFailover: 50, clusterRetryStrategy: () => 50, slotsRefreshTimeout: 5_000 })
  cluster.on('error', () => {})
  // A master that is there twice would count twice.
  const masters = async (): Promise<Redis[]> => {
    while (cluster.status !== 'ready') await new Promise((resolve) => setTimeout(resolve, 10))
    return cluster.nodes('master')
  }
  const ofEach = async <T>(ask: (node: Redis) => Promise<T>): Promise<T[]> => Promise.all((await masters()).map(ask))
  const joined = (parts: unknown[]): unknown => (parts.every((part) => typeof part === 'string') ? parts.join('\n') : parts.every(Array.isArray) ? parts.flat() : parts[0])
  const more: Record<string, unknown> = {
    keys: async (pattern: string) => (await ofEach((node) => node.keys(pattern))).flat(),
    info: async (section: string) => joined(await ofEach((node) => node.info(section))),
    config: async (...args: string[]) => joined(await ofEach((node) => node.call('CONFIG', ...args))),
    dbsize: async () => (await ofEach((node) => node.dbsize())).reduce((sum, n) => sum + n, 0),
    call: async (command: string, ...args: string[]) => (/^(?:CLIENT|SLOWLOG|CONFIG|ACL)$/i.test(command) ? joined(await ofEach((node) => node.call(command, ...args))) : cluster.call(command, ...args)),
    eval: async (lua: string, count: number, ...args: string[]) => (count > 0 ? cluster.eval(lua, count, ...args) : joined(await ofEach((node) => node.eval(lua, 0, ...args)))),
    pubsub: async (_what: string, channel: string) => [channel, (await ofEach((node) => node.call('PUBSUB', 'SHARDNUMSUB', channel))).reduce((sum, found) => (sum as number) + Number((found as unknown[])[1]), 0)],
    publish: (channel: string, message: string) => cluster.spublish(channel, message),
    async *scanStream(options: { match: string; count?: number }) {
      for (const node of await masters()) yield* node.scanStream(options)
    },
    // Each command by itself: the keys are anywhere.
    pipeline: () => {
      const commands: (() => Promise<unknown>)[] = []
      const queue: Redis = new Proxy({} as Redis, {
        get: (_, name: string) =>
          name === 'exec'
            ? async () => Promise.all(commands.map((command) => command().then((reply) => [null, reply], (error: unknown) => [error, null])))
            : (...args: unknown[]) => {
                commands.push(() => ((more[name] ?? (cluster as unknown as Record<string, unknown>)[name]) as (...a: unknown[]) => Promise<unknown>).apply(cluster, args))
                return queue
              },
      })
      return queue
    },
  }
  // Those of one slot in one step.
  const tagOf = (key: string): string => /\{([^}]+)\}/.exec(key)?.[1] ?? key
  for (const name of WITH_MANY_KEYS) more[name] = async (...keys: string[]) => (await Promise.all([...Map.groupBy(keys, tagOf).values()].map((some) => cluster[name](...some)))).reduce((sum, n) => sum + n, 0)
  return new Proxy(cluster as unknown as Redis, {
    get: (target, name: string) => {
      const found = more[name] ?? (target as unknown as Record<string, unknown>)[name]
      return typeof found === 'function' && more[name] === undefined ? found.bind(target) : found
    },
  })
}

export const isClusterUrl = (url: string): boolean => url.startsWith('redis://') && url.includes(',')

export const openStore = (url: string): Redis => {
  if (isClusterUrl(url)) return openCluster(url)
  const redis = new Redis({ path: url.slice('unix://'.length), maxRetriesPerRequest: null, retryStrategy: () => 50 })
  redis.on('error', () => {})
  return redis
}

/** The servers that hold its data: one, or the masters of a cluster. */
export const serversOf = async (redis: Redis): Promise<Redis[]> => {
  if (!redis.isCluster) return [redis]
  while (redis.status !== 'ready') await new Promise((resolve) => setTimeout(resolve, 10))
  return (redis as unknown as Cluster).nodes('master')
}

/** Takes away all that begins so. */
export const sweepStore = async (redis: Redis, start: string): Promise<void> => {
  for await (const found of redis.scanStream({ match: `${start}*`, count: 1000 })) if (found.length > 0) await redis.unlink(...found)
}
