/** The slow work behind a dispatcher: acts on records and agents whose time has come. Every step is atomic, so several sweepers do no harm. */
import { iso } from '../contracts/time.ts'
import type { Logger } from '../logger.ts'
import type { Queues } from '../queues/queues.ts'
import type { Registry } from '../registry/registry.ts'
import type { Tasks } from '../tasks/tasks.ts'
import type { Webhooks } from '../tasks/webhooks/webhooks.ts'

const TRIM_MS = 2_000

export type SweeperDeps = {
  tasks: Tasks
  queues: Queues
  registry: Registry
  webhooks: Webhooks
  /** Records are to be looked at then. */
  dueIn: (type: string, ms: number) => void
  log: Logger
}

export type Sweeper = ReturnType<typeof createSweeper>

export const createSweeper = ({ tasks, queues, registry, webhooks, dueIn, log }: SweeperDeps) => {
  const lastTrim = new Map<string, number>()
  return {
    /** Due, expired, overdue and unconfirmed records. Bounded: what is left waits for the next look. */
    records: async (type: string): Promise<void> => {
      for (let round = 0; round < 10; round++) {
        const { due, more } = await tasks.tick(type)
        await Promise.all(
          due.map(async (d) => {
            if (d.what === 'look') {
              dueIn(type, d.inMs)
            } else if (d.what === 'came_back') {
              await tasks.cameBack(type, d.queue, d.id, d.attemptId, d.to)
              if (d.to.waitMs > 0) dueIn(type, d.to.waitMs)
            } else if (d.what === 'promote') {
              await queues.promote(type, d.queue, d.id)
              await tasks.wake(type, d.id, d.queue)
            } else if (d.what === 'add') {
              log.warn({ task: d.id }, 'a task had no job; it is queued again')
              await tasks.readd(type, d.id, d.queue)
            } else if (d.what === 'time_out') {
              await tasks.timeOut(d.id)
            } else {
              await queues.remove(type, d.queue, d.id)
            }
          }),
        )
        if (!more) return
      }
    },
    /** Agents that fell silent, died, or end a rest; leases past their end. */
    agents: async (type: string): Promise<void> => {
      for (let round = 0; round < 10; round++) {
        const { died, more, silence } = await registry.sweep(type)
        if (silence?.what === 'held') log.warn({ agent_type: type, silent: silence.missed, agents: silence.of, until: iso(silence.untilMs) }, 'most agents fell silent at once: that may be our network or API, so they are kept until then as suspects, tried last and one task at a time')
        else if (silence) log.info({ agent_type: type, silent: silence.missed, agents: silence.of }, 'the mass silence of agents is over')
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
