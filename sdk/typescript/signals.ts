/** SIGTERM and SIGINT for the agents of this process: all drain, then it ends with 0; a second signal ends it at once. */

type Stoppable = { stop(): Promise<void> }

/** One Ctrl-C comes twice: from the terminal to the whole group, and again from npm. */
const SAME_SIGNAL_MS = 500
const CODES = { SIGINT: 130, SIGTERM: 143 } as const
type Signal = keyof typeof CODES

// Signals are the process's, not an agent's: the first agent that has left must not end it under the others.
const agents = new Set<Stoppable>()
let firstAt: number | null = null

const onSignal = (signal: Signal): void => {
  const now = performance.now()
  if (firstAt !== null) {
    if (now - firstAt > SAME_SIGNAL_MS) process.exit(CODES[signal])
    return
  }
  firstAt = now
  void Promise.allSettled([...agents].map((agent) => agent.stop())).then((ends) => process.exit(ends.every((end) => end.status === 'fulfilled') ? 0 : 1))
}

/** From now on a signal stops this agent, and others that said so. @returns what undoes it; to no effect once a signal has come */
export const stopOnSignal = (agent: Stoppable): (() => void) => {
  if (agents.size === 0) for (const signal of Object.keys(CODES) as Signal[]) process.on(signal, onSignal)
  agents.add(agent)
  return () => {
    if (firstAt !== null || !agents.delete(agent) || agents.size > 0) return
    for (const signal of Object.keys(CODES) as Signal[]) process.off(signal, onSignal)
  }
}
