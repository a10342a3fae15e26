/** What an agent logs: one line an event, readable on a terminal, else JSON. */
import { styleText } from 'node:util'

/** Members beside the message; an Error is written with its stack. */
export type Fields = Record<string, unknown>
export type Log = (message: string, fields?: Fields) => void
/** `console` is one, and so is anything else with these four functions. */
export type Logger = { debug: Log; info: Log; warn: Log; error: Log }

const LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type Level = (typeof LEVELS)[number]
type Written = Exclude<Level, 'silent'>
const COLOURS = { debug: 'gray', info: 'green', warn: 'yellow', error: 'red' } as const

/** @param text LOG_LEVEL; pino's `trace` and `fatal` are the nearest of ours */
export const readLevel = (text: string | undefined): Level => {
  const level = (text ?? '').toLowerCase()
  if (level === 'trace') return 'debug'
  if (level === 'fatal') return 'error'
  return LEVELS.find((known) => known === level) ?? 'info'
}

const plain = (value: unknown): unknown => (value instanceof Error ? (value.stack ?? String(value)) : value)

/** What was thrown need be no Error, nor have words. */
const text = (value: unknown): string => {
  try {
    return String(plain(value))
  } catch {
    return json(value)
  }
}

/** Nothing that is logged may throw: not a BigInt, not a cycle. */
const json = (value: unknown): string => {
  try {
    return JSON.stringify(value, (_, member: unknown) => (typeof member === 'bigint' ? String(member) : plain(member))) ?? String(value)
  } catch {
    return JSON.stringify('[cannot be written as JSON]')
  }
}

const line = (level: Written, agent: string, message: string, fields: Fields): string => json({ level, time: new Date().toISOString(), agent, msg: message, ...fields })

const prettyLine = (level: Written, agent: string, message: string, fields: Fields): string => {
  const { error, ...others } = fields
  const rest = Object.entries(others).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${typeof value === 'string' ? value : json(value)}`]))
  const head = [new Date().toTimeString().slice(0, 8), styleText(COLOURS[level], level.toUpperCase().padEnd(5)), `${agent}:`, message, styleText('gray', rest.join(' '))]
  return [head.join(' ').trimEnd(), ...(error === undefined ? [] : [text(error)])].join('\n')
}

let outlivesStdout = false
/** Writing to a pipe that nobody reads any more would end the process: console takes care of one such write, but not of those right behind it. */
const outliveStdout = (): void => {
  if (!outlivesStdout) process.stdout.on('error', () => {})
  outlivesStdout = true
}

/**
 * The logger of an agent that is given none. Writes to stdout.
 * @param agent its name, said in every line
 * @param level nothing below it is written
 * @param tty whether people read it: colour, and a clock instead of a date
 */
export const createLogger = (agent: string, level: Level, tty: boolean = process.stdout.isTTY === true): Logger => {
  const least = LEVELS.indexOf(level)
  outliveStdout()
  const at = (its: Written): Log => {
    if (LEVELS.indexOf(its) < least) return () => {}
    return (message, fields = {}) => console.log((tty ? prettyLine : line)(its, agent, message, fields))
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

/** The same logger, but that none of its calls throws: what cannot be logged must not end a task, and with it the process. */
export const unfailing = (logger: Logger): Logger => {
  const at =
    (level: Written): Log =>
    (message, ...fields) => {
      try {
        logger[level](message, ...fields)
      } catch {
        // There is nowhere to say it.
      }
    }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

/** The same logger, which says `fields` in each line. */
export const withFields = (logger: Logger, fields: Fields): Logger => {
  const at =
    (level: Written): Log =>
    (message, more) =>
      logger[level](message, { ...fields, ...more })
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}
