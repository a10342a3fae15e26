/** Tasks waiting in one queue: what it costs to dispatch from its front. The agent takes nothing while it is filled up again. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Curve } from './curve.ts'
import { CPU, RATE } from './measures.ts'
import { perTask } from './system.ts'

const DISPATCHED = 3000
const TASK = { agent_type: 'bench', task_type: 'echo' }

export const queued: Curve = {
  name: 'queued',
  x: { words: 'tasks that wait in the queue', unit: 'tasks', log: true },
  sizes: { quick: [300, 3000], usual: [1000, 3000, 10_000, 30_000, 100_000], full: [1000, 3000, 10_000, 30_000, 100_000, 300_000] },
  rounds: 4,
  measures: [{ ...RATE, words: 'dispatched tasks/s' }, CPU[1]!, CPU[2]!, CPU[3]!],
  plots: [
    { suffix: '', title: 'Dispatch with so many tasks waiting', unit: 'tasks/s', measures: ['rate'] },
    { suffix: '-cpu', title: 'A task’s dispatch with so many waiting', unit: 'CPU µs a task', measures: ['total', 'worker', 'redis'] },
  ],
  limits: [
    { measure: 'rate', kind: 'at least', at: 0.9, ratio: true, x: 100_000, words: 'dispatch with 100,000 waiting within 10 % of that with 1,000' },
    { measure: 'total', kind: 'at most', at: 1.1, ratio: true, x: 100_000, words: 'CPU of a dispatch with 100,000 waiting within 10 % of that with 1,000' },
  ],
  at: async (size, { start, tasks }) => {
    const system = await start()
    const count = tasks(DISPATCHED)
    const agent = await system.register({ name: 'agent', capabilities: ['echo'], status: 'draining' })
    const beat = (status: string) => system.call('POST', `/agents/${agent}/heartbeat`, { status })
    const inHand = async () => (await system.call('GET', `/agents/${agent}`)).in_flight as number
    let waiting = 0
    const fill = async () => {
      await system.fill(Array.from({ length: size + count - waiting }, () => TASK))
      waiting = size + count
    }
    await fill()
    return async () => {
      await fill()
      await system.forgetReceived()
      let done = 0
      const { seconds, cpu } = await system.cpuOf(async () => {
        await beat('healthy')
        done = await system.reach('dispatched tasks', count, system.received, 10)
      })
      await beat('draining')
      while ((await inHand()) > 0) await sleep(10)
      waiting -= await system.received()
      const { worker, redis } = perTask(cpu, done)
      return { rate: done / seconds, worker: worker!, redis: redis!, total: worker === null || redis === null ? null : worker! + redis! }
    }
  },
}
