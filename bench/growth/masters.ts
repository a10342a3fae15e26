/**
 * A cluster of so many masters, against one Redis that is none. All parts share the machine's cores, so more masters are no more throughput here; the questions are whether a task costs
 * more in a cluster, and what of it falls to the busiest master, as its one thread is what a cluster has most of when it has enough of them.
 */
import { Command } from 'ioredis'
import { createKeys } from '../../src/redis/keys.ts'
import type { Curve } from './curve.ts'
import { coreOf, performByHand } from './hand.ts'
import { CPU, RATE } from './measures.ts'
import { callsOf, mainThreads, SLOTS } from './store.ts'
import type { System } from './system.ts'
import type { Values } from './values.ts'

/** As many agent types. By hand they are placed evenly: one in each part of the slots, so that 1, 2, 3, 4, 6 or 12 masters have as many each. */
const TYPES = 12
const TASKS = 6000
const X = { words: 'masters; 0 is one Redis, no cluster', unit: 'masters', log: false } as const
const BUSIEST = { key: 'busiest', words: 'busiest master, its thread’s µs a task', digits: 0 } as const
const CALLS = [{ key: 'calls', words: 'calls of scripts a task', digits: 2 }, { key: 'packets', words: 'packets read a task', digits: 2 }] as const
const HEADROOM = { key: 'headroom', words: 'tasks/s that fill its thread', digits: 0 } as const

const slotOf = (key: string): number => (new Command('get', [key]) as unknown as { getSlot(): number }).getSlot()
export const spreadTypes = (): string[] => {
  const keys = createKeys('sy')
  const found = new Map<number, string>()
  for (let i = 0; found.size < TYPES; i++) {
    const part = Math.floor((slotOf(keys.base(`type-${i}`)) * TYPES) / SLOTS)
    if (!found.has(part)) found.set(part, `type-${i}`)
  }
  return [...found.values()]
}

/** Of API and dispatcher, the one with more: to all masters, and to that which has most. */
const connectionsOf = async ({ servers }: System): Promise<{ connections: number; toOne: number }> => {
  const lists = await Promise.all(servers.map(async ({ redis }) => [...((await redis.client('LIST')) as string).matchAll(/ name=switchyard-(api|worker)/g)].map(([, role]) => role)))
  const most = (counts: (role: string) => number) => Math.max(counts('api'), counts('worker'))
  const at = (list: readonly (string | undefined)[], role: string) => list.filter((one) => one === role).length
  return { connections: most((role) => lists.reduce((n, list) => n + at(list, role), 0)), toOne: most((role) => Math.max(...lists.map((list) => at(list, role)))) }
}

const callsSince = async (before: { calls: number; packets: number }, { servers }: System, count: number): Promise<Values> => {
  const { calls, packets } = await callsOf(servers)
  return { calls: (calls - before.calls) / count, packets: (packets - before.packets) / count }
}
const busiestOf = (micros: readonly number[]): Values => ({ busiest: Math.max(...micros), headroom: 1e6 / Math.max(...micros) })

const startWith = async (masters: number, start: (options: { masters: number; workers: number }) => Promise<System>, workers: number) => {
  const system = await start({ masters, workers })
  const types = spreadTypes()
  for (const type of types) await system.register({ name: `agent-${type}`, type, capabilities: ['echo'] })
  return { system, types }
}

export const masters: Curve = {
  name: 'masters',
  x: X,
  sizes: { quick: [0, 2], usual: [0, 1, 2, 3] },
  rounds: 4,
  measures: [RATE, ...CPU, ...CALLS, BUSIEST, HEADROOM, { key: 'connections', words: 'connections of a process', digits: 0 }, { key: 'toOne', words: 'of these to one master', digits: 0 }],
  plots: [
    { suffix: '', title: 'A task with so many masters', unit: 'CPU µs a task', measures: ['total', 'api', 'worker', 'redis', 'busiest'] },
    { suffix: '-headroom', title: 'What the busiest of so many masters has room for', unit: 'tasks/s', measures: ['headroom'] },
  ],
  limits: [],
  at: async (size, { start, tasks }) => {
    const { system, types } = await startWith(size, start, 1)
    const count = tasks(TASKS)
    return async () => {
      let values: Values = {}
      const before = await callsOf(system.servers)
      const micros = await mainThreads(system.servers, count, async () => {
        values = await system.perform(Array.from({ length: count }, (_, i) => ({ agent_type: types[i % TYPES]!, task_type: 'echo' })))
      })
      return { ...values, ...(await callsSince(before, system, count)), ...busiestOf(micros), ...(await connectionsOf(system)) }
    }
  },
}

/** The store alone, by hand: one process drives it, which is what bounds the rate. */
export const mastersAlone: Curve = {
  name: 'masters-alone',
  x: X,
  sizes: { quick: [0, 2], usual: [0, 1, 2, 3] },
  rounds: 4,
  measures: [RATE, { key: 'driver', words: 'the driver, CPU µs a task', digits: 0 }, { key: 'redis', words: 'all masters, their threads’ µs a task', digits: 0 }, ...CALLS, BUSIEST, HEADROOM],
  plots: [{ suffix: '', title: 'What the busiest of so many masters has room for, driven by hand', unit: 'tasks/s', measures: ['headroom', 'rate'] }],
  limits: [],
  at: async (size, { start, tasks }) => {
    const { system, types } = await startWith(size, start, 0)
    const core = await coreOf(system)
    const each = Math.ceil(tasks(2 * TASKS) / TYPES)
    return async () => {
      const before = await callsOf(system.servers)
      const [count, cpu, began] = [each * TYPES, process.cpuUsage(), performance.now()]
      const micros = await mainThreads(system.servers, count, () => performByHand(core, types, each))
      const [{ user, system: kernel }, seconds] = [process.cpuUsage(cpu), (performance.now() - began) / 1000]
      return { rate: count / seconds, driver: (user + kernel) / count, redis: micros.reduce((a, b) => a + b), ...(await callsSince(before, system, count)), ...busiestOf(micros) }
    }
  },
}
