/** What a check is: a name that stays, the rule of docs/protocol.md that it holds the agent to, and how it is judged. */
import type { Subject } from './subject.ts'

export type Level = 'MUST' | 'SHOULD' | 'MAY'
/** What must be known or at hand for a check to be done. */
export type Need = 'command' | 'process' | 'slow' | 'limit' | 'secret'
export type Check = { level: Level; rule: string; title: string; needs?: readonly Need[] }
/** Why a check is broken, for the one who is to mend the agent. */
export type Finding = { sent: string; came: string; todo: string }
export type Verdict = { status: 'passed' } | ({ status: 'broken' } & Finding) | { status: 'skipped'; because: string }
export type Judge<Name extends string> = {
  passed: (name: Name) => void
  broken: (name: Name, finding: Finding) => void
  skipped: (name: Name, because: string) => void
}

/** One thing done to the agent, and the checks that it decides. What it leaves undecided counts as not done. */
export type Experiment<Name extends string = string> = {
  checks: Readonly<Record<Name, Check>>
  /** It is stopped after so long; its first undecided check is broken then. */
  limitMs: number
  /** It makes sense also for an agent that does no task. */
  taskless?: boolean
  run: (agent: Subject, judge: Judge<Name>) => Promise<void>
}
/** Keeps the names of the checks as the type of what may be judged. */
export const experiment = <Name extends string>(it: Experiment<Name>): Experiment<Name> => it

/** What to give so that the checks with this need are done. */
export const HINTS: Readonly<Record<Need, string>> = {
  command: "give --command 'how to start it' instead of the URL",
  process: 'give --pid of its process, or --command instead of the URL',
  slow: 'give --slow-task TYPE with --slow-param k=v, a task of a few seconds',
  limit: 'give --max-concurrency N, or let GET /health tell it',
  secret: 'give --secret whsec_…',
}

const SECTIONS: Readonly<Record<string, string>> = { R: '1-register', B: '2-stay-alive', T: '3-do-tasks', H: '4-show-its-health', L: '5-leave', S: '6-trust' }
export const linkOf = (rule: string): string => `docs/protocol.md#${SECTIONS[rule[0]!] ?? ''}`
