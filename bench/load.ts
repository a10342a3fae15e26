/**
 * The load generator: a process of its own, started by bench/main.ts, which sends it phases and gets a result for each.
 *
 * Throughput is a closed loop: CLIENTS clients, each on a keep-alive connection of its own, submit as fast as they are answered, while
 * no more than MAX_OUTSTANDING tasks are submitted and not yet at the agent. What is outstanding is asked of the agent, which is the
 * same process at the same price for every system; the system itself is asked how many it has completed only once the agent has
 * received all. So counting takes nothing from either, and a run still lasts until the last task is *completed*.
 *
 * Paced is an open loop: one task every 1/rate s whatever the answers do; latency runs from just before the POST is written to
 * the agent's receipt of the task, matched by a key in its parameters.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Client, type Dispatcher } from 'undici'
import { clock } from './clock.ts'
import { CLIENTS, MAX_OUTSTANDING, PARAMETERS_BYTES } from './settings.ts'
import { systems, type SystemName, type Urls } from './systems.ts'

export type Job = Readonly<{ system: SystemName; urls: Urls }>
export type Phase = Readonly<{ kind: 'throughput'; tasks: number } | { kind: 'paced'; rate: number; seconds: number }>
export type Throughput = Readonly<{ tasks: number; seconds: number; tasksPerSecond: number; submitSeconds: number; repeated: number; peak: number }>
export type Paced = Readonly<{ samples: number; p50Ms: number; p99Ms: number; answerP50Ms: number; repeated: number }>
export type Outcome = { ok: Throughput | Paced } | { error: string }
type Ledger = { received: Record<string, number>; repeated: number; peak: number }

const COUNT_EVERY_MS = 25
const COMPLETED_EVERY_MS = 10
/** Nothing moved for this long: the run has failed. */
const STALL_MS = 15_000
const SAMPLED = 20

const { system, urls } = JSON.parse(process.argv[2] ?? '{}') as Job
const options = { path: '/tasks', method: 'POST' as const, headers: ['content-type', 'application/json'] }
const clients = Array.from({ length: CLIENTS }, () => new Client(urls.api, { pipelining: 1 }))
const agent = new Client(urls.agent)
const worker = new Client(urls.worker)

const read = async (from: Dispatcher, path: string, method: 'GET' | 'POST' = 'GET'): Promise<string> => {
  const res = await from.request({ path, method })
  const body = await res.body.text()
  if (res.statusCode !== 200) throw new Error(`${method} ${path} answered ${res.statusCode}: ${body}`)
  return body
}
const count = async () => Number(await read(agent, '/count'))
const ledger = async () => JSON.parse(await read(agent, '/ledger')) as Ledger
const completed = async () => systems[system].readCompleted(await read(worker, systems[system].completedPath))

/** The wire body of one task: parameters of exactly PARAMETERS_BYTES, in which only the key differs. */
const createBody = () => {
  const padding = 'x'.repeat(PARAMETERS_BYTES - '{"key":"k00000000","text":""}'.length)
  return (key: string) => `{"task_type":"echo","agent_type":"bench","parameters":{"key":"${key}","text":"${padding}"}}`
}
const body = createBody()
const keyOf = (n: number) => `k${String(n).padStart(8, '0')}`

/** Posts one task; undici's `dispatch` spares the streams and promises of `request`, a third of this process's CPU. */
const post = (client: Client, key: string, done: (error: Error | null, answer: string) => void): void => {
  let status = 0
  let answer = ''
  client.dispatch(
    { ...options, body: body(key) },
    {
      onRequestStart() {},
      onResponseStart(_controller, code) {
        status = code
      },
      onResponseData(_controller, chunk) {
        answer += chunk.toString('latin1')
      },
      onResponseEnd: () => done(status === 201 ? null : new Error(`POST /tasks answered ${status}: ${answer}`), answer),
      onResponseError: (_controller, error) => done(error, ''),
    },
  )
}

/** Waits until `value` reaches `goal`; fails when it stays the same for STALL_MS. */
const reach = async (what: string, goal: number, value: () => Promise<number>, everyMs: number, seen?: (n: number) => void): Promise<void> => {
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

/** Reads a few of the last tasks back over the API: what the counters say must be what clients see. */
const checkSample = async (answers: readonly string[]): Promise<void> => {
  for (const answer of answers) {
    const { task_id } = JSON.parse(answer) as { task_id: string }
    const task = JSON.parse(await read(clients[0]!, `/tasks/${task_id}`)) as { status: string; result: { ok?: boolean } | null }
    if (task.status !== 'completed' || task.result?.ok !== true) throw new Error(`task ${task_id} reads ${task.status}, result ${JSON.stringify(task.result)}`)
  }
}

const throughput = async (tasks: number): Promise<Throughput> => {
  await read(agent, '/reset', 'POST')
  const before = await completed()
  const parked: (() => void)[] = []
  const answers: string[] = []
  let submitted = 0
  let answered = 0
  let received = 0
  let submitEnd = 0
  let stopped = false
  const start = clock()

  const submitAll = new Promise<void>((resolve, reject) => {
    const run = (client: Client): void => {
      if (submitted === tasks || stopped) return
      if (submitted - received >= MAX_OUTSTANDING) return void parked.push(() => run(client))
      post(client, keyOf(submitted++), (error, answer) => {
        if (error) return reject(error)
        if (answered >= tasks - SAMPLED) answers.push(answer)
        if (++answered === tasks) {
          submitEnd = clock()
          resolve()
        } else run(client)
      })
    }
    clients.forEach(run)
  })
  const seen = (n: number) => {
    received = n
    for (const wake of parked.splice(0)) wake()
  }
  try {
    await Promise.all([submitAll, reach('received by the agent', tasks, count, COUNT_EVERY_MS, seen)])
  } finally {
    stopped = true
  }
  await reach('completed', before + tasks, completed, COMPLETED_EVERY_MS)
  const seconds = (clock() - start) / 1000

  await checkSample(answers)
  const { repeated, peak } = await ledger()
  return { tasks, seconds, tasksPerSecond: tasks / seconds, submitSeconds: (submitEnd - start) / 1000, repeated, peak }
}

const percentile = (sorted: readonly number[], p: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))]!

/**
 * By how many ms the agent's clock is before ours: the machine's own may have been set between the starts of the two. The fastest of many
 * exchanges tells most, and errs by no more than half of what it took.
 */
const clockOffset = async (): Promise<number> => {
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
}

const paced = async (rate: number, seconds: number): Promise<Paced> => {
  await read(agent, '/reset', 'POST')
  const offset = await clockOffset()
  const before = await completed()
  // The first half second is not counted: it takes up what the pause before it left (idle connections, clock speed).
  const lead = Math.ceil(rate / 2)
  const tasks = lead + Math.round(rate * seconds)
  const sentAt: number[] = []
  const answerMs: number[] = []
  let failed: Error | null = null
  const start = clock()
  for (let i = 0; i < tasks && !failed; i++) {
    const wait = start + (i * 1000) / rate - clock()
    if (wait > 0) await sleep(wait)
    const sent = clock()
    sentAt.push(sent)
    post(clients[i % CLIENTS]!, keyOf(i), (error) => {
      failed ??= error
      if (i >= lead) answerMs.push(clock() - sent)
    })
  }
  await reach('received by the agent', tasks, count, COUNT_EVERY_MS)
  await reach('completed', before + tasks, completed, COUNT_EVERY_MS)
  if (failed) throw failed

  const { received, repeated } = await ledger()
  const latencies = sentAt.map((sent, i) => received[keyOf(i)]! - offset - sent).slice(lead)
  latencies.sort((a, b) => a - b)
  answerMs.sort((a, b) => a - b)
  return { samples: latencies.length, p50Ms: percentile(latencies, 0.5), p99Ms: percentile(latencies, 0.99), answerP50Ms: percentile(answerMs, 0.5), repeated }
}

process.on('message', (phase: Phase) => {
  const run = phase.kind === 'throughput' ? throughput(phase.tasks) : paced(phase.rate, phase.seconds)
  run.then(
    (ok) => process.send?.({ ok } satisfies Outcome),
    (error: Error) => process.send?.({ error: error.message } satisfies Outcome),
  )
})
process.on('disconnect', () => process.exit(0))
