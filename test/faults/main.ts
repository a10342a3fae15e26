/**
 * `npm run test:faults`: breaks the system in every way of docs/reliability.md, one after the other, and says whether the promises held.
 * `--row NAME` (may be given several times), `--seed N`, `--list`, `--json`, `--markdown`, `--keep` (ledgers of good trials too).
 */
import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { formatFault, formatMarkdown, formatTable } from './report.ts'
import { ROWS } from './rows/index.ts'
import { runTrial, type Outcome } from './trial.ts'

const { values } = parseArgs({ options: { row: { type: 'string', multiple: true }, seed: { type: 'string' }, list: { type: 'boolean' }, json: { type: 'boolean' }, markdown: { type: 'boolean' }, keep: { type: 'boolean' } } })

const unknown = (values.row ?? []).filter((name) => !ROWS.some((r) => r.name === name))
if (values.list || unknown.length > 0) {
  if (unknown.length > 0) process.stderr.write(`There is no row ${unknown.join(', ')}. These are:\n`)
  for (const r of ROWS) process.stdout.write(`${r.name.padEnd(28)}${r.fault}\n`)
  process.exit(unknown.length > 0 ? 1 : 0)
}
const seed = values.seed === undefined ? randomInt(1, 1e6) : Number(values.seed)
const rows = values.row ? ROWS.filter((r) => values.row!.includes(r.name)) : ROWS
const outcomes: Outcome[] = []
const broken: string[] = []
const skipped: string[] = []

let ending = false
const end = (code: number): never => {
  if (values.json) process.stdout.write(`${JSON.stringify({ seed, outcomes, broken }, null, 2)}\n`)
  else if (outcomes.length > 0) process.stdout.write(`\n${values.markdown ? formatMarkdown(outcomes) : formatTable(outcomes)}\n`)
  for (const one of skipped) process.stderr.write(`\n${one}\n`)
  for (const one of broken) process.stderr.write(`\n${one}\n`)
  process.exit(code)
}
// The processes of a trial end with us, whatever ends us; what has been seen so far is told.
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (ending) process.exit(130)
    ending = true
    end(130)
  })
}

for (const [i, row] of rows.entries()) {
  const say = (line: string) => process.stderr.write(`[${i + 1}/${rows.length}] ${row.name}: ${line}\n`)
  const lack = await row.lacks?.()
  if (lack) {
    say(`skipped: ${lack}`)
    skipped.push(`${row.name} was skipped: ${lack}`)
    continue
  }
  try {
    const outcome = await runTrial([row], { seed, say, keep: values.keep === true })
    outcomes.push(outcome)
    if (outcome.violations.length > 0) broken.push(formatFault(outcome))
    say(`${outcome.violations.length === 0 ? 'held' : 'BROKEN'}, ${outcome.seconds.toFixed(0)} s`)
  } catch (error) {
    broken.push(`${row.name} (seed ${seed}) could not be tried: ${error instanceof Error ? error.stack : String(error)}`)
    say('could not be tried')
  }
}
end(broken.length > 0 ? 1 : 0)
