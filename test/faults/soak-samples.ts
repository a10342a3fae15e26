/** What a soak measures every few seconds. */
import { mono } from './clock.ts'
import { CAPABILITIES, TYPES, type Fleet } from './fleet.ts'
import type { Load } from './load.ts'
import { quantile, type Series } from './series.ts'

const EVERY_MS = 3_000

const numberIn = (info: string, name: string): number => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1])

/**
 * What kinds of keys there are, and how many of each: what is one agent's or one task's counts as one kind. Not those of types that a row made for itself: such a type is
 * remembered for an hour after its use, and the jobs that are kept for the Board with it.
 */
export const census = async ({ redis, keys }: Fleet): Promise<Map<string, number>> => {
  const kinds = new Map<string, number>()
  for (let cursor = '0'; ; ) {
    const [next, found] = await redis.scan(cursor, 'COUNT', 1000)
    for (const key of found) {
      const type = TYPES.find((t) => key.startsWith(keys.base(t)))
      if (type === undefined && !key.startsWith(keys.base(''))) continue
      const kind = (type === undefined ? key : key.slice(keys.base(type).length)).replace(/[0-9a-f]{8}-[0-9a-f-]{27,}/g, '<uuid>').replace(/:[0-9a-zA-Z_-]{20,}$/, ':<digest>').replace(/\d+/g, '#')
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
    }
    if ((cursor = next) === '0') return kinds
  }
}

/** The kinds that have become more, the most first. */
export const moreOf = (before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): string =>
  [...after].map(([kind, n]) => ({ kind, from: before.get(kind) ?? 0, to: n })).filter(({ from, to }) => to > from + 5).sort((a, b) => b.to - b.from - (a.to - a.from)).slice(0, 8).map(({ kind, from, to }) => `${kind} ${from} → ${to}`).join(', ')

export const createSampler = ({ fleet, load }: { fleet: Fleet; load: Load }) => {
  const make = (name: string, unit: string, slack: number): Series => ({ name, unit, slack, samples: [] })
  const series = {
    api: make('memory of an API', 'MiB', 15),
    dispatcher: make('memory of a dispatcher', 'MiB', 15),
    connections: make('connections to Redis', '', 2),
    keys: make('keys in Redis', '', 100),
    used: make('memory of Redis', 'MiB', 2),
    p50: make('from submit to agent, p50', 'ms', 20),
    p99: make('from submit to agent, p99', 'ms', 200),
  }
  let since = mono()
  let timer: NodeJS.Timeout | undefined

  /** Of the tasks that came to an agent first since the last look. */
  const lags = (): number[] => {
    const sentAt = new Map(load.told.flatMap((t) => [...t.ids].map((id) => [id, t.at] as const)))
    const seen = new Set<string>()
    const from = since
    since = mono()
    return fleet.ledger.starts(from).flatMap((s) => {
      const at = sentAt.get(s.task)
      if (at === undefined || s.number !== 1 || seen.has(s.task)) return []
      seen.add(s.task)
      return [s.at - at]
    })
  }
  const memoryOf = (members: Fleet['members']): number => {
    const alive = members.filter((m) => m.proc.child.exitCode === null && m.proc.child.signalCode === null).map((m) => m.residentMiB()).filter(Number.isFinite)
    return quantile(alive, 0.5)
  }
  const sample = async (): Promise<void> => {
    const at = mono()
    const note = (to: Series, value: number) => void to.samples.push({ at, value })
    const times = lags()
    note(series.p50, quantile(times, 0.5))
    note(series.p99, quantile(times, 0.99))
    note(series.api, memoryOf(fleet.apis))
    note(series.dispatcher, memoryOf(fleet.dispatchers))
    const { redis, keys } = fleet
    // One that is away or frozen has nothing to say; what it says later is of then.
    if (redis.status !== 'ready') return
    const lists = TYPES.flatMap((type) => CAPABILITIES.flatMap((c) => ['completed', 'failed'].map((end) => `${keys.base(type)}${type}.${c}:${end}`)))
    const [clients, memory, kinds, kept, ...logs] = await Promise.all([redis.info('clients'), redis.info('memory'), census(fleet), Promise.all(lists.map((list) => redis.zcard(list))), ...TYPES.map((type) => redis.memory('USAGE', keys.events(type)))])
    if (mono() - at > EVERY_MS) return
    note(series.connections, numberIn(clients, 'connected_clients'))
    // Without the jobs that are kept for the Board, which come slowly to 200 of each queue that ended well, and 200 otherwise.
    note(series.keys, [...kinds.values()].reduce((sum, n) => sum + n, 0) - kept.reduce((sum, n) => sum + n, 0))
    // Without the logs of events: they grow until they hold 50,000 each, and then no more.
    note(series.used, (numberIn(memory, 'used_memory') - logs.reduce<number>((sum, n) => sum + Number(n ?? 0), 0)) / 1024 / 1024)
  }
  return {
    series: Object.values(series),
    start: () => {
      let busy = false
      timer = setInterval(() => {
        if (busy) return
        busy = true
        void sample().catch(() => {}).finally(() => (busy = false))
      }, EVERY_MS)
    },
    stop: () => clearInterval(timer),
  }
}
