/** The size of a task's parameters, from submit to completed; and what Redis keeps of such a task. */
import type { Curve } from './curve.ts'
import { CPU, RATE, ROLES } from './measures.ts'

const TASKS = 1500
/** Of a round: larger ones are fewer. */
const MOST_BYTES = 40e6
const TASK = { agent_type: 'bench', task_type: 'echo' }

export const payload: Curve = {
  name: 'payload',
  x: { words: 'parameters', unit: 'KB', log: true },
  sizes: { quick: [0.2, 10], usual: [0.2, 1, 10, 30, 100] },
  rounds: 3,
  measures: [RATE, ...CPU, { key: 'kept', words: 'Redis’s memory, KB a task kept', digits: 1 }],
  plots: [
    { suffix: '', title: 'A task with parameters of such a size', unit: 'CPU µs a task', measures: ROLES, log: true },
    { suffix: '-memory', title: 'What Redis keeps of a task with parameters of such a size', unit: 'KB a task', measures: ['kept'], log: true },
  ],
  limits: [],
  at: async (size, { start, tasks }) => {
    const system = await start()
    await system.register({ name: 'agent', capabilities: ['echo'] })
    const bytes = Math.round(size * 1000)
    const count = Math.min(tasks(TASKS), Math.floor(MOST_BYTES / bytes))
    return async () => {
      const before = await system.info('memory', 'used_memory')
      const values = await system.perform(Array.from({ length: count }, () => TASK), bytes)
      return { ...values, kept: ((await system.info('memory', 'used_memory')) - before) / count / 1000 }
    }
  },
}
