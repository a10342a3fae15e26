/** Results that come later, behind a 202, and reports of progress, as the kit's own router hears them. */
import { experiment } from '../check.ts'
import { came } from '../exchange.ts'
import type { Router, Told } from '../router.ts'
import { seconds, shown } from '../shown.ts'
import { newAttemptId, newTaskId, QUICK_MS } from '../subject.ts'
import { awaited, pause } from '../waiting.ts'

const WORK_MS = 1000
const LONG_MS = 8000
/** Until a result that was not taken comes again: after a pause, and that is to grow. */
const REPEATS_MS = 8000
/** For what must not come again. */
const SILENT_MS = 1200
const REPORTS_MS = 2500
const STOPS_MS = 2500
const MAX_DATA_BYTES = 10 * 1024

const strangers = (body: Record<string, unknown>, known: readonly string[]): string | null => {
  const others = Object.keys(body).filter((name) => !known.includes(name))
  return others.length > 0 ? `members that are not known: ${others.join(', ')}` : null
}
const wrong = (name: string, value: unknown): string => `${name}: ${JSON.stringify(value) ?? 'undefined'}`

/** What the router would refuse of a result; null when it would take it. */
export const resultFault = ({ bad, body, taskId }: Told): string | null => {
  if (bad !== null) return bad
  const { status, error = '', execution_time_ms: ms = 0, retryable = true, task_id: its = taskId, metadata = {} } = body
  if (status !== 'completed' && status !== 'failed') return wrong('status', status)
  if (typeof error !== 'string') return wrong('error', error)
  if (typeof ms !== 'number' || !(ms >= 0)) return wrong('execution_time_ms', ms)
  if (typeof retryable !== 'boolean') return wrong('retryable', retryable)
  if (its !== taskId) return wrong('task_id', its)
  if (typeof metadata !== 'object' || metadata === null || Array.isArray(metadata)) return wrong('metadata', metadata)
  return strangers(body, ['attempt_id', 'status', 'result', 'error', 'execution_time_ms', 'retryable', 'task_id', 'metadata'])
}

/** The same of a report of progress. */
export const reportFault = ({ bad, body }: Told): string | null => {
  if (bad !== null) return bad
  const { percent = 0, message = '', data = null, extend_seconds: extend = 1 } = body
  if (typeof percent !== 'number' || percent < 0 || percent > 100) return wrong('percent', percent)
  if (typeof message !== 'string') return wrong('message', message)
  if (Buffer.byteLength(JSON.stringify(data)) > MAX_DATA_BYTES) return 'data over 10 KiB'
  if (typeof extend !== 'number' || !(extend >= 0.01) || extend > 86_400) return wrong('extend_seconds', extend)
  return strangers(body, ['attempt_id', 'percent', 'message', 'data', 'extend_seconds'])
}

/** What it sent before it had answered may come so much later. */
const ON_ITS_WAY_MS = 500
const listOf = (beat: Router['beats'][number] | undefined): unknown[] | null => (Array.isArray(beat?.body['running']) ? beat.body['running'] : null)

/** Nothing of this is left: what still runs is cancelled. */
const calm = async (router: Router): Promise<void> => {
  router.result = () => 409
  const heard = router.beats.length
  router.beat = (said) => ({ cancel: Array.isArray(said.body['running']) ? said.body['running'].map(String) : [] })
  await awaited(() => router.beats.slice(heard).some((beat) => (listOf(beat) ?? []).length === 0), STOPS_MS)
  router.beat = () => ({})
  router.result = router.report = () => 200
}

export const later = experiment({
  checks: {
    'later-result': { level: 'MUST', rule: 'T12', title: 'tells the result of what it answered 202', needs: ['command'] },
    'later-running': { level: 'MUST', rule: 'T12', title: 'lists such an attempt in its beats until its result is taken', needs: ['command'] },
    'later-repeated': { level: 'MUST', rule: 'T12', title: 'repeats a result that was answered 503', needs: ['command'] },
    'later-stale': { level: 'SHOULD', rule: 'T12', title: 'does not repeat a result that was answered 409', needs: ['command'] },
    'progress-form': { level: 'MAY', rule: 'T13', title: 'reports its progress as a router takes it', needs: ['command'] },
    'progress-stops': { level: 'SHOULD', rule: 'T13', title: 'stops an attempt when a report is answered 409', needs: ['command'] },
  },
  limitMs: 35_000,
  run: async (agent, judge) => {
    const { router } = agent
    if (!router) return
    await using _ = { [Symbol.asyncDispose]: () => calm(router) }
    const deliver = async (ms: number, attemptId = newAttemptId()) => {
      const ids = { taskId: newTaskId(), attemptId }
      const task = agent.later(ms)
      return { ...ids, task, x: await agent.deliver({ task, ...ids, follow: false, timeoutMs: Math.max(agent.timeoutMs, 2 * ms) }) }
    }
    const toldOf = (it: { taskId: string; attemptId: string }): Told[] => router.results.filter((one) => one.attemptId === it.attemptId)
    let holds = true
    const stale = newAttemptId()
    router.result = ({ attemptId }) => (attemptId === stale ? 409 : holds ? 503 : 200)
    const one = await deliver(WORK_MS)
    // One that is over by the time its result comes: beside the first where there is room.
    const besides = one.x.status === 202 && (agent.limit ?? 1) >= 2 ? deliver(WORK_MS, stale) : null
    if (one.x.status !== 202) {
      const why = one.x.status !== null && one.x.status < 300 ? 'it answered at once, and need not answer 202: give --later-task, one that it answers so' : `its task was answered ${came(one.x)}: give --later-task with --later-param`
      for (const name of Object.keys(later.checks) as (keyof typeof later.checks)[]) judge.skipped(name, why)
      return
    }
    const sent = `${one.x.sent}, which it answered 202`
    const todo = 'POST /tasks/{task_id}/result with the attempt_id of the delivery, and status "completed" with result, or "failed" with error'
    const strange = (): Told | undefined => router.results.find((it) => it.at > one.x.startedAt && !router.attempts.has(it.attemptId))
    const first = await awaited(() => toldOf(one)[0], one.task.ms + agent.timeoutMs, () => agent.process?.exit() !== null || strange() !== undefined)
    if (!first) {
      const other = strange()
      return judge.broken('later-result', { sent, came: other ? `a result of the task ${shown(other.taskId)}, ${wrong('attempt_id', other.body['attempt_id'])}, not ${one.attemptId}` : 'no result', todo })
    }
    const fault = resultFault(first)
    if (fault === null) judge.passed('later-result')
    else judge.broken('later-result', { sent, came: fault, todo })

    // Answered 503, the attempt is still its own: its beats say so.
    const from = router.beats.length
    await awaited(() => router.beats.length > from + 1, QUICK_MS)
    const lists = router.beats.slice(0, from + 2).filter((beat) => beat.at > one.x.endedAt + ON_ITS_WAY_MS).map(listOf)
    if (lists.every((list) => list === null)) judge.skipped('later-running', 'its beats do not say what is running')
    else if (lists.every((list) => list?.includes(one.attemptId))) judge.passed('later-running')
    else judge.broken('later-running', { sent: `${sent}, and its result 503`, came: `a beat with running: ${shown(JSON.stringify(lists.find((list) => !list?.includes(one.attemptId))) ?? '(none)')}`, todo: 'name its attempt_id in running from the 202 until its result was answered 200 or 409: what is not listed is over, and sent again' })
    holds = false
    const again = await awaited(() => toldOf(one).find((it) => it.status === 200), REPEATS_MS, () => agent.process?.exit() !== null)
    const repeatTodo = 'repeat a result after any answer but 200, 404 and 409, and after none, with a pause that grows'
    if (!again) judge.broken('later-repeated', { sent: `${sent}, and its result 503`, came: `${toldOf(one).length === 1 ? 'no more of it' : 'only what was answered 503'} within ${seconds(REPEATS_MS)}`, todo: repeatTodo })
    else if (again.body['status'] !== first.body['status']) judge.broken('later-repeated', { sent: `${sent}, and its result 503`, came: `status: "${String(again.body['status'])}" then, and "${String(first.body['status'])}" before`, todo: repeatTodo })
    else judge.passed('later-repeated')

    const two = await (besides ?? deliver(WORK_MS, stale))
    const refused = await awaited(() => toldOf(two)[0], two.task.ms + agent.timeoutMs, () => agent.process?.exit() !== null)
    if (!refused) judge.skipped('later-stale', 'it told no other result')
    else {
      await pause(Math.max(0, SILENT_MS - (performance.now() - refused.at)))
      const count = toldOf(two).length
      if (count > 1) judge.broken('later-stale', { sent: 'a result answered 409', came: `${count - 1} more of it soon after`, todo: 'take 409 and 404 as the end of it: the task was cancelled, has timed out or is with another' })
      else judge.passed('later-stale')
    }

    if (router.progress.length === 0) {
      judge.skipped('progress-form', 'it reports none, and need not')
      return judge.skipped('progress-stops', 'it reports no progress')
    }
    const badReport = router.progress.map((it) => (it.status === 404 || it.status === 409 ? `${wrong('attempt_id', it.body['attempt_id'])} for the task ${it.taskId}` : reportFault(it))).find((it) => it !== null)
    if (badReport === undefined) judge.passed('progress-form')
    else judge.broken('progress-form', { sent: one.x.sent, came: shown(badReport), todo: 'POST /tasks/{task_id}/progress with the attempt_id, percent from 0 to 100, a message and data as you like' })
    const last = await deliver(LONG_MS)
    router.report = ({ attemptId }) => (attemptId === last.attemptId ? 409 : 200)
    router.result = () => 409
    const report = await awaited(() => router.progress.find((it) => it.attemptId === last.attemptId && it.status === 409), REPORTS_MS)
    if (!report) return judge.skipped('progress-stops', 'it reported no progress in time')
    const left = last.task.ms - (report.at - last.x.endedAt)
    if (left < STOPS_MS + 300) return judge.skipped('progress-stops', `its task is too short to tell (${seconds(last.task.ms)}): give one of 5 s`)
    const gone = await awaited(() => {
      const list = listOf(router.beats.findLast((beat) => beat.at > report.at))
      return list !== null && !list.includes(last.attemptId)
    }, STOPS_MS)
    if (gone) judge.passed('progress-stops')
    else if (router.beats.every((beat) => listOf(beat) === null)) judge.skipped('progress-stops', 'its beats do not say what is running')
    else judge.broken('progress-stops', { sent: 'a report answered 409', came: `it was still at work ${seconds(STOPS_MS)} later`, todo: 'stop the attempt: it was cancelled, has timed out or is with another' })
  },
})
