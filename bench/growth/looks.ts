/** Idle agent types in a cluster, where each is looked at by itself, as it may be on any master; of one Redis see idle.ts. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Curve } from './curve.ts'
import { CORE } from './measures.ts'
import { ofACore } from './system.ts'

const SECONDS = 6

export const looks: Curve = {
  name: 'looks',
  x: { words: 'idle agent types of a cluster of one master', unit: 'types', log: true },
  sizes: { quick: [1, 20], usual: [1, 100, 500] },
  rounds: 1,
  measures: CORE,
  plots: [{ suffix: '', title: 'So many idle agent types in a cluster', unit: '% of a core', measures: ['total', 'worker', 'redis'] }],
  limits: [],
  at: async (size, { start, seconds }) => {
    const system = await start({ masters: 1 })
    await system.each(Array.from({ length: size }, (_, n) => n), (n) => system.register({ name: 'agent', type: `type-${n}`, capabilities: ['echo'] }))
    await sleep(2000)
    return async () => {
      const { cpu, seconds: took } = await system.cpuOf(() => sleep(seconds(SECONDS) * 1000))
      return ofACore(cpu, took)
    }
  },
}
