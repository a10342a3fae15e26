/** What the load process speaks to: the system under test, over HTTP as its clients do, and the agent, which knows what it has received. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Client, type Dispatcher } from 'undici'
import { clock } from './clock.ts'
import { CLIENTS, PARAMETERS_BYTES } from './settings.ts'
import type { System, Urls } from './system.ts'

type Ledger = { received: Record<string, number>; answered: Record<string, number>; repeated: number; peak: number }

/** Nothing moved for this long: the run has failed. */
const STALL_MS = 15_000

export const keyOf = (n: number) => `k${String(n).padStart(8, '0')}`
const padding = 'x'.repeat(PARAMETERS_BYTES - '{"key":"k00000000","text":""}'.length)
/** The wire body of one task: parameters of exactly PARAMETERS_BYTES, in which only the key differs. Of a slow one they are a little longer. */
const bodyOf = (key: string, slow: boolean) => `{"task_type":"echo","agent_type":"bench","parameters":{"key":"${key}",${slow ? '"slow":1,' : ''}"text":"${padding}"}}`

const read = async (from: Dispatcher, path: string, method: 'GET' | 'POST' = 'GET'): Promise<string> => {
  const res = await from.request({ path, method })
  const body = await res.body.text()
  if (res.statusCode !== 200) throw new Error(`${method} ${path} answered ${res.statusCode}: ${body}`)
  return body
}

export type Target = ReturnType<typeof createTarget>

export const createTarget = (system: System, urls: Urls) => {
  const { submit, readBack, completed } = system
  const options = { path: submit.path, method: 'POST' as const, headers: ['content-type', 'application/json'] }
  const clients = Array.from({ length: CLIENTS }, () => new Client(urls.api, { pipelining: 1 }))
  const agent = new Client(urls.agent)
  const counter = new Client(urls[completed.from])
  const idOf = (answer: string) => String((JSON.parse(answer) as Record<string, unknown>)[submit.id])

  return {
    clients,
    idOf,
    read,
    /** How many distinct tasks the agent has received. */
    received: async () => Number(await read(agent, '/count')),
    ledger: async () => JSON.parse(await read(agent, '/ledger')) as Ledger,
    reset: () => read(agent, '/reset', 'POST'),
    completed: async () => completed.read(await read(counter, completed.path)),

    /** Posts one task; undici's `dispatch` spares the streams and promises of `request`, a third of this process's CPU. */
    post: (client: Client, key: string, done: (error: Error | null, answer: string) => void, slow = false): void => {
      let status = 0
      let answer = ''
      client.dispatch(
        { ...options, body: bodyOf(key, slow) },
        {
          onRequestStart() {},
          onResponseStart(_controller, code) {
            status = code
          },
          onResponseData(_controller, chunk) {
            answer += chunk.toString('latin1')
          },
          onResponseEnd: () => done(status === submit.status ? null : new Error(`POST ${submit.path} answered ${status}: ${answer}`), answer),
          onResponseError: (_controller, error) => done(error, ''),
        },
      )
    },

    /** Reads a few tasks back over the API: what the counters say must be what clients see. */
    checkSample: async (answers: readonly string[]): Promise<void> => {
      for (const path of answers.map((answer) => readBack.path(idOf(answer)))) {
        const body = await read(clients[0]!, path)
        if (!readBack.isRight(body)) throw new Error(`GET ${path} reads ${body}`)
      }
    },

    /**
     * By how many ms the agent's clock is before ours: the machine's own may have been set between the starts of the two. The fastest of many
     * exchanges tells most, and errs by no more than half of what it took.
     */
    clockOffset: async (): Promise<number> => {
      let best = Infinity
      let offset = 0
      for (let i = 0; i < 30; i++) {
        const sent = clock()
        const theirs = Number(await read(agent, '/clock'))
        const back = clock()
        if (back - sent < best) [best, offset] = [back - sent, theirs - (sent + back) / 2]
      }
      // Less cannot be told from none.
      return Math.abs(offset) > best / 2 + 0.1 ? offset : 0
    },
  }
}

/** Waits until `value` reaches `goal`; fails when it stays the same for STALL_MS. */
export const reach = async (what: string, goal: number, value: () => Promise<number>, everyMs: number, seen?: (n: number) => void): Promise<void> => {
  let last = -1
  let moved = clock()
  for (;;) {
    const n = await value()
    seen?.(n)
    if (n >= goal) return
    if (n !== last) [last, moved] = [n, clock()]
    else if (clock() - moved > STALL_MS) throw new Error(`${what}: ${n} of ${goal}, and nothing moved for ${STALL_MS / 1000} s`)
    await sleep(everyMs)
  }
}

export const percentile = (sorted: readonly number[], p: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))]!

/** Calls `send` with 0, 1, 2 … at `rate` a second, whatever becomes of them, for as long as `goOn` says. */
export const pace = async (rate: number, tasks: number, goOn: () => boolean, send: (n: number) => void): Promise<void> => {
  const start = clock()
  for (let i = 0; i < tasks && goOn(); i++) {
    const wait = start + (i * 1000) / rate - clock()
    if (wait > 0) await sleep(wait)
    send(i)
  }
}
