/** The slow work behind a dispatcher: acts on records and agents whose time has come. Every step is atomic, so several sweepers do no harm. */
import type { Logger } from '../logger.ts'
import type { Queues } from '../queues/queues.ts'
import type { Registry } from '../registry/registry.ts'
import type { Tasks } from '../tasks/tasks.ts'
import type { Webhooks } from '../tasks/webhooks/webhooks.ts'

const TRIM_MS = 2_000

export const createSweeper = ({ tasks, queues, registry, webhooks, log }: { tasks: Tasks; queues: Queues; registry: Registry; webhooks: Webhooks; log: Logger }) => {
  const lastTrim = new Map<string, number>()
  return {
    /** Due, expired, overdue and unconfirmed records; and those to be forgotten. Bounded: what is left waits for the next look. */
    records: async (type: string): Promise<void> => {
      for (let round = 0; round < 10; round++) {
        const { due, more } = await tasks.tick(type)
        await Promise.all(
          due.map(async ({ what, id, queue }) => {
            if (what === 'promote') {
              await queues.promote(type, queue, id)
              await tasks.wake(type, id, queue)
            } else if (what === 'add') {
              log.warn({ task: id }, 'a task had no job; it is queued again')
              await tasks.readd(type, id, queue)
            } else if (what === 'time_out') {
              await tasks.timeOut(id)
            } else {
              await queues.remove(type, queue, id)
            }
          }),
        )
        if (!more) return
      }
    },
    /** Agents that fell silent, died, or end a rest; leases past their end. */
    agents: async (type: string): Promise<void> => {
      for (let round = 0; round < 10; round++) {
        const { died, more } = await registry.sweep(type)
        for (const agent of died) log.warn({ agent, agent_type: type }, 'an agent is dead: silent for its whole TTL')
        if (!more) return
      }
    },
    /** Ended records that are old enough, or too many; and webhooks. */
    trim: async (type: string): Promise<void> => {
      const now = performance.now()
      if (now - (lastTrim.get(type) ?? -TRIM_MS) < TRIM_MS) return
      if (lastTrim.size > 10_000) lastTrim.clear()
      lastTrim.set(type, now)
      await tasks.trim(type)
      await webhooks.trim(type)
    },
  }
}
