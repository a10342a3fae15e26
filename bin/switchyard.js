#!/usr/bin/env node
/**
 * The entry of the `switchyard` command, for any Node from 20. Where that is too old for the program, the project's own is taken
 * (the package `node`, under node_modules), with all arguments, signals and the exit code passed on.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import module from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'

const NEEDED = [22, 19]
// Node has followed symlinks by now: this is the file itself.
const at = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url))

const fits = (version) => {
  const [major, minor] = version.replace(/^v/, '').split('.').map(Number)
  return major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])
}

const fail = (...lines) => {
  process.stderr.write(`switchyard: ${lines.join('\n')}\n`)
  process.exitCode = 1
}

/** @returns {boolean} whether what is needed is there */
const prepare = () => {
  if (!isSource) return true
  const starts = ['start', 'api', 'worker'].includes(process.argv[2] ?? '') && !process.argv.some((a) => a === '-h' || a === '--help')
  if (starts) {
    // As `npm start` does; quiet, and done in a moment, when nothing is missing.
    const { status } = spawnSync(at('bin/setup'), { stdio: 'inherit' })
    if (status !== 0) process.exitCode = 1
    return status === 0
  }
  if (existsSync(at('node_modules/commander'))) return true
  fail('nothing is installed yet.', `Run ${at('bin/setup')} first.`)
  return false
}

/** Runs the program with another Node. */
const handOver = (node) => {
  const child = spawn(node, [main, ...process.argv.slice(2)], { stdio: ['inherit', 'inherit', 'inherit', 'ipc'] })
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
  for (const signal of signals) process.on(signal, () => child.kill(signal))
  child.once('error', (error) => fail(`${node} cannot be started: ${error.message}`))
  child.once('exit', (code, signal) => {
    if (signal === null) return void (process.exitCode = code)
    for (const s of signals) process.removeAllListeners(s)
    process.kill(process.pid, signal)
  })
}

const isSource = existsSync(at('src/cli/main.ts'))
const main = at(isSource ? 'src/cli/main.ts' : 'dist/src/cli/main.js')

if (prepare()) {
  const own = at('node_modules/.bin/node')
  if (fits(process.version)) {
    module.enableCompileCache() // halves the time to start
    await import(pathToFileURL(main).href)
  } else if (existsSync(own)) handOver(own)
  else fail(`Node.js ${NEEDED.join('.')} or newer is needed, and this is ${process.version}.`, isSource ? `Run ${at('bin/setup')}, which brings one.` : 'Install one from https://nodejs.org.')
}
