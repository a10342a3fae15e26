/** The agent's process, where the kit starts it: in a group of its own, so that nothing of it is left whatever happens. */
import { spawn } from 'node:child_process'
import { shown } from './shown.ts'

const MAX_OUTPUT_CHARS = 8192

export type AgentProcess = {
  pid: number
  startedAt: number
  /** Its exit code, or the signal that ended it; null while it runs. */
  exit: () => number | string | null
  ended: Promise<number | string>
  /** The end of what it wrote, on one line. */
  output: () => string
  terminate: () => void
  /** Ends it and all that it started, at once. */
  kill: () => Promise<void>
}

/** Splits a command as a shell does, with quotes and backslashes and nothing else; null when a quote is open. */
export const wordsOf = (command: string): string[] | null => {
  const words: string[] = []
  const pattern = /\s*((?:[^\s'"\\]|\\[\s\S]|'[^']*'|"(?:[^"\\]|\\[\s\S])*")+)/y
  const rest = command.trimEnd()
  while (pattern.lastIndex < rest.length) {
    const word = pattern.exec(rest)?.[1]
    if (word === undefined) return null
    words.push(word.replace(/'([^']*)'|"((?:[^"\\]|\\[\s\S])*)"|\\([\s\S])/g, (_, plain?: string, quoted?: string, one?: string) => plain ?? one ?? quoted!.replace(/\\(["\\$`])/g, '$1')))
  }
  return words
}

/** The groups that are left; they go with us, however we end. */
const groups = new Set<number>()
const killGroup = (pid: number): void => {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // All of it has ended.
  }
}
const killGroups = (): void => groups.forEach(killGroup)

export const launch = (words: readonly string[], settings: Record<string, string>): AgentProcess => {
  // No shell between: SIGTERM must reach the agent itself, as it does in a container.
  const child = spawn(words[0]!, words.slice(1), { env: { ...process.env, ...settings }, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-MAX_OUTPUT_CHARS)
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  let exit: number | string | null = null
  const ended = new Promise<number | string>((resolve) => {
    const end = (how: number | string): void => {
      exit ??= how
      resolve(exit)
    }
    child.once('exit', (code, signal) => end(code ?? signal ?? 'gone'))
    child.once('error', (error) => {
      output += error.message
      end(error.message)
    })
  })
  if (child.pid !== undefined) {
    if (groups.size === 0) process.on('exit', killGroups)
    groups.add(child.pid)
  }
  return {
    pid: child.pid ?? 0,
    startedAt: performance.now(),
    exit: () => exit,
    ended,
    output: () => shown(output.slice(-600), 300),
    terminate: () => void child.kill('SIGTERM'),
    kill: async () => {
      if (child.pid !== undefined) {
        killGroup(child.pid)
        groups.delete(child.pid)
        if (groups.size === 0) process.removeListener('exit', killGroups)
      }
      await ended
    },
  }
}
