/** The same task once more: after a fault of the router or the network, it comes again. */
import { experiment } from '../check.ts'
import { came, did } from '../exchange.ts'
import { seconds } from '../shown.ts'
import { newAttemptId, newTaskId } from '../subject.ts'
import { pause } from '../waiting.ts'

const SLOW_MS = 1000

export const redelivery = experiment({
  checks: { redelivery: { level: 'MUST', rule: 'T3', title: 'takes a task again under a new attempt' } },
  limitMs: 22_000,
  run: async (agent, judge) => {
    const taskId = newTaskId()
    const first = await agent.deliver({ taskId })
    const again = await agent.deliver({ taskId, attempt: 2 })
    if (did(again) || !did(first)) return judge.passed('redelivery')
    judge.broken('redelivery', { sent: `${again.sent}, for the second time under this task_id`, came: came(again), todo: 'do the task again, or answer as the first time: the first answer may never have arrived' })
  },
})

export const duplicate = experiment({
  checks: {
    'duplicate-attempt': { level: 'MUST', rule: 'T3', title: 'answers an attempt that comes twice, at once and later' },
    'duplicate-not-doubled': { level: 'SHOULD', rule: 'T3', title: 'does not do one attempt twice at the same time', needs: ['slow'] },
  },
  limitMs: 15_000,
  run: async (agent, judge) => {
    const task = agent.slow?.(SLOW_MS) ?? { ...agent.task, ms: 0 }
    const ids = { task, taskId: newTaskId(), attemptId: newAttemptId() }
    const watched = { most: 0, over: false }
    const watch = (async () => {
      while (!watched.over) {
        watched.most = Math.max(watched.most, (await agent.running()) ?? 0)
        await pause(60)
      }
    })()
    const offsetMs = Math.min(task.ms / 2, 1000)
    const both = await Promise.all([agent.deliver(ids), pause(offsetMs).then(() => agent.deliver(ids))])
    watched.over = true
    await watch
    const later = await agent.deliver(ids)
    const silent = [...both, later].find((x) => x.status === null)
    if (silent) judge.broken('duplicate-attempt', { sent: `${silent.sent}, for the second or third time under this attempt_id`, came: came(silent), todo: 'give each delivery an answer: that of the first one, or do it again' })
    else judge.passed('duplicate-attempt')

    if (!agent.slow) return
    const [a, b] = both
    const apartMs = b.endedAt - a.endedAt
    const sent = `one attempt of ${seconds(task.ms)}, and again ${seconds(offsetMs)} later`
    const todo = 'when the attempt_id is one that is being worked on, wait for that one and answer the same'
    // Who waits for the first one answers both together; who does it again answers the second later by as much as it came later.
    if (watched.most > 1) judge.broken('duplicate-not-doubled', { sent, came: `/health said running: ${watched.most}`, todo })
    else if (did(a) && did(b) && apartMs > offsetMs / 2) judge.broken('duplicate-not-doubled', { sent, came: `both were done, the second answer ${seconds(apartMs)} after the first`, todo })
    else judge.passed('duplicate-not-doubled')
  },
})
