/** The clients of a day: so many tasks a second on time, whatever the answers do, of all kinds; and one that watches all events from the first to the last. */
import { Pool } from 'undici'
import { KINDS, SHARES, WEBHOOKS, type Kind, type Plan } from './plan.ts'

const CONNECTIONS = 32
/** With so many unanswered the day is too much for this machine: what is due then is left out, and counted. */
const MOST_OPEN = 2000
const TICK_MS = 10
/** A task that is to be cancelled has so long until its time comes, and is cancelled so soon. */
const [DELAY_SECONDS, CANCEL_MS] = [5, 500]

const pick = <T extends { share: number }>(all: readonly T[]): T => {
  let at = Math.random()
  return all.find(({ share }) => (at -= share) < 0) ?? all.at(-1)!
}
const sizeOf = ({ sizes }: Kind): number => pick(sizes.map(([share, bytes]) => ({ share, bytes }))).bytes

export const createLoad = ({ url, rate, keySeconds, hookUrl }: { url: string; rate: number; hookUrl: string } & Pick<Plan, 'keySeconds'>) => {
  const pool = new Pool(url, { connections: CONNECTIONS, pipelining: 1 })
  const told = { sent: 0, taken: 0, refused: 0, failed: 0, leftOut: 0, cancelled: 0, events: 0 }
  const open = new Set<Promise<void>>()
  let count = 0

  const ask = async (method: 'POST' | 'DELETE', path: string, body?: object, headers: Record<string, string> = {}): Promise<{ status: number; json: any }> => {
    const res = await pool.request({ method, path, headers: { ...(body ? { 'content-type': 'application/json' } : {}), ...headers }, ...(body ? { body: JSON.stringify(body) } : {}) })
    return { status: res.statusCode, json: await res.body.json() }
  }
  const one = async (): Promise<void> => {
    const kind = pick(KINDS)
    const cancels = Math.random() < SHARES.cancelled
    const parameters = { fails: Math.random() < SHARES.failed, later: kind.type === 'later', result: kind.resultBytes, text: 'p'.repeat(sizeOf(kind)) }
    const headers = Math.random() < SHARES.keyed ? { 'idempotency-key': `day-${count++}`, 'idempotency-key-seconds': keySeconds } : {}
    const { status, json } = await ask('POST', '/tasks', {
      task_type: 'work', agent_type: kind.type, parameters, max_retries: 1, retry_delay_seconds: 0.2,
      ...(cancels ? { delay_seconds: DELAY_SECONDS } : {}), ...(kind.type === 'flood' && Math.random() < WEBHOOKS ? { callback_url: hookUrl } : {}),
    }, headers)
    if (status !== 201) return void told.refused++
    told.taken++
    if (!cancels) return
    await new Promise((resolve) => setTimeout(resolve, CANCEL_MS))
    if ((await ask('DELETE', `/tasks/${json.task_id}`)).status === 200) told.cancelled++
  }

  const stopWatching = new AbortController()
  const watch = async (): Promise<void> => {
    const res = await fetch(`${url}/events`, { signal: stopWatching.signal })
    for await (const chunk of res.body!) for (const byte of chunk as Uint8Array) if (byte === 10) told.events++
  }

  const watchOn = async (): Promise<void> => {
    while (!stopWatching.signal.aborted) {
      await watch().catch(() => {})
      await new Promise((resolve) => setTimeout(resolve, 1000))
    }
  }

  let timer: NodeJS.Timeout | undefined
  return {
    told,
    ask,
    start: (): void => {
      void watchOn()
      const began = performance.now()
      let due = 0
      timer = setInterval(() => {
        for (const until = ((performance.now() - began) / 1000) * rate; due < until; due++) {
          if (open.size >= MOST_OPEN) {
            told.leftOut++
            continue
          }
          told.sent++
          const task: Promise<void> = one().catch(() => void told.failed++).finally(() => open.delete(task))
          open.add(task)
        }
      }, TICK_MS)
    },
    stop: async (): Promise<void> => {
      clearInterval(timer)
      await Promise.all(open)
      stopWatching.abort()
    },
    end: () => pool.destroy(),
  }
}
