/** One logger. JSON lines for machines; readable, with colour, on a terminal. Values are escaped by pino, so no input can forge a line. */
import pino, { type Logger } from 'pino'

export type { Logger }

/** Only a terminal needs it, and it would take a process elsewhere longer to start. */
const pretty = process.stdout.isTTY ? (await import('pino-pretty')).default : null

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
  if (!pretty) return pino(options, pino.destination({ fd: 1, sync: true }))
  return pino(options, pretty({ sync: true, translateTime: 'SYS:HH:MM:ss.l', ignore: 'pid,hostname', singleLine: true, messageFormat: '{role} {msg}' }))
}
