/** Tasks that nobody wants any more: cancelled, or the connection is gone. */
import { experiment } from '../check.ts'
import { came, did, unserved } from '../exchange.ts'
import { seconds } from '../shown.ts'
import { newTaskId, QUICK_MS } from '../subject.ts'
import { awaited, pause } from '../waiting.ts'

const LONG_MS = 3000
/** Until a task that was sent is surely being worked on. */
const BEGUN_MS = 250
/** How soon work is to stop, also on a busy machine. */
const STOPS_MS = 1500
const MAX_AT_ONCE = 8

export const deletes = experiment({
  checks: { 'delete-cancels': { level: 'MAY', rule: 'T6', title: 'DELETE /task/{id} cancels what runs, and says 404 when there is nothing' } },
  limitMs: 12_000,
  run: async (agent, judge) => {
    const unknown = await agent.ask('DELETE', `/task/${newTaskId()}`)
    if (!unserved(unknown)) return judge.broken('delete-cancels', { sent: `${unknown.sent}, of a task that it does not run`, came: came(unknown), todo: 'answer 404 when nothing of that task is running' })
    const slow = agent.slow?.(LONG_MS)
    if (unknown.status !== 404) return judge.skipped('delete-cancels', 'it is not served, and need not be')
    if (!slow || slow.ms < 2 * BEGUN_MS) return judge.skipped('delete-cancels', 'it cannot be seen whether it is served without a slow task (--slow-task)')
    const taskId = newTaskId()
    let overAt = Infinity
    const task = agent.deliver({ task: slow, taskId }).finally(() => (overAt = performance.now()))
    await pause(BEGUN_MS)
    const x = await agent.ask('DELETE', `/task/${taskId}`)
    const deletedAt = performance.now()
    if (x.status === 404) {
      await task
      return judge.skipped('delete-cancels', 'it is not served, and need not be')
    }
    if (x.status !== 200) return judge.broken('delete-cancels', { sent: `${x.sent}, of a task that it runs`, came: came(x), todo: 'answer 200 when the task was cancelled' })
    await task
    const tookMs = overAt - deletedAt
    if (tookMs > STOPS_MS && slow.ms > BEGUN_MS + STOPS_MS) judge.broken('delete-cancels', { sent: `${x.sent}, of a task that it runs`, came: `200, but the task's answer came ${seconds(tookMs)} later`, todo: 'stop the work, and answer its POST at once' })
    else judge.passed('delete-cancels')
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
    const left = slow.ms - BEGUN_MS
    if (left < STOPS_MS + 300) return judge.skipped('disconnect-stops', `the slow task is too short to tell (${seconds(slow.ms)}): give one of 2 s or more`)
    // Fewer than it can do leave places free; only what it says of itself tells then.
    if (running === null && (agent.limit === null || count < agent.limit)) return judge.skipped('disconnect-stops', 'GET /health does not say how many are running')
    if (tookMs > STOPS_MS) judge.broken('disconnect-stops', { sent, came: `the places were free after ${seconds(tookMs)}`, todo: 'watch the connection while working, and stop when it closes: the task was cancelled or has timed out' })
    else judge.passed('disconnect-stops')
  },
})
