/** What a Redis must be, and what of its settings weakens a promise: said in one clear line each, or refused. */
import type { Redis } from 'ioredis'
import { ConfigError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { addressOf, isCluster, mastersOf } from './nodes.ts'

/** What INFO says, and of CONFIG what this user may read: managed services forbid it. */
export type Settings = { info: string; config: Readonly<Record<string, string>> }
export type Findings = { refused: string[]; weak: string[] }

const GIB = 1024 ** 3

/**
 * @param ack `replica`: answers wait for one
 * @param cluster whether it was to be a node of a cluster
 * @returns why it cannot be used, and what weakens a promise
 */
export const judge = ({ info, config }: Settings, ack: 'memory' | 'replica', cluster = false): Findings => {
  const field = (name: string) => new RegExp(`^${name}:(.*)\\r?$`, 'm').exec(info)?.[1]?.trim()
  const number = (name: string) => Number(field(name) ?? 0)
  const refused: string[] = []
  const weak: string[] = []
  const version = field('valkey_version') ?? field('redis_version')
  if (version !== undefined && Number.parseFloat(field('redis_version') ?? '0') < 6.2) refused.push(`Redis ${version} is too old: 6.2 or later is needed (or any Valkey).`)
  if (field('redis_mode') === 'sentinel') refused.push('This is a Sentinel, which holds no data: let REDIS_URL name the master.')
  if (field('cluster_enabled') === '1' && !cluster) refused.push('This Redis is a node of a cluster: set REDIS_CLUSTER=1, or let REDIS_URL name several of its nodes.')
  if (cluster && field('valkey_version') === undefined && Number.parseFloat(version ?? '7') < 7) refused.push(`Redis ${version} is too old for a cluster: 7.0 or later is needed (or any Valkey).`)
  if (cluster && config['cluster-require-full-coverage'] === 'yes') weak.push('the whole cluster refuses to work while a single master of it is away; set cluster-require-full-coverage no, and only that one’s agent types wait')
  if (field('role') === 'slave') refused.push(`This Redis is a replica of ${field('master_host')}:${field('master_port')}, and takes no writes: let REDIS_URL name the master.`)
  const policy = field('maxmemory_policy')
  if (policy && policy !== 'noeviction') refused.push(`This Redis would evict tasks when memory is short (maxmemory-policy is ${policy}): set maxmemory-policy noeviction.`)

  if (field('aof_enabled') === '0') weak.push('redis keeps no append-only file: what it holds is lost when it dies; set appendonly yes')
  else if (config['appendfsync'] === 'no') weak.push('redis leaves it to the system when its append-only file reaches the disk: half a minute of what was acknowledged is lost with the power; set appendfsync everysec, or always')
  if (field('aof_last_write_status') === 'err') weak.push('redis could not write its append-only file when it last tried: is the disk full?')
  const [most, machine] = [number('maxmemory'), number('total_system_memory')]
  if (machine > 0 && most > machine * 0.9) weak.push(`redis may take ${(most / GIB).toFixed(1)} GiB of the ${(machine / GIB).toFixed(1)} that its machine has, which may kill it before it refuses anything; set maxmemory to 75 % at most`)
  if (ack === 'replica' && field('role') === 'master' && number('connected_slaves') === 0) weak.push('ACK=replica, and no replica is connected: nothing is acknowledged until one is')
  return { refused, weak }
}

/** The settings that are looked at; what may not be read counts as not known. A user of an ACL is not given CONFIG, which tells passwords too, and not made to fail at it. */
const READ = ['appendfsync', 'cluster-require-full-coverage']

const hasUser = ({ options }: Redis): boolean => (options.username ?? 'default') !== 'default'

const settingsOf = async (redis: Redis): Promise<Settings> => {
  const config: Record<string, string> = {}
  const [info] = await Promise.all([
    redis.info(),
    ...(hasUser(redis) ? [] : READ).map(async (name) => {
      const said: unknown = await redis.config('GET', name).catch(() => null)
      const value = Array.isArray(said) ? said[1] : (said as Record<string, unknown> | null)?.[name]
      if (typeof value === 'string') config[name] = value
    }),
  ])
  return { info, config }
}

/**
 * Looks now, and each time that the connection is there again: behind a failover it may be another Redis, or its settings may have been changed. What
 * is found then is said, once for as long as it lasts, and ends nothing: the store's own errors are told to clients as they come.
 * @throws ConfigError when it cannot be used now
 */
export const checkRedis = async (redis: Redis, log: Logger, ack: 'memory' | 'replica' = 'memory'): Promise<void> => {
  let said = new Set<string>()
  const cluster = isCluster(redis)
  const findingsOf = async (node: Redis): Promise<Findings> => {
    const found = judge(await settingsOf(node), ack, cluster)
    if (!cluster) return found
    const named = (line: string): string => `${addressOf(node)}: ${line}`
    return { refused: found.refused.map(named), weak: found.weak.map(named) }
  }
  const look = async (): Promise<string[]> => {
    // Of a cluster's masters those that are there.
    const found = await Promise.all(mastersOf(redis).filter((node) => !cluster || node.status === 'ready').map(findingsOf))
    const refused = found.flatMap((one) => one.refused)
    const weak = found.flatMap((one) => one.weak)
    for (const line of weak) if (!said.has(line)) log.warn(line)
    for (const line of refused) if (!said.has(line) && said.size > 0) log.error(line)
    said = new Set(['looked', ...weak, ...refused])
    return refused
  }
  const [first] = await look()
  if (first !== undefined) throw new ConfigError(first)
  redis.on('back', () => void look().catch(() => {}))
}
