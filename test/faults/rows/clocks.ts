/**
 * Processes whose clocks are wrong, by a fixture that is loaded before them. Redis's clock is the one that counts, and is not tried here: it is this
 * machine's, and nothing can give a Redis another one.
 */
import { call, sleep, startAgent, until } from '../../system.ts'
import { mono, wallAhead } from '../clock.ts'
import { logged } from '../processes.ts'
import type { Row, Trial } from '../row.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
/** How often each is tried, at each API. */
const TIMES = 8
/** What is promised to the second may come so much later on a machine that runs everything; but not earlier. */
const LATE_MS = 3_000

type Task = { task_id: string; status: string; error: string | null; created_at: string; completed_at: string | null; attempts: { sent_at: string; ended_at: string | null; outcome: string | null }[] }

/** Of two of each role one is ahead, the other behind. */
const wrongBy = (ms: number) => (role: string, index: number): Record<string, string> =>
  index > 1 ? {} : { NODE_OPTIONS: `--import=${new URL('../../fixtures/skewed-clock.ts', import.meta.url)}`, SKEW_MS: String(index === 0 ? ms : -ms) }

const within = (trial: Trial, what: string, ms: number, low: number): void => {
  if (ms < low - 2 || ms > low + LATE_MS) trial.violate(`${what}: after ${Math.round(ms)} ms, not ${low}`)
}

/** By the log lines of ours and the ends that agents put down: who thinks that it is when. */
const seenWrong = ({ fleet }: Trial, ms: number): number =>
  [...fleet.apis, ...fleet.dispatchers].filter((m, i, all) => {
    const index = all.filter((o) => o.role === m.role).indexOf(m)
    const last = logged(m).at(-1)
    const off = last ? Date.parse(String(last.time)) - Date.now() : 0
    return index < 2 && Math.abs(off - (index === 0 ? ms : -ms)) < Math.abs(ms) / 2
  }).length

const off = (ms: number) => async (trial: Trial): Promise<void> => {
  const { fleet } = trial
  const agent = await startAgent(() => fleet.api(), { type: 'clocks', capabilities: ['quick', 'again'], maxConcurrency: 100, handle: async (task, { run }) => {
    if (task.task_type === 'again' && run.attempt === 1) throw new Error('not yet')
    return run.startedAt
  } })
  // Of its own type: one whose attempts time out in a row is a sick one, and gets no others.
  const slow = await startAgent(() => fleet.api(), { type: 'slow-clocks', capabilities: ['slow'], maxConcurrency: 100, handle: () => sleep(10_000) })
  const submit = async (api: number, task: object) => {
    const answer = await call('POST', `${fleet.apis[api]!.url}/tasks`, { agent_type: 'clocks', ...task })
    if (answer.status !== 201) throw new Error(`not taken: ${answer.text}`)
    return answer.json.task_id as string
  }
  const ended = (id: string) => until(async () => { const t = (await call('GET', `${fleet.api()}/tasks/${id}`)).json as Task; return t.completed_at ? t : null }, { timeoutMs: 30_000, everyMs: 100, what: `the end of ${id}` })
  const lasted = (t: Task) => Date.parse(t.completed_at!) - Date.parse(t.created_at)
  const toStart = (id: string, attempt: number, from: number) => agent.runs.find((r) => r.taskId === id && r.attempt === attempt)!.startedAt - from

  const delayed = async (api: number) => {
    const t = await ended(await submit(api, { task_type: 'quick', delay_seconds: 3 }))
    within(trial, 'delay_seconds', toStart(t.task_id, 1, Date.parse(t.created_at)), 3000)
  }
  const timed = async (api: number) => {
    const at = Date.now() + 3000
    const t = await ended(await submit(api, { task_type: 'quick', run_at: new Date(at).toISOString() }))
    within(trial, 'run_at', toStart(t.task_id, 1, at), 0)
  }
  const overdue = async (api: number) => {
    const t = await ended(await submit(api, { agent_type: 'slow-clocks', task_type: 'slow', timeout_seconds: 2, max_retries: 0 }))
    if (t.status !== 'timeout') trial.violate(`a deadline: ${t.task_id} is ${t.status}`)
    within(trial, 'a deadline', Date.parse(t.attempts[0]!.ended_at!) - Date.parse(t.attempts[0]!.sent_at), 2000)
  }
  const expired = async (api: number) => {
    const t = await ended(await submit(api, { task_type: 'nobody', expires_in_seconds: 3 }))
    if (t.status !== 'timeout' || t.error !== 'expired') trial.violate(`an expiry: ${t.task_id} is ${t.status}: ${t.error}`)
    within(trial, 'an expiry', lasted(t), 3000)
  }
  const retried = async (api: number) => {
    const t = await ended(await submit(api, { task_type: 'again', retry_delay_seconds: 3, backoff: 'fixed' }))
    within(trial, 'a retry', toStart(t.task_id, 2, Date.parse(t.attempts[0]!.ended_at!)), 2700)
  }
  const cancelled = async (api: number) => {
    const id = await submit(api, { task_type: 'quick', delay_seconds: 4 })
    const answer = await call('DELETE', `${fleet.apis[1 - api]!.url}/tasks/${id}`)
    await sleep(6000)
    if (answer.status !== 200 || agent.runs.some((r) => r.taskId === id)) trial.violate(`P7: ${id} was cancelled (${answer.status}) and sent`)
  }
  /** One that falls silent is dead when its TTL is over, and not before. */
  const silent = async (api: number) => {
    const mute = await startAgent(() => fleet.apis[api]!.url, { type: 'mute', ttlSeconds: 5, beats: false })
    const since = mono()
    await until(async () => !(await call('GET', `${fleet.api()}/agents/${mute.id}`)).json.is_alive, { timeoutMs: 30_000, everyMs: 50, what: 'the death of a silent agent' })
    within(trial, 'a TTL', mono() - since, 5000 - 100)
    await mute.close()
  }
  await trial.broken(async () => {
    const both = [0, 1].flatMap((api) => Array.from({ length: TIMES }, () => api))
    await Promise.all([...both.flatMap((api) => [delayed, timed, overdue, expired, cancelled].map((one) => one(api))), silent(0), silent(1)])
    // Apart: failures in a row make an agent a sick one.
    for (const api of both.slice(0, TIMES / 2)) await Promise.all([retried(api), retried(1 - api)])
    trial.injected(4)
    trial.bit(seenWrong(trial, ms))
  })
  await Promise.all([agent.close(), slow.close()])
  // An agent's own clock is nobody's concern; that it is wrong is seen by what it would have put down.
  trial.note(`clocks wrong by ${ms / 1000} s; this machine's is ${Math.round(wallAhead())} ms ahead of its start`)
}

const clockRow = (name: string, ms: number, words: string): Row => ({
  name,
  fault: `clocks off by ${words}, in an API, a dispatcher and a host of agents each`,
  promises: 'P1, P5–P8',
  fleet: { envOf: wrongBy(ms) },
  load: { rate: 40, cancelled: 0.2 },
  run: off(ms),
})

export const clockRows: readonly Row[] = [clockRow('clocks-minute', MINUTE, '+60 s and −60 s'), clockRow('clocks-hour', HOUR, '+1 h and −1 h')]
