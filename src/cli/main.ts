/** `switchyard`: the command line. bin/switchyard.js starts it. */
import { readFileSync } from 'node:fs'
import { BrokenPipe, Interrupted } from './failure.ts'
import { runProgram } from './program.ts'
import { createTerminal } from './terminal.ts'

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }

const stop = new AbortController()
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    stop.abort(new BrokenPipe())
  })
}

/** One Ctrl-C may come twice, from the terminal and from the launcher; one that comes later ends us at once. */
const SAME_CTRL_C_MS = 1000
const interrupt = (): void => {
  if (stop.signal.aborted) return
  stop.abort(new Interrupted())
  setTimeout(() => process.off('SIGINT', interrupt), SAME_CTRL_C_MS).unref()
}
process.on('SIGINT', interrupt)

process.exitCode = await runProgram(process.argv, { env: process.env, terminal: createTerminal(process.stdout, process.stderr), signal: stop.signal, version })
