/** The promises held over a soak while it goes on: what has been looked at is forgotten, so that an hour takes no more memory than a minute. */
import { call } from '../system.ts'
import { check, type AgentRecord, type Findings, type TaskRecord } from './checker.ts'
import { mono } from './clock.ts'
import { ENDS } from './load.ts'
import type { Row, Trial } from './row.ts'
import { allowedBy } from './trial.ts'

/** Records are read so soon behind their end, long before they are forgotten. */
const READ_MS = 4_000
/** A task of which there is still no end so long after its submit has none. */
const NO_END_MS = 240_000
/** What agents did is kept so long: a row's own check looks back, and so does the next about what straddles. */
const KEPT_MS = 200_000

export type Total = Omit<Findings, 'p95Of503' | 'violations'>

export const createSoakCheck = (trial: Trial, ofRow: (row: Row) => Trial, violate: (what: string) => void) => {
  const { fleet, load, records } = trial
  const total: Total = { tasks: 0, lost: 0, doubled: 0, changed: 0, overLimit: 0, leaked: 0 }
  let reading: Promise<void> | null = null

  const read = async (id: string): Promise<TaskRecord | null> => {
    const answer = await call('GET', `${fleet.api()}/tasks/${id}`)
    return answer.status === 200 ? (answer.json as TaskRecord) : null
  }
  /** Reads the records of tasks that may have ended. */
  const readAll = async (all: boolean): Promise<void> => {
    const left = load.told.flatMap((t) => (all || mono() - t.at > READ_MS ? [...t.ids].filter((id) => !ENDS.includes(records.get(id)?.status ?? '')) : []))
    await Promise.all(Array.from({ length: 4 }, async () => {
      for (let id; (id = left.pop()) !== undefined; ) {
        const record = await read(id).catch(() => null)
        if (record) records.set(id, record)
      }
    }))
  }
  const readSome = (all = false): Promise<void> => (reading ??= readAll(all).finally(() => (reading = null)))
  const timer = setInterval(() => void readSome(), READ_MS)
  timer.unref()

  /** Reads an end once more, to see that it is what it was. */
  const seenTwice = async (ids: readonly string[]): Promise<void> => {
    const left = [...ids]
    await Promise.all(Array.from({ length: 8 }, async () => {
      for (let id; (id = left.pop()) !== undefined; ) {
        const [then, now] = [records.get(id), await read(id).catch(() => null)]
        if (then && now && (then.status !== now.status || JSON.stringify(then.result) !== JSON.stringify(now.result))) {
          total.changed++
          violate(`P1: ${id}: ${then.status} → ${now.status}`)
        }
      }
    }))
  }

  const hold = (rows: readonly Row[], agents: readonly AgentRecord[], all: boolean): { told: typeof load.told; ids: string[] } => {
    const over = (t: (typeof load.told)[number]) => all || mono() - t.at > NO_END_MS || (t.done && [...t.ids].every((id) => ENDS.includes(records.get(id)?.status ?? '')))
    const told = load.told.filter(over)
    const ids = new Set(told.flatMap((t) => [...t.ids]))
    // Those above a limit are counted over everything that is left of the ledger.
    const findings = check({ told, calls: load.calls, events: fleet.ledger.read(), records, agents, windows: trial.windows, allowed: allowedBy(rows) })
    for (const key of ['tasks', 'lost', 'doubled', 'changed', 'leaked'] as const) total[key] += findings[key]
    total.overLimit = Math.max(total.overLimit, findings.overLimit)
    for (const one of findings.violations) violate(one)
    return { told, ids: [...ids] }
  }

  return {
    total,
    /**
     * Looks at all that has ended, and forgets what nobody will ask for any more.
     * @param rows those whose faults may show in it
     * @param last of them: its own check is made when the next one has been
     */
    window: async (rows: readonly Row[], last: Row | null): Promise<void> => {
      await readSome()
      await last?.check?.({ ...ofRow(last), violate })
      const { told, ids } = hold(rows, [], false)
      await seenTwice(ids)
      const checked = new Set(told)
      load.forget((t) => checked.has(t))
      const before = mono() - KEPT_MS
      fleet.ledger.forget((e) => e.at < before)
      for (const [id, r] of records) if (Date.parse(r.completed_at ?? '') < Date.now() - KEPT_MS) records.delete(id)
    },
    /** When all has ended. */
    end: async (rows: readonly Row[], agents: readonly AgentRecord[]): Promise<void> => {
      clearInterval(timer)
      for (let tries = 0; tries < 4; tries++) await readSome(true)
      hold(rows, agents, true)
    },
  }
}
