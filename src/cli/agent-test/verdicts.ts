/** What has been decided of each check so far. */
import type { Judge, Verdict } from './check.ts'
import { shown } from './shown.ts'

/** Of what is said of one check. */
const MAX_CHARS = 400

/** The first verdict stands; but what has passed may yet be found broken. */
export const createVerdicts = (onDecided: (name: string, count: number) => void) => {
  const verdicts = new Map<string, Verdict>()
  const decide = (name: string, verdict: Verdict): void => {
    const before = verdicts.get(name)
    if (before && (before.status !== 'passed' || verdict.status !== 'broken')) return
    verdicts.set(name, verdict)
    onDecided(name, verdicts.size)
  }
  const judge: Judge<string> = {
    passed: (name) => decide(name, { status: 'passed' }),
    // Much of it is the agent's own words.
    broken: (name, { sent, came, todo }) => decide(name, { status: 'broken', sent: shown(sent, MAX_CHARS), came: shown(came, MAX_CHARS), todo }),
    skipped: (name, because) => decide(name, { status: 'skipped', because: shown(because, MAX_CHARS) }),
  }
  return {
    judge,
    of: (name: string): Verdict | undefined => verdicts.get(name),
    isDecided: (name: string): boolean => verdicts.has(name),
    isBroken: (name: string): boolean => verdicts.get(name)?.status === 'broken',
  }
}
