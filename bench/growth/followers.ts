/** Processes that hear what happens to the tasks of a type: each API in which somebody waits for one, or watches. Here they are connections that hear, and do nothing with it. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { createKeys } from '../../src/redis/keys.ts'
import type { Curve } from './curve.ts'
import { RATE } from './measures.ts'
import { mainThreads } from './store.ts'
import type { Values } from './values.ts'

const TASKS = 3000

export const followers: Curve = {
  name: 'followers',
  x: { words: 'processes that hear of a type', unit: 'processes', log: false },
  sizes: { quick: [0, 4], usual: [0, 4, 16, 64] },
  rounds: 3,
  measures: [RATE, { key: 'thread', words: 'Redis’s thread, µs a task', digits: 0 }, { key: 'messages', words: 'messages a task to each', digits: 2 }],
  plots: [{ suffix: '', title: 'A task that so many processes hear of', unit: 'µs of Redis’s thread a task', measures: ['thread'] }],
  limits: [],
  at: async (size, { start, tasks }) => {
    const system = await start()
    await system.register({ name: 'agent', capabilities: ['echo'] })
    const url = new URL(system.redisUrl)
    let messages = 0
    for (let i = 0; i < size; i++) {
      const socket = connect(Number(url.port), url.hostname)
      await once(socket, 'connect')
      system.onEnd(() => socket.destroy())
      socket.write(`SUBSCRIBE ${createKeys('sy').eventsChannel('bench')}\r\n`)
      await once(socket, 'data')
      socket.setEncoding('latin1').on('data', (text: string) => { if (i === 0) messages += text.split('\r\nmessage\r\n').length - 1 })
    }
    const count = tasks(TASKS)
    return async () => {
      messages = 0
      let values: Values = {}
      const [thread] = await mainThreads(system.servers, count, async () => {
        values = await system.perform(Array.from({ length: count }, () => ({ agent_type: 'bench', task_type: 'echo' })))
      })
      return { rate: values['rate'] ?? null, thread: thread!, messages: size === 0 ? null : messages / count }
    }
  },
}
