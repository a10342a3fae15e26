/** One run of `switchyard agent-test`: what was typed, the test, and how it ends. */
import type { JsonObject } from '../../../sdk/typescript/client.ts'
import { EXIT, UsageError } from '../failure.ts'
import { parseParameters, readParameters } from '../input.ts'
import { agentTest } from './agent-test.ts'
import { UnreachableError } from './discover.ts'
import { printReport } from './report.ts'

export type Options = {
  task?: string
  jsonParameters?: string
  param?: JsonObject
  slowTask?: string
  slowJsonParameters?: string
  slowParam?: JsonObject
  laterTask?: string
  laterJsonParameters?: string
  laterParam?: JsonObject
  maxConcurrency?: number
  pid?: number
  secret?: string
  timeout: number
  command?: string
  only?: string[]
  json?: true
}

/** JSON itself, a file of it, or - for standard input; and pairs on top. */
const parametersOf = async (json: string | undefined, pairs: JsonObject | undefined, signal: AbortSignal): Promise<JsonObject | undefined> => {
  if (json === undefined) return pairs
  return { ...(/^\s*[[{]/.test(json) ? parseParameters(json, 'the parameters') : await readParameters(json, signal)), ...pairs }
}

export const run = async (url: string | undefined, options: Options): Promise<number> => {
  const stop = new AbortController()
  const stopBy = (signal: NodeJS.Signals) => (): void => stop.abort(signal)
  const handlers = (['SIGINT', 'SIGTERM', 'SIGHUP'] as const).map((signal) => [signal, stopBy(signal)] as const)
  for (const [signal, handler] of handlers) process.on(signal, handler)
  const progress = options.json || !process.stderr.isTTY ? undefined : ({ name, count, of }: { name: string; count: number; of: number }) => void process.stderr.write(`\r\x1b[K${count}/${of} ${name}`)
  const clear = (): void => {
    if (progress) process.stderr.write('\r\x1b[K')
  }
  const fail = (message: string, code: number): number => {
    clear()
    if (options.json) process.stdout.write(`${JSON.stringify({ error: message, exit_code: code })}\n`)
    else process.stderr.write(`switchyard: ${message}\n`)
    return code
  }
  try {
    const report = await agentTest({
      url, command: options.command, task: options.task, parameters: await parametersOf(options.jsonParameters, options.param, stop.signal),
      slowTask: options.slowTask, slowParameters: await parametersOf(options.slowJsonParameters, options.slowParam, stop.signal),
      laterTask: options.laterTask, laterParameters: await parametersOf(options.laterJsonParameters, options.laterParam, stop.signal),
      maxConcurrency: options.maxConcurrency, pid: options.pid, secret: options.secret, timeoutMs: options.timeout * 1000, only: options.only, signal: stop.signal, onProgress: progress,
    })
    clear()
    if (options.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
    else printReport(report)
    return report.exit_code
  } catch (error) {
    if (stop.signal.aborted) return fail(`stopped by ${String(stop.signal.reason)}`, stop.signal.reason === 'SIGINT' ? EXIT.interrupted : stop.signal.reason === 'SIGTERM' ? 143 : 129)
    if (error instanceof UsageError) return fail(error.message, EXIT.usage)
    if (error instanceof UnreachableError) return fail(error.message, EXIT.unreachable)
    throw error
  } finally {
    for (const [signal, handler] of handlers) process.removeListener(signal, handler)
  }
}
