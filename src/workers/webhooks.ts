/**
 * Sends the webhooks of tasks that have ended. It has a queue, connections and places of its own, so that no receiver, however slow, keeps
 * tasks waiting; and of each origin only so many at once, fewer the worse it answers, so that none keeps the others waiting.
 */
import { randomUUID } from 'node:crypto'
import type { Logger } from '../logger.ts'
import { signedHeaders } from '../contracts/signature.ts'
import type { Claimed, Try, Webhooks } from '../tasks/webhooks/webhooks.ts'
import { webhookId } from '../tasks/webhooks/view.ts'
import type { Posted, Posting, WebhookSender } from '../transports/webhook.ts'
import { createOrigins } from './origins.ts'
import type { Guest, Places } from './places.ts'
import { webhookBody } from './webhook-body.ts'

/** At once, in this process: each may be 1 MiB in memory. */
export const WEBHOOK_PLACES = 64
/** For a whole try, and then for saying what came of it: together less than the lease of it. */
const TRY_MS = 15_000
const SAY_MS = 10_000
const CLAIM_AT_ONCE = 16
/** Behind the drain of tasks: a process that takes much longer is killed. */
const STOP_MS = 3_000

export type WebhookDeliverer = ReturnType<typeof createWebhookDeliverer>

export type DelivererDeps = {
  webhooks: Webhooks
  sender: WebhookSender
  keys: () => Promise<Buffer[]>
  /** Those of the process, which has a deliverer for each namespace. */
  places: Places
  log: Logger
  stopMs?: number
}

export const createWebhookDeliverer = ({ webhooks, sender, keys, places, log, stopMs = STOP_MS }: DelivererDeps) => {
  const origins = createOrigins()
  /** Being sent now. */
  const sending = new Map<Claimed, Posting | null>()
  /** Of claims under way. */
  const share = places.share()
  let stopping = false

  /** What an answer, or none, means. */
  const tryOf = (posted: Posted, durationMs: number): Try => {
    const { statusCode, error, retryAfterMs = 0 } = posted
    const what = statusCode === null ? 'failed' : statusCode < 300 ? 'delivered' : statusCode === 410 ? 'disabled' : 'failed'
    return { what, statusCode, error, durationMs, notBeforeMs: retryAfterMs, restMs: retryAfterMs }
  }

  const attempt = async (c: Claimed): Promise<Try> => {
    const began = performance.now()
    const none = { statusCode: null, durationMs: 0, notBeforeMs: 0, restMs: 0 }
    const task = await webhooks.task(c.type, c.taskId)
    if (task === null) return { ...none, what: 'over', error: 'the task it tells of is not there any more' }
    const body = webhookBody(task)
    const id = webhookId(c.taskId)
    const signed = signedHeaders(await keys(), { id, timestamp: Math.floor(Date.now() / 1000), body })
    if (stopping) return { ...none, what: 'back', error: '' }
    const posting = sender.send(c.url, { 'content-type': 'application/json', 'user-agent': 'Switchyard', ...signed }, body, TRY_MS)
    sending.set(c, posting)
    const posted = await posting.outcome
    sending.set(c, null)
    if (stopping && posted.statusCode === null) return { ...none, what: 'back', error: '' }
    return tryOf(posted, performance.now() - began)
  }

  /** Repeats until Redis takes it, as long as the webhook is ours. */
  const settle = async (c: Claimed, t: Try): Promise<void> => {
    const until = performance.now() + SAY_MS
    for (let wait = 50; ; wait = Math.min(wait * 2, 1000)) {
      try {
        const now = await webhooks.settle(c, t)
        const line = { task: c.taskId, webhook: webhookId(c.taskId), to: c.origin, status: now?.status, ...(t.statusCode === null ? {} : { status_code: t.statusCode }), ...(t.error === '' ? {} : { error: t.error }), ...(now?.nextInMs ? { next_in_ms: now.nextInMs } : {}) }
        if (now === null) log.warn(line, 'what came of a webhook was said too late')
        else if (t.what !== 'back') log[now.status === 'failed' ? 'warn' : 'info'](line, `webhook ${now.status}`)
        return
      } catch (error) {
        if (performance.now() > until) return log.warn({ task: c.taskId, error: String(error) }, 'could not say what came of a webhook; it is sent again')
        await new Promise((resolve) => setTimeout(resolve, wait))
      }
    }
  }

  const send = async (c: Claimed): Promise<void> => {
    sending.set(c, null)
    origins.begin(c.origin)
    try {
      const t = await attempt(c)
      await settle(c, t)
      if (t.what !== 'back') origins.judge(c.origin, t.statusCode !== null && t.statusCode < 500 && t.statusCode !== 429)
    } catch (error) {
      log.warn({ task: c.taskId, error: String(error) }, 'a webhook could not be sent; it is tried again')
    } finally {
      sending.delete(c)
      origins.end(c.origin)
    }
  }

  /** Types being looked at; true when told of meanwhile. */
  const looking = new Map<string, boolean>()
  /** Types of which more is due than there was room for. */
  const left = new Set<string>()

  const look = async (type: string): Promise<void> => {
    if (looking.has(type)) return void looking.set(type, true)
    looking.set(type, false)
    try {
      for (;;) {
        if (stopping) return
        const wanted = share.ask(CLAIM_AT_ONCE)
        if (wanted === 0) return void left.add(type)
        const { claimed, more } = await webhooks.claim(type, randomUUID(), origins.room(wanted)).finally(() => share.answered(wanted))
        for (const c of claimed) {
          places.enter()
          void send(c).finally(places.leave)
        }
        if (more && claimed.length > 0) continue
        if (more) left.add(type)
        if (!looking.get(type)) return
        looking.set(type, false)
      }
    } catch (error) {
      log.debug({ agent_type: type, error: String(error) }, 'could not take webhooks')
    } finally {
      looking.delete(type)
    }
  }

  const guest: Guest = {
    waits: () => left.size > 0 && !stopping,
    serve: () => {
      const types = [...left]
      left.clear()
      for (const type of types) void look(type)
    },
  }
  const leavePlaces = places.join(guest)

  return {
    /** Sends what is due of an agent type. */
    look: (type: string): void => void look(type),
    /** Sends what it can in a few seconds, and hands the rest back. Nobody asks it to look any more. */
    stop: async (): Promise<void> => {
      const idle = async (ms: number) => {
        for (const end = performance.now() + ms; looking.size + sending.size > 0 && performance.now() < end; ) await new Promise((resolve) => setTimeout(resolve, 20))
      }
      await idle(stopMs)
      stopping = true
      for (const posting of sending.values()) posting?.abort()
      await idle(500)
      share.drop()
      leavePlaces()
    },
  }
}
