/** Dispatchers beside each other, on one queue. On a machine with few cores that is no more throughput; what is asked here is whether each task costs more. */
import type { Curve } from './curve.ts'
import { CPU, RATE, ROLES } from './measures.ts'

const TASKS = 3000

export const dispatchers: Curve = {
  name: 'dispatchers',
  x: { words: 'dispatchers', unit: 'dispatchers', log: false },
  sizes: { quick: [1, 2], usual: [1, 2, 4, 8] },
  rounds: 4,
  measures: [RATE, ...CPU],
  plots: [{ suffix: '', title: 'A task with so many dispatchers', unit: 'CPU µs a task', measures: ROLES }],
  limits: [],
  at: async (size, { start, tasks }) => {
    const system = await start({ workers: size })
    await system.register({ name: 'agent', capabilities: ['echo'], max_concurrency: 64 })
    const count = tasks(TASKS)
    return () => system.perform(Array.from({ length: count }, () => ({ agent_type: 'bench', task_type: 'echo' })))
  },
}
