/** One logger. JSON lines for machines; readable, with colour, on a terminal. Values are escaped by pino, so no input can forge a line. */
import { writeSync } from 'node:fs'
import pino, { type Logger } from 'pino'

export type { Logger }

/** Only a terminal needs it, and it would take a process elsewhere longer to start. */
const pretty = process.stdout.isTTY ? (await import('pino-pretty')).default : null

/** So much may wait for whoever reads the log. */
const MAX_UNREAD_BYTES = 1024 * 1024

const RETRY_MS = 20

/**
 * Writes each line at once, so that one who is killed has said it; but nobody stands still for the log: when its reader does, lines wait, then are
 * dropped, and their number is said once it reads again. pino's own destination either waits in place for the reader or writes later.
 */
const createSink = (fd: number, onDropped: (lines: number) => void): { write: (line: string) => void } => {
  let unread: Buffer[] = []
  let bytes = 0
  let dropped = 0
  let timer: NodeJS.Timeout | undefined

  /** How much of it the reader took. */
  const taken = (chunk: Buffer): number => {
    try {
      return writeSync(fd, chunk)
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EAGAIN' ? 0 : chunk.length // whoever read it is gone
    }
  }
  const drain = (): void => {
    timer = undefined
    const all = Buffer.concat(unread)
    const rest = all.subarray(taken(all))
    unread = rest.length > 0 ? [rest] : []
    bytes = rest.length
    if (bytes > 0) return later()
    if (dropped === 0) return
    const lines = dropped
    dropped = 0
    onDropped(lines)
  }
  const later = (): void => {
    timer ??= setTimeout(drain, RETRY_MS).unref()
  }
  process.once('exit', () => bytes > 0 && drain())
  return {
    write: (line) => {
      const chunk = Buffer.from(line)
      const rest = bytes > 0 ? chunk : chunk.subarray(taken(chunk))
      if (rest.length === 0) return
      // A line that has begun must end.
      if (rest === chunk && bytes + rest.length > MAX_UNREAD_BYTES) return void dropped++
      unread.push(rest)
      bytes += rest.length
      later()
    },
  }
}

const toReader = (options: pino.LoggerOptions): Logger => {
  const log: Logger = pino(options, createSink(1, (lines) => log.warn({ lines }, 'lines of the log were dropped, as nobody read it')))
  return log
}

/**
 * @param role `api`, `worker` or `start`, said in every line
 * @param level pino's levels, and `silent`
 */
export const createLogger = (role: string, level: string): Logger => {
  const options: pino.LoggerOptions = {
    level,
    base: { role, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  }
  if (!pretty) return toReader(options)
  return pino(options, pretty({ sync: true, translateTime: 'SYS:HH:MM:ss.l', ignore: 'pid,hostname', singleLine: true, messageFormat: '{role} {msg}' }))
}
