/**
 * Which file begins when: those that take longest first, or one of them would be waited for alone at the end. Without a memory of earlier
 * runs, as in a fresh clone, vitest begins with the largest, and some of ours are short to read and long to run. Those that hold many
 * agents to times, by agent-test, do not begin together.
 */
import { BaseSequencer, type TestSpecification } from 'vitest/node'

const LONG = ['crash', 'faults/short', 'tasks', 'broken-agents', 'dispatch', 'cli', 'schedules', 'registry', 'demo', 'good-agents', 'later', 'admission', 'package', 'sdk-agent-router', 'start', 'agent-test', 'events', 'watchdog', 'scale', 'breaker', 'large-bodies', 'stopping']

const rankOf = ({ moduleId }: TestSpecification): number => {
  const at = LONG.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`))
  return at === -1 ? LONG.length : at
}

export default class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files)
    return sorted.toSorted((a, b) => rankOf(a) - rankOf(b))
  }
}
