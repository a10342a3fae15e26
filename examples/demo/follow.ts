/** Tasks as a client sees them over HTTP: submitted, followed to their ends, and what changed on the way. */
import type { z } from 'zod'
import type { Submitted, Task } from '../../src/contracts/task.ts'
import { briefly, type Plan } from './tasks.ts'

export type TaskView = z.infer<typeof Task>
export type Change = { at: number; status: string; agent: string; note: string }
/** A task on its way; `task` is how it was last seen. */
export type Followed = { id: string; plan: Plan; task: TaskView | null; said: Set<string> }

const POLL_MS = 100
export const ENDS = new Set(['completed', 'failed', 'timeout', 'cancelled'])

export const isOver = ({ task }: Followed): boolean => task !== null && ENDS.has(task.status)

/** Of an outcome that costs the task no attempt: it waits in its queue again. */
const FREE = new Set(['no_room', 'lost', 'drained'])

/**
 * The way of a task so far, by name. Most tasks take a few milliseconds, so most of what happens falls between two polls; the
 * record says when it did.
 */
export const changesOf = (task: TaskView, label: string): Map<string, Change> => {
  const changes = new Map<string, Change>()
  const ms = (iso: string): number => Date.parse(iso)
  const due = task.run_at === null ? 0 : ms(task.run_at) - Date.now()
  const over = ENDS.has(task.status)
  changes.set('submitted', { at: ms(task.created_at), status: task.status === 'pending' ? 'pending' : 'queued', agent: '', note: label })
  for (const { attempt, agent_name: agent, sent_at, ended_at, outcome, error } of task.attempts) {
    changes.set(`sent ${attempt}`, { at: ms(sent_at), status: 'sent', agent, note: attempt > 1 ? `attempt ${attempt}` : '' })
    const last = over && attempt === task.attempts.length
    if (ended_at === null || outcome === null || last) continue
    const again = task.status === 'retrying' && due > 0 ? `, again in ${(due / 1000).toFixed(1)} s` : ''
    changes.set(`ended ${attempt}`, { at: ms(ended_at), status: FREE.has(outcome) ? 'queued' : 'retrying', agent, note: `${error ?? outcome}${again}` })
  }
  if (over) changes.set('over', { at: ms(task.completed_at ?? task.created_at), status: task.status, agent: task.attempts.at(-1)?.agent_name ?? '', note: endOf(task) })
  return changes
}

/** What came of it, or why nothing did. */
export const endOf = (task: TaskView): string => {
  if (task.status === 'completed') return briefly(task.task_type, task.result)
  if (task.status === 'cancelled' && task.attempts.length === 0) return 'cancelled before it was sent'
  return task.error ?? ''
}

export const createClient = (url: string) => {
  const ask = async <T>(method: string, path: string, body?: object): Promise<T> => {
    const res = await fetch(url + path, { method, headers: { 'content-type': 'application/json' }, body: body ? JSON.stringify(body) : null, signal: AbortSignal.timeout(10_000) })
    const json = (await res.json()) as { error?: string }
    if (!res.ok) throw new Error(`${method} ${path}: ${res.status} ${json.error ?? ''}`)
    return json as T
  }

  const submit = async (plan: Plan): Promise<Followed> => {
    const { task_id: id } = await ask<z.infer<typeof Submitted>>('POST', '/tasks', plan.body)
    return { id, plan, task: null, said: new Set() }
  }

  const cancel = async (followed: Followed): Promise<void> => void (await ask('DELETE', `/tasks/${followed.id}`))

  /** Looks at all that is not over, until all is or the time is up. What changed since the last look is told in the order in which it happened. */
  const follow = async (all: readonly Followed[], tell: (followed: Followed, change: Change) => void, { signal, withinMs }: { signal: AbortSignal; withinMs: number }): Promise<void> => {
    const deadline = Date.now() + withinMs
    while (!signal.aborted && Date.now() < deadline && !all.every(isOver)) {
      const changes = await Promise.all(all.filter((followed) => !isOver(followed)).map(look))
      for (const { followed, change } of changes.flat().sort((a, b) => a.change.at - b.change.at)) tell(followed, change)
      await new Promise((done) => setTimeout(done, POLL_MS))
    }
  }

  const look = async (followed: Followed): Promise<{ followed: Followed; change: Change }[]> => {
    // Of an API that is being started again: the next look tells.
    const task = await ask<TaskView>('GET', `/tasks/${followed.id}`).catch(() => null)
    if (!task) return []
    followed.task = task
    const fresh = [...changesOf(task, followed.plan.label)].filter(([name]) => !followed.said.has(name))
    return fresh.map(([name, change]) => {
      followed.said.add(name)
      return { followed, change }
    })
  }

  return { ask, submit, cancel, follow }
}
