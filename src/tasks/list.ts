/** Lists of tasks, newest first, over all agent types. Ids are UUIDv7 behind their type, so by id is by time. */
import type { Queues } from '../queues/queues.ts'
import type { Redis } from '../redis/client.ts'
import { newestFirst, uuidOf, type Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'
import type { Types } from '../registry/types.ts'
import { createMeasure, readInTurn } from './page.ts'
import type { TaskView } from './record.ts'

export type TaskFilter = { statuses: readonly string[]; types?: string[] | undefined; taskType?: string | undefined; agentId?: string | undefined; limit: number; before?: string | undefined }

/** A page reads at most so many times `limit` records, and says where to go on. */
const MAX_ROUNDS = 10

export type ListDeps = { redis: Redis; keys: Keys; types: Types; queues: Queues; readOne: (id: string) => Promise<TaskView | null> }

export const createList = ({ redis, keys, types, queues, readOne }: ListDeps) => {
  const newest = loadScript(redis, new URL('./newest.lua', import.meta.url))

  /**
   * Merges the lists of many types, a page at a time. Of each type only a few ids are asked for at first, then more of those alone whose
   * ids may all belong into the page: with many types, asking each list of each for a page of its own would read far more than is shown.
   * @param known ids to be merged in, from elsewhere
   */
  const merge = (all: string[], lists: string[], before: string | undefined, known: string[], limit: number) => {
    /** Of each type that may have more, the last id we have, or where to begin. */
    const last = new Map(lists.length === 0 ? [] : all.map((type) => [type, before === undefined ? '' : `${type}.${before}`]))
    let waiting = known.filter((id) => before === undefined || uuidOf(id) < before).sort(newestFirst)
    let most = Math.min(limit, Math.ceil((2 * limit) / all.length))
    /** The next page; a shorter one at the end. */
    return async (): Promise<string[]> => {
      for (;;) {
        const end = waiting[limit - 1]
        const short = [...last].flatMap(([type, id]) => (end === undefined || id === '' || uuidOf(id) > uuidOf(end) ? [type] : []))
        if (short.length === 0) return waiting.splice(0, limit)
        const found = await Promise.all(short.map((type) => newest(keys.base(type), most, last.get(type)!, ...lists) as Promise<string[]>))
        for (const [i, ids] of found.entries()) {
          if (ids.length < most) last.delete(short[i]!)
          else last.set(short[i]!, ids.at(-1)!)
        }
        waiting = [...waiting, ...found.flat()].sort(newestFirst)
        most = limit
      }
    }
  }

  /** Tasks newest first, merged over types and statuses by id. `next` is the id to go on behind, null at the end. */
  return async (filter: TaskFilter): Promise<{ tasks: TaskView[]; next: string | null }> => {
    const all = filter.types ?? (await types.list())
    // Those at an agent stand in the index of the queued, with the many that wait: BullMQ's active jobs name them.
    const onlyActive = !filter.statuses.includes('queued') && filter.statuses.some((s) => s === 'sent' || s === 'running')
    const active = onlyActive ? (await Promise.all(all.map((type) => queues.active(type)))).flat() : []
    const nextPage = merge(all, filter.statuses.filter((s) => s !== 'sent' && s !== 'running'), filter.before, active, filter.limit)
    const found: TaskView[] = []
    const measure = createMeasure()
    let before = filter.before
    // Filters that need the record may pass over many.
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const ids = await nextPage()
      for await (const [id, t] of readInTurn(ids, readOne)) {
        before = uuidOf(id)
        if (!t || !filter.statuses.includes(t.status)) continue
        if (filter.taskType !== undefined && t.taskType !== filter.taskType) continue
        if (filter.agentId !== undefined && t.agentId !== filter.agentId) continue
        found.push(t)
        if (found.length === filter.limit || measure.isFull(t)) return { tasks: found, next: before }
      }
      if (ids.length < filter.limit) return { tasks: found, next: null }
    }
    return { tasks: found, next: before ?? null }
  }
}
