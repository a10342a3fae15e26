/**
 * `ACK=replica`: what a client or an agent is told has been taken is on a replica of Redis too by then, so that it outlives the machine.
 *
 * Replication is one ordered stream: a replica that has a later write has all before it. So behind the writes of a call, on a connection of our
 * own, which may stand still for it, something small is written and waited for; one such round serves all who came before it began. What
 * goes over the connection that everything else goes over never waits.
 */
import type { Redis } from 'ioredis'
import { ConfigError, NotOnReplica } from '../errors.ts'
import type { Keys } from './keys.ts'

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

/** @param own a connection that nothing else goes over */
export const createAcknowledgement = ({ redis, own, keys }: { redis: Redis; own: Redis; keys: Keys }) => {
  const written = serverOf(redis)
  const waited = serverOf(own)
  let connects = 0
  redis.on('close', () => connects++)

  const round = async (): Promise<void> => {
    const server = waited()
    const [, replicas] = await Promise.all([own.set(keys.acknowledged, '1', 'PX', KEPT_MS), own.wait(1, WAIT_MS)])
    if (replicas < 1 || server === null || server !== waited() || server !== written()) throw new NotOnReplica()
  }
  let running: Promise<void> | null = null
  let next: Promise<void> | null = null
  const start = (): Promise<void> => {
    next = null
    const mine = round()
    running = mine
    const over = () => {
      if (running === mine) running = null
    }
    mine.then(over, over)
    return mine
  }
  /** The round under way may have begun before our writes. */
  const confirm = (): Promise<void> => (next ??= running === null ? Promise.resolve().then(start) : running.then(start, start))

  /**
   * To be asked before anything is written; what it gives, behind it, resolves when a replica has it. Should the connection have gone over to another
   * server in between (the master has failed), what was written may be lost.
   * @throws NotOnReplica
   */
  const begin = (): (() => Promise<void>) => {
    const at = connects
    return async () => {
      const late = Promise.withResolvers<never>()
      const timer = setTimeout(() => late.reject(new NotOnReplica()), 2 * WAIT_MS + 100) // a master that stands still takes longer to fail
      try {
        await Promise.race([confirm(), late.promise])
      } catch (cause) {
        throw cause instanceof NotOnReplica ? cause : new NotOnReplica({ cause })
      } finally {
        clearTimeout(timer)
      }
      if (connects !== at) throw new NotOnReplica()
    }
  }

  return {
    /** Resolves when it can be done. */
    ready: async (): Promise<void> => {
      for (const asked = performance.now(); written() === null || waited() === null; ) {
        if (performance.now() - asked > READY_MS) throw new ConfigError('ACK=replica needs to know which server it talks to, and this Redis does not tell its run_id in INFO.')
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    },
    begin,
  }
}
