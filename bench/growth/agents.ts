/**
 * Agents that are registered: what one takes of Redis's memory, and what its registration costs; how often a beat asks for the agent's type, which of a cluster's masters one has
 * for all agents, and what that costs there.
 */
import { once } from 'node:events'
import { connect } from 'node:net'
import { createKeys } from '../../src/redis/keys.ts'
import type { Curve } from './curve.ts'
import { coreOf } from './hand.ts'
import { mainThreads } from './store.ts'
import { perTask, type System } from './system.ts'

const LOOKUPS = 4000
const BEATS = 500
/** A pool of this many each. */
const A_POOL = 1000

const { agentTypes } = createKeys('sy')

/** How often Redis is asked for an agent's type while something is done. */
const lookupsOf = async ({ redisUrl }: System, work: () => Promise<unknown>): Promise<number> => {
  const { hostname, port } = new URL(redisUrl)
  const socket = connect(Number(port), hostname)
  await once(socket, 'connect')
  let text = ''
  socket.setEncoding('latin1').on('data', (chunk: string) => { text += chunk })
  socket.write('MONITOR\r\n')
  await once(socket, 'data')
  await work()
  socket.destroy()
  return [...text.matchAll(/^\+[\d.]+ \[\d+ [^\]]+\] "hget" "([^"]*)"/gim)].filter(([, key]) => key === agentTypes).length
}

export const agents: Curve = {
  name: 'agents',
  x: { words: 'agents registered, a thousand to a pool', unit: 'agents', log: true },
  sizes: { quick: [100, 400], usual: [1000, 10_000], full: [1000, 10_000, 100_000] },
  rounds: 1,
  measures: [
    { key: 'bytes', words: 'Redis’s memory, bytes an agent', digits: 0 },
    { key: 'api', words: 'API, CPU µs a registration', digits: 0 },
    { key: 'redis', words: 'Redis, CPU µs a registration', digits: 0 },
    { key: 'lookups', words: 'looks at the index a beat', digits: 2 },
    { key: 'lookup', words: 'one of them, Redis’s thread µs', digits: 1 },
  ],
  plots: [{ suffix: '', title: 'Memory of an agent with so many registered', unit: 'bytes an agent', measures: ['bytes'] }],
  limits: [],
  oneByOne: true,
  cold: true,
  at: async (size, { start, tasks }) => {
    const system = await start()
    const core = await coreOf(system)
    return async () => {
      const before = await system.info('memory', 'used_memory')
      const ids: string[] = []
      const { cpu } = await system.cpuOf(() => system.each(Array.from({ length: size }, (_, n) => n), async (n) => {
        ids.push(await system.register({ name: `agent-${n}`, capabilities: [`pool-${n % Math.ceil(size / A_POOL)}`], max_concurrency: 10 }))
      }))
      const bytes = ((await system.info('memory', 'used_memory')) - before) / size
      // One at a time: what comes by itself costs Redis most.
      const count = tasks(LOOKUPS)
      const [lookup] = await mainThreads(system.servers, count, async () => {
        for (let i = 0; i < count; i++) await core.redis.hget(agentTypes, ids[i % size]!)
      })
      const some = ids.slice(0, BEATS)
      const beat = () => system.each(some, (id) => system.call('POST', `/agents/${id}/heartbeat`, { status: 'healthy', running: [] }))
      await beat() // whoever remembers does by now
      const lookups = (await lookupsOf(system, beat)) / some.length
      const { api, redis } = perTask(cpu, size)
      return { bytes, api: api!, redis: redis!, lookups, lookup: lookup! }
    }
  },
}
