/** The agents that we give to others pass `agent-test`: those of the SDKs without a warning, also where requests must be signed. */
import { join } from 'node:path'
import { test, vi } from 'vitest'
import { agentTest, CHECKS, type AgentTestOptions } from '../src/cli/agent-test/agent-test.ts'
import type { Report } from '../src/cli/agent-test/report.ts'
import { ROOT } from './processes.ts'
import { noPython } from './python.ts'

// Nearly all of each is waiting.
vi.setConfig({ maxConcurrency: 7 })

const SECRET = `whsec_${Buffer.from('a secret of the tests, long enough').toString('base64')}`

const start = (file: string): string => `env PYTHONDONTWRITEBYTECODE=1 AGENT_LOG=silent '${file.endsWith('.py') ? 'python3' : process.execPath}' '${join(ROOT, file)}'`
const broken = (report: Report): string[] => report.results.filter((result) => result.sent !== undefined).map(({ name, sent, came }) => `${name}: ${sent}: ${came}`)

/** Nearly all checks measure times: of an agent that a busy machine made look bad the second look counts. */
const atBest = async (options: AgentTestOptions): Promise<Report> => {
  const report = await agentTest(options)
  return broken(report).length === 0 ? report : agentTest(options)
}

const WHOLE: [string, string][] = [
  ['without a fault', `env FAULT=none '${process.execPath}' '${join(ROOT, 'test/agents/broken.ts')}'`],
  ['of the TypeScript SDK', start('test/agents/typescript.ts')],
  ['of the Python SDK', start('test/agents/python.py')],
]
/** Those that answer everything 202: there is no connection then whose end could stop a task. */
const LATER = WHOLE.slice(1).map(([name, command]) => [name, `env AGENT_LATER_AFTER_SECONDS=0 ${command}`])

test.concurrent.for(WHOLE)('an agent %s passes every check', { timeout: 90_000 }, async ([, command], { expect, skip }) => {
  skip(noPython && command.includes('.py'), 'there is no python3 of 3.9 or newer')
  const report = await atBest({ command, secret: SECRET })
  expect(broken(report)).toEqual([])
  expect(report.passed).toBe(Object.keys(CHECKS).length)
})

test.concurrent.for(LATER)('an agent %s that answers every task 202 passes every check but that of connections', { timeout: 90_000 }, async ([, command], { expect, skip }) => {
  skip(noPython && command!.includes('.py'), 'there is no python3 of 3.9 or newer')
  const report = await atBest({ command: command!, secret: SECRET })
  expect(broken(report)).toEqual([])
  expect(report.results.filter((result) => result.status === 'skipped').map((result) => result.name)).toEqual(['disconnect-stops'])
})

const EXAMPLES: [string, AgentTestOptions][] = [
  ['examples/text-agent.ts', { task: 'word_count', parameters: { text: 'one two two' } }],
  ['examples/cost_agent.py', { task: 'forecast_cost', parameters: { daily: [1, 2, 3] } }],
  ['examples/primes_agent.py', { task: 'count_primes', parameters: { below: 10 }, laterTask: 'count_primes', laterParameters: { below: 40_000_000 } }],
  ['examples/plain-agent.ts', { task: 'checksum', parameters: { text: 'a rose' } }],
  ['examples/plain_agent.py', { task: 'diff_texts', parameters: { before: 'one\ntwo', after: 'one\n2' } }],
]

test.concurrent.for(EXAMPLES)('%s breaks no MUST', { timeout: 90_000 }, async ([file, options], { expect, skip }) => {
  skip(noPython && file.endsWith('.py'), 'there is no python3 of 3.9 or newer')
  const report = await atBest({ ...options, command: start(file) })
  expect(report.failed, broken(report).join('\n')).toBe(0)
  // The plain ones leave out what is a convenience; those on an SDK have it all.
  if (!file.includes('plain')) expect(broken(report)).toEqual([])
  expect(report.passed).toBeGreaterThanOrEqual(24)
})
