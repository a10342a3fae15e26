/** Renews the locks of the jobs this process holds. A job whose lock runs out comes round again, at whichever dispatcher is alive. */
import type { Logger } from '../logger.ts'
import type { Lane } from '../queues/lane.ts'
import { LOCK_MS } from '../queues/job.ts'

export type Locks = ReturnType<typeof createLocks>

export const createLocks = ({ log }: { log: Logger }) => {
  const held = new Map<string, { lane: Lane; token: string }>()
  const renew = async () => {
    const byLane = new Map<Lane, { id: string; token: string }[]>()
    for (const [id, { lane, token }] of held) {
      const jobs = byLane.get(lane)
      if (jobs) jobs.push({ id, token })
      else byLane.set(lane, [{ id, token }])
    }
    await Promise.all(
      [...byLane].map(async ([lane, jobs]) => {
        try {
          const lost = (await lane.renew(jobs)).filter((id) => held.has(id))
          // Its attempt goes on: if nobody else has begun a new one, its outcome still counts. The record decides.
          if (lost.length > 0) log.warn({ queue: lane.name, tasks: lost }, 'lost the lock of jobs in hand: they may be delivered again')
        } catch (error) {
          log.debug({ queue: lane.name, error: String(error) }, 'could not renew locks')
        }
      }),
    )
  }
  const timer = setInterval(() => void renew(), LOCK_MS / 3)
  timer.unref()
  return {
    hold: (id: string, lane: Lane, token: string) => void held.set(id, { lane, token }),
    letGo: (id: string, token: string) => void (held.get(id)?.token === token && held.delete(id)),
    stop: () => clearInterval(timer),
  }
}
