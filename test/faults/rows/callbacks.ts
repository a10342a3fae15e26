/** Results that come later, and come twice, too late, or at the same time as something else that ends the task. */
import { accepts, call, sleep, startAgent, until, type Answer, type TestAgent } from '../../system.ts'
import { wallAhead, mono } from '../clock.ts'
import type { Row, Trial } from '../row.ts'

const TASKS = 50
const AT_ONCE = 100

type Task = { task_id: string; status: string; result: unknown; error: string | null; completed_at: string | null }

const submit = async ({ fleet }: Trial, type: string, more: object = {}): Promise<string> =>
  (await call('POST', `${fleet.api()}/tasks`, { agent_type: type, task_type: 'echo', timeout_seconds: 60, retry_delay_seconds: 0.05, ...more })).json.task_id as string
const read = async ({ fleet }: Trial, id: string): Promise<Task> => (await call('GET', `${fleet.api()}/tasks/${id}`)).json as Task
const tell = ({ fleet }: Trial, id: string, attemptId: string, result: unknown): Promise<Answer> =>
  call('POST', `${fleet.api()}/tasks/${id}/result`, { attempt_id: attemptId, status: 'completed', result })
/** How a task ended, in one line. */
const endOf = (t: Task): string => `${t.status} ${JSON.stringify(t.result)} ${t.error} ${t.completed_at}`
const many = <T>(count: number, make: (i: number) => Promise<T>): Promise<T[]> => Promise.all(Array.from({ length: count }, (_, i) => make(i)))
const delivered = (agent: TestAgent, id: string, count: number) =>
  until(() => { const own = agent.runs.filter((r) => r.taskId === id); return own.length >= count ? own : null }, { timeoutMs: 30_000, what: `delivery ${count} of ${id}` })

/** One task whose first attempt failed, and whose second is answered by a hundred at once. */
const raceOne = async (trial: Trial, agent: TestAgent, type: string): Promise<void> => {
  const id = await submit(trial, type)
  const [stale, current] = (await delivered(agent, id, 2)).map((r) => r.attemptId) as [string, string]
  const early = await tell(trial, id, stale, 'stale')
  if (early.status !== 409) trial.violate(`P9: ${id}: a stale result was answered ${early.status}`)
  // Ten different results, ten times each.
  trial.injected()
  const answers = await many(AT_ONCE, async (i) => ({ n: i % 10, status: (await tell(trial, id, current, { n: i % 10 })).status }))
  const ended = await read(trial, id)
  const won = (ended.result as { n: number } | null)?.n
  const wrong = answers.filter((a) => a.status !== (a.n === won ? 200 : 409))
  if (ended.status !== 'completed' || wrong.length > 0) trial.violate(`P9: ${id} ${ended.status} with ${won}: ${wrong.slice(0, 3).map((a) => `${a.n} was answered ${a.status}`).join(', ')}`)
  if (answers.some((a) => a.status === 200) && answers.some((a) => a.status === 409)) trial.bit()
  // And later: the same again, another one, and one of the attempt before.
  const again = [await tell(trial, id, current, { n: won }), await tell(trial, id, current, 'other'), await tell(trial, id, stale, 'stale')].map((a) => a.status)
  if (again.join() !== '200,409,409') trial.violate(`P9: ${id}: the same again, another, a stale one: ${again.join()}`)
  const after = await read(trial, id)
  if (endOf(after) !== endOf(ended)) trial.violate(`P1: ${id}: ${endOf(ended)} → ${endOf(after)}`)
}

/** Something else ends the task at the moment of its result; whoever is told 200 has ended it. */
const raceWith = async (trial: Trial, id: string, attemptId: string, other: () => Promise<number | null>, end: string): Promise<'result' | 'other'> => {
  const [told, its] = await Promise.all([tell(trial, id, attemptId, 'done'), other()])
  const ended = await until(async () => { const t = await read(trial, id); return t.completed_at ? t : null }, { timeoutMs: 20_000, what: `the end of ${id}` })
  // A cancel that was only asked for ends with whatever comes next, be it the result.
  const right = ended.status === 'completed' ? told.status === 200 && its !== 200 && its !== 202 : ended.status === end && its !== 409 && (told.status === 409 || (told.status === 200 && its === 202))
  if (!right) trial.violate(`P9: ${id}: its result was answered ${told.status}, the other ${its}, and it is ${ended.status}`)
  return ended.status === 'completed' ? 'result' : 'other'
}

const withAgent = async (trial: Trial, type: string, o: Parameters<typeof startAgent>[1], work: (agent: TestAgent) => Promise<void>): Promise<void> => {
  const agent = await startAgent(() => trial.fleet.api(), { type, maxConcurrency: 200, handle: accepts, ...o })
  await trial.broken(() => work(agent)).finally(() => agent.close())
  // It knows nothing of them any more: cancelled attempts hold their slots until then.
  for (let i = 0; i < 2; i++) await agent.beat({ running: [] })
}

export const callbackRows: readonly Row[] = [
  {
    name: 'results-replayed',
    fault: 'results told a hundred at once, again, and of attempts that are over',
    promises: 'P1, P9',
    mixes: true,
    load: { rate: 20 },
    run: (trial) => {
      const first = new Set<string>()
      const handle: typeof accepts = (task, exchange) => {
        if (first.has(task.task_id)) return accepts(task, exchange)
        first.add(task.task_id)
        throw new Error('not yet')
      }
      return withAgent(trial, 'replays', { handle }, async (agent) => {
        // Fewer at a time than the failures in a row that make an agent a sick one.
        for (let i = 0; i < trial.times(TASKS); i += 3) await many(3, () => raceOne(trial, agent, 'replays'))
      })
    },
  },
  {
    name: 'results-race',
    fault: 'results told at the very deadline, and at the moment of a cancel',
    promises: 'P1, P7, P9',
    mixes: true,
    load: { rate: 20 },
    run: (trial) =>
      withAgent(trial, 'races', {}, async (agent) => {
        const attemptOf = async (id: string) => (await delivered(agent, id, 1))[0]!.attemptId
        const won = { deadline: { result: 0, other: 0 }, cancel: { result: 0, other: 0 } }
        const atDeadline = async () => {
          const id = await submit(trial, 'races', { timeout_seconds: 2, max_retries: 0 })
          const attemptId = await attemptOf(id)
          const at = Number(attemptId.split('.')[0]) - wallAhead() + 2000
          await sleep(at + trial.random.between(-60, 40) - mono())
          won.deadline[await raceWith(trial, id, attemptId, async () => null, 'timeout')]++
        }
        const atCancel = async () => {
          const id = await submit(trial, 'races')
          const attemptId = await attemptOf(id)
          const cancel = async () => {
            await sleep(trial.random.between(0, 4))
            return (await call('DELETE', `${trial.fleet.api()}/tasks/${id}`)).status
          }
          won.cancel[await raceWith(trial, id, attemptId, cancel, 'cancelled')]++
        }
        // A few at a time, so that the times are met.
        for (let i = 0; i < TASKS; i += 5) await many(5, atDeadline)
        for (let i = 0; i < 2 * TASKS; i += 5) await many(5, atCancel)
        trial.note(`against the deadline ${won.deadline.result} results counted and ${won.deadline.other} did not; against a cancel ${won.cancel.result} and ${won.cancel.other}`)
        trial.injected(3 * TASKS)
        // A race that one side always wins is none.
        if (Object.values(won).every((w) => w.result > 2 && w.other > 2)) trial.bit(3 * TASKS)
      }),
  },
]
