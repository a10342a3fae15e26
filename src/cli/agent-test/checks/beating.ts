/** An agent's heartbeats, as the kit's own router hears them, and what it makes of the answers. */
import { experiment } from '../check.ts'
import { INTERVAL_SECONDS, type Router } from '../router.ts'
import { seconds } from '../shown.ts'
import type { Subject } from '../subject.ts'
import { awaited, pause } from '../waiting.ts'

/** The TTL that the router tells: an agent that is silent for longer is dead. */
const TTL_MS = 5000
const LONG_INTERVAL_SECONDS = 2
/** Sooner than a beat that knows nothing of the failure could come, a fifth early by chance. */
const SOONER_MS = 1500
const LONG_MS = 8000
const STOPS_MS = 2000

/** The beat after `after` of them; null when none comes while the agent would still count as alive. */
const beatAfter = (agent: Subject, router: Router, after: number) => awaited(() => router.beats[after], TTL_MS, () => agent.process?.exit() !== null)
const goneOr = (agent: Subject, otherwise: string): string => (agent.process && agent.process.exit() !== null ? `the agent ended with ${agent.process.exit()}: ${agent.process.output()}` : otherwise)

export const beating = experiment({
  checks: {
    heartbeats: { level: 'MUST', rule: 'B1', title: 'beats before its time to live is over', needs: ['command'] },
    'heartbeat-interval': { level: 'SHOULD', rule: 'B1', title: 'beats as often as it is told', needs: ['command'] },
    'heartbeat-failure': { level: 'MUST', rule: 'B5', title: 'outlives a beat that fails', needs: ['command'] },
    'heartbeat-repeat': { level: 'SHOULD', rule: 'B5', title: 'repeats a failed beat sooner than the next would come', needs: ['command'] },
    'heartbeat-404': { level: 'SHOULD', rule: 'B4', title: 'registers again under its agent_id when it is not known', needs: ['command'] },
  },
  limitMs: 40_000,
  taskless: true,
  run: async (agent, judge) => {
    const { router } = agent
    if (!router) return
    const registered = router.registrations.findLast((one) => one.status < 300)!
    const told = `heartbeat_interval_seconds: ${INTERVAL_SECONDS}`
    const third = await beatAfter(agent, router, 0) && await beatAfter(agent, router, 1) && await beatAfter(agent, router, 2)
    if (!third) {
      const heard = router.beats.length
      return judge.broken('heartbeats', { sent: `a registration's answer with ${told} and ttl_seconds: ${TTL_MS / 1000}`, came: goneOr(agent, `${heard === 0 ? 'no beat' : `no more than ${heard}`} within ${seconds(TTL_MS)}`), todo: 'POST to heartbeat_url every heartbeat_interval_seconds, from a thread or timer that no task can hold up' })
    }
    judge.passed('heartbeats')
    const at = [registered.at, ...router.beats.slice(0, 3).map((beat) => beat.at)]
    const gaps = at.slice(1).map((time, i) => time - at[i]!).sort((a, b) => a - b)
    const usual = gaps[1]!
    const everyMs = INTERVAL_SECONDS * 1000
    if (usual > 1.5 * everyMs + 500 || usual < everyMs / 4) judge.broken('heartbeat-interval', { sent: told, came: `a beat every ${seconds(usual)}`, todo: 'wait as long as the last answer says (heartbeat_interval_seconds, next_interval_seconds), a tenth more or less by chance' })
    else judge.passed('heartbeat-interval')

    // One beat whose connection breaks, then one that is answered 500 when the next is far off.
    const cut = router.beats.length
    router.beat = (_, i) => (i <= cut ? { cut: true } : i === cut + 1 ? { nextSeconds: LONG_INTERVAL_SECONDS } : i === cut + 2 ? { status: 500, nextSeconds: LONG_INTERVAL_SECONDS } : {})
    const outlived = await beatAfter(agent, router, cut) && await beatAfter(agent, router, cut + 1) && await beatAfter(agent, router, cut + 2)
    const repeated = outlived && await beatAfter(agent, router, cut + 3)
    if (!outlived || !repeated) {
      const sent = outlived ? 'a beat answered 500' : 'a beat whose connection breaks without an answer'
      return judge.broken('heartbeat-failure', { sent, came: goneOr(agent, `no beat after it within ${seconds(TTL_MS)}`), todo: 'take any error of a beat as a reason to beat again soon, and never as a reason to stop' })
    }
    judge.passed('heartbeat-failure')
    const laterMs = repeated.at - outlived.at
    if (laterMs > SOONER_MS) judge.broken('heartbeat-repeat', { sent: `a beat answered 500, when the next is due in ${LONG_INTERVAL_SECONDS} s`, came: `the next beat after ${seconds(laterMs)}`, todo: 'repeat a failed beat after a quarter of the interval or so' })
    else judge.passed('heartbeat-repeat')

    const known = router.registrations.length
    const { agentId } = router
    router.beat = (_, i) => (i > cut + 3 && router.registrations.length === known ? { status: 404 } : {})
    const again = await awaited(() => router.registrations[known], TTL_MS, () => agent.process?.exit() !== null)
    router.beat = () => ({})
    const todo = 'on 404 register again, with the agent_id and instance_id of before'
    if (!again) judge.broken('heartbeat-404', { sent: 'a beat answered 404', came: goneOr(agent, `no registration within ${seconds(TTL_MS)}`), todo })
    else if (again.body['agent_id'] !== agentId) judge.broken('heartbeat-404', { sent: 'a beat answered 404', came: `a registration with agent_id: ${JSON.stringify(again.body['agent_id']) ?? '(none)'}, not ${agentId}`, todo })
    else judge.passed('heartbeat-404')
  },
})

export const control = experiment({
  checks: {
    'heartbeat-running': { level: 'SHOULD', rule: 'B2', title: 'says in its beats which attempts it is working on', needs: ['command', 'slow'] },
    'heartbeat-cancel': { level: 'SHOULD', rule: 'B3', title: 'stops an attempt that a beat\'s answer cancels', needs: ['command', 'slow'] },
    'heartbeat-lost': { level: 'SHOULD', rule: 'B3', title: 'stops an attempt that a beat\'s answer calls lost', needs: ['command', 'slow'] },
  },
  limitMs: 30_000,
  run: async (agent, judge) => {
    const { router } = agent
    if (!router || !agent.slow) return
    if (!(await beatAfter(agent, router, 0))) return judge.skipped('heartbeat-running', 'it does not beat (heartbeats)')
    const task = agent.slow(LONG_MS)
    // One after the other where it can do only one at once.
    const rounds = (agent.limit ?? 1) >= 2 ? [['cancel', 'lost'] as const] : [['cancel'] as const, ['lost'] as const]
    for (const words of rounds) {
      const attempts = words.map((word) => ({ word, attemptId: `${word}.${crypto.randomUUID()}`, endedAt: Infinity }))
      const sentAt = performance.now()
      const hangUp = new AbortController()
      const done = attempts.map((one) => agent.deliver({ task, attemptId: one.attemptId, signal: hangUp.signal }).finally(() => (one.endedAt = performance.now())))
      await pause(150)
      const ids = attempts.map((one) => one.attemptId)
      const from = router.beats.length
      const listed = await awaited(() => router.beats.slice(from).some(({ body }) => Array.isArray(body['running']) && ids.every((id) => (body['running'] as unknown[]).includes(id))), Math.min(2500, task.ms / 2))
      const sent = `${ids.length} task${ids.length > 1 ? 's' : ''} of ${seconds(task.ms)}`
      if (listed) judge.passed('heartbeat-running')
      else judge.broken('heartbeat-running', { sent, came: `beats with running: ${JSON.stringify(router.beats.at(-1)?.body['running'])?.slice(0, 150) ?? '(none)'}`, todo: 'send running: the attempt_ids of what is being worked on, those that were declined not among them' })
      const toldFrom = router.beats.length
      router.beat = () => Object.fromEntries(attempts.filter((one) => one.endedAt === Infinity).map((one) => [one.word, [one.attemptId]]))
      const told = await awaited(() => router.beats[toldFrom], TTL_MS)
      // Of what was answered 202 nothing is told then; the beats say when it has stopped.
      const isOver = (one: (typeof attempts)[number]): boolean => {
        const list = task.later && told && router.beats.findLast((beat) => beat.at > told.at)?.body['running']
        if (Array.isArray(list) && !list.includes(one.attemptId)) one.endedAt = Math.min(one.endedAt, performance.now())
        return one.endedAt < Infinity
      }
      await awaited(() => attempts.map(isOver).every((over) => over), STOPS_MS)
      router.beat = () => ({})
      for (const one of attempts) {
        const name = `heartbeat-${one.word}` as const
        if (!told || (task.ms - (told.at - sentAt) < STOPS_MS / 2 && one.endedAt < Infinity)) judge.skipped(name, `the slow task (${seconds(task.ms)}) is too short to tell: give one of 5 s`)
        else if (one.endedAt === Infinity) judge.broken(name, { sent: `${one.word}: [its attempt_id] in a beat's answer`, came: `it was still at work ${seconds(STOPS_MS)} later`, todo: 'stop the attempts that the answer to a beat names under cancel and lost, and answer their POST or close it' })
        else judge.passed(name)
      }
      // What it did not stop is not waited for.
      if (task.later) hangUp.abort()
      if (attempts.every((one) => one.endedAt < Infinity)) await Promise.all(done)
    }
  },
})
