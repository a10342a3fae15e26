/** What an agent may be told: options first, then the environment, then what fits most. All faults are reported together. */
import { bindFor, splitHost } from './address.ts'
import { createLogger, readLevel, unfailing, type Logger } from './log.ts'
import { ID, ID_IN_WORDS, MAX_CAPABILITIES, TYPE, TYPE_IN_WORDS } from './names.ts'
import { readSecret, TOLERANCE_SECONDS } from './signature.ts'
import type { Handler } from './task.ts'
import { DEFAULT_URL, urlFault } from './url.ts'

/** What `createAgent` takes. An option that is given beats the environment variable named with it. */
export type AgentOptions = {
  /** For people. AGENT_NAME, else the type and `-agent`. */
  name?: string | undefined
  /** Which agent type it belongs to; tasks name the type that they are for. `default` unless said. */
  type?: string | undefined
  /** What it can do: handlers by task type. */
  capabilities: Readonly<Record<string, Handler>>
  /** Where the router is. SWITCHYARD_URL, else http://127.0.0.1:8080. */
  url?: string | undefined
  /** Sent to the router as `Authorization: Bearer`. SWITCHYARD_API_KEY. */
  apiKey?: string | undefined
  /**
   * Where the router reaches this agent: a name or an address, also as `name:port` when the port it is reached at is another than it listens at.
   * AGENT_HOST, else this machine's address on its way to the router.
   */
  host?: string | undefined
  /** Where it listens; 0 takes a free one. AGENT_PORT, else the one in `host`, else 0. */
  port?: number | undefined
  /** The address it listens at. AGENT_BIND, else loopback for a router on this machine, else all. */
  bind?: string | undefined
  /** To be known by the same id after a restart. AGENT_ID, else the router makes one. */
  agentId?: string | undefined
  /** How many tasks at once, 1 to 1000 (10). */
  maxConcurrency?: number | undefined
  /** After how long a silence it counts as dead, 5 to 3600 s (60). It beats at a third of that. */
  ttlSeconds?: number | undefined
  /** Anything, for people and policies; at most 64 members. */
  metadata?: Readonly<Record<string, unknown>> | undefined
  /** For people. */
  version?: string | undefined
  /**
   * False: whoever reaches this agent may give it tasks. Else only requests are taken that are signed with the secret that the router gives it at its
   * registration; a router that gives none is obeyed as it is. AGENT_VERIFY (`false`).
   */
  verify?: boolean | undefined
  /** How far the time of a signed request may be from the router's, s (300). */
  toleranceSeconds?: number | undefined
  /** `whsec_…`: a secret of one's own, that requests may be signed with as well. Several while it is changed. AGENT_SECRET, where spaces part them. */
  secret?: string | readonly string[] | undefined
  /** How long tasks may go on after `stop()` or a signal, s (25). */
  drainSeconds?: number | undefined
  /**
   * A task that takes longer than so many seconds is answered 202, and its result told when it is there: as if its handler had called `later()` then. 0 does so at
   * once. For where a proxy or a load balancer cuts connections that are quiet for long. Undefined: only where a handler asks for it.
   */
  laterAfterSeconds?: number | undefined
  /** False: serve tasks only, and tell no router of it. */
  register?: boolean | undefined
  /** `console` is one. The default writes a line each to stdout: JSON, but readable on a terminal; LOG_LEVEL says from which level on (info). */
  logger?: Logger | undefined
  /** SIGTERM and SIGINT drain, and end the process with 0; the second one ends it at once (true). */
  handleSignals?: boolean | undefined
}

/** The same, read and checked. */
export type Settings = {
  name: string
  type: string
  capabilities: ReadonlyMap<string, Handler>
  url: string
  apiKey: string | undefined
  /** Undefined: this machine's address on its way to the router, as that is when it registers. */
  host: string | undefined
  port: number
  /** Undefined: all addresses. */
  bind: string | undefined
  agentId: string | undefined
  maxConcurrency: number
  ttlSeconds: number
  metadata: Readonly<Record<string, unknown>> | undefined
  version: string | undefined
  secrets: readonly Buffer[]
  verifies: boolean
  toleranceSeconds: number
  drainMs: number
  laterAfterMs: number | undefined
  register: boolean
  logger: Logger
  handleSignals: boolean
}

const TEXT = /^[^\x00-\x1f\x7f-\x9f]{1,256}$/u
const DEFAULTS = { type: 'default', maxConcurrency: 10, ttlSeconds: 60, drainSeconds: 25, toleranceSeconds: TOLERANCE_SECONDS }

/** @throws TypeError that names every fault */
export const readSettings = (options: AgentOptions, env: Readonly<Record<string, string | undefined>> = process.env): Settings => {
  const faults: string[] = []
  /** What is set, and what people call it. An empty variable is as good as none. */
  const read = <T>(option: T | undefined, name: string, variable: string): { value: T | string | undefined; said: string } =>
    option !== undefined ? { value: option, said: name } : { value: env[variable] || undefined, said: variable }
  const must = (fits: boolean, fault: string): void => void (fits || faults.push(fault))
  const within = (value: number, name: string, least: number, most: number, whole = false): number => {
    must(typeof value === 'number' && value >= least && value <= most && (!whole || Number.isInteger(value)), `${name} must be a ${whole ? 'whole ' : ''}number from ${least} to ${most}`)
    return value
  }
  const text = (option: string | undefined, name: string, variable: string, form: RegExp, shape: string): string | undefined => {
    const { value, said } = read(option, name, variable)
    must(value === undefined || (typeof value === 'string' && form.test(value)), `${said} must be ${shape}`)
    return value
  }

  const type = options.type ?? DEFAULTS.type
  must(TYPE.test(type), `type must be ${TYPE_IN_WORDS}`)
  const name = text(options.name, 'name', 'AGENT_NAME', TEXT, '1 to 256 characters on one line') ?? `${type}-agent`
  const agentId = text(options.agentId, 'agentId', 'AGENT_ID', ID, ID_IN_WORDS)
  const apiKey = text(options.apiKey, 'apiKey', 'SWITCHYARD_API_KEY', /^[!-~]+$/, 'visible ASCII characters')
  const host = text(options.host, 'host', 'AGENT_HOST', /^[^\s/]{1,300}$/, 'a name or an address, alone or as name:port')
  const bind = text(options.bind, 'bind', 'AGENT_BIND', /^[^\s/[\]]{1,300}$/, 'an address of this machine')

  const url = read(options.url, 'url', 'SWITCHYARD_URL')
  const routerUrl = String(url.value ?? DEFAULT_URL).replace(/\/+$/, '')
  const urlIs = urlFault(routerUrl)
  must(urlIs === null, `${url.said} ${urlIs}`)

  const port = read<number>(options.port, 'port', 'AGENT_PORT')
  const portNumber = Number(port.value ?? (host === undefined ? undefined : splitHost(host).port) ?? 0)
  must(Number.isInteger(portNumber) && portNumber >= 0 && portNumber <= 65535, `${port.said} must be a port, 0 to 65535; not ${JSON.stringify(port.value)}`)

  const secret = read<string | readonly string[]>(options.secret, 'secret', 'AGENT_SECRET')
  const secrets = (typeof secret.value === 'string' ? secret.value.split(/[\s,]+/) : (secret.value ?? [])).filter((one) => one !== '').flatMap((one) => {
    try {
      return [readSecret(one)]
    } catch (error) {
      must(false, `${secret.said}: ${(error as Error).message}`)
      return []
    }
  })
  // An empty one must not mean that everybody may come in.
  must(secret.value === undefined || secrets.length > 0, `${secret.said} holds no secret`)

  const verify = read<boolean>(options.verify, 'verify', 'AGENT_VERIFY')
  must([undefined, true, false, 'true', 'false'].includes(verify.value), `${verify.said} must be true or false`)
  const verifies = String(verify.value ?? true) === 'true'
  must(verifies || secrets.length === 0, `${verify.said} is false, and ${secret.said} is given: leave one of them out`)

  const capabilities = Object.entries(options.capabilities ?? {})
  must(capabilities.length <= MAX_CAPABILITIES, `an agent has at most ${MAX_CAPABILITIES} capabilities, not ${capabilities.length}`)
  for (const [capability, handler] of capabilities) {
    must(ID.test(capability), `the capability ${JSON.stringify(capability)} must be named by ${ID_IN_WORDS}`)
    must(typeof handler === 'function', `the capability ${capability} must be a function`)
  }

  const maxConcurrency = within(options.maxConcurrency ?? DEFAULTS.maxConcurrency, 'maxConcurrency', 1, 1000, true)
  const ttlSeconds = within(options.ttlSeconds ?? DEFAULTS.ttlSeconds, 'ttlSeconds', 5, 3600)
  const toleranceSeconds = within(options.toleranceSeconds ?? DEFAULTS.toleranceSeconds, 'toleranceSeconds', 1, 86_400)
  const drainMs = within(options.drainSeconds ?? DEFAULTS.drainSeconds, 'drainSeconds', 0, 86_400) * 1000
  const laterAfterMs = options.laterAfterSeconds === undefined ? undefined : within(options.laterAfterSeconds, 'laterAfterSeconds', 0, 86_400) * 1000
  if (faults.length > 0) throw new TypeError(`this agent cannot be made: ${faults.join('; ')}`)

  const listenAt = bind ?? bindFor(routerUrl, host)
  return {
    name,
    type,
    capabilities: new Map(capabilities),
    url: routerUrl,
    apiKey,
    host: host ?? (isWildcard(listenAt) ? undefined : listenAt),
    port: portNumber,
    bind: listenAt,
    agentId,
    maxConcurrency,
    ttlSeconds,
    metadata: options.metadata,
    version: options.version,
    secrets,
    verifies,
    toleranceSeconds,
    drainMs,
    laterAfterMs,
    register: options.register ?? true,
    logger: unfailing(options.logger ?? createLogger(name, readLevel(env['LOG_LEVEL']))),
    handleSignals: options.handleSignals ?? true,
  }
}

const isWildcard = (bind: string | undefined): boolean => bind === undefined || bind === '0.0.0.0' || bind === '::'
