/**
 * `ACK=replica`: what a client or an agent is told has been taken is on a replica of Redis too by then, so that it outlives the machine.
 *
 * Replication is one ordered stream: a replica that has a later write has all before it. So behind the writes of a call, on a connection of our
 * own, which may stand still for it, something small is written and waited for; one such round serves all who came before it began. In a cluster that is done with the
 * server that has what was written. What
 * goes over the connection that everything else goes over never waits.
 */
import type { Redis } from 'ioredis'
import { ConfigError, NotOnReplica } from '../errors.ts'
import type { Keys } from './keys.ts'
import { addressOf, isCluster, mastersOf, nodeOf, placeOf } from './nodes.ts'

/** A round takes so long at most, and whoever comes while one is under way waits for the next as well: two are over within 2 s. */
const WAIT_MS = 800
/** The key of a round goes by itself. */
const KEPT_MS = 60_000
const READY_MS = 10_000

/** Which server a connection goes to: another behind each connect, until it is known. */
const serverOf = (redis: Redis) => {
  let id: string | null = null
  const learn = (): void => {
    id = null
    redis.info('server').then(
      (info) => (id = /^run_id:(\w+)/m.exec(info)?.[1] ?? null),
      () => setTimeout(() => redis.status === 'ready' && id === null && learn(), 200).unref(),
    )
  }
  redis.on('close', () => (id = null))
  redis.on('ready', learn)
  if (redis.status === 'ready') learn()
  return () => id
}

export type Acknowledgement = ReturnType<typeof createAcknowledgement>

type Server = { key: string; running: Promise<void> | null; next: Promise<void> | null }

/** @param own a connection that nothing else goes over; both are to one Redis, or both to one cluster */
export const createAcknowledgement = ({ redis, own, keys }: { redis: Redis; own: Redis; keys: Keys }) => {
  const ids = new WeakMap<Redis, () => string | null>()
  const idOf = (connection: Redis): string | null => {
    const known = ids.get(connection) ?? serverOf(connection)
    ids.set(connection, known)
    return known()
  }
  /** By place, as a count of all such: when a connection to it was last lost. */
  const lostAt = new Map<string, number>()
  let losses = 0
  redis.on('lost', (place = '') => lostAt.set(place, ++losses))
  const wasLost = (place: string, since: number): boolean => (lostAt.get(place) ?? 0) > since

  const servers = new Map<string, Server>()
  const serverAt = (place: string): Server => {
    let server = servers.get(place)
    // Of a cluster's slots any that this server has will do; they may move.
    if (!server || placeOf(redis, server.key) !== place) servers.set(place, (server = { key: keyAt(place), running: null, next: null }))
    return server
  }
  const keyAt = (place: string): string => {
    for (let i = 0; i < 100_000; i++) if (placeOf(redis, keys.acknowledged(i)) === place) return keys.acknowledged(i)
    throw new NotOnReplica() // it has none
  }

  const round = async ({ key }: Server): Promise<void> => {
    const connection = nodeOf(own, key)
    const server = idOf(connection)
    const [, replicas] = await Promise.all([connection.set(key, '1', 'PX', KEPT_MS), connection.wait(1, WAIT_MS)])
    if (replicas < 1 || server === null || server !== idOf(connection) || server !== idOf(nodeOf(redis, key))) throw new NotOnReplica()
  }
  const start = (server: Server): Promise<void> => {
    server.next = null
    const mine = round(server)
    server.running = mine
    const over = () => {
      if (server.running === mine) server.running = null
    }
    mine.then(over, over)
    return mine
  }
  /** The round under way may have begun before our writes. */
  const confirm = (server: Server): Promise<void> => (server.next ??= (server.running ?? Promise.resolve()).then(() => start(server), () => start(server)))

  const placesOf = (bases: readonly string[] | null): string[] => {
    if (!isCluster(redis)) return ['']
    const places = bases === null ? mastersOf(redis).map(addressOf) : bases.map((base) => placeOf(redis, base))
    if (places.includes(undefined)) throw new NotOnReplica()
    return [...new Set(places as string[])]
  }

  /**
   * To be asked before anything is written; what it gives, behind it, resolves when a replica of each server that it went to has it. Should a connection have gone over to
   * another server in between (the master has failed), what was written may be lost.
   * @returns takes the bases under which something was written; null: any
   * @throws NotOnReplica
   */
  const begin = (): ((bases: readonly string[] | null) => Promise<void>) => {
    const at = losses
    return async (bases) => {
      const late = Promise.withResolvers<never>()
      const timer = setTimeout(() => late.reject(new NotOnReplica()), 2 * WAIT_MS + 100) // a master that stands still takes longer to fail
      let places: string[]
      try {
        places = placesOf(bases)
        await Promise.race([Promise.all(places.map((place) => confirm(serverAt(place)))), late.promise])
      } catch (cause) {
        throw cause instanceof NotOnReplica ? cause : new NotOnReplica({ cause })
      } finally {
        clearTimeout(timer)
      }
      if (places.some((place) => wasLost(place, at))) throw new NotOnReplica()
    }
  }

  const known = (): boolean => {
    const places = placesOf(null)
    // Of a cluster's masters those that are there; the others are learned when they are.
    return places.every((place) => {
      const [mine, theirs] = [redis, own].map((one) => (isCluster(one) ? mastersOf(one).find((node) => addressOf(node) === place) : one))
      return (isCluster(redis) && mine?.status !== 'ready') || (mine !== undefined && theirs !== undefined && [idOf(mine), idOf(theirs)].every((id) => id !== null))
    })
  }
  return {
    /** Resolves when it can be done. */
    ready: async (): Promise<void> => {
      for (const asked = performance.now(); !known(); ) {
        if (performance.now() - asked > READY_MS) throw new ConfigError('ACK=replica needs to know which server it talks to, and this Redis does not tell its run_id in INFO.')
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    },
    begin,
  }
}
