/** Being an agent of a router: it registers, beats, obeys what the beats answer, and leaves. Nothing that goes wrong here ends the process. */
import { randomUUID } from 'node:crypto'
import { localAddress, splitHost } from './address.ts'
import type { Attempts } from './attempts.ts'
import { reasonOf, wordsOf, type Call, type RouterAnswer } from './router.ts'
import { ID } from './names.ts'
import { createRest, jitter } from './rest.ts'
import type { Settings } from './settings.ts'
import type { Trust } from './trust.ts'

const CALL_MS = 5000
/** While leaving, a router that does not answer is waited for no longer than this. */
const LEAVING_CALL_MS = 2000
const FIRST_PAUSE_MS = 250
const LONGEST_PAUSE_MS = 5000
/** The registration itself is at fault: a person must mend something. */
const REFUSED_PAUSE_MS = 30_000
const SHORTEST_BEAT_MS = 50
/** Between beats that free slots. */
const SOON_MS = 250
/** How often a problem that stays is said again. */
const SAY_AGAIN_MS = 300_000

type Phase = 'member' | 'draining' | 'gone'

const isRefusal = (status: number): boolean => status >= 400 && status < 500 && ![404, 408, 425, 429].includes(status)

/**
 * @param deps.port where the agent listens, by now
 */
export const createMembership = ({ settings, call, attempts, trust, port }: { settings: Settings; call: Call; attempts: Attempts; trust: Trust; port: () => number }) => {
  const { url, logger, ttlSeconds } = settings
  // One for the life of the process: by it the router tells a restart, after which nothing runs here, from a mere repeat.
  const instanceId = randomUUID()
  const rest = createRest()
  const registered = Promise.withResolvers<string>()
  const drainSaid = Promise.withResolvers<void>()

  let phase: Phase = 'member'
  let agentId = settings.agentId
  let isMember = false
  let drained = false
  /** There is another secret, to be had by registering again. */
  let isOutdated = false
  let intervalMs = (ttlSeconds * 1000) / 3
  let failures = 0
  /** How many beats are to come soon. */
  let soon = 0
  /** The router's time when it last answered: a beat that comes there late is known by it. */
  let heard: string | undefined
  let lastCall = new AbortController()
  let loop: Promise<void> = Promise.resolve()
  /** What keeps it from being registered or heard, for people. */
  let problem: { words: string; since: number; saidAt: number } | null = null

  const complain = (words: string, level: 'warn' | 'error'): void => {
    const now = Date.now()
    // A refusal is said whenever it changes; of an outage one word will do, whatever shape it takes.
    const known = problem !== null && (level === 'warn' || problem.words === words) && now - problem.saidAt < SAY_AGAIN_MS
    if (!known) logger[level](words)
    problem = { words, since: problem?.since ?? now, saidAt: known ? problem!.saidAt : now }
  }
  const relieved = (): void => {
    failures = 0
    if (problem && isMember) logger.info(`the router at ${url} answers again, after ${Math.round((Date.now() - problem.since) / 1000)} s`)
    problem = null
  }
  /** Longer after each failure, never the same twice. */
  const backoff = (atLeastMs = 0): number => Math.max(jitter(Math.min(FIRST_PAUSE_MS * 2 ** Math.min(failures++, 10), LONGEST_PAUSE_MS), 0.25), atLeastMs)

  const ask = (path: string, body: object): Promise<RouterAnswer> => {
    lastCall = new AbortController()
    const timeoutMs = phase === 'member' ? Math.min(CALL_MS, (ttlSeconds * 1000) / 2) : LEAVING_CALL_MS
    return call(path, body, { timeoutMs, signal: lastCall.signal })
  }

  const readInterval = (seconds: unknown): void => {
    if (typeof seconds === 'number' && seconds > 0) intervalMs = Math.min(Math.max(seconds * 1000, SHORTEST_BEAT_MS), ttlSeconds * 1000)
  }

  const hear = (time: unknown): void => {
    if (typeof time !== 'string') return
    heard = time
    trust.hear(time)
  }

  const where = async (): Promise<{ host: string; port?: number }> => {
    const host = settings.host ?? (await localAddress(url, lastCall.signal))
    return splitHost(host).port === undefined ? { host: splitHost(host).name, port: port() } : { host }
  }

  /** One try. @returns when to take the next step, ms */
  const register = async (): Promise<number> => {
    let at: { host: string; port?: number } | undefined
    try {
      at = await where()
      const { name, type, version, metadata, maxConcurrency } = settings
      const capabilities = [...settings.capabilities.keys()]
      const body = { name, type, ...at, capabilities, max_concurrency: maxConcurrency, ttl_seconds: ttlSeconds, instance_id: instanceId, agent_id: agentId, version, metadata, ...(drained ? { status: 'draining' } : {}) }
      const answer = await ask('/agents/register', body)
      const { status, json } = answer
      if ((status === 200 || status === 201) && typeof json['agent_id'] === 'string' && ID.test(json['agent_id'])) {
        agentId = json['agent_id']
        relieved()
        isMember = true
        readInterval(json['heartbeat_interval_seconds'])
        hear(json['last_seen'])
        trust.learn(json['signing_secret'], json['signing_secret_id'])
        logger.info(`registered at ${url} as ${agentId} (${type}: ${capabilities.join(', ')}), to be reached at ${at.host}${at.port === undefined ? '' : `:${at.port}`}`)
        registered.resolve(agentId)
        return jitter(intervalMs, 0.1)
      }
      if (isRefusal(status)) {
        complain(`${url} refuses the registration: ${wordsOf(answer)}. ${hint(status, at.host)}No task will come until that is mended; trying again every ${REFUSED_PAUSE_MS / 1000} s`, 'error')
        return jitter(REFUSED_PAUSE_MS, 0.1)
      }
      const words = status >= 200 && status < 300 ? `${status}, but not as Switchyard does` : wordsOf(answer)
      complain(`cannot register at ${url} (${words}); is SWITCHYARD_URL right? Trying on`, 'warn')
      return backoff(answer.retryAfterMs)
    } catch (error) {
      if (phase === 'member') complain(`cannot register at ${url} (${reasonOf(error)}); is it running, and SWITCHYARD_URL right? Trying on`, 'warn')
      return backoff()
    }
  }

  const hint = (status: number, host: string): string => {
    if (status === 401) return 'Set SWITCHYARD_API_KEY (or apiKey). '
    return status === 403 || status === 422 ? `It was told of the host ${host}; AGENT_HOST (or host) says another. ` : ''
  }

  /** One beat. @returns when to take the next step, ms */
  const beat = async (): Promise<number> => {
    try {
      // `healthy` is left unsaid, for it would undo a drain that someone else has asked the router for.
      const answer = await ask(`/agents/${encodeURIComponent(agentId!)}/heartbeat`, { running: attempts.ids(), timestamp: heard, ...(phase === 'member' ? {} : { status: 'draining' }) })
      const { status, json } = answer
      if (status === 200) {
        relieved()
        readInterval(json['next_interval_seconds'])
        hear(json['timestamp'])
        obey(json)
        isOutdated = phase === 'member' && trust.isOutdated(json['signing_secret_id'])
        return isOutdated ? 0 : jitter(intervalMs, 0.1)
      }
      if (status === 404) {
        isMember = false
        trust.doubt()
        if (phase === 'member') logger.warn(`the router at ${url} does not know this agent any longer; registering again as ${agentId}`)
        return 0
      }
      complain(`${url} takes no heartbeat: ${wordsOf(answer)}. Trying on`, isRefusal(status) ? 'error' : 'warn')
      return Math.min(backoff(answer.retryAfterMs), intervalMs)
    } catch (error) {
      if (phase === 'member') complain(`no heartbeat reaches ${url} (${reasonOf(error)}). Trying on`, 'warn')
      return Math.min(backoff(), intervalMs)
    }
  }

  const obey = ({ cancel, lost, drain }: Record<string, unknown>): void => {
    for (const id of Array.isArray(cancel) ? cancel : []) attempts.abort(String(id), 'cancelled')
    for (const id of Array.isArray(lost) ? lost : []) attempts.abort(String(id), 'lost')
    if ((drain === true) !== drained && phase === 'member') logger.info(drain === true ? 'the router drains this agent: nothing new will come' : 'the router drains this agent no longer')
    drained = drain === true
  }

  const live = async (): Promise<void> => {
    while (phase === 'member' || (phase === 'draining' && isMember)) {
      const said = phase
      // Should it not be told the secret, it beats on, and hears of it again.
      const beats = isMember && !isOutdated
      isOutdated = false
      const ms = await (beats ? beat() : register())
      if (said === 'draining') drainSaid.resolve()
      // A member goes on beating, also when it could not fetch its secret.
      const pause = isMember ? Math.min(ms, intervalMs * 1.1) : ms
      await rest.for(soon > 0 && failures === 0 ? Math.min(pause, SOON_MS) : pause)
      soon = Math.max(0, soon - 1)
    }
    drainSaid.resolve()
  }

  return {
    /** The agent's id, when it first has one. Stays pending when it leaves before that: who waits for it is leaving too. */
    registered: registered.promise,
    id: (): string | undefined => agentId,
    /** Why tasks may not come, in words; null when they may. */
    problem: (): string | null => (isMember ? (drained ? 'the router drains this agent' : null) : (problem?.words ?? 'not registered yet')),
    isDrained: (): boolean => drained,

    /** Begins, and goes on by itself. */
    join: (): void => void (loop = live()),

    /**
     * An attempt was stopped. The router keeps its slot until two beats without it have come, the first after its last one with it: so two come soon.
     */
    beatSoon: (): void => {
      if (soon === 0 && isMember && failures === 0) rest.cutShort()
      soon = 2
    },

    /** Says that nothing new is wanted, and beats on. Resolves when that was said, or could not be. */
    drain: async (): Promise<void> => {
      phase = 'draining'
      // A beat under way is not worth waiting for; a registration is, or it could never be undone.
      if (isMember) lastCall.abort()
      const slow = setTimeout(() => lastCall.abort(), LEAVING_CALL_MS)
      rest.cutShort()
      await drainSaid.promise
      clearTimeout(slow)
    },

    /**
     * Unregisters. When the router does not answer, the time to live ends the registration.
     * @param leavesWork something was stopped: two beats without it say that it is to go elsewhere
     */
    leave: async (leavesWork: boolean): Promise<void> => {
      phase = 'gone'
      rest.cutShort()
      await loop
      failures = 0
      for (let beats = 0; beats < 2 && leavesWork && isMember && agentId !== undefined && failures === 0; beats++) await beat()
      if (!isMember || agentId === undefined) return
      await ask(`/agents/${encodeURIComponent(agentId)}/unregister`, {}).then(
        ({ status }) => status >= 400 && logger.warn(`could not unregister at ${url} (${status}); the registration ends by itself`),
        (error: unknown) => logger.warn(`could not unregister at ${url} (${reasonOf(error)}); the registration ends by itself`),
      )
      isMember = false
    },
  }
}
