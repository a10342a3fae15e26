/** The only reader of the environment: parsed once, all faults reported together, frozen. docs/operations.md lists the same settings. */
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { z } from 'zod'
import { isRange } from './contracts/host.ts'
import { readSecret, SECRET_FORM } from './contracts/signature.ts'
import { isStoreUrl, nodesIn } from './contracts/store-url.ts'
import { ConfigError } from './errors.ts'

const integer = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,15}$/, `must be a whole number from ${min} to ${max}`)
    .transform(Number)
    .refine((n) => n >= min && n <= max, `must be a whole number from ${min} to ${max}`)

const cidrs = () =>
  z
    .string()
    .transform((s) => s.split(',').map((c) => c.trim()).filter(Boolean))
    .superRefine((list, context) => {
      for (const cidr of list) if (!isRange(cidr)) context.addIssue({ code: 'custom', message: `${cidr} is not a range of addresses like 10.0.0.0/8 or fd00::/8` })
    })
    .default([])

const hostNames = () =>
  z
    .string()
    .transform((s) => s.toLowerCase().split(',').map((c) => c.trim()).filter(Boolean))
    .refine((list) => list.every((name) => /^\.?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?$/.test(name)), 'must be names such as router.example, apart by commas, without http:// or a port; .example is every name that ends so')
    .default([])

/** A file's name, read as its text. */
const pem = () =>
  z
    .string()
    .transform((file, context) => {
      try {
        const text = readFileSync(file, 'utf8')
        if (text.includes('-----BEGIN ')) return text
        context.addIssue({ code: 'custom', message: 'holds no PEM (-----BEGIN …)' })
      } catch (error) {
        context.addIssue({ code: 'custom', message: `cannot be read (${(error as NodeJS.ErrnoException).code})` })
      }
      return z.NEVER
    })
    .optional()

const secrets = (most: number) =>
  z
    .string()
    .transform((s) => s.split(/\s+/).filter(Boolean))
    .refine((list) => list.length > 0 && list.length <= most && list.every((one) => readSecret(one) !== null), `${SECRET_FORM}, ${most} at most`)
    .optional()

/** Whose values are not repeated in a message. */
const SECRET = new Set(['REDIS_URL', 'WEBHOOK_SECRET', 'SIGNING_SECRET', 'ADMIN_KEY'])

const Environment = z.object({
  HOST: z
    .string()
    .refine((host) => isIP(host) !== 0 || /^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$/.test(host), 'must be an address of this machine, or its name, such as 127.0.0.1 or 0.0.0.0, without http:// or a port')
    .default('127.0.0.1'),
  PORT: integer(0, 65535).default(8080),
  /** A worker's own health and metrics port; 0 takes a free one. */
  HEALTH_PORT: integer(0, 65535).default(8081),
  REDIS_URL: z.string().refine(isStoreUrl, 'must be like redis://:password@host:6379, rediss://… or unix:///path, with odd characters in a password percent-encoded; of a cluster several nodes, apart by commas: redis://:password@a:6379,b:6379').optional(),
  /** REDIS_URL names one node of a cluster, by which the others are found; several mean that anyway. */
  REDIS_CLUSTER: z.enum(['0', '1'], 'must be 0 or 1').default('0'),
  /** For `rediss://`: files, as PEM, of whom to trust instead of the system's authorities, and of our own certificate. */
  REDIS_TLS_CA: pem(),
  REDIS_TLS_CERT: pem(),
  REDIS_TLS_KEY: pem(),
  /** What all keys begin with: several Switchyards may share one Redis. */
  REDIS_PREFIX: z.string().regex(/^[A-Za-z0-9_-]{1,32}$/, 'must be 1–32 of A–Z a–z 0–9 _ -').default('sy'),
  DATA_DIR: z.string().min(1).default('.data'),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  WORKER_CONCURRENCY: integer(1, 10_000).default(128),
  MAX_TASK_TIMEOUT_SECONDS: integer(1, 86_400).default(300),
  /** Ranges to which agents are limited, `10.0.0.0/8,192.168.0.0/16`; empty: anything but what we never post to. */
  AGENT_CIDRS: cidrs(),
  /** Ranges to which webhooks may go although they are not public, by http too; empty: to public addresses, by https. */
  WEBHOOK_CIDRS: cidrs(),
  /** What webhooks are signed with, each of several; without it one is made and kept in Redis. */
  WEBHOOK_SECRET: secrets(8),
  /** What the agents' secrets are derived from, a second one while it is changed; without it one is made and kept in Redis. */
  SIGNING_SECRET: secrets(2),
  /** A key of role admin while it is set; with it, keys are in force. */
  ADMIN_KEY: z.string().regex(/^[!-~]{32,256}$/, 'must be 32–256 visible ASCII characters without spaces; `openssl rand -hex 32` makes one').optional(),
  /** While no keys are in force: names beside localhost and addresses under which we are asked, `router.example,.svc.cluster.local`. */
  ALLOWED_HOSTS: hostNames(),
  /** At an address that strangers reach: let everyone do everything as long as there are no keys. */
  INSECURE_OPEN: z.enum(['0', '1'], 'must be 0 or 1').default('0'),
  RETENTION_COMPLETED_SECONDS: integer(1, 365 * 86_400).default(3600),
  RETENTION_FAILED_SECONDS: integer(1, 365 * 86_400).default(7 * 86_400),
  /** Ended records kept per agent type, of completed and cancelled, and of failed and timed-out ones. */
  RETENTION_COMPLETED_COUNT: integer(0, 10_000_000).default(100_000),
  RETENTION_FAILED_COUNT: integer(0, 10_000_000).default(100_000),
  /** What those may take of Redis's memory, of each status as well. */
  RETENTION_COMPLETED_BYTES: integer(0, 1e13).default(256 * 1024 * 1024),
  RETENTION_FAILED_BYTES: integer(0, 1e13).default(256 * 1024 * 1024),
  /** Webhooks kept per agent type, sent or to be sent. */
  RETENTION_WEBHOOKS_COUNT: integer(0, 10_000_000).default(100_000),
  DRAIN_SECONDS: integer(0, 600).default(25),
  /** How long an API that is told to stop goes on serving, not ready, so that whoever sends requests there hears of it. */
  LEAVE_SECONDS: integer(0, 120).default(0),
  /** What an answer means: stored by Redis, or by one of its replicas too. */
  ACK: z.enum(['memory', 'replica'], 'must be memory or replica').default('memory'),
  /** Tasks that may wait in one queue, those whose time has not come included. */
  MAX_QUEUED_TASKS: integer(1, 100_000_000).default(100_000),
  /** How full Redis's memory may be, of its `maxmemory`, before submits are turned away. */
  MAX_REDIS_MEMORY_PERCENT: integer(1, 100).default(80),
  /** A task that failed on so many different agents is not tried again; 0: never that. */
  POISON_AGENTS: integer(0, 20).default(3),
  /** An agent that failed so many different tasks in a row is taken out for a while; 0: never. */
  SICK_AGENT_FAILURES: integer(0, 50).default(5),
}).superRefine((e, context) => {
  const say = (name: string, message: string) => context.addIssue({ code: 'custom', path: [name], message })
  for (const name of ['REDIS_TLS_CA', 'REDIS_TLS_CERT', 'REDIS_TLS_KEY'] as const) if (e[name] !== undefined && !e.REDIS_URL?.startsWith('rediss://')) say(name, 'is of use with a REDIS_URL that begins with rediss:// only')
  if (e.REDIS_CLUSTER === '1' && !/^rediss?:\/\//.test(e.REDIS_URL ?? '')) say('REDIS_CLUSTER', 'is of use with a REDIS_URL that begins with redis:// or rediss:// only')
  if ((e.REDIS_TLS_CERT === undefined) !== (e.REDIS_TLS_KEY === undefined)) say(e.REDIS_TLS_CERT === undefined ? 'REDIS_TLS_KEY' : 'REDIS_TLS_CERT', 'goes with the other: a certificate and its key')
})

export type Config = Readonly<{
  host: string
  port: number
  healthPort: number
  redisUrl: string | undefined
  redisCluster: boolean
  redisTls: Readonly<{ ca?: string | undefined; cert?: string | undefined; key?: string | undefined }>
  redisPrefix: string
  dataDir: string
  logLevel: z.infer<typeof Environment>['LOG_LEVEL']
  workerConcurrency: number
  maxTaskTimeoutSeconds: number
  agentCidrs: readonly string[]
  webhookCidrs: readonly string[]
  webhookSecrets: readonly string[]
  signingSecrets: readonly string[]
  adminKey: string | undefined
  allowedHosts: readonly string[]
  insecureOpen: boolean
  retention: Readonly<{ completedMs: number; failedMs: number; completedCount: number; failedCount: number; completedBytes: number; failedBytes: number; webhooksCount: number }>
  drainMs: number
  leaveMs: number
  ack: 'memory' | 'replica'
  admission: Readonly<{ maxQueued: number; maxRedisPercent: number }>
  fault: Readonly<{ poisonAgents: number; sickAgentFailures: number }>
}>

/**
 * Reads the settings from an environment. An empty value counts as not set.
 * @throws ConfigError naming every faulty setting
 */
export const readConfig = (env: NodeJS.ProcessEnv = process.env): Config => {
  const set = Object.fromEntries(Object.keys(Environment.shape).flatMap((k) => (env[k] ? [[k, env[k]]] : [])))
  const read = Environment.safeParse(set)
  if (!read.success) {
    const lines = read.error.issues.map((i) => `  ${i.path.join('.')}${SECRET.has(String(i.path[0])) ? '' : `=${String(env[String(i.path[0])])}`}: ${i.message}`)
    throw new ConfigError(`The environment has ${lines.length === 1 ? 'a faulty setting' : 'faulty settings'}; mend and start again:\n${lines.join('\n')}`)
  }
  const e = read.data
  return Object.freeze({
    host: e.HOST,
    port: e.PORT,
    healthPort: e.HEALTH_PORT,
    redisUrl: e.REDIS_URL,
    redisCluster: e.REDIS_CLUSTER === '1' || nodesIn(e.REDIS_URL ?? '').length > 1,
    redisTls: Object.freeze({ ca: e.REDIS_TLS_CA, cert: e.REDIS_TLS_CERT, key: e.REDIS_TLS_KEY }),
    redisPrefix: e.REDIS_PREFIX,
    dataDir: e.DATA_DIR,
    logLevel: e.LOG_LEVEL,
    workerConcurrency: e.WORKER_CONCURRENCY,
    maxTaskTimeoutSeconds: e.MAX_TASK_TIMEOUT_SECONDS,
    agentCidrs: e.AGENT_CIDRS,
    webhookCidrs: e.WEBHOOK_CIDRS,
    webhookSecrets: e.WEBHOOK_SECRET ?? [],
    signingSecrets: e.SIGNING_SECRET ?? [],
    adminKey: e.ADMIN_KEY,
    allowedHosts: e.ALLOWED_HOSTS,
    insecureOpen: e.INSECURE_OPEN === '1',
    retention: Object.freeze({
      completedMs: e.RETENTION_COMPLETED_SECONDS * 1000,
      failedMs: e.RETENTION_FAILED_SECONDS * 1000,
      completedCount: e.RETENTION_COMPLETED_COUNT,
      failedCount: e.RETENTION_FAILED_COUNT,
      completedBytes: e.RETENTION_COMPLETED_BYTES,
      failedBytes: e.RETENTION_FAILED_BYTES,
      webhooksCount: e.RETENTION_WEBHOOKS_COUNT,
    }),
    drainMs: e.DRAIN_SECONDS * 1000,
    leaveMs: e.LEAVE_SECONDS * 1000,
    ack: e.ACK,
    admission: Object.freeze({ maxQueued: e.MAX_QUEUED_TASKS, maxRedisPercent: e.MAX_REDIS_MEMORY_PERCENT }),
    fault: Object.freeze({ poisonAgents: e.POISON_AGENTS, sickAgentFailures: e.SICK_AGENT_FAILURES }),
  })
}
