/** A queue of 100,000 that nobody serves, and then fifty agents at once. */
import { join } from 'node:path'
import { call, sleep, startProcess, until } from '../../system.ts'
import { mono } from '../clock.ts'
import { freePorts } from '../fleet.ts'
import type { AgentSettings, HostSettings, Work } from '../host.ts'
import { createLedger } from '../ledger.ts'
import { cpuSeconds } from '../processes.ts'
import type { Row, Trial } from '../row.ts'

const QUEUED = 100_000
const PART = 1_000
const AGENTS = 50
const IDLE_MS = 10_000
/** Of one core. */
const IDLE_CPU = 0.05
const FIRST_MS = 1_000
const P99_MS = 500
const WATCHED_MS = 10_000
const TYPE = 'bulk'

const fill = async ({ fleet }: Trial): Promise<void> => {
  const work: Work = { ms: 400, how: 'answer' }
  const body = JSON.stringify({ tasks: Array.from({ length: PART }, () => ({ agent_type: TYPE, task_type: 'work', parameters: work })) })
  let left = QUEUED / PART
  await Promise.all(fleet.apis.map(async (api) => {
    while (left-- > 0) {
      const answer = await call('POST', `${api.url}/tasks/batch`, body)
      if (answer.status !== 200 && answer.status !== 201) throw new Error(`a batch was not taken: ${answer.status} ${answer.text.slice(0, 300)}`)
    }
  }))
}

/** CPU of each of ours and of Redis, as a share of a core, while nothing can be done. */
const idleCpu = async ({ fleet }: Trial): Promise<{ name: string; share: number }[]> => {
  const all = [...[...fleet.apis, ...fleet.dispatchers].map((m) => ({ name: m.name, pid: m.proc.child.pid! })), { name: 'redis', pid: fleet.store.pid() }]
  const before = all.map(({ pid }) => cpuSeconds(pid))
  const since = mono()
  await sleep(IDLE_MS)
  return all.map(({ name, pid }, i) => ({ name, share: (cpuSeconds(pid) - before[i]!) / ((mono() - since) / 1000) }))
}

/** Fifty in a process of their own. */
const agentsReturn = async ({ fleet }: Trial) => {
  const path = join(fleet.dir, 'bulk.jsonl')
  const ledger = createLedger([path])
  const ports = await freePorts(AGENTS)
  const agents: AgentSettings[] = ports.map((port, i) => ({ id: `bulk-${i}`, type: TYPE, capabilities: ['work'], slots: 2, port, ttlSeconds: 30 }))
  const settings: HostSettings = { routers: fleet.apis.map((a) => a.url), ledger: path, agents }
  const proc = await startProcess('test/faults/host.ts', {}, { args: [JSON.stringify(settings)] })
  return { proc, ledger }
}

export const backlogRows: readonly Row[] = [
  {
    name: 'backlog',
    fault: '100,000 tasks queued with no agents, then 50 agents at once',
    promises: 'P11, P13',
    noTail: true,
    load: { rate: 0 },
    fleet: { hosts: 2, agentsPerHost: 2, ttlSeconds: 60 },
    run: async (trial) => {
      const { fleet, load, note, violate } = trial
      const queued = async () => Number(await fleet.redis.zcard(fleet.keys.tasks(TYPE, 'queued')))
      const began = mono()
      await fill(trial)
      trial.injected()
      note(`${await queued()} queued after ${((mono() - began) / 1000).toFixed(1)} s`)
      if ((await queued()) === QUEUED) trial.bit()
      // Only what is said of it is still to be written.
      await sleep(6000)
      const idle = await idleCpu(trial)
      note(`CPU with nothing to do: ${idle.map(({ name, share }) => `${name} ${(share * 100).toFixed(1)} %`).join(', ')}`)
      for (const { name, share } of idle) if (share > IDLE_CPU) violate(`${name} took ${(share * 100).toFixed(1)} % of a core while nothing could be done`)

      const { proc, ledger } = await agentsReturn(trial)
      const since = mono()
      const first = await until(() => ledger.starts()[0], { timeoutMs: 20_000, everyMs: 5, what: 'a first dispatch' })
      // Since the first of them asked to be known.
      const known = Math.min(...ledger.read().flatMap((e) => (e.what === 'registered' ? [e.asked] : [])))
      const took = Math.max(0, first.at - known)
      trial.recovered(took)
      if (took > FIRST_MS) violate(`the first of ${QUEUED} tasks was sent ${Math.round(took)} ms after an agent had come`)
      const before = load.calls.length
      while (mono() - since < WATCHED_MS) {
        const one = load.one({ work: { ms: 20, how: 'answer' } })
        void until(() => one.ids.size > 0, { timeoutMs: 20_000 }).then(() => load.ask('read', trial.random.whole(0, 1), 'GET', `/tasks/${[...one.ids][0]}`), () => {})
        await sleep(50)
      }
      const times = load.calls.slice(before).filter((c) => c.what === 'submit' || c.what === 'read').map((c) => c.ms).sort((a, b) => a - b)
      const p99 = times[Math.floor(times.length * 0.99)] ?? Infinity
      const rate = ledger.starts().length / ((mono() - since) / 1000)
      note(`first dispatch after ${Math.round(took)} ms, ${Math.round(rate)} tasks/s; the API's p99 ${Math.round(p99)} ms of ${times.length} calls`)
      if (p99 > P99_MS) violate(`the API's p99 was ${Math.round(p99)} ms`)
      await proc.kill('SIGKILL')
      ledger.close()
    },
  },
]
