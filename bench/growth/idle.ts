/** Queues that nobody uses: the commands that Redis gets for them, the connections, and what they cost. Of one agent type, and of a type each. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Context, Curve, Limit, Measure, Plot } from './curve.ts'
import { CORE, ROLES } from './measures.ts'
import type { System } from './system.ts'
import type { Values } from './values.ts'

const SECONDS = 5
type Role = 'api' | 'worker'

/** What the connections of API and dispatcher send, without what scripts call; by process. MONITOR is read as it comes: a client's library makes too much of it. */
const commandsOf = async ({ redis, redisUrl }: System, seconds: number): Promise<{ commands: Record<Role, number>; connections: Record<Role, number> }> => {
  const roles = new Map([...((await redis.client('LIST')) as string).matchAll(/ addr=(\S+).* name=switchyard-(api|worker)/g)].map(([, at, role]) => [at!, role as Role]))
  const connections = { api: 0, worker: 0 }
  for (const role of roles.values()) connections[role]++
  const { hostname, port } = new URL(redisUrl)
  const socket = connect(Number(port), hostname)
  await once(socket, 'connect')
  socket.write('MONITOR\r\n')
  let text = ''
  socket.setEncoding('latin1').on('data', (chunk: string) => { text += chunk })
  await sleep(seconds * 1000)
  socket.destroy()
  const commands = { api: 0, worker: 0 }
  for (const [, at] of text.matchAll(/^\+[\d.]+ \[\d+ (\S+)\] "/gm)) {
    const role = roles.get(at!)
    if (role) commands[role]++
  }
  return { commands, connections }
}

const work = async (size: number, typeOf: (n: number) => string, { start, seconds: usual }: Context): Promise<() => Promise<Values>> => {
  const system = await start()
  const tasks = Array.from({ length: size }, (_, n) => ({ agent_type: typeOf(n), task_type: `capability-${n}` }))
  const perType = Map.groupBy(tasks, (task) => task.agent_type)
  for (const [type, of] of perType) for (let i = 0; i < of.length; i += 50) await system.register({ name: `agent-${i}`, type, capabilities: of.slice(i, i + 50).map((task) => task.task_type) })
  // Each queue is there, and has been used.
  await system.perform(tasks)
  await sleep(1000)
  const seconds = usual(SECONDS)
  return async () => {
    const { commands, connections } = await commandsOf(system, seconds)
    const { cpu, seconds: took } = await system.cpuOf(() => sleep(seconds * 1000))
    const core = Object.entries(cpu).map(([role, s]) => [role, s === null ? null : (s / took) * 100] as const)
    return {
      apiCommands: commands.api / seconds,
      workerCommands: commands.worker / seconds,
      commands: (commands.api + commands.worker) / seconds,
      connections: Math.max(connections.api, connections.worker),
      ...Object.fromEntries(core),
      total: core.some(([, n]) => n === null) ? null : core.reduce((sum, [, n]) => sum + n!, 0),
    }
  }
}

const measures: readonly Measure[] = [{ key: 'apiCommands', words: 'API, commands/s', digits: 1 }, { key: 'workerCommands', words: 'dispatcher, commands/s', digits: 1 }, { key: 'commands', words: 'both', digits: 1 }, { key: 'connections', words: 'connections of a process', digits: 0 }, ...CORE]
const plots = (what: string): readonly Plot[] => [
  { suffix: '', title: `Redis commands of so many idle ${what}`, unit: 'commands/s', measures: ['commands', 'workerCommands', 'apiCommands'], log: what !== 'queues' },
  { suffix: '-cpu', title: `CPU of so many idle ${what}`, unit: '% of a core', measures: ROLES },
]
const limits = (what: string): readonly Limit[] => [
  { measure: 'workerCommands', kind: 'at most', at: 5, x: 500, words: `500 idle ${what}: ≤ 5 commands/s of a process` },
  { measure: 'connections', kind: 'at most', at: 4, x: 500, words: `500 idle ${what}: ≤ 4 connections a process` },
]

export const idleQueues: Curve = {
  name: 'idle-queues',
  x: { words: 'idle queues of one agent type', unit: 'queues', log: true },
  sizes: { quick: [1, 20], usual: [1, 100, 500, 2000] },
  rounds: 1,
  cold: true,
  measures,
  plots: plots('queues'),
  limits: limits('queues'),
  at: (size, context) => work(size, () => 'bench', context),
}

export const idleTypes: Curve = {
  name: 'idle-types',
  x: { words: 'idle agent types with a queue each', unit: 'types', log: true },
  sizes: { quick: [1, 20], usual: [1, 10, 100, 500], full: [1, 10, 100, 500, 1000] },
  rounds: 1,
  cold: true,
  measures,
  plots: plots('agent types'),
  limits: limits('agent types'),
  at: (size, context) => work(size, (n) => `bench-${n}`, context),
}
