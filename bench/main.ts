/** `npm run bench`: runs the thinnest pipeline, Switchyard and perhaps peers in turn, and says how they compare; or what parked tasks cost. See README.md beside this file. */
import os from 'node:os'
import { createBatchReport, formatBatches, runBatches } from './batch-trial.ts'
import { baseEnv, describe, findRedis, type Environment } from './environment.ts'
import { runDay } from './day/run.ts'
import { runModel } from './growth/model.ts'
import { runGrowth } from './growth/run.ts'
import { readOptions, systemsOf, USAGE, type Options } from './options.ts'
import { runParked } from './parked.ts'
import { preparePeers } from './peers/peers.ts'
import { createProcesses, type Processes } from './processes.ts'
import { createReport, formatReport } from './report.ts'
import { createTrial, type Trial } from './trial.ts'

const say = (line: string) => process.stderr.write(`${line}\n`)

const progress = (trial: Trial, round: number, rounds: number) => {
  const { throughput, paced, waited, system } = trial
  const end = waited ? `   waited p50 ${waited.p50Ms.toFixed(2)} ms` : ''
  say(`round ${round}/${rounds}  ${system.padEnd(7)}  ${throughput.tasksPerSecond.toFixed(0).padStart(5)} tasks/s   paced p50 ${paced.p50Ms.toFixed(2)} ms, p99 ${paced.p99Ms.toFixed(2)} ms${end}`)
}

const runBatchMode = async ({ tasks, rounds, json }: Options, redis: string, { machine, versions }: Environment, processes: Processes): Promise<void> => {
  const all = await runBatches({ redis, tasks, rounds }, processes, (round, { way, tasksPerSecond }) => say(`round ${round}/${rounds}  ${way.padEnd(6)}  ${tasksPerSecond.toFixed(0).padStart(6)} tasks/s`))
  const report = createBatchReport(all)
  const command = `npm run bench -- --batches --rounds ${rounds} --tasks ${tasks}`
  process.stdout.write(json ? `${JSON.stringify({ machine, versions, command, ...report }, null, 2)}\n` : `\n${formatBatches(report)}\n\nMachine: ${machine}\nRepeat with: ${command}\n`)
}

const runSystems = async (options: Options, redis: string, environment: Environment, processes: Processes): Promise<void> => {
  const runTrial = createTrial({ ...options, redis }, processes)
  const trials: Trial[] = []
  for (let round = 1; round <= options.rounds; round++) {
    for (const name of systemsOf(options)) {
      const trial = await runTrial(name)
      trials.push(trial)
      progress(trial, round, options.rounds)
    }
  }
  const report = createReport(trials, environment)
  process.stdout.write(`${options.json ? JSON.stringify(report, null, 2) : `\n${formatReport(report)}`}\n`)
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
  const versions = await Promise.race([preparePeers(options.peers, say), processes.failed])
  const environment = describe(options, redis, versions)
  if (os.loadavg()[0]! > os.cpus().length / 4) say(`This machine is busy (load average ${os.loadavg()[0]!.toFixed(2)}): expect noise.`)
  if (options.day) {
    const { text, flat } = await runDay(options.day, redis.file, environment, processes, say)
    process.stdout.write(`\n${text}\n`)
    if (!flat) process.exitCode = 1
    return
  }
  if (options.growth) return void process.stdout.write(`\n${await runGrowth(options.growth, redis.file, environment, processes, say)}`)
  if (options.batches) return runBatchMode(options, redis.file, environment, processes)
  if (options.parked !== null) return void process.stdout.write(`\n${await runParked({ redis: redis.file, rounds: options.rounds, tasks: options.tasks, parked: options.parked }, processes, say)}\n`)
  await runSystems(options, redis.file, environment, processes)
}

try {
  const options = readOptions(process.argv.slice(2))
  if (options?.model) process.stdout.write(`${await runModel(options.model)}`)
  else if (options) await run(options)
  else say(USAGE)
} catch (error) {
  say((error as Error).message)
  // All that was started has ended by now; what still waits in here (a poll for readiness) has nothing left to wait for.
  process.exit(process.exitCode ?? 1)
}
