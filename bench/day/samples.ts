/** What is looked at all day: memory of the processes and of Redis, its file, and how many keys there are of each kind. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createKeys, DEFAULT_NAMESPACE } from '../../src/redis/keys.ts'
import type { System } from '../growth/system.ts'
import { KINDS } from './plan.ts'

const EVERY_MS = 2000
const MIB = 1024 * 1024
const keys = createKeys('sy', DEFAULT_NAMESPACE)

/** What a key is, by what stands behind its base. */
const WHAT: readonly (readonly [kind: string, RegExp])[] = [
  ['records', /^task:/],
  ['webhooks', /^webhook(?:-task)?:/],
  ['idempotency', /^idempotency:/],
  ['jobs', /^[^:]+:[^:]+\.[0-9a-f-]{36}(?::lock)?$/],
]
export const MEASURES = [
  { key: 'used', words: 'Redis, used', unit: 'MiB', slack: 2 },
  { key: 'usedWithoutLogs', words: 'Redis, without the logs of events', unit: 'MiB', slack: 2 },
  { key: 'resident', words: 'Redis, resident', unit: 'MiB', slack: 15 },
  { key: 'fragmentation', words: 'Redis, fragmentation ratio', unit: '', slack: 0.2 },
  // It is rewritten when it has doubled, from 8 MiB on: so it goes up and down by that, and by what comes while it is rewritten.
  { key: 'file', words: 'append-only file', unit: 'MiB', slack: 8 },
  { key: 'base', words: 'append-only file, what the last rewrite left', unit: 'MiB', slack: 1 },
  { key: 'api', words: 'API, resident', unit: 'MiB', slack: 15, warmsUp: true },
  { key: 'dispatcher', words: 'dispatcher, resident', unit: 'MiB', slack: 15, warmsUp: true },
  { key: 'all', words: 'keys, all', unit: '', slack: 100 },
  { key: 'records', words: 'records', unit: '', slack: 100 },
  { key: 'jobs', words: 'jobs', unit: '', slack: 100 },
  // Up to 200 of each end and queue, which no day scales: those of slow queues come slowly.
  { key: 'board', words: 'jobs kept for the Board', unit: '', slack: 400 * KINDS.length },
  { key: 'idempotency', words: 'idempotency keys', unit: '', slack: 50 },
  { key: 'webhooks', words: 'webhooks', unit: '', slack: 50 },
  { key: 'others', words: 'other keys', unit: '', slack: 20 },
] as const
export type Sample = Readonly<{ /** Seconds. */ at: number } & Record<(typeof MEASURES)[number]['key'], number>>

const fieldIn = (info: string, name: string): number => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1])

/** Of the file's parts (from Redis 7 on) the one that a rewrite leaves: what there is, without what has been written since. */
const baseBytes = async (dir: string): Promise<number> => {
  const files = (await readdir(dir).catch(() => [])).filter((file) => file.endsWith('.base.rdb'))
  const sizes = await Promise.all(files.map((file) => stat(join(dir, file)).then(({ size }) => size, () => NaN)))
  return Math.max(...sizes.filter(Number.isFinite)) // -Infinity, which counts as none, when there is none
}

export const createSampler = ({ redis, api, workers, servers }: System) => {
  const samples: Sample[] = []
  const count = async (): Promise<Record<string, number>> => {
    const counts: Record<string, number> = { all: 0, records: 0, jobs: 0, idempotency: 0, webhooks: 0, others: 0 }
    for await (const found of redis.scanStream({ count: 1000 }) as AsyncIterable<string[]>) {
      for (const key of found) {
        const rest = key.slice(key.indexOf('}:') + 2)
        const what = WHAT.find(([, pattern]) => pattern.test(rest))?.[0] ?? 'others'
        counts[what]!++
        counts['all']!++
      }
    }
    return counts
  }
  const sample = async (at: number): Promise<void> => {
    const finished = KINDS.flatMap(({ type }) => ['completed', 'failed'].map((end) => redis.zcard(`${keys.base(type)}${type}.work:${end}`)))
    const [memory, persistence, counts, board, ...logs] = await Promise.all([redis.info('memory'), redis.info('persistence'), count(), Promise.all(finished).then((all) => all.reduce((a, b) => a + b, 0)), ...KINDS.map(({ type }) => redis.memory('USAGE', keys.events(type), 'SAMPLES', 0))])
    const used = fieldIn(memory, 'used_memory') / MIB
    const [, dir] = (await redis.config('GET', 'dir')) as string[]
    samples.push({
      at, base: (await baseBytes(join(dir!, 'appendonlydir'))) / MIB, used, usedWithoutLogs: used - logs.reduce<number>((sum, n) => sum + Number(n ?? 0), 0) / MIB, resident: servers[0]!.running.residentMiB() ?? NaN, fragmentation: fieldIn(memory, 'mem_fragmentation_ratio'),
      file: fieldIn(persistence, 'aof_current_size') / MIB, api: api.residentMiB() ?? NaN, dispatcher: workers[0]!.residentMiB() ?? NaN, ...counts, jobs: counts['jobs']! - board, board,
    } as Sample)
  }
  let timer: NodeJS.Timeout | undefined
  return {
    samples,
    start: (): void => {
      const began = performance.now()
      let busy = false
      timer = setInterval(() => {
        if (busy) return
        busy = true
        void sample((performance.now() - began) / 1000).catch(() => {}).finally(() => (busy = false))
      }, EVERY_MS)
    },
    stop: (): void => clearInterval(timer),
    /** Logs of events as long as they ever get: they hold about 50,000 events whatever a day is, and would else fill up in the first simulated hours of a busy type, and for weeks in a slow one. */
    fillLogs: async (): Promise<void> => {
      for (const { type } of KINDS) {
        const text = [`${type}.01a1fccc-6e5f-70d1-bb21-ecf2d124885d`, 'completed', '1', '01a1fccc-6e5f-70d1-bb21-ecf2d124885e', 'completed', ''].join('\t')
        await redis.eval("for i = 1, 50000 do redis.call('XADD', KEYS[1], 'MAXLEN', '~', 50000, '*', 'e', ARGV[1]) end", 1, keys.events(type), text)
      }
    },
    /** What the ended records take: as the router reckons it of a record, and as Redis says of each of those that are there. */
    weights: async (): Promise<{ reckoned: number; said: number }> => {
      let [reckoned, said] = [0, 0]
      for (const { type } of KINDS) {
        for (const status of ['completed', 'cancelled', 'failed', 'timeout']) {
          const list = keys.tasks(type, status)
          const [[bytes, of], ids] = await Promise.all([redis.hmget(keys.weight(type), status, `${status}:count`), redis.zrange(list, '0', '-1')])
          if (ids.length === 0) continue
          reckoned += (Number(bytes) / Number(of)) * ids.length
          for (const each of await Promise.all([redis.memory('USAGE', list, 'SAMPLES', 0), ...ids.map((id) => redis.memory('USAGE', keys.task(type, id), 'SAMPLES', 0))])) said += Number(each ?? 0)
        }
      }
      return { reckoned: Math.round(reckoned), said }
    },
  }
}
