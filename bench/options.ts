/** What `npm run bench` takes, and how to read it. */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { DayOptions } from './day/run.ts'
import { GROWTH_NAMES, type GrowthOptions } from './growth/run.ts'
import { PEER_NAMES, type PeerName } from './peers/peers.ts'
import type { SystemName } from './system.ts'

export const USAGE = `npm run bench -- [--rounds 5] [--tasks 20000] [--rate 100] [--seconds 5] [--only thin|ours] [--peers restate,celery] [--wait] [--batches | --parked 10000] [--json]
  --rounds   how often each system is run, in turn
  --tasks    tasks of each throughput run
  --rate     tasks a second of the paced run
  --seconds  length of the paced run
  --only     one of the two systems that are always there, without the other
  --peers    others beside them: restate (fetched from the npm registry when it is not there), celery (which must be installed)
  --wait     also: how long after the agent's answer a client has it that waits for the task's end
  --batches  instead: tasks a thousand in a request, against one by one
  --parked   instead: what so many tasks that are at their agents, answered 202, cost the others
  --json     everything measured, as JSON on stdout

npm run bench -- --growth [name …] [--rounds n] [--full | --quick] [--plot] [--out docs]
  How cost grows with the work, a curve each: ${GROWTH_NAMES.join(', ')}.
  Writes what was measured to <out>/growth/<name>.json, draws it beside that, and puts the tables in <out>/scale.md.
  --full     to the largest sizes: minutes, and gigabytes
  --quick    only as much as shows that it works, to a temporary folder unless --out is given
  --plot     measures nothing: draws what was measured before

npm run bench -- --day [--minutes 8] [--rate 500] [--out docs]
  Whether memory, keys and file stay level over a day, made short: all that is kept for a time or up to a number is kept for so much less.
  Exits with 1 where something grew. With --out, writes growth/day.json, its drawings, and the table in scale.md.

npm run bench -- --model [--out docs]
  Measures nothing: reckons from the curves what up to 100,000 tasks/s and a million agents take, and puts that in <out>/scale.md.`

export type Options = Readonly<{
  rounds: number
  tasks: number
  rate: number
  seconds: number
  only: 'thin' | 'ours' | null
  peers: readonly PeerName[]
  wait: boolean
  batches: boolean
  parked: number | null
  json: boolean
  growth: GrowthOptions | null
  day: DayOptions | null
  /** Folder of `scale.md` and `growth/`. */
  model: string | null
}>

const peersOf = (text: string | undefined): PeerName[] => {
  const asked = text === undefined ? [] : text.split(',')
  const unknown = asked.find((name) => !PEER_NAMES.some((peer) => peer === name))
  if (unknown !== undefined) throw new Error(`--peers takes ${PEER_NAMES.join(' and ')}, with a comma between, not ${JSON.stringify(unknown)}`)
  return PEER_NAMES.filter((peer) => asked.includes(peer))
}

/** @returns null when it is help that is asked for */
export const readOptions = (args: string[]): Options | null => {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { growth: flag, model: flag, day: flag, minutes: text, full: flag, quick: flag, plot: flag, out: text, rounds: text, tasks: text, rate: text, seconds: text, only: text, peers: text, wait: flag, batches: flag, parked: text, json: flag, help: flag } })
  if (values.help) return null
  const whole = (name: 'rounds' | 'tasks' | 'rate' | 'seconds' | 'parked' | 'minutes', otherwise: number, max: number) => {
    const n = values[name] === undefined ? otherwise : Number(values[name])
    if (!Number.isInteger(n) || n < 1 || n > max) throw new Error(`--${name} must be a whole number from 1 to ${max}`)
    return n
  }
  const { only = null, peers, wait = false, batches = false, parked, json = false } = values
  if (only !== null && only !== 'thin' && only !== 'ours') throw new Error('--only must be thin or ours')
  if (positionals.length > 0 && !values.growth) throw new Error(`${positionals[0]} means nothing without --growth`)
  const { quick = false, full = false, plot = false } = values
  const out = values.out ?? (quick ? join(tmpdir(), 'switchyard-growth') : fileURLToPath(new URL('../docs', import.meta.url)))
  return {
    day: values.day ? { minutes: whole('minutes', 8, 1440), rate: whole('rate', 500, 5000), out: values.out ?? null } : null,
    growth: values.growth ? { names: positionals, rounds: values.rounds === undefined ? null : whole('rounds', 5, 100), quick, full, plot, out } : null,
    model: values.model ? out : null,
    rounds: whole('rounds', 5, 100),
    tasks: whole('tasks', 20_000, 1_000_000),
    rate: whole('rate', 100, 2000),
    seconds: whole('seconds', 5, 600),
    only,
    peers: peersOf(peers),
    wait,
    batches,
    parked: parked === undefined ? null : whole('parked', 10_000, 100_000),
    json,
  }
}

export const systemsOf = ({ only, peers }: Options): SystemName[] => [...(only === null ? (['thin', 'ours'] as const) : [only]), ...peers]

/** What repeats a run. */
export const commandOf = (options: Options): string => {
  const { rounds, tasks, rate, seconds, only, peers, wait, json } = options
  const more = [only && `--only ${only}`, peers.length > 0 && `--peers ${peers.join(',')}`, wait && '--wait', json && '--json'].filter(Boolean)
  return ['npm run bench --', `--rounds ${rounds} --tasks ${tasks} --rate ${rate} --seconds ${seconds}`, ...more].join(' ')
}
