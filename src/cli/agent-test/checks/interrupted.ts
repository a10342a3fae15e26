/** Tasks that nobody wants any more: cancelled, or the connection is gone. */
import { experiment } from '../check.ts'
import { came, did, unserved, type Exchange } from '../exchange.ts'
import { seconds } from '../shown.ts'
import { newAttemptId, newTaskId, QUICK_MS } from '../subject.ts'
import { awaited, pause } from '../waiting.ts'

const LONG_MS = 3000
/** Until a task that was sent is surely being worked on. */
const BEGUN_MS = 250
/** How soon work is to stop, also on a busy machine. */
const STOPS_MS = 1500
const MAX_AT_ONCE = 8

const stopped = (x: Exchange): boolean => x.status !== null && x.status >= 200 && x.status < 300

export const deletes = experiment({
  checks: {
    'delete-cancels': { level: 'MAY', rule: 'T6', title: 'DELETE /task/{id} cancels what runs, and says 404 when there is nothing' },
    'delete-attempt': { level: 'MUST', rule: 'T6', title: 'DELETE with Switchyard-Attempt, if it is served, stops that attempt and no other' },
  },
  limitMs: 15_000,
  run: async (agent, judge) => {
    const notServed = (): void => {
      judge.skipped('delete-cancels', 'it is not served, and need not be')
      judge.skipped('delete-attempt', 'DELETE /task/{id} is not served, and need not be')
    }
    const unknown = await agent.ask('DELETE', `/task/${newTaskId()}`)
    if (!unserved(unknown)) return judge.broken('delete-cancels', { sent: `${unknown.sent}, of a task that it does not run`, came: came(unknown), todo: 'answer 404 when nothing of that task is running' })
    const slow = agent.slow?.(LONG_MS)
    if (unknown.status !== 404) return notServed()
    if (!slow || slow.ms < 3 * BEGUN_MS) {
      judge.skipped('delete-attempt', 'it cannot be seen without a slow task (--slow-task)')
      return judge.skipped('delete-cancels', 'it cannot be seen whether it is served without a slow task (--slow-task)')
    }
    /** A task that was begun. What is told behind a 202 is not waited for: of a task that was cancelled nothing need be told. */
    const begin = async () => {
      const ids = { taskId: newTaskId(), attemptId: newAttemptId() }
      const stop = new AbortController()
      const begunAt = performance.now()
      let overAt = Infinity
      const task = agent.deliver({ task: slow, ...ids, signal: stop.signal }).finally(() => (overAt = performance.now()))
      await pause(BEGUN_MS)
      const remove = (attemptId?: string) => agent.ask('DELETE', `/task/${ids.taskId}`, attemptId === undefined ? {} : { 'Switchyard-Attempt': attemptId })
      const over = async (): Promise<number> => {
        if (slow.later) await awaited(async () => overAt < Infinity || (await agent.running()) === 0, slow.ms)
        else await task
        stop.abort()
        return Math.min(overAt, performance.now())
      }
      return { ...ids, remove, over, leftMs: () => slow.ms - (performance.now() - begunAt), isOver: () => overAt < Infinity }
    }
    const tooLate = (tookMs: number, leftMs: number): boolean => tookMs > STOPS_MS && leftMs > STOPS_MS
    const todo = 'stop the work, and answer its POST at once'

    const one = await begin()
    const x = await one.remove()
    const deletedAt = performance.now()
    const leftMs = one.leftMs()
    if (x.status === 404) {
      await one.over()
      return notServed()
    }
    if (!stopped(x)) return judge.broken('delete-cancels', { sent: `${x.sent}, of a task that it runs`, came: came(x), todo: 'answer 200 when the task was cancelled' })
    const tookMs = (await one.over()) - deletedAt
    if (tooLate(tookMs, leftMs)) return judge.broken('delete-cancels', { sent: `${x.sent}, of a task that it runs`, came: `${x.status}, but the task's answer came ${seconds(tookMs)} later`, todo })
    judge.passed('delete-cancels')

    const two = await begin()
    const other = await two.remove(newAttemptId())
    const named = `${x.sent} with Switchyard-Attempt, of a task that it runs`
    if (other.status !== 404) {
      judge.broken('delete-attempt', { sent: `${named}, but as another attempt`, came: came(other), todo: 'compare the header with the attempt_id of what runs, and answer 404 when nothing fits' })
      return void (await two.over())
    }
    const right = await two.remove(two.attemptId)
    const rightAt = performance.now()
    const rightLeftMs = two.leftMs()
    if (!stopped(right)) {
      const late = two.isOver()
      await two.over()
      return late ? judge.skipped('delete-attempt', `the slow task (${seconds(slow.ms)}) was over before: give one of 2 s`) : judge.broken('delete-attempt', { sent: named, came: came(right), todo: 'compare the header with the attempt_id of what runs' })
    }
    const rightMs = (await two.over()) - rightAt
    if (tooLate(rightMs, rightLeftMs)) judge.broken('delete-attempt', { sent: named, came: `${right.status}, but the task's answer came ${seconds(rightMs)} later`, todo })
    else judge.passed('delete-attempt')
  },
})

export const disconnect = experiment({
  checks: {
    'disconnect-survived': { level: 'MUST', rule: 'T5', title: 'goes on serving when connections close in the midst of tasks' },
    'disconnect-stops': { level: 'SHOULD', rule: 'T5', title: 'stops a task when its connection closes', needs: ['slow'] },
  },
  limitMs: 25_000,
  run: async (agent, judge) => {
    const slow = agent.slow?.(LONG_MS)
    const count = Math.min(agent.limit ?? 1, MAX_AT_ONCE)
    const hangUp = new AbortController()
    const cut = Array.from({ length: count }, () => agent.deliver({ task: slow ?? agent.task, signal: hangUp.signal }))
    await (slow ? pause(BEGUN_MS) : Promise.race(cut.map(() => pause(5))))
    hangUp.abort()
    await Promise.all(cut)
    const cutAt = performance.now()
    const sent = `${count} ${slow ? `tasks of ${seconds(slow.ms)}` : 'tasks'}, and the connections closed in the midst of them`

    let running: number | null = null
    let last = 'nothing'
    const free = await awaited(async () => {
      running = await agent.running()
      if (running !== null && running > 0) return false
      const next = await Promise.all(Array.from({ length: count }, () => agent.deliver({ timeoutMs: QUICK_MS })))
      const not = next.find((x) => !did(x))
      if (not) last = came(not)
      return !not
    }, (slow?.ms ?? 1000) + 4000)
    const tookMs = performance.now() - cutAt
    if (free === null) {
      const still = running !== null && running > 0 ? `/health still says running: ${running} after ${seconds(tookMs)}` : `${count} tasks after that: ${last}`
      judge.broken('disconnect-survived', { sent, came: still, todo: 'free the place when the connection closes or the work ends, and let an answer that cannot be written do no harm' })
      return judge.skipped('disconnect-stops', 'see disconnect-survived')
    }
    judge.passed('disconnect-survived')
    if (!slow) return
    if (slow.later) return judge.skipped('disconnect-stops', 'it answers its slow task 202, and no connection waits for it then')
    const left = slow.ms - BEGUN_MS
    if (left < STOPS_MS + 300) return judge.skipped('disconnect-stops', `the slow task is too short to tell (${seconds(slow.ms)}): give one of 2 s or more`)
    // Fewer than it can do leave places free; only what it says of itself tells then.
    if (running === null && (agent.limit === null || count < agent.limit)) return judge.skipped('disconnect-stops', 'GET /health does not say how many are running')
    if (tookMs > STOPS_MS) judge.broken('disconnect-stops', { sent, came: `the places were free after ${seconds(tookMs)}`, todo: 'watch the connection while working, and stop when it closes: the task was cancelled or has timed out' })
    else judge.passed('disconnect-stops')
  },
})
