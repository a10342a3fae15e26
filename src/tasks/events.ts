/**
 * The log of what happens to tasks: one stream per agent type, written by the very scripts that change the records (record.lua), and told to
 * whoever listens in the same moment (feed.ts). An event's place in the log is its stream id; with its type in front that is its id on the
 * wire, `cost.1763638423123-0`. The log is bounded; what a task has been through is kept with its record as long as that is.
 */
import { isEnd, type TaskStatus } from '../contracts/task.ts'
import type { Redis } from '../redis/client.ts'
import { typeOfTask, type Keys } from '../redis/keys.ts'
import { readRecord, type TaskView } from './record.ts'

/** Where something stands in the log of a type: `<ms>-<sequence>`. */
export type Position = string
export const BEGINNING: Position = '0-0'

export type TaskEvent = {
  type: string
  position: Position
  taskId: string
  /** The status it has come to; `progress`; or `withdrawn`: its submit was refused behind all. */
  what: TaskStatus | 'progress' | 'withdrawn'
  attempt: number | null
  agentId: string | null
  outcome: string | null
  error: string | null
  /** Of `progress`: what the agent said, as JSON text. */
  progress: string | null
}

export const msOf = (position: Position): number => Number(position.slice(0, position.indexOf('-')))
const sequenceOf = (position: Position): number => Number(position.slice(position.indexOf('-') + 1))
/** Below 0 when `a` comes before `b`. */
export const compare = (a: Position, b: Position): number => msOf(a) - msOf(b) || sequenceOf(a) - sequenceOf(b)

/** An event as record.lua's `tell` writes it. */
export const parseEvent = (type: string, position: Position, text: string): TaskEvent => {
  const [taskId, what, n, agentId, outcome, ...last] = text.split('\t')
  const detail = last.join('\t')
  return {
    type, position, taskId: taskId!, what: what as TaskEvent['what'], attempt: n ? Number(n) : null, agentId: agentId || null, outcome: outcome || null,
    error: what === 'progress' || detail === '' ? null : detail, progress: what === 'progress' ? detail : null,
  }
}

/** As record.lua's `brief`. */
const brief = (error: string | null): string | null => error?.slice(0, 500).replace(/[\x00-\x1f\x7f]/g, ' ') || null

/** A task's changes of status, as its record tells them, oldest first: the same events as in the log. */
const readHistory = (id: string, task: TaskView, history: string): TaskEvent[] =>
  history.split('\n').filter(Boolean).map((line) => {
    const [position, status, n, agentId] = line.split(' ') as [Position, TaskStatus, string, string]
    const attempt = n === '' ? undefined : task.attempts.find((a) => a.attempt === Number(n))
    const over = attempt !== undefined && status !== 'sent' && status !== 'running'
    const error = brief(isEnd(status) ? task.error : status === 'retrying' && attempt ? attempt.error : null)
    return { type: task.agentType, position, taskId: id, what: status, attempt: n === '' ? null : Number(n), agentId: agentId || null, outcome: over ? attempt.outcome : null, error, progress: null }
  })

export type Events = ReturnType<typeof createEvents>

export const createEvents = ({ redis, keys }: { redis: Redis; keys: Keys }) => {
  const read = async (type: string, from: string, to: string, count: number): Promise<TaskEvent[]> =>
    (await redis.xrange(keys.events(type), from, to, 'COUNT', count)).map(([position, fields]) => parseEvent(type, position, fields[1]!))

  return {
    /** Where the log of a type ends now. */
    end: async (type: string): Promise<Position> => (await redis.xrevrange(keys.events(type), '+', '-', 'COUNT', 1))[0]?.[0] ?? BEGINNING,
    /** The events behind a position up to another, at most so many. */
    between: (type: string, behind: Position, to: Position | '+', count: number): Promise<TaskEvent[]> => read(type, `(${behind}`, to, count),
    /** Whether events behind a position may have been forgotten. */
    forgotten: async (type: string, behind: Position): Promise<boolean> => {
      const [first] = await redis.xrange(keys.events(type), '-', '+', 'COUNT', 1)
      if (first === undefined || compare(first[0], behind) <= 0) return false
      const info = (await redis.xinfo('STREAM', keys.events(type))) as unknown[]
      const field = (name: string) => Number(info[info.indexOf(name) + 1])
      return field('entries-added') > field('length')
    },
    /** A task and what it has been through, read in one moment; null when it is unknown. */
    history: async (id: string): Promise<{ task: TaskView; events: TaskEvent[] } | null> => {
      const type = typeOfTask(id)
      const fields = type === undefined ? {} : await redis.hgetall(keys.task(type, id))
      if (fields.status === undefined) return null
      const task = readRecord(id, fields)
      return { task, events: readHistory(id, task, fields.history ?? '') }
    },
  }
}
