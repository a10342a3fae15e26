/** `switchyard start`, `api`, `worker`: the router's own processes. They are not part of this program; it starts them, and ends with them. */
import { spawn } from 'node:child_process'
import { resolve } from 'node:path'
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'
import { ALLOCATOR } from '../allocator.ts'
import type { Register, Environment } from './session.ts'

const ROLES = [
  ['start', '../start/main', 'start it all on this machine: an API, a dispatcher and, without REDIS_URL, a Redis'],
  ['api', '../api/main', 'start an API process; any number may share one Redis'],
  ['worker', '../workers/main', 'start a dispatcher; any number may share one Redis'],
] as const

const HELP = '\nSettings come from the environment: PORT, HOST, REDIS_URL, DATA_DIR, LOG_LEVEL, …; docs/operations.md has them all. Ctrl-C stops it.'

export const startCommands: Register = (program, _run, { env, end }) => {
  for (const [name, script, description] of ROLES) {
    program
      .command(name)
      .description(description)
      .addHelpText('after', HELP)
      .action(async () => {
        end(await become(script, env))
      })
  }
}

/** In the repository this file is TypeScript, and what it starts too; its data lies where `npm start` has it. */
const isSource = import.meta.url.endsWith('.ts')
const home = (env: Environment): Record<string, string> => (env['DATA_DIR'] ? { DATA_DIR: resolve(env['DATA_DIR']) } : isSource ? { DATA_DIR: fileURLToPath(new URL('../../.data', import.meta.url)) } : {})

/** Runs a main file as a child that gets our signals and whose end is ours. */
export const become = (script: string, env: Environment, args: readonly string[] = []): Promise<number> =>
  new Promise((done, fail) => {
    const path = fileURLToPath(new URL(`${script}${isSource ? '.ts' : '.js'}`, import.meta.url))
    // By the channel it learns when we are gone, however we went; it then drains and stops.
    const child = spawn(process.execPath, [path, ...args], { stdio: ['inherit', 'inherit', 'inherit', 'ipc'], env: { ...ALLOCATOR, ...env, ...home(env) } })
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal))
    // And we, when the launcher is gone.
    if (process.send) process.once('disconnect', () => child.kill('SIGTERM'))
    child.once('error', fail)
    child.once('close', (code, signal) => {
      if (process.connected) process.disconnect()
      done(code ?? 128 + constants.signals[signal!])
    })
  })
