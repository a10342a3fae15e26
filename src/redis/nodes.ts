/**
 * Which server has what. Of one Redis that is simple; a cluster has several masters, each with some of the agent types, its own clock, its own memory and its own
 * death. Whoever asks a server for something other than a key's value says here by which key he means it.
 */
import { Cluster, Command, type Redis } from 'ioredis'

const asCluster = (redis: Redis): Cluster | null => ((redis as unknown) instanceof Cluster ? (redis as unknown as Cluster) : null)
export const isCluster = (redis: Redis): boolean => asCluster(redis) !== null

/** As the client says it of a connection that is gone. */
export const goneError = (): Error => new Error('Connection is closed.')

/** Of bases and channels, of which there are few. */
const slots = new Map<string, number>()
const slotOf = (key: string): number => {
  const known = slots.get(key)
  if (known !== undefined) return known
  if (slots.size > 20_000) slots.clear()
  const slot = (new Command('get', [key]) as unknown as { getSlot(): number }).getSlot()
  slots.set(key, slot)
  return slot
}
/** Who has a slot, by `host:port`, as far as the client knows. */
export const ownersOf = (cluster: Cluster): readonly (readonly string[] | undefined)[] => (cluster as unknown as { slots: string[][] }).slots

/** Where a key lives: of a cluster `host:port` of its master, undefined when nobody is known to have it; of one Redis ''. */
export const placeOf = (redis: Redis, key: string): string | undefined => {
  const cluster = asCluster(redis)
  return cluster ? ownersOf(cluster)[slotOf(key)]?.[0] : ''
}

/** The connections to all servers that hold data, whether they stand or not. */
export const mastersOf = (redis: Redis): Redis[] => asCluster(redis)?.nodes('master') ?? [redis]
/** Those to all servers there are, replicas too. */
export const nodesOf = (redis: Redis): Redis[] => asCluster(redis)?.nodes('all') ?? [redis]
export const addressOf = (node: Redis): string => `${node.options.host}:${node.options.port}`

/** The connection to the server that has a key. @throws when it is not known who has it */
export const nodeOf = (redis: Redis, key: string): Redis => {
  const place = placeOf(redis, key)
  if (place === '') return redis
  const node = mastersOf(redis).find((one) => addressOf(one) === place)
  if (!node || node.status !== 'ready') throw goneError()
  return node
}

/** Whether the server that has a key can be asked. */
export const isUp = (redis: Redis, key: string): boolean => {
  try {
    return nodeOf(redis, key).status === 'ready'
  } catch {
    return false
  }
}

/** Redis's time, in ms, where a key lives. */
export const timeAt = async (redis: Redis, key: string): Promise<number> => {
  const [seconds, micros] = await nodeOf(redis, key).time()
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
}

/** Tells who listens to a channel; of a cluster's nodes only that of the channel's key is asked to. */
export const tell = (redis: Redis, channel: string, message: string): Promise<unknown> => (isCluster(redis) ? redis.spublish(channel, message) : redis.publish(channel, message))

/** Keys, or what is named by one, by the server that has them: what is done with those of one server cannot hold up those of another. */
export const byServer = (redis: Redis, all: Iterable<string>, keyOf: (one: string) => string): string[][] => {
  if (!isCluster(redis)) return [[...all]]
  const groups = new Map<string, string[]>()
  for (const one of all) {
    const place = placeOf(redis, keyOf(one)) ?? ''
    groups.set(place, [...(groups.get(place) ?? []), one])
  }
  return [...groups.values()]
}
