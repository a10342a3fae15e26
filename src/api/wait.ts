/** `GET /tasks/{id}?wait=`: answered when the task ends. However many wait, the process hears of each end once, and asks for nothing meanwhile. */
import { isEnd } from '../contracts/task.ts'
import { typeOfTask } from '../redis/keys.ts'
import type { Feed } from '../tasks/feed.ts'
import type { TaskView } from '../tasks/record.ts'
import type { Tasks } from '../tasks/tasks.ts'

/** Below what proxies and load balancers allow a request. */
export const MAX_WAIT_SECONDS = 60

export type Waiter = ReturnType<typeof createWaiter>

export const createWaiter = ({ tasks, feed }: { tasks: Tasks; feed: Feed }) => {
  /** Tasks whose end was told just now: however many waited for one, it is read once. A read that begins behind an end tells of it. */
  const reads = new Map<string, Promise<TaskView | null>>()
  const readEnded = (id: string): Promise<TaskView | null> => {
    const known = reads.get(id)
    if (known) return known
    const read = tasks.get(id).finally(() => reads.delete(id))
    reads.set(id, read)
    return read
  }

  /**
   * The task when it has ended, or as it is after `ms`, when `signal` says that nobody waits any more, or when the process stops.
   * @returns null when it is unknown
   */
  return async (id: string, ms: number, signal: AbortSignal): Promise<TaskView | null> => {
    const end = performance.now() + ms
    const before = await tasks.get(id)
    if (before === null || isEnd(before.status)) return before
    let told = Promise.withResolvers<void>()
    let stopped = false
    let isAtAgent = false
    let hasEnded = false
    const stop = () => {
      stopped = true
      told.resolve()
    }
    const following = await feed.follow({
      type: typeOfTask(id)!,
      task: id,
      event: ({ what }) => {
        hasEnded ||= isEnd(what)
        if (hasEnded || (isAtAgent && what !== 'running' && what !== 'progress')) told.resolve()
      },
      gap: () => told.resolve(),
      end: stop,
    })
    signal.addEventListener('abort', stop, { once: true })
    try {
      // Read first of all: it may have ended while we began to listen.
      for (;;) {
        told = Promise.withResolvers<void>()
        const task = await (hasEnded ? readEnded(id) : tasks.get(id))
        const leftMs = end - performance.now()
        if (task === null || isEnd(task.status) || stopped || signal.aborted || leftMs <= 0) return task
        // Where no dispatcher lives, whoever reads a task sees that it has expired. By our clock that may be a little early.
        // At an agent it does not expire, unless it comes back.
        isAtAgent = task.status === 'sent' || task.status === 'running'
        const expiresMs = isAtAgent ? Infinity : Math.max(0, task.expiresMs - Date.now()) + 10
        const timer = setTimeout(told.resolve, Math.min(leftMs, expiresMs))
        await told.promise
        clearTimeout(timer)
      }
    } finally {
      signal.removeEventListener('abort', stop)
      following.stop()
    }
  }
}
