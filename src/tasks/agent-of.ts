/** Which agent an attempt was sent to. */
import type { Redis } from '../redis/client.ts'
import { typeOfTask, type Keys } from '../redis/keys.ts'

/** As many former attempts a record knows by their ids (`MAX_DELIVERIES_KEPT` of record.lua). */
const KEPT = 100

export const createAgentOf =
  ({ redis, keys }: { redis: Redis; keys: Keys }) =>
  /** Null when it never was one of this task, or is forgotten. */
  async (id: string, attemptId: string): Promise<string | null> => {
    const type = typeOfTask(id)
    if (type === undefined) return null
    const record = keys.task(type, id)
    const [attempt, deliveries, sending] = await redis.hmget(record, 'attempt', 'deliveries', 'sending')
    const agentIn = (text: string | null | undefined): string | null => (text ? text.slice(0, text.indexOf('\t')) : null)
    const last = Number(deliveries ?? 0)
    if (attempt === attemptId && sending) return agentIn(sending)
    const numbers = Array.from({ length: Math.min(last, KEPT + 1) }, (_, i) => last - i)
    if (numbers.length === 0) return null
    const ids = attempt === attemptId ? [] : await redis.hmget(record, ...numbers.map((n) => `t${n}`))
    const n = attempt === attemptId ? last : numbers[ids.indexOf(attemptId)]
    return n === undefined ? null : agentIn(await redis.hget(record, `a${n}`))
  }
