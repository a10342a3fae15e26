/**
 * What agents did, as they wrote it down themselves: a line for each thing, written before anything else happens, to a file that outlives
 * a killed agent. `at` is on the clock of clock.ts.
 */
import { appendFileSync, closeSync, openSync, readSync, writeSync } from 'node:fs'

export type AgentEvent =
  /** A delivery came. `until`: the end of the attempt's time, by the router's reckoning. `slots`: the agent's max_concurrency. */
  | { what: 'start'; at: number; agent: string; slots: number; task: string; attempt: string; number: number; until: number; how: string }
  /** The agent is done with it: it answers now, or stops since it was told to. */
  | { what: 'end'; at: number; agent: string; task: string; attempt: string; why: 'answered' | 'told to stop' }
  /** The router's answer to a result that came later. */
  | { what: 'told'; at: number; agent: string; task: string; attempt: string; status: number }
  /** It asked to be registered, and has been. */
  | { what: 'registered'; at: number; asked: number; agent: string }
  /** Its process was killed: whatever it had in hand has ended. */
  | { what: 'killed'; at: number; agent: string }

export const createWriter = (path: string) => {
  const file = openSync(path, 'a')
  return { write: (event: AgentEvent): void => void writeSync(file, `${JSON.stringify(event)}\n`), close: () => closeSync(file) }
}

/** For what the trial knows of an agent that cannot write any more. */
export const append = (path: string, event: AgentEvent): void => appendFileSync(path, `${JSON.stringify(event)}\n`)

/** Reads the files of several agents as they grow. */
export const createLedger = (paths: readonly string[]) => {
  const events: AgentEvent[] = []
  const files = paths.map((path) => ({ file: openSync(path, 'a+'), from: 0, rest: '' }))
  const chunk = Buffer.alloc(1 << 18)
  const read = (): readonly AgentEvent[] => {
    for (const one of files) {
      for (let n; (n = readSync(one.file, chunk, 0, chunk.length, one.from)) > 0; ) {
        one.from += n
        const lines = (one.rest + chunk.toString('utf8', 0, n)).split('\n')
        one.rest = lines.pop()!
        for (const line of lines) if (line !== '') events.push(JSON.parse(line) as AgentEvent)
      }
    }
    return events
  }
  return {
    /** All so far; those of one agent in order. */
    read,
    /** Whether something came about. */
    starts: (since = 0) => read().filter((e): e is AgentEvent & { what: 'start' } => e.what === 'start' && e.at >= since),
    ends: (since = 0) => read().filter((e): e is AgentEvent & { what: 'end' } => e.what === 'end' && e.at >= since),
    /** Attempts that have started and not ended, by the agents. */
    open: () => {
      const open = new Map<string, AgentEvent & { what: 'start' }>()
      for (const e of [...read()].sort((a, b) => a.at - b.at)) {
        if (e.what === 'start') open.set(e.attempt, e)
        else if (e.what === 'end') open.delete(e.attempt)
        else if (e.what === 'killed') for (const [id, s] of open) if (s.agent === e.agent) open.delete(id)
      }
      return [...open.values()]
    },
    /** Lets go of what has been looked at; the files stay. */
    forget: (which: (event: AgentEvent) => boolean) => {
      const rest = events.filter((e) => !which(e))
      events.length = 0
      for (const e of rest) events.push(e)
    },
    close: () => files.forEach(({ file }) => closeSync(file)),
  }
}
export type Ledger = ReturnType<typeof createLedger>
