/**
 * `npm run soak -- --minutes 30`: steady load, and each minute a fault by chance, of those that mix. At the end memory, connections, keys and lag are what
 * they were at first, and every promise has held meanwhile. `--seed N` gives the same faults again; Ctrl-C tells what has been seen so far.
 */
import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { call, sleep, until } from '../system.ts'
import type { AgentRecord } from './checker.ts'
import { mono } from './clock.ts'
import { startFleet } from './fleet.ts'
import { createLoad } from './load.ts'
import { createRandom } from './random.ts'
import type { Row } from './row.ts'
import { ROWS } from './rows/index.ts'
import { compare, formatSeries, type Span } from './series.ts'
import { createSoakCheck } from './soak-check.ts'
import { census, createSampler, moreOf } from './soak-samples.ts'
import { createTrial, logFaults, openTasks, tail } from './trial.ts'

const MINUTE = 60_000
const RATE = 25
/** Records stay so long, and keys of clients: what comes and goes is level soon, and what stays is seen. */
const KEPT_SECONDS = 60

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '30' }, seed: { type: 'string' }, row: { type: 'string', multiple: true } } })
const minutes = Number(values.minutes)
if (!(minutes >= 4)) {
  process.stderr.write('--minutes must be a number from 4: the first and the last are calm\n')
  process.exit(1)
}
const seed = values.seed === undefined ? randomInt(1, 1e6) : Number(values.seed)
const rows = ROWS.filter((r) => r.mixes && !r.lacks && (!values.row || values.row.includes(r.name)))
/** Calm at first and at last, for so long. */
const calmMs = (minutes >= 15 ? 3 : 1.6) * MINUTE

const random = createRandom(seed)
const began = mono()
const minute = () => ((mono() - began) / MINUTE).toFixed(1)
const say = (line: string) => process.stderr.write(`[${minute()}] ${line}\n`)

say(`a soak of ${minutes} minutes, seed ${seed}`)
const retention = { RETENTION_COMPLETED_SECONDS: String(KEPT_SECONDS), RETENTION_FAILED_SECONDS: String(KEPT_SECONDS) }
const fleet = await startFleet({ dispatchers: 2, hosts: 2, agentsPerHost: 5, ttlSeconds: 9, links: [...new Set(rows.flatMap((r) => r.fleet?.links ?? []))], env: retention }, random)
const load = createLoad({ rate: RATE, keySeconds: KEPT_SECONDS, apis: fleet.apis.map((a) => a.url), random: createRandom(seed + 1) })
const { trial, count, unproven, ofRow, violations, recoveries, cleanings, begin } = createTrial({ fleet, load, random, say, short: true })
const seen = new Map<string, number>()
const violate = (what: string) => {
  violations.push(what)
  say(`BROKEN: ${what}`)
}
const checks = createSoakCheck({ ...trial, violate }, ofRow, violate)
const sampler = createSampler({ fleet, load })
let first: Span | null = null
let last: Span | null = null

const report = (): number => {
  const grown = first && last ? sampler.series.filter((s) => !compare(s, first!, last!).holds) : []
  const slowest = recoveries.length === 0 ? '' : `, recovered within ${(Math.max(...recoveries) / 1000).toFixed(1)} s`
  const { total } = checks
  const made = count()
  process.stdout.write(`\n${formatSeries(sampler.series, first, last)}\n
${minute()} minutes, seed ${seed}: ${made.injected} faults made, ${made.bit} seen to bite${slowest}
  ${[...seen].map(([name, times]) => `${times} × ${name}`).join(', ')}
${total.tasks} tasks, ${total.lost} lost, ${total.doubled} doubled, ${total.changed} changed ends, ${total.overLimit} over a limit, ${total.leaked} slots leaked
${violations.length + grown.length === 0 ? (last ? 'held' : 'held so far') : `BROKEN\n${[...violations.slice(0, 50), ...grown.map((s) => `${s.name} grew`)].map((v) => `  ${v}`).join('\n')}`}\n`)
  return violations.length + grown.length === 0 ? 0 : 1
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    report()
    process.exit(130)
  })
}

await fleet.allAlive()
load.start()
sampler.start()
let before: Row | null = null
/** Waits for the rest of a calm time, and looks at what has ended every now and then. */
const calm = async (ms: number, around: readonly Row[]): Promise<void> => {
  for (const until = mono() + ms; mono() < until; ) {
    await sleep(Math.min(20_000, Math.max(1, until - mono())))
    await checks.window(around, null)
  }
}
say('calm')
await calm(calmMs, [])
// What comes and goes is level behind the time that it stays; what starts up is over.
first = { from: began + calmMs * 0.6, to: mono() }
const kindsAtFirst = await census(fleet)

while (mono() - began + calmMs < minutes * MINUTE) {
  const row = random.pick(rows)
  const since = mono()
  seen.set(row.name, (seen.get(row.name) ?? 0) + 1)
  begin(row)
  await row.run(trial).catch((error: unknown) => violate(`${row.name} could not be tried: ${error instanceof Error ? error.message : String(error)}`))
  await sleep(Math.max(5000, since + MINUTE - mono()))
  await checks.window([row, ...(before ? [before] : [])], before)
  before = row
  say(`${checks.total.tasks} tasks, ${checks.total.lost} lost, ${checks.total.changed} changed ends; ${trial.fleet.members.map((m) => `${m.name} ${Math.round(m.residentMiB())}`).join(' ')} MiB, of this one ${Math.round(process.memoryUsage().rss / 1024 / 1024)}`)
}

const around = before ? [before] : []
say('calm again')
await tail(trial)
const calmFrom = mono()
await calm(calmMs, around)
last = { from: calmFrom + calmMs * 0.6, to: mono() }
say(`kinds of keys that are more: ${moreOf(kindsAtFirst, await census(fleet)) || 'none'}`)
await load.stop()
sampler.stop()
await until(async () => (await openTasks(fleet)) === 0, { timeoutMs: 90_000, everyMs: 200, what: 'the end of all tasks' }).catch((error: Error) => violate(error.message))
await checks.window(around, before)
const agents = async () => (await call('GET', `${fleet.api()}/agents?include_dead=true&limit=200`)).json.agents as AgentRecord[]
await until(async () => (await agents()).every((a) => a.in_flight === 0), { timeoutMs: 25_000, everyMs: 250 }).catch(() => {})
await checks.end(around, await agents())
for (const line of logFaults(fleet)) violate(line)
for (const line of unproven()) violate(line)
const code = report()
for (const clean of cleanings) await clean()
await fleet.end({ keep: false })
process.exit(code)
