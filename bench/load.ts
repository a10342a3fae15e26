/**
 * The load generator: a process of its own, started by bench/main.ts, which sends it phases and gets a result for each.
 *
 * Throughput is a closed loop: CLIENTS clients, each on a keep-alive connection of its own, submit as fast as they are answered, while
 * no more than MAX_OUTSTANDING tasks are submitted and not yet at the agent. What is outstanding is asked of the agent, which is the
 * same process at the same price for every system; the system itself is asked how many it has completed only once the agent has
 * received all. So counting takes nothing from either, and a run still lasts until the last task is *completed*.
 *
 * Paced is an open loop: one task every 1/rate s whatever the answers do; latency runs from just before the POST is written to
 * the agent's receipt of the task, matched by a key in its parameters. For the waited phase see waited.ts.
 */
import type { Client } from 'undici'
import { clock } from './clock.ts'
import { CLIENTS, MAX_OUTSTANDING } from './settings.ts'
import type { SystemName, Urls } from './system.ts'
import { systems } from './systems.ts'
import { createTarget, keyOf, pace, percentile, reach } from './target.ts'
import { waited, type Waited } from './waited.ts'

export type Job = Readonly<{ system: SystemName; urls: Urls }>
export type Phase = Readonly<{ kind: 'throughput'; tasks: number } | { kind: 'paced' | 'waited'; rate: number; seconds: number }>
export type Throughput = Readonly<{ tasks: number; seconds: number; tasksPerSecond: number; submitSeconds: number; repeated: number; peak: number }>
export type Paced = Readonly<{ samples: number; p50Ms: number; p99Ms: number; answerP50Ms: number; repeated: number }>
export type Result = Throughput | Paced | Waited
export type Outcome = { ok: Result } | { error: string }

const COUNT_EVERY_MS = 25
const COMPLETED_EVERY_MS = 10
const SAMPLED = 20

const job = JSON.parse(process.argv[2] ?? '{}') as Job
const system = systems[job.system]
const target = createTarget(system, job.urls)
const { clients, post, received: receivedCount, completed } = target

const throughput = async (tasks: number): Promise<Throughput> => {
  await target.reset()
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
    await Promise.all([submitAll, reach('received by the agent', tasks, receivedCount, COUNT_EVERY_MS, seen)])
  } finally {
    stopped = true
  }
  await reach('completed', before + tasks, completed, COMPLETED_EVERY_MS)
  const seconds = (clock() - start) / 1000

  await target.checkSample(answers)
  const { repeated, peak } = await target.ledger()
  return { tasks, seconds, tasksPerSecond: tasks / seconds, submitSeconds: (submitEnd - start) / 1000, repeated, peak }
}

const paced = async (rate: number, seconds: number): Promise<Paced> => {
  await target.reset()
  const offset = await target.clockOffset()
  const before = await completed()
  // The first half second is not counted: it takes up what the pause before it left (idle connections, clock speed).
  const lead = Math.ceil(rate / 2)
  const tasks = lead + Math.round(rate * seconds)
  const sentAt: number[] = []
  const answerMs: number[] = []
  let failed: Error | null = null
  await pace(rate, tasks, () => failed === null, (i) => {
    const sent = clock()
    sentAt.push(sent)
    post(clients[i % CLIENTS]!, keyOf(i), (error) => {
      failed ??= error
      if (i >= lead) answerMs.push(clock() - sent)
    })
  })
  await reach('received by the agent', tasks, receivedCount, COUNT_EVERY_MS)
  await reach('completed', before + tasks, completed, COUNT_EVERY_MS)
  if (failed) throw failed

  const { received, repeated } = await target.ledger()
  const latencies = sentAt.map((sent, i) => received[keyOf(i)]! - offset - sent).slice(lead)
  latencies.sort((a, b) => a - b)
  answerMs.sort((a, b) => a - b)
  return { samples: latencies.length, p50Ms: percentile(latencies, 0.5), p99Ms: percentile(latencies, 0.99), answerP50Ms: percentile(answerMs, 0.5), repeated }
}

const perform = (phase: Phase): Promise<Result> => {
  if (phase.kind === 'throughput') return throughput(phase.tasks)
  if (phase.kind === 'paced') return paced(phase.rate, phase.seconds)
  return waited(target, system.wait!, phase.rate, phase.seconds)
}

process.on('message', (phase: Phase) => {
  perform(phase).then(
    (ok) => process.send?.({ ok } satisfies Outcome),
    (error: Error) => process.send?.({ error: error.message } satisfies Outcome),
  )
})
process.on('disconnect', () => process.exit(0))
