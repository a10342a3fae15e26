/** Agent types in use: tasks go round all of them. Calls of one type are gathered to one, those of two are not; and each type is looked at. */
import type { Curve } from './curve.ts'
import { CPU, RATE, ROLES } from './measures.ts'

const TASKS = 3000

export const types: Curve = {
  name: 'types',
  x: { words: 'agent types in use', unit: 'types', log: true },
  sizes: { quick: [1, 20], usual: [1, 10, 100, 500] },
  rounds: 3,
  measures: [RATE, ...CPU],
  plots: [{ suffix: '', title: 'A task with so many agent types in use', unit: 'CPU µs a task', measures: ROLES }],
  limits: [],
  at: async (size, { start, tasks }) => {
    const system = await start()
    const all = Array.from({ length: size }, (_, n) => `type-${n}`)
    for (const type of all) await system.register({ name: `agent-${type}`, type, capabilities: ['echo'] })
    const count = tasks(TASKS)
    let next = 0
    return () => system.perform(Array.from({ length: count }, () => ({ agent_type: all[next++ % size]!, task_type: 'echo' })))
  },
}
