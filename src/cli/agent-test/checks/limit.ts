/** More tasks at once than the agent can do: each is answered, and none is done beyond its limit. */
import { experiment } from '../check.ts'
import { came, declined, did, member } from '../exchange.ts'
import type { Delivered } from '../subject.ts'
import { pause } from '../waiting.ts'

const SLOW_MS = 800
/** Beyond this so many connections at once would test the machine. */
const MAX_LIMIT = 200

/** The most that ran at once by the agent's own times; each is taken a fifth shorter at both ends, for the way of its answer. */
const mostAtOnce = (answers: readonly Delivered[]): number => {
  const edges = answers.flatMap((x) => {
    const took = member(x.json, 'execution_time_ms')
    if (!did(x) || typeof took !== 'number' || !(took > 50)) return []
    return [{ at: x.endedAt - 0.8 * took, by: 1 }, { at: x.endedAt - 0.2 * took, by: -1 }]
  })
  edges.sort((a, b) => a.at - b.at || a.by - b.by)
  let now = 0
  let most = 0
  for (const { by } of edges) most = Math.max(most, (now += by))
  return most
}

export const limit = experiment({
  checks: {
    'over-limit-answered': { level: 'MUST', rule: 'T4', title: 'answers each of more tasks at once than it can do', needs: ['limit'] },
    'limit-kept': { level: 'SHOULD', rule: 'T4', title: 'never does more at once than its max_concurrency', needs: ['limit', 'slow'] },
    'over-limit-declined': { level: 'SHOULD', rule: 'T4', title: 'declines what is beyond its limit with 429 and Retry-After', needs: ['limit', 'slow'] },
  },
  limitMs: 20_000,
  run: async (agent, judge) => {
    const { slow, limit: most } = agent
    if (most === null) return
    if (most > MAX_LIMIT) return judge.skipped('over-limit-answered', `its limit is over ${MAX_LIMIT}: give a smaller one with --max-concurrency`)
    const task = slow?.(SLOW_MS) ?? agent.task
    const count = most + Math.min(most, 4) + 1
    let over = false
    let running = 0
    const watch = (async () => {
      while (!over) {
        running = Math.max(running, (await agent.running()) ?? 0)
        await pause(60)
      }
    })()
    const answers = await Promise.all(Array.from({ length: count }, () => agent.deliver({ task })))
    over = true
    await watch
    const sent = `${count} tasks at once, to a limit of ${most}`
    const silent = answers.filter((x) => x.status === null)
    if (silent.length > 0) judge.broken('over-limit-answered', { sent, came: `${silent.length} without an answer: ${came(silent[0]!)}`, todo: 'answer what is beyond the limit 429 with Retry-After: 1, and close no connection without an answer' })
    else judge.passed('over-limit-answered')

    if (!slow) return
    const atOnce = Math.max(running, mostAtOnce(answers))
    if (atOnce > most) {
      judge.broken('limit-kept', { sent, came: `${atOnce} at once, by ${running > most ? '/health' : 'its execution_time_ms'}`, todo: `decline when ${most} are being worked on, or register the max_concurrency that is true` })
      return judge.skipped('over-limit-declined', 'it did them all (limit-kept)')
    }
    judge.passed('limit-kept')
    const done = answers.filter(did).length
    const no = answers.filter((x) => !did(x) && x.status !== null)
    const bad = no.find((x) => !declined(x) || x.headers['retry-after'] === undefined)
    const todo = 'answer 429 with Retry-After: 1 at once when all places are taken; the router gives the task to another agent, or comes back'
    if (bad) judge.broken('over-limit-declined', { sent, came: `${came(bad)}${declined(bad) ? ', without Retry-After' : ''}`, todo })
    else if (done > most) judge.broken('over-limit-declined', { sent, came: `${done} were done, some after a wait: they queue in the agent, where no other agent can have them`, todo })
    else judge.passed('over-limit-declined')
  },
})
