/** SIGTERM: the agent says that it drains, answers what it has and takes nothing new, unregisters, and ends. */
import { readFileSync } from 'node:fs'
import { experiment } from '../check.ts'
import { came, did } from '../exchange.ts'
import { seconds } from '../shown.ts'
import type { Delivered, Subject } from '../subject.ts'
import { awaited, pause } from '../waiting.ts'

const SLOW_MS = 1500
const BEGUN_MS = 250
const ENDS_MS = 8000

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  try {
    // One that has ended, and that nobody has asked about yet.
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return process.platform !== 'linux'
  }
}

const terminate = (agent: Subject): string | null => {
  if (agent.process) agent.process.terminate()
  else {
    try {
      process.kill(agent.pid!, 'SIGTERM')
    } catch (error) {
      return (error as Error).message
    }
  }
  return null
}
const over = (agent: Subject): boolean => (agent.process ? agent.process.exit() !== null : !alive(agent.pid!))

export const leaving = experiment({
  checks: {
    'drain-said': { level: 'SHOULD', rule: 'L1', title: 'says draining in a heartbeat at SIGTERM', needs: ['command'] },
    'drain-new-work': { level: 'SHOULD', rule: 'L1', title: 'answers new tasks 503 while it drains', needs: ['process', 'slow'] },
    'drain-finishes': { level: 'SHOULD', rule: 'L2', title: 'still answers the task it was working on', needs: ['process', 'slow'] },
    'drain-unregisters': { level: 'SHOULD', rule: 'L1', title: 'unregisters when it leaves', needs: ['command'] },
    'drain-ends': { level: 'SHOULD', rule: 'L1', title: 'ends after SIGTERM, with exit code 0', needs: ['process'] },
  },
  limitMs: 25_000,
  taskless: true,
  run: async (agent, judge) => {
    const { router } = agent
    const slow = agent.slow?.(SLOW_MS)
    let inHand: Delivered | null = null
    const working = slow && agent.deliver({ task: slow }).then((x) => (inHand = x))
    if (slow) await pause(Math.min(BEGUN_MS, slow.ms / 3))
    const declinedAtOnce = inHand !== null && !did(inHand)
    const beats = router?.beats.length ?? 0
    const failed = terminate(agent)
    if (failed !== null) return judge.skipped('drain-ends', `SIGTERM could not be sent: ${failed}`)

    let last: Delivered | null = null
    const said503 = slow && (await awaited(async () => {
      if (inHand !== null) return 'late'
      last = await agent.deliver({ timeoutMs: 2000 })
      if (last.status === null) await pause(60)
      return last.status === 503
    }, slow.ms + 1000))
    await working
    const ended = await awaited(() => over(agent), ENDS_MS)

    const sent = slow ? `SIGTERM during a task of ${seconds(slow.ms)}` : 'SIGTERM'
    const todo = 'handle SIGTERM: finish what is at hand, unregister, and end with exit code 0'
    // Of one that takes no notice there is no more to say.
    if (!ended) return judge.broken('drain-ends', { sent, came: `it still ran ${seconds(ENDS_MS)} after its last answer`, todo })
    if (slow && declinedAtOnce) judge.skipped('drain-finishes', `the task to be in hand was not taken: ${came(inHand!)}`)
    else if (slow) {
      if (did(inHand!)) judge.passed('drain-finishes')
      else judge.broken('drain-finishes', { sent, came: came(inHand!), todo: 'at SIGTERM take no new work, and end only when what is at hand has been answered' })
      if (said503 === true) judge.passed('drain-new-work')
      else if (last === null || !did(inHand!)) judge.skipped('drain-new-work', 'it was over before a new task could be sent')
      else judge.broken('drain-new-work', { sent: `${sent}, and another task then`, came: came(last), todo: 'go on listening while tasks are at hand, and answer new ones 503 with Retry-After: a refused connection costs the task an attempt' })
    }
    if (router) {
      const after = router.beats.slice(beats)
      if (after.some(({ body }) => body['status'] === 'draining')) judge.passed('drain-said')
      else judge.broken('drain-said', { sent, came: after.length === 0 ? 'no more beats' : `${after.length} beats, none with status: "draining"`, todo: 'at SIGTERM send a heartbeat with status: "draining" at once, so that no new task is on its way' })
      if (router.unregistered()) judge.passed('drain-unregisters')
      else judge.broken('drain-unregisters', { sent, came: 'neither POST /agents/{id}/unregister nor DELETE /agents/{id}', todo: 'unregister when the last task is answered: else the router counts on it until its time to live is over' })
    }
    const code = agent.process?.exit()
    if (agent.process && code !== 0) judge.broken('drain-ends', { sent, came: `it ended with ${code}: ${agent.process.output()}`, todo })
    else judge.passed('drain-ends')
  },
})
