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
  /**
   * The task when it has ended, or as it is after `ms`, when `signal` says that nobody waits any more, or when the process stops.
   * @returns null when it is unknown
   */
  return async (id: string, ms: number, signal: AbortSignal): Promise<TaskView | null> => {
    const before = await tasks.get(id)
    if (before === null || isEnd(before.status)) return before
    const over = Promise.withResolvers<void>()
    const following = await feed.follow({
      type: typeOfTask(id)!,
      task: id,
      event: ({ what }) => {
        if (isEnd(what)) over.resolve()
      },
      gap: over.resolve,
      end: over.resolve,
    })
    let timer: NodeJS.Timeout | undefined
    signal.addEventListener('abort', () => over.resolve(), { once: true })
    try {
      // It may have ended while we began to listen.
      const now = await tasks.get(id)
      if (now === null || isEnd(now.status) || signal.aborted) return now
      // Where no dispatcher lives, whoever reads a task sees that it has expired.
      timer = setTimeout(over.resolve, Math.min(ms, Math.max(0, now.expiresMs - Date.now()) + 1))
      await over.promise
      return await tasks.get(id)
    } finally {
      clearTimeout(timer)
      following.stop()
    }
  }
}
