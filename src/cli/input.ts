/** What is typed behind options: numbers, members, and objects from files; wrong ones are told in plain words. */
import { readFile } from 'node:fs/promises'
import { addAbortSignal } from 'node:stream'
import { text } from 'node:stream/consumers'
import { InvalidArgumentError } from 'commander'
import type { JsonObject } from '../../sdk/typescript/client.ts'
import { UsageError } from './failure.ts'
import { parseJson } from './json.ts'

/** A reader of numbers. What only a router limits needs no `most`: it says itself which are too large. */
export const number =
  ({ whole = false, least = 0, most = Infinity } = {}) =>
  (typed: string): number => {
    const value = /^\d+(\.\d+)?$/.test(typed) ? Number(typed) : NaN
    const range = most < Infinity ? ` from ${least} to ${most}` : least > 0 ? ` from ${least}` : ''
    if (Number.isNaN(value) || value < least || value > most || (whole && !Number.isInteger(value))) throw new InvalidArgumentError(`It must be a ${whole ? 'whole ' : ''}number${range}.`)
    return value
  }

/** `k=v`, where v is JSON if it parses as JSON, else text; may be repeated. */
export const member = (typed: string, before: JsonObject = {}): JsonObject => {
  const at = typed.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('It must be name=value.')
  const name = typed.slice(0, at)
  const value = typed.slice(at + 1)
  if (Object.hasOwn(before, name)) throw new InvalidArgumentError(`${name} is given twice.`)
  try {
    return { ...before, [name]: parseJson(value) }
  } catch {
    return { ...before, [name]: value }
  }
}

/**
 * The parameters in a file, or with `-` on standard input.
 * @throws UsageError when it cannot be read, or holds no JSON object
 */
export const readParameters = async (file: string, signal: AbortSignal): Promise<JsonObject> => {
  const where = file === '-' ? 'standard input' : file
  let json: string
  try {
    json = file === '-' ? await text(addAbortSignal(signal, process.stdin)) : await readFile(file, { encoding: 'utf8', signal })
  } catch (error) {
    signal.throwIfAborted()
    const { code, message } = error as NodeJS.ErrnoException
    throw new UsageError(code === 'ENOENT' ? `there is no file ${file}; - reads standard input` : `${where} cannot be read: ${message}`)
  }
  return parseParameters(json, where)
}

/**
 * @param where it comes from, for people
 * @param what the object is
 */
export const parseParameters = (json: string, where: string, what = 'the parameters by name'): JsonObject => {
  let value: unknown
  try {
    value = parseJson(json)
  } catch (error) {
    throw new UsageError(`${where} is not JSON: ${(error as Error).message}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new UsageError(`${where} must hold a JSON object: ${what}`)
  return value as JsonObject
}
