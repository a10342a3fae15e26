/** Queues: of many agents with ten each, and of one agent with many. Tasks go round all of them. */
import type { Context, Curve } from './curve.ts'
import { CPU, RATE, ROLES } from './measures.ts'
import type { Values } from './values.ts'

const TASKS = 2000
/** Slots of all agents together. */
const SLOTS = 200
const nameOf = (n: number) => `capability-${n}`

const work = async (queues: number, perAgent: number, { start, tasks }: Context): Promise<() => Promise<Values>> => {
  const system = await start()
  const agents = Math.ceil(queues / perAgent)
  const all = Array.from({ length: queues }, (_, n) => nameOf(n))
  for (let i = 0; i < agents; i++) await system.register({ name: `agent-${i}`, capabilities: all.slice(i * perAgent, (i + 1) * perAgent), max_concurrency: Math.ceil(SLOTS / agents) })
  const count = tasks(TASKS)
  let next = 0
  return async () => {
    const values = await system.perform(Array.from({ length: count }, () => ({ agent_type: 'bench', task_type: nameOf(next++ % queues) })))
    return { ...values, apiMiB: system.api.residentMiB(), workerMiB: system.workers[0]!.residentMiB() }
  }
}

const measures = [RATE, ...CPU, { key: 'apiMiB', words: 'API, resident MiB', digits: 0 }, { key: 'workerMiB', words: 'dispatcher, resident MiB', digits: 0 }]

export const queues: Curve = {
  name: 'queues',
  x: { words: 'queues in use, ten to an agent', unit: 'queues', log: true },
  sizes: { quick: [1, 40], usual: [1, 10, 100, 500, 2000] },
  rounds: 3,
  measures,
  plots: [
    { suffix: '', title: 'A task with so many queues in use', unit: 'CPU µs a task', measures: ROLES },
    { suffix: '-memory', title: 'Memory with so many queues in use', unit: 'MiB', measures: ['apiMiB', 'workerMiB'] },
  ],
  limits: [],
  at: (size, context) => work(size, 10, context),
}

export const capabilities: Curve = {
  name: 'capabilities',
  x: { words: 'capabilities of the one agent, a queue each', unit: 'capabilities', log: true },
  sizes: { quick: [1, 8], usual: [1, 4, 16, 64] },
  rounds: 3,
  measures,
  plots: [{ suffix: '', title: 'A task at an agent with so many capabilities', unit: 'CPU µs a task', measures: ROLES }],
  limits: [],
  at: (size, context) => work(size, 64, context),
}
