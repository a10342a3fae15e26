/**
 * Dead letters: tasks that have failed or timed out, until someone retries them. They are no list of their own: found in those of the two
 * ends, so that none can be missing, and one that is retried is one no more as soon as its record says so.
 */
import type { Submitted } from '../contracts/task.ts'
import { AlreadyRetried, NotFound, SwitchyardError } from '../errors.ts'
import type { Redis } from '../redis/client.ts'
import { newestFirst, uuidOf, type Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'
import type { Types } from '../registry/types.ts'
import { createMeasure, readInTurn } from './page.ts'
import type { TaskView } from './record.ts'

export type DeadLetterFilter = { type?: string | undefined; taskType?: string | undefined; error?: string | undefined; includeRetried: boolean; before?: string | undefined }
export type DeadLetterGroup = { agentType: string; taskType: string; error: string; count: number; newest: string }
export type Retried = { made: Submitted[]; skipped: number; stoppedBy: string | null; next: string | null; more: boolean }

/** Looked at by one script: Redis does nothing else meanwhile. */
const AT_ONCE = 500
/** Looked at for one page, and for one summary. */
const MAX_LOOKED = 5_000
const MAX_SUMMED = 20_000
const MAX_GROUPS = 100
/** Kinds of errors told apart while summing up; further ones are counted together. */
const MAX_KINDS = 2_000
const RETRIES_AT_ONCE = 8
/** Before every id. */
const NEWEST = '~'

/** What errors of one kind have in common: ids and numbers in them become `#`. */
export const kindOf = (error: string): string =>
  error
    .replace(/\s+/g, ' ')
    .replace(/\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b/gi, '#')
    .replace(/\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b/gi, '#')
    .replace(/\d+(?:[.,:]\d+)*/g, '#')
    .slice(0, 200)

export type DeadLetterDeps = { redis: Redis; keys: Keys; types: Types; readOne: (id: string) => Promise<TaskView | null>; retry: (id: string) => Promise<Submitted> }

export const createDeadLetters = ({ redis, keys, types, readOne, retry }: DeadLetterDeps) => {
  const script = loadScript(redis, new URL('./dead-letters.lua', import.meta.url))
  /** @param at the uuid to go on behind, or NEWEST */
  const look = async (f: DeadLetterFilter, type: string, at: string, most: number, enough: number) => {
    // As Lua lowers it: letters beyond a–z stay as they are.
    const error = (f.error ?? '').replace(/[A-Z]+/g, (s) => s.toLowerCase())
    const [looked, last, found] = (await script(keys.base(type), most, enough, at === NEWEST ? '' : `${type}.${at}`, f.taskType ?? '', error, f.includeRetried ? 1 : 0)) as [number, string, [string, string, string][]]
    return { looked, last: last === '' ? null : uuidOf(last), found }
  }
  const typesOf = async (f: DeadLetterFilter) => (f.type === undefined ? await types.list() : [f.type])

  /**
   * The ids of the newest that match, over all types. Of a type only what may belong into the page is looked at.
   * @returns `next`: the uuid to go on behind, null at the end; there may be fewer than `most` before that, when many do not match
   */
  const find = async (f: DeadLetterFilter, most: number): Promise<{ ids: string[]; next: string | null }> => {
    /** Types that may have more, and down to where each has been looked at. */
    let open = (await typesOf(f)).map((type) => ({ type, at: f.before ?? NEWEST }))
    let found: string[] = []
    let left = MAX_LOOKED
    for (;;) {
      const frontier = open.reduce((max, { at }) => (at > max ? at : max), '')
      const sure = found.filter((id) => uuidOf(id) >= frontier).slice(0, most)
      if (sure.length === most) return { ids: sure, next: open.length > 0 || found.length > most ? uuidOf(sure.at(-1)!) : null }
      if (open.length === 0 || left <= 0) return { ids: sure, next: open.length === 0 ? null : frontier }
      const end = found[most - 1]
      const short = open.filter(({ at }) => end === undefined || at > uuidOf(end))
      const each = Math.min(AT_ONCE, Math.max(20, Math.floor(MAX_LOOKED / short.length)))
      const looks = await Promise.all(short.map(({ type, at }) => look(f, type, at, each, most)))
      for (const [i, { looked, last, found: more }] of looks.entries()) {
        left -= looked
        found.push(...more.map(([id]) => id))
        if (last === null) open = open.filter((one) => one !== short[i])
        else short[i]!.at = last
      }
      found = found.sort(newestFirst)
    }
  }

  return {
    /** A page, the newest first. */
    list: async (f: DeadLetterFilter, limit: number): Promise<{ tasks: TaskView[]; next: string | null }> => {
      const { ids, next } = await find(f, limit)
      const tasks: TaskView[] = []
      const measure = createMeasure()
      for await (const [id, t] of readInTurn(ids, readOne)) {
        if (t) tasks.push(t)
        if (t && measure.isFull(t)) return { tasks, next: uuidOf(id) }
      }
      return { tasks, next }
    },

    /** How many there are of each kind, the most frequent first. `complete`: all were looked at, and all kinds are told. */
    summary: async (f: DeadLetterFilter): Promise<{ groups: DeadLetterGroup[]; count: number; complete: boolean }> => {
      const groups = new Map<string, DeadLetterGroup>()
      let open = (await typesOf(f)).map((type) => ({ type, at: NEWEST }))
      let left = MAX_SUMMED
      let count = 0
      while (open.length > 0 && left > 0) {
        const looks = await Promise.all(open.slice(0, 20).map(async (one) => ({ one, ...(await look(f, one.type, one.at, AT_ONCE, AT_ONCE)) })))
        for (const { one, looked, last, found } of looks) {
          left -= Math.max(1, looked)
          count += found.length
          for (const [id, taskType, error] of found) {
            let key = `${one.type} ${taskType} ${kindOf(error)}`
            if (!groups.has(key) && groups.size >= MAX_KINDS) key = `${one.type} ${taskType} …`
            const group = groups.get(key)
            if (!group) groups.set(key, { agentType: one.type, taskType, error: key.slice(one.type.length + taskType.length + 2), count: 1, newest: id })
            else {
              group.count++
              if (newestFirst(id, group.newest) < 0) group.newest = id
            }
          }
          if (last === null) open = open.filter((other) => other !== one)
          else one.at = last
        }
      }
      const sorted = [...groups.values()].sort((a, b) => b.count - a.count || newestFirst(a.newest, b.newest))
      return { groups: sorted.slice(0, MAX_GROUPS), count, complete: open.length === 0 && groups.size <= MAX_GROUPS }
    },

    /**
     * Retries up to `limit` that match, each once. May be repeated, also after a crash in the midst: those retried are no dead letters any more.
     * What keeps all from being retried (the store, too many queues) is thrown when it comes first, and else told with what was done before.
     */
    retry: async (f: DeadLetterFilter, limit: number): Promise<Retried> => {
      const { ids, next } = await find({ ...f, includeRetried: false }, limit)
      const waiting = ids.toReversed() // the oldest first, as they were submitted
      const made: Submitted[] = []
      let skipped = 0
      let failure: unknown
      const work = async () => {
        for (let id = waiting.shift(); id !== undefined && failure === undefined; id = waiting.shift()) {
          try {
            made.push(await retry(id))
          } catch (error) {
            // Somebody else retried it, or it was forgotten, in this moment.
            if (error instanceof AlreadyRetried || error instanceof NotFound) skipped++
            else failure = error ?? new Error('unknown')
          }
        }
      }
      await Promise.all(Array.from({ length: RETRIES_AT_ONCE }, work))
      if (failure === undefined) return { made, skipped, stoppedBy: null, next, more: next !== null }
      if (made.length === 0) throw failure
      return { made, skipped, stoppedBy: failure instanceof SwitchyardError ? failure.message : 'the store is not available; try again', next: f.before ?? null, more: true }
    },
  }
}
