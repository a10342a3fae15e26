/**
 * The outbox of webhooks. The script that ends a task puts its webhook there, so nothing that dies can lose one; who sends it takes it
 * under a lease and a token of its own, and says what came of the try by compare-and-set. A sender that dies in between is followed by
 * another when the lease is over: the receiver may get it twice, under the same id.
 */
import type { TaskWebhook } from '../../contracts/webhook.ts'
import { NotFound, TaskNotEnded } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import type { Redis } from '../../redis/client.ts'
import { typeOfTask, type Keys } from '../../redis/keys.ts'
import { loadScript } from '../../redis/scripts.ts'
import { readRecord, type TaskView } from '../record.ts'
import { scheduleMs } from './schedule.ts'
import { readWebhook } from './view.ts'

const TRIM_AT_ONCE = 500
const TRIM_ROUNDS = 20

/** A webhook taken, to be sent. `token` is what its settling is fenced by. */
export type Claimed = { type: string; taskId: string; token: string; origin: string; url: string }
export type Claims = { claimed: Claimed[]; more: boolean }
/** How many of an origin may be taken. */
export type Room = { total: number; each: number; origins: [origin: string, room: number][] }

/** What came of a try. `disabled`: 410. `over`: it failed, and no other try is of use. `back`: it was not sent after all. */
export type Try = { what: 'delivered' | 'failed' | 'disabled' | 'over' | 'back'; statusCode: number | null; error: string; durationMs: number; notBeforeMs: number; restMs: number }

export type Webhooks = ReturnType<typeof createWebhooks>

/**
 * @param deps.maxKept of an agent type; the oldest of more are dropped, those first that have ended
 * @param deps.maxBytes of an agent type, that tasks take which are kept for their webhooks alone
 */
export const createWebhooks = ({ redis, keys, log, maxBytes, maxKept }: { redis: Redis; keys: Keys; log: Logger; maxBytes: number; maxKept: number }) => {
  const script = (file: string) => loadScript(redis, new URL(file, import.meta.url))
  const scripts = { claim: script('./claim.lua'), settle: script('./settle.lua'), redeliver: script('./redeliver.lua'), trim: script('./trim.lua') }

  /** The webhook of a task that has ended; null when there is none, or it was forgotten. */
  const read = async (type: string, taskId: string): Promise<TaskWebhook | null> => readWebhook(taskId, await redis.hgetall(keys.webhook(type, taskId)))

  return {
    read,
    /** Of an agent type; more are trimmed. */
    maxKept,
    maxBytes,

    /** Takes webhooks that are due. `more`: some are left for which there was no room. */
    claim: async (type: string, token: string, room: Room): Promise<Claims> => {
      const [more, ...rows] = (await scripts.claim(keys.base(type), token, room.total, room.each, ...room.origins.flat())) as [number, ...[string, string, string][]]
      return { claimed: rows.map(([taskId, origin, url]) => ({ type, taskId, token, origin, url })), more: more === 1 }
    },

    /** The task as it ended: its record, or what is kept of that for its webhook. */
    task: async (type: string, taskId: string): Promise<TaskView | null> => {
      for (const key of [keys.task(type, taskId), keys.webhookTask(type, taskId)]) {
        const fields = await redis.hgetall(key)
        if (fields.status !== undefined) return readRecord(taskId, fields)
      }
      return null
    },

    /** @returns what the webhook has come to, null when another try has begun since: then nothing was changed */
    settle: async (c: Claimed, t: Try): Promise<{ status: TaskWebhook['status']; nextInMs: number | null } | null> => {
      const reply = (await scripts.settle(
        keys.base(c.type), c.taskId, c.token, t.what, Math.round(t.durationMs), t.statusCode ?? '', Math.round(t.durationMs), t.error, Math.round(t.notBeforeMs), Math.round(t.restMs), ...scheduleMs(),
      )) as [TaskWebhook['status'], string] | null
      return reply && { status: reply[0], nextInMs: reply[1] === '' ? null : Number(reply[1]) }
    },

    /**
     * Begins a new round of tries, at once.
     * @throws NotFound, TaskNotEnded
     */
    redeliver: async (taskId: string): Promise<TaskWebhook> => {
      const type = typeOfTask(taskId)
      const reply = type === undefined ? null : ((await scripts.redeliver(keys.base(type), taskId)) as [string, string?] | null)
      if (type === undefined || reply === null) throw new NotFound(`there is no task ${taskId}; ended ones are forgotten after a while`)
      if (reply[0] === 'none') throw new NotFound(`task ${taskId} has no callback_url`)
      if (reply[0] === 'not_ended') throw new TaskNotEnded(taskId, reply[1]!, 'its webhook is sent when it ends')
      const webhook = await read(type, taskId)
      if (webhook === null) throw new NotFound(`the webhook of task ${taskId} was forgotten just now`)
      return webhook
    },

    /** Forgets webhooks that are old enough or too many. Bounded: what is left waits for the next time. */
    trim: async (type: string): Promise<void> => {
      for (let round = 0; round < TRIM_ROUNDS; round++) {
        const [forgotten, dropped] = (await scripts.trim(keys.base(type), maxKept, TRIM_AT_ONCE, maxBytes)) as [number, number]
        if (dropped > 0) log.warn({ agent_type: type, webhooks: dropped }, `dropped webhooks that were still to be sent: there were more than ${maxKept}, their tasks took more than ${maxBytes} bytes, or they were ten days old`)
        if (forgotten < TRIM_AT_ONCE) return
      }
    },
  }
}
