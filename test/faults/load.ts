/**
 * The clients of a trial: tasks at a steady rate, whatever the system does with them (open loop), each under a key, submitted again until it is
 * answered. What they were told is their ledger.
 */
import { Agent, request } from 'undici'
import { mono } from './clock.ts'
import { CAPABILITIES, TYPES } from './fleet.ts'
import type { Work } from './host.ts'
import type { Random } from './random.ts'

export const ENDS: readonly string[] = ['completed', 'failed', 'timeout', 'cancelled']

/** One task, as its client knows it. */
export type Told = {
  key: string
  /** When it was first sent. */
  at: number
  /** When it was answered 201; null: never. */
  takenAt: number | null
  /** Every id that was answered under its key; more than one is a fault. */
  ids: Set<string>
  work: Work
  cancel: { at: number; status: number } | null
  /** Ends that a client was told of. */
  ends: { at: number; status: string; result: string }[]
  /** Answers to its submit that were neither 201 nor 429 or 503. */
  oddities: string[]
  /** The ends that it may have without anything being wrong, beside completed and cancelled. */
  may: readonly string[]
  /** Its clients have heard all that they wanted to. */
  done: boolean
}
/** One call of a client. `status` 0: no answer, and `error` says why. */
export type Call = { at: number; ms: number; status: number; what: 'submit' | 'cancel' | 'read' | 'wait'; api: number; error?: string }

export type LoadOptions = {
  /** Tasks a second. */
  rate?: number
  /** Shares of tasks that are cancelled, submitted twice at once, watched to their end. */
  cancelled?: number
  doubled?: number
  watched?: number
  /** Share of tasks with the result later. */
  later?: number
  /** Share of slow ones, and how long these and the others take at most, ms. */
  slow?: number
  slowMs?: number
  quickMs?: number
  task?: Record<string, unknown>
  /** How long a key is kept, where that is not to be a day. */
  keySeconds?: number
}

const CALL_MS = 10_000
/** The loop is open, but not without end: with so many tasks under way no more are sent, and at once only so many. Else a slow machine would never come to anything else. */
const MOST_PENDING = 2_000
const MOST_AT_ONCE = 20
const GIVES_UP_MS = 150_000
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

export const createLoad = ({ apis, random, ...o }: LoadOptions & { apis: readonly string[]; random: Random }) => {
  const { rate = 60, cancelled = 0.04, doubled = 0.05, watched = 0.2, later = 0.15, slow = 0.06, slowMs = 4000, quickMs = 250 } = o
  const told: Told[] = []
  const calls: Call[] = []
  const pool = new Agent({ keepAliveTimeout: 4000 })
  const pending = new Set<Promise<void>>()
  let stopped = false
  let turn = 0
  let count = 0

  const ask = async (what: Call['what'], api: number, method: 'GET' | 'POST' | 'DELETE', path: string, body?: string, key?: string, ms = CALL_MS): Promise<{ status: number; json: any; retryMs: number }> => {
    const at = mono()
    const note = (status: number, error?: string) => calls.push({ at, ms: mono() - at, status, what, api, ...(error === undefined ? {} : { error }) })
    try {
      const res = await request(apis[api]! + path, {
        method, dispatcher: pool, headersTimeout: ms, bodyTimeout: ms, signal: AbortSignal.timeout(ms),
        headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...(key === undefined ? {} : { 'idempotency-key': key, ...(o.keySeconds ? { 'idempotency-key-seconds': String(o.keySeconds) } : {}) }) },
        ...(body === undefined ? {} : { body }),
      })
      const text = await res.body.text()
      note(res.statusCode)
      return { status: res.statusCode, json: JSON.parse(text), retryMs: Number(res.headers['retry-after'] ?? 0) * 1000 }
    } catch (error) {
      note(0, (error as NodeJS.ErrnoException).code?.toString() ?? (error as Error).name)
      return { status: 0, json: null, retryMs: 0 }
    }
  }
  const nextApi = () => turn++ % apis.length

  const submit = async (one: Told, body: string): Promise<void> => {
    for (let tries = 0; mono() - one.at < GIVES_UP_MS; tries++) {
      const { status, json } = await ask('submit', nextApi(), 'POST', '/tasks', body, one.key)
      if (status === 201) {
        one.takenAt ??= mono()
        return void one.ids.add(json.task_id)
      }
      if (status !== 0 && status !== 503 && status !== 429) return void one.oddities.push(`submit: ${status} ${JSON.stringify(json)}`)
      // Sooner than Retry-After says: it is a trial of the router, not of its clients.
      await sleep(100 + Math.min(400, tries * 50))
    }
  }

  const cancel = async (one: Told, id: string, afterMs: number): Promise<void> => {
    await sleep(afterMs)
    for (let tries = 0; tries < 300; tries++) {
      const { status, json } = await ask('cancel', nextApi(), 'DELETE', `/tasks/${id}`)
      if ([200, 202, 409].includes(status)) return void (one.cancel = { at: mono(), status })
      if (status !== 0 && status !== 503 && status !== 429) return void one.oddities.push(`cancel: ${status} ${JSON.stringify(json)}`)
      await sleep(200)
    }
  }

  const watch = async (one: Told, id: string): Promise<void> => {
    for (let tries = 0; tries < 100; tries++) {
      const { status, json } = await ask('wait', nextApi(), 'GET', `/tasks/${id}?wait=5`)
      if (status === 200 && ENDS.includes(json.status)) return void one.ends.push({ at: mono(), status: json.status, result: JSON.stringify(json.result) })
      if (status !== 200) {
        if (status !== 0 && status !== 503 && status !== 429) return void one.oddities.push(`read: ${status} ${JSON.stringify(json)}`)
        await sleep(200)
      }
    }
  }

  const track = (work: Promise<void>): void => {
    pending.add(work)
    void work.finally(() => pending.delete(work))
  }

  /** Submits one task and sees to it; all that is left to chance is drawn here, in order. */
  const one = (more: { work?: Work; task?: Record<string, unknown>; cancelAfterMs?: number; twice?: boolean; may?: readonly string[] } = {}): Told => {
    const isSlow = random.chance(slow)
    const drawn: Work = { ms: Math.round(isSlow ? random.between(slowMs / 4, slowMs) : random.between(20, quickMs)), how: random.chance(later) ? 'later' : 'answer' }
    const work = more.work ?? drawn
    const self: Told = { key: `k${count++}-${random.whole(0, 1e9)}`, at: mono(), takenAt: null, ids: new Set(), work, cancel: null, ends: [], oddities: [], may: more.may ?? [], done: false }
    told.push(self)
    const body = JSON.stringify({
      task_type: isSlow ? CAPABILITIES[1] : CAPABILITIES[0], agent_type: random.pick(TYPES), parameters: work, priority: random.whole(1, 15),
      timeout_seconds: Math.max(8, Math.ceil(work.ms / 1000) * 4), max_retries: 3, retry_delay_seconds: 0.5, expires_in_seconds: 600, ...o.task, ...more.task,
    })
    const twice = random.chance(doubled)
    const cancelling = random.chance(cancelled)
    const cancelAfter = random.between(0, 500)
    const watching = random.chance(watched)
    track((async () => {
      await Promise.all(Array.from({ length: (more.twice ?? twice) ? 2 : 1 }, () => submit(self, body)))
      const [id] = self.ids
      if (id === undefined) return
      await Promise.all([
        more.cancelAfterMs !== undefined || cancelling ? cancel(self, id, more.cancelAfterMs ?? cancelAfter) : null,
        watching ? watch(self, id) : null,
      ])
    })().finally(() => (self.done = true)))
    return self
  }

  let timer: NodeJS.Timeout | undefined
  let pace = rate
  return {
    told, calls, one, ask,
    /** How many are neither answered nor given up. */
    pending: () => pending.size,
    /** From now on so many tasks a second. */
    setRate: (next: number): void => void (pace = next),
    start: (): void => {
      let last = mono()
      let due = 0
      // Behind the clock it catches up.
      timer = setInterval(() => {
        const now = mono()
        due += ((now - last) / 1000) * pace
        last = now
        for (let n = 0; !stopped && due >= 1 && pending.size < MOST_PENDING && n < MOST_AT_ONCE; n++, due--) one()
      }, 5)
    },
    /** Ends the stream, and waits for the last answers. */
    stop: async (): Promise<void> => {
      stopped = true
      clearInterval(timer)
      await Promise.all(pending)
    },
    /** Takes what has been looked at off the ledger. */
    forget: (which: (one: Told) => boolean): void => {
      told.splice(0, Infinity, ...told.filter((one) => !which(one)))
      calls.length = 0
    },
    close: () => pool.destroy(),
  }
}
export type Load = ReturnType<typeof createLoad>
