/** The worst of the faults, each once, one after the other on one system: what every change has to live through. All of them: `npm run test:faults`. */
import { expect, test } from 'vitest'
import { formatFault } from './report.ts'
import { ROWS } from './rows/index.ts'
import { runTrial } from './trial.ts'

const WORST = ['dispatcher-killed', 'api-killed', 'agents-killed', 'redis-killed', 'redis-frozen', 'store-errs', 'results-replayed', 'cancel-races']

test('dispatcher, API, agents and Redis killed, frozen or refusing: nothing lost, changed, over a limit or left behind', { timeout: 300_000 }, async () => {
  const rows = WORST.map((name) => ROWS.find((r) => r.name === name)!)
  const said: string[] = []
  const outcome = await runTrial(rows, { seed: 1, say: (line) => said.push(line), short: true, fleet: { dispatchers: 2, hosts: 2, agentsPerHost: 4 }, load: { rate: 12 } })
  expect(outcome.violations, `${formatFault(outcome)}\n${said.join('\n')}`).toEqual([])
  expect(outcome.tasks).toBeGreaterThan(250)
})
