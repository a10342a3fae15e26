/** What a run found, for machines as it is and for people as a table. */
import { styleText } from 'node:util'
import type { Finding, Level } from './check.ts'

/** `warning` is a SHOULD or MAY that is broken. */
export type Status = 'passed' | 'failed' | 'warning' | 'skipped'
export type Result = { name: string; status: Status; level: Level; rule: string; link: string; title: string } & Partial<Finding> & { because?: string }
export type Report = {
  agent: { url: string; capabilities: string[] | null; max_concurrency: number | null }
  results: Result[]
  passed: number
  failed: number
  warnings: number
  skipped: number
  seconds: number
  /** 1 when a MUST is broken. */
  exit_code: 0 | 1
}

export const reportOf = (agent: Report['agent'], results: Result[], ms: number): Report => {
  const count = (status: Status): number => results.filter((result) => result.status === status).length
  const failed = count('failed')
  return { agent, results, passed: count('passed'), failed, warnings: count('warning'), skipped: count('skipped'), seconds: Math.round(ms / 100) / 10, exit_code: failed > 0 ? 1 : 0 }
}

type Out = NodeJS.WritableStream & { isTTY?: boolean }
const MARKS = { passed: ['✓', 'green'], failed: ['✗', 'red'], warning: ['!', 'yellow'], skipped: ['–', 'gray'] } as const

/** The table, then each broken check with what was sent, what came and what to do, then the sum. Colour only on a terminal. */
export const printReport = (report: Report, out: Out = process.stdout): void => {
  const style = (format: Parameters<typeof styleText>[0], text: string): string => (out.isTTY ? styleText(format, text, { stream: out }) : text)
  const say = (line = ''): void => void out.write(`${line}\n`)
  const { agent, results } = report
  const width = Math.max(...results.map((result) => result.name.length))
  say(`${style('bold', agent.url)}  ${agent.capabilities?.join(', ') || 'capabilities unknown'}; at once: ${agent.max_concurrency ?? 'unknown'}`)
  say()
  for (const { name, status, level, rule, title, because } of results) {
    const [mark, colour] = MARKS[status]
    const what = status === 'skipped' ? style('gray', `${title}: ${because}`) : title
    say(`${style(colour, mark)} ${name.padEnd(width)}  ${level.padEnd(6)} ${rule.padEnd(3)}  ${what}`)
  }
  for (const { name, status, level, rule, link, title, sent, came, todo } of results) {
    if (status !== 'failed' && status !== 'warning') continue
    const [mark, colour] = MARKS[status]
    say()
    say(`${style(colour, `${mark} ${name}`)} (${level}, ${rule}: ${link}) ${title}`)
    say(`    sent  ${sent}`)
    say(`    came  ${came}`)
    say(`    to do ${todo}`)
  }
  say()
  const parts = [`${report.passed} passed`, ...(report.failed ? [style('red', `${report.failed} broken`)] : []), ...(report.warnings ? [style('yellow', `${report.warnings} warning${report.warnings > 1 ? 's' : ''}`)] : []), ...(report.skipped ? [`${report.skipped} not done`] : [])]
  say(`${parts.join(', ')} in ${report.seconds} s`)
}
