/** Waiting for a task's end: a line that moves meanwhile, and what is said when the waiting stops and the task does not. */
import { TimedOut, type ExplainReason, type Task, type WaitOptions } from '../../sdk/typescript/client.ts'
import { EXIT, Interrupted, spoken } from './failure.ts'
import type { Session } from './session.ts'
import { whereabouts } from './task-view.ts'
import { duration } from './text.ts'

/** A task that has waited so long may have to wait for good. */
const LONELY_MS = 3_000
/** What it waits for then is worth a word; other waits end by themselves in a moment, or say when. */
const WORTH_SAYING: readonly ExplainReason[] = [
  'no_dispatcher', 'no_agent_registered', 'no_agent_capable', 'no_agent_alive', 'pinned_agent_absent', 'no_agent_usable', 'agents_resting', 'agents_sick', 'waiting_for_slot', 'behind_others', 'dispatcher_lost',
]

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
  let isWaiting = true
  const stop = terminal.progress(() => `${last?.status ?? 'waiting'} ${last ? `${whereabouts(last)} ` : ''}· ${duration(Math.max(1, Math.floor((performance.now() - began) / 1000)) * 1000)} · Ctrl-C stops waiting`)
  const goesOn = (how: string, code: number): Followed => {
    stop()
    for (const line of spoken([how, `The task goes on; look at it: ${hint(`tasks show ${id}`)}`])) terminal.note(line)
    return { code, task: last, ended: false }
  }
  const lonely = setTimeout(() => {
    void session.client.tasks.explain(id, { signal }).then((why) => {
      if (!isWaiting || !WORTH_SAYING.includes(why.reason)) return
      for (const line of spoken([`${id} is ${why.status}. ${why.summary}`, `See more: ${hint(`tasks explain ${id}`)}`])) terminal.note(line)
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
    isWaiting = false
    clearTimeout(lonely)
    stop()
  }
}
