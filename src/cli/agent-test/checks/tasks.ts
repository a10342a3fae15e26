/** An agent's answers to whole tasks: it does them, in the right form, and refuses what it does not offer. */
import { randomUUID } from 'node:crypto'
import { came, did, member, refused, unserved, type Exchange } from '../exchange.ts'
import { experiment } from '../check.ts'
import { seconds } from '../shown.ts'
import type { Delivered } from '../subject.ts'

const todoOf = (x: Exchange, timeoutMs: number): string => {
  if (x.status === 401) return 'the agent wants signed requests: give its secret with --secret'
  if (x.status === null) return `answer POST /task within ${seconds(timeoutMs)}, whatever becomes of the task; --timeout gives it longer`
  if (unserved(x)) return 'serve POST /task'
  return 'answer 200 {"task_id", "status": "completed", "result"}; if the parameters are at fault give others with --param or --json-parameters'
}

/** What is wrong with the form of an answer that says 200; null when nothing is. */
const formFault = (x: Delivered): string | null => {
  if (x.tooBig) return 'an answer over 1 MiB'
  if (x.status !== null && x.status >= 300 && x.status < 400) return `${x.status}, a redirect: those are never followed`
  // Where its result goes elsewhere.
  if (x.status === 202) return null
  const coding = x.headers['content-encoding']
  if (coding !== undefined && coding !== 'identity') return `a body in ${coding}, which was not asked for`
  if (typeof x.json !== 'object' || x.json === null || Array.isArray(x.json)) return `a body that is no JSON object: ${came(x)}`
  const taskId = member(x.json, 'task_id')
  if (taskId !== undefined && taskId !== null && taskId !== x.taskId) return `an answer for the task ${JSON.stringify(taskId)?.slice(0, 100)}`
  const status = member(x.json, 'status')
  return status === 'completed' || status === 'failed' ? null : `a status that is neither completed nor failed: ${came(x)}`
}

export const answering = experiment({
  checks: {
    'answers-a-task': { level: 'MUST', rule: 'T1', title: 'does a task and answers in time' },
    'answer-form': { level: 'MUST', rule: 'T10', title: 'answers with a JSON object for this task, at most 1 MiB, no redirect' },
    'answer-content-type': { level: 'SHOULD', rule: 'T10', title: 'says that its answer is application/json' },
  },
  limitMs: 12_000,
  run: async (agent, judge) => {
    const x = await agent.deliver()
    if (!did(x)) return judge.broken('answers-a-task', { sent: x.sent, came: came(x), todo: todoOf(x, agent.timeoutMs) })
    judge.passed('answers-a-task')
    const fault = formFault(x)
    if (fault === null) judge.passed('answer-form')
    else judge.broken('answer-form', { sent: x.sent, came: fault, todo: 'answer 200 {"task_id": the one that was sent, "status": "completed" or "failed", "result" or "error"} in plain JSON' })
    const type = x.headers['content-type']
    if (x.status === 202 && x.body.length === 0) judge.skipped('answer-content-type', 'it answered 202, and no body: its result goes to its own router')
    else if (/^application\/json\b/i.test(type ?? '')) judge.passed('answer-content-type')
    else judge.broken('answer-content-type', { sent: x.sent, came: `Content-Type: ${type ?? '(none)'}`, todo: 'send Content-Type: application/json' })
  },
})

export const unknownType = experiment({
  checks: { 'unknown-task-type': { level: 'MUST', rule: 'T2', title: 'refuses a task type that it does not offer' } },
  limitMs: 6000,
  run: async (agent, judge) => {
    // One that nobody offers, and one that every JavaScript object has.
    for (const type of [`unknown-${randomUUID()}`, 'constructor']) {
      const x = await agent.deliver({ task: { type, parameters: agent.task.parameters } })
      if (refused(x)) continue
      return judge.broken('unknown-task-type', { sent: x.sent, came: came(x), todo: 'answer 422 (or another 4xx, but not 408, 425 or 429) when task_type is none of the capabilities' })
    }
    judge.passed('unknown-task-type')
  },
})
