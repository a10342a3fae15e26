/** `npm run bench`: runs the thinnest pipeline and Switchyard in turn, and says how they compare; or what parked tasks cost. See README.md beside this file. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import { parseArgs } from 'node:util'
import { CLIENTS, CONCURRENCY, MAX_OUTSTANDING, REDIS_SETTINGS, WARM_UP_TASKS } from './settings.ts'
import { createBatchReport, formatBatches, runBatches } from './batch-trial.ts'
import { runParked } from './parked.ts'
import { createProcesses, type Processes } from './processes.ts'
import { createReport, formatReport, type Environment } from './report.ts'
import { SYSTEM_NAMES, type SystemName } from './systems.ts'
import { createTrial, type Settings, type Trial } from './trial.ts'

const USAGE = `npm run bench -- [--rounds 5] [--tasks 20000] [--rate 100] [--seconds 5] [--only thin|ours] [--batches | --parked 10000] [--json]
  --rounds   how often each system is run, in turn
  --tasks    tasks of each throughput run
  --rate     tasks a second of the paced run
  --seconds  length of the paced run
  --only     one system alone
  --batches  instead: tasks a thousand in a request, against one by one
  --parked   instead: what so many tasks that are at their agents, answered 202, cost the others
  --json     everything measured, as JSON on stdout`

type Options = Readonly<{ rounds: number; tasks: number; rate: number; seconds: number; systems: readonly SystemName[]; batches: boolean; parked: number | null; json: boolean }>

const say = (line: string) => process.stderr.write(`${line}\n`)

const readOptions = (args: string[]): Options => {
  const text = { type: 'string' } as const
  const { values } = parseArgs({ args, options: { rounds: text, tasks: text, rate: text, seconds: text, only: text, batches: { type: 'boolean' }, parked: text, json: { type: 'boolean' }, help: { type: 'boolean' } } })
  if (values.help) {
    say(USAGE)
    process.exit(0)
  }
  const whole = (name: 'rounds' | 'tasks' | 'rate' | 'seconds' | 'parked', otherwise: number, max: number) => {
    const n = values[name] === undefined ? otherwise : Number(values[name])
    if (!Number.isInteger(n) || n < 1 || n > max) throw new Error(`--${name} must be a whole number from 1 to ${max}`)
    return n
  }
  const systems = values.only === undefined ? SYSTEM_NAMES : SYSTEM_NAMES.filter((name) => name === values.only)
  if (!systems.length) throw new Error('--only must be thin or ours')
  return { rounds: whole('rounds', 5, 100), tasks: whole('tasks', 20_000, 1_000_000), rate: whole('rate', 100, 2000), seconds: whole('seconds', 5, 600), systems, batches: values.batches ?? false, parked: values.parked === undefined ? null : whole('parked', 10_000, 100_000), json: values.json ?? false }
}

/** The first of the two servers on PATH, and what it says of its version. */
const findRedis = (): { file: string; version: string } => {
  for (const file of ['redis-server', 'valkey-server']) {
    try {
      const version = execFileSync(file, ['--version'], { encoding: 'utf8' })
      return { file, version: /v=(\S+)/.exec(version)?.[1] ?? version.trim() }
    } catch {
      // not this one
    }
  }
  throw new Error('Neither redis-server nor valkey-server is on PATH; install one of them')
}

const packageVersion = (name: string): string => {
  const { resolve } = createRequire(import.meta.url)
  const entry = resolve(name)
  const folder = entry.slice(0, entry.lastIndexOf(`node_modules/${name}/`) + `node_modules/${name}/`.length)
  return (JSON.parse(readFileSync(`${folder}package.json`, 'utf8')) as { version: string }).version
}

const describe = (options: Options, redis: Readonly<{ file: string; version: string }>): Environment => {
  const { rounds, tasks, rate, seconds, systems, json } = options
  const only = systems.length === 1 ? ` --only ${systems[0]}` : ''
  const cpus = os.cpus()
  return {
    machine: `${cpus.length} × ${cpus[0]?.model ?? 'unknown CPU'}, ${Math.round(os.totalmem() / 2 ** 30)} GiB, ${os.type()} ${os.release()}, load average at the start ${os.loadavg()[0]!.toFixed(2)}`,
    versions: { node: process.versions.node, ...Object.fromEntries(['bullmq', 'ioredis', 'undici', 'express'].map((name) => [name, packageVersion(name)])), [redis.file]: redis.version },
    settings: {
      rounds: String(rounds),
      'tasks a round': String(tasks),
      'warm-up': String(WARM_UP_TASKS),
      clients: String(CLIENTS),
      'most outstanding': String(MAX_OUTSTANDING),
      'worker concurrency': String(CONCURRENCY),
      paced: `${rate}/s for ${seconds} s`,
      redis: REDIS_SETTINGS.map((s) => s || "''").join(' '),
    },
    command: `npm run bench -- --rounds ${rounds} --tasks ${tasks} --rate ${rate} --seconds ${seconds}${only}${json ? ' --json' : ''}`,
    startedAt: new Date().toISOString(),
  }
}

/** Only what the parts need: a setting in the caller's shell must not change what is measured. */
const baseEnv = (): Record<string, string> => {
  const kept = ['PATH', 'HOME', 'TMPDIR', 'LANG'].flatMap((key) => (process.env[key] ? [[key, process.env[key]] as const] : []))
  return { ...Object.fromEntries(kept), NODE_ENV: 'production' }
}

const progress = (trial: Trial, round: number, rounds: number) => {
  const { throughput, paced, system } = trial
  say(`round ${round}/${rounds}  ${system.padEnd(4)}  ${throughput.tasksPerSecond.toFixed(0).padStart(5)} tasks/s   paced p50 ${paced.p50Ms.toFixed(2)} ms, p99 ${paced.p99Ms.toFixed(2)} ms`)
}

const runBatchMode = async ({ tasks, rounds, json }: Options, redis: string, { machine, versions }: Environment, processes: Processes): Promise<void> => {
  const all = await runBatches({ redis, tasks, rounds }, processes, (round, { way, tasksPerSecond }) => say(`round ${round}/${rounds}  ${way.padEnd(6)}  ${tasksPerSecond.toFixed(0).padStart(6)} tasks/s`))
  const report = createBatchReport(all)
  const command = `npm run bench -- --batches --rounds ${rounds} --tasks ${tasks}`
  process.stdout.write(json ? `${JSON.stringify({ machine, versions, command, ...report }, null, 2)}\n` : `\n${formatBatches(report)}\n\nMachine: ${machine}\nRepeat with: ${command}\n`)
}

const run = async (options: Options): Promise<void> => {
  const processes = createProcesses(baseEnv())
  // A signal, or a parent that is gone (npm dies at once of a signal), aborts the trial, which then ends what it started. A second signal does not wait.
  let signals = 0
  const interrupt = (why: string) => {
    if (++signals > 1) process.exit(130)
    process.exitCode = 130
    processes.abort(new Error(why))
  }
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => interrupt(`interrupted by ${name}`))
  process.on('exit', processes.kill)
  const parent = process.ppid
  setInterval(() => process.ppid === parent || interrupt('the parent process is gone'), 1000).unref()

  const redis = findRedis()
  const settings: Settings = { redis: redis.file, tasks: options.tasks, rate: options.rate, seconds: options.seconds }
  const environment = describe(options, redis)
  if (os.loadavg()[0]! > os.cpus().length / 4) say(`This machine is busy (load average ${os.loadavg()[0]!.toFixed(2)}): expect noise.`)
  if (options.batches) return runBatchMode(options, redis.file, environment, processes)
  if (options.parked !== null) return void process.stdout.write(`\n${await runParked({ redis: redis.file, rounds: options.rounds, tasks: options.tasks, parked: options.parked }, processes, say)}\n`)
  const runTrial = createTrial(settings, processes)
  const trials: Trial[] = []
  for (let round = 1; round <= options.rounds; round++) {
    for (const name of options.systems) {
      const trial = await runTrial(name)
      trials.push(trial)
      progress(trial, round, options.rounds)
    }
  }
  const report = createReport(trials, environment)
  process.stdout.write(`${options.json ? JSON.stringify(report, null, 2) : `\n${formatReport(report)}`}\n`)
}

try {
  await run(readOptions(process.argv.slice(2)))
} catch (error) {
  say((error as Error).message)
  // All that was started has ended by now; what still waits in here (a poll for readiness) has nothing left to wait for.
  process.exit(process.exitCode ?? 1)
}
