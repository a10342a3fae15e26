/**
 * The waited phase: at the pace of the paced one, each client submits a task and at once asks for its end with the system's own waiting GET. The agent takes
 * SLOW_MS, so every GET is there before the end is. What is told is how long after the agent sent its answer the client has the task, result and all.
 */
import { clock } from './clock.ts'
import { CLIENTS } from './settings.ts'
import { keyOf, pace, percentile, type Target } from './target.ts'

export type Waited = Readonly<{ samples: number; p50Ms: number; p99Ms: number }>

export const waited = async (target: Target, wait: (id: string) => string, rate: number, seconds: number): Promise<Waited> => {
  await target.reset()
  const offset = await target.clockOffset()
  const lead = Math.ceil(rate / 2) // not counted, as in the paced phase
  const tasks = lead + Math.round(rate * seconds)
  const heardAt: number[] = []
  let failed: Error | null = null
  let left = tasks
  const { promise: all, resolve, reject } = Promise.withResolvers<void>()
  all.catch(() => {}) // it may fail while tasks are still being sent
  const fail = (error: Error) => {
    failed ??= error
    reject(error)
  }
  await pace(rate, tasks, () => failed === null, (i) => {
    const client = target.clients[i % CLIENTS]!
    const hear = async (answer: string) => {
      const body = await target.read(client, wait(target.idOf(answer)))
      heardAt[i] = clock()
      if (!body.includes('"ok":true')) throw new Error(`the task that was waited for reads ${body}`)
      if (--left === 0) resolve()
    }
    target.post(client, keyOf(i), (error, answer) => (error ? fail(error) : void hear(answer).catch(fail)), true)
  })
  await all

  const { answered } = await target.ledger()
  const latencies = heardAt.map((at, i) => at - (answered[keyOf(i)]! - offset)).slice(lead)
  latencies.sort((a, b) => a - b)
  return { samples: latencies.length, p50Ms: percentile(latencies, 0.5), p99Ms: percentile(latencies, 0.99) }
}
