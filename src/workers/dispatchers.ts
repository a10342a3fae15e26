/**
 * The dispatchers of a process: one for each namespace, which share its places. What one namespace does, or suffers, is nothing to the others, but for the places that
 * its work takes; and those go round.
 */
import type { Namespaces } from '../access/namespaces.ts'
import type { Logger } from '../logger.ts'
import { DEFAULT_NAMESPACE, type Keys } from '../redis/keys.ts'
import type { Subscriber } from '../redis/subscriber.ts'
import type { Dispatcher } from './dispatcher.ts'

/** Of namespaces it hears when there is a new one: looks are for what it has not heard. */
const LOOK_MS = 2_000

/** A dispatcher, and what ends it and all that is its own. */
export type Served = { dispatcher: Dispatcher; stop: () => Promise<void> }

export type DispatchersDeps = {
  namespaces: Namespaces
  /** One that also hears when keys change: with a key a namespace may begin. */
  subscriber: Subscriber
  /** Those of the default namespace. */
  keys: Keys
  log: Logger
  /** Makes and starts the dispatcher of a namespace. */
  serve: (namespace: string) => Promise<Served>
}

export type Dispatchers = ReturnType<typeof createDispatchers>

export const createDispatchers = ({ namespaces, subscriber, keys, log, serve }: DispatchersDeps) => {
  const served = new Map<string, Served>()
  let stopping = false

  const begin = async (namespace: string): Promise<void> => {
    const one = await serve(namespace)
    if (stopping) return one.stop()
    served.set(namespace, one)
    log.info({ namespace, dispatcher: one.dispatcher.id }, 'dispatching')
  }
  const end = async (namespace: string, one: Served): Promise<void> => {
    served.delete(namespace)
    log.info({ namespace }, 'a namespace that nobody uses any more is forgotten')
    await one.stop()
  }

  const lookOnce = async (): Promise<void> => {
    const there = new Set(await namespaces.list())
    for (const [namespace, one] of served) {
      if (namespace === DEFAULT_NAMESPACE) continue
      if (there.has(namespace)) await namespaces.seen(namespace, !one.dispatcher.isIdle())
      else await end(namespace, one)
    }
    // One that cannot be served yet is tried again at the next look.
    for (const namespace of there) if (!served.has(namespace) && !stopping) await begin(namespace).catch(failed(namespace))
  }
  const failed = (namespace: string) => (error: unknown) => log.warn({ namespace, error: String(error) }, 'could not serve a namespace yet')

  let looking: Promise<void> | null = null
  const look = (): Promise<void> => (looking ??= lookOnce().catch((error: unknown) => log.debug({ error: String(error) }, 'could not look for namespaces')).finally(() => (looking = null)))
  const heard = (channel: string): void => {
    if (channel === keys.accessChannel) void look()
  }
  const subscribe = (): void => void subscriber.subscribe(keys.accessChannel).catch(() => {}) // the looks find it, too
  let timer: NodeJS.Timeout | undefined

  return {
    /** Why work that can go out does not; null while it does. */
    notReady: (): string | null => {
      if (!served.has(DEFAULT_NAMESPACE)) return 'it has not started'
      for (const [namespace, { dispatcher }] of served) {
        const reason = dispatcher.notReady()
        if (reason !== null) return namespace === DEFAULT_NAMESPACE ? reason : 'it makes no progress in one of the namespaces; the log says in which' // whoever asks, hears it
      }
      return null
    },
    /** @throws when the default namespace cannot be served */
    start: async (): Promise<void> => {
      await begin(DEFAULT_NAMESPACE)
      await look()
      subscriber.on('message', heard)
      subscriber.on('ready', subscribe)
      subscribe()
      timer = setInterval(() => void look(), LOOK_MS)
    },
    /** Drains all of them at once. */
    stop: async (): Promise<void> => {
      stopping = true
      clearInterval(timer)
      subscriber.off('message', heard).off('ready', subscribe)
      await Promise.all([looking, ...[...served.values()].map((one) => one.stop())])
    },
  }
}
