/** Waiting for a task's end: a line that moves meanwhile, and what is said when the waiting stops and the task does not. */
import { TimedOut, type Task, type WaitOptions } from '../../sdk/typescript/client.ts'
import { EXIT, Interrupted, spoken } from './failure.ts'
import type { Session } from './session.ts'
import { whereabouts } from './task-view.ts'
import { duration } from './text.ts'

/** A task that has waited so long has perhaps nobody to go to. */
const LONELY_MS = 3_000

export type Followed = {
  code: number
  /** As last seen; undefined when it was not seen. */
  task: Task | undefined
  /** Whether it has ended, rather than the waiting. */
  ended: boolean
}

/** @param wait for the task of this id */
export const follow = async (session: Session, id: string, wait: (options: WaitOptions) => Promise<Task>, { timeoutSeconds, onChange }: Pick<WaitOptions, 'timeoutSeconds' | 'onChange'>): Promise<Followed> => {
  const { terminal, signal, hint } = session
  const began = performance.now()
  let last: Task | undefined
  const stop = terminal.progress(() => `${last?.status ?? 'waiting'} ${last ? `${whereabouts(last)} ` : ''}· ${duration(Math.max(1, Math.floor((performance.now() - began) / 1000)) * 1000)} · Ctrl-C stops waiting`)
  const goesOn = (how: string, code: number): Followed => {
    stop()
    for (const line of spoken([how, `The task goes on; look at it: ${hint(`tasks show ${id}`)}`])) terminal.note(line)
    return { code, task: last, ended: false }
  }
  const lonely = setTimeout(() => {
    void nobodyFor(session, last).then((who) => {
      if (who === null) return
      stop()
      for (const line of spoken([`${id} is ${last!.status}: no agent is alive that ${who}`, 'It waits for one; see which there are: ' + hint('agents list')])) terminal.note(line)
    }, () => {})
  }, LONELY_MS)
  try {
    const task = await wait({
      signal,
      timeoutSeconds,
      onChange: (task) => {
        last = task
        onChange?.(task)
      },
    })
    return { code: task.status === 'completed' ? EXIT.ok : EXIT.refused, task, ended: true }
  } catch (error) {
    if (error instanceof Interrupted) return goesOn(last ? `stopped waiting while ${id} is ${last.status}` : `stopped waiting for ${id}`, EXIT.interrupted)
    if (error instanceof TimedOut && timeoutSeconds !== undefined) return goesOn(last ? `${id} is still ${last.status} after ${timeoutSeconds} s` : error.message, EXIT.late)
    throw error
  } finally {
    clearTimeout(lonely)
    stop()
  }
}

/** What no living agent can, for a task that waits in vain; null when there is one, or it does not wait. */
const nobodyFor = async ({ client, signal }: Session, task: Task | undefined): Promise<string | null> => {
  if (!task || (task.status !== 'queued' && task.status !== 'retrying')) return null
  if (task.attempts.length === 0 && task.agent_id !== null) return null // pinned: it waits for that one
  const { agents } = await client.agents.list({ type: task.agent_type, capability: task.task_type, limit: 1 }, { signal }).page()
  return agents.length > 0 ? null : `can do ${task.task_type} for ${task.agent_type}`
}
