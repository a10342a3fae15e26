/** Agents that are killed, stand still, refuse connections or close them. */
import { call, sleep, until } from '../../system.ts'
import { sentAt, type TaskRecord } from '../checker.ts'
import { mono, wallAhead } from '../clock.ts'
import type { Fleet, Member } from '../fleet.ts'
import type { Row, Trial } from '../row.ts'
import { completed, ended, startStub } from '../stub.ts'

const SLACK_MS = 1_500
/** What waits for a retry waits at most so long, over its backoff. */
const ELSEWHERE_MS = 5_000

const inHand = ({ fleet }: Trial, host: Member): number => fleet.ledger.open().filter((s) => host.agents.some((a) => a.id === s.agent)).length
const atHost = (host: Member) => (a: { agent_id: string }): boolean => host.agents.some((own) => own.id === a.agent_id)
const at = (time: string): number => Date.parse(time) - wallAhead()

/** What failed at agents was sent again in time. `retryMs`: the most that the tasks' own backoff asks for. */
const elsewhereInTime = (trial: Trial, of: (attempt: TaskRecord['attempts'][number]) => boolean, retryMs: number): void => {
  for (const { task_id, attempts, status } of trial.records.values()) {
    for (const [i, one] of attempts.entries()) {
      const next = attempts[i + 1]
      if (!of(one) || !one.ended_at) continue
      if (!next) {
        if (status !== 'completed' && status !== 'cancelled' && one.outcome !== 'completed') trial.violate(`${task_id} ended ${status} with an agent that ${one.outcome}`)
        continue
      }
      const took = at(next.sent_at) - at(one.ended_at)
      trial.recovered(took)
      if (took > ELSEWHERE_MS + retryMs + SLACK_MS) trial.violate(`${task_id} was sent again ${Math.round(took)} ms after attempt ${one.attempt} was over`)
    }
  }
}

const STOPPED_MS = 10_000
const stopped = new WeakMap<Fleet, { host: Member; from: number; to: number }>()

export const agentRows: readonly Row[] = [
  {
    name: 'agents-killed',
    fault: 'agents killed (kill -9) in mid-task, and started again',
    promises: 'P1, P5, P6',
    mixes: true,
    agentsFail: true,
    load: { rate: 50, slow: 0.15 },
    run: async (trial) => {
      const { fleet } = trial
      for (let i = 0; i < trial.times(3); i++) {
        const host = trial.random.pick(fleet.hosts)
        await until(() => inHand(trial, host) > 1, { timeoutMs: 15_000, what: 'agents with something in hand' })
        await trial.broken(async () => {
          const had = inHand(trial, host)
          trial.injected()
          await host.kill()
          if (had > 0) trial.bit()
          await sleep(trial.random.between(500, 3000))
          await host.restart()
        })
        trial.recovered(await trial.goesOn())
        await sleep(1000)
      }
    },
  },
  {
    name: 'agents-stopped',
    fault: 'agents that stand still (SIGSTOP) for longer than their TTL, with work in hand',
    promises: 'P1, P5, P8; nothing more goes there, and theirs goes elsewhere',
    agentsFail: true,
    fleet: { ttlSeconds: 5 },
    load: { rate: 50, slow: 0.15, slowMs: 1500, task: { timeout_seconds: 3 } },
    run: async (trial) => {
      const { fleet } = trial
      const host = trial.random.pick(fleet.hosts)
      await until(() => inHand(trial, host) > 1, { timeoutMs: 15_000, what: 'agents with something in hand' })
      await trial.broken(async () => {
        trial.injected()
        host.stop()
        const from = mono()
        const isOut = async (): Promise<boolean> => {
          const { json } = await call('GET', `${fleet.api()}/agents?include_dead=true&limit=200`)
          return json.agents.filter(atHost(host)).every((a: { status: string }) => ['unreachable', 'dead'].includes(a.status))
        }
        await until(isOut, { timeoutMs: STOPPED_MS, everyMs: 50, what: 'the silent agents being out' })
        const took = mono() - from
        if (took > 5_000 + SLACK_MS) trial.violate(`silent agents were in the pools for ${Math.round(took)} ms, with a TTL of 5 s`)
        await sleep(Math.max(0, STOPPED_MS - took))
        if (fleet.ledger.starts(from + 500).some((s) => host.agents.some((a) => a.id === s.agent))) trial.violate('a process wrote while it was stopped')
        stopped.set(fleet, { host, from, to: mono() })
        host.go()
      })
      const { to } = stopped.get(trial.fleet)!
      await until(() => fleet.ledger.starts(to).find((s) => sentAt(s.attempt, wallAhead()) > to && host.agents.some((a) => a.id === s.agent)), { timeoutMs: 20_000, what: 'work at agents that go on' })
    },
    check: (trial) => {
      const { host, from, to } = stopped.get(trial.fleet)!
      const swallowed = [...trial.records.values()].flatMap((r) => r.attempts).filter(atHost(host)).filter((a) => at(a.sent_at) > from && at(a.sent_at) < to)
      if (swallowed.some((a) => a.outcome === 'timeout')) trial.bit()
      const late = swallowed.filter((a) => at(a.sent_at) > from + 5_000 + SLACK_MS)
      if (late.length > 0) trial.violate(`${late.length} attempts went to agents that had been silent for longer than their TTL`)
      elsewhereInTime(trial, (a) => atHost(host)(a) && a.outcome === 'timeout', 2_000)
    },
  },
  {
    name: 'agents-refuse',
    fault: 'agents that beat and refuse connections',
    promises: 'out at once; one attempt a beat is lost at most',
    mixes: true,
    agentsFail: true,
    fleet: { links: ['dispatcher-agent'] },
    load: { rate: 50 },
    run: async (trial) => {
      const { fleet } = trial
      const victims = [0, 1].map((type) => trial.random.pick(fleet.agents.filter((_, i) => i % 2 === type)))
      const from = mono()
      await trial.broken(async () => {
        trial.injected(victims.length)
        for (const v of victims) fleet.toAgents.get(v.id)!.shut()
        await sleep(8_000)
      })
      const to = mono()
      await Promise.all(victims.map((v) => fleet.toAgents.get(v.id)!.listenAgain()))
      refusing.set(fleet, { victims: victims.map((v) => v.id), from, to })
      // One that was refused by five tasks in a row is sick, and rests for longer.
      const isSick = async (id: string): Promise<boolean> => ((await call('GET', `${fleet.api()}/agents/${id}`).catch(() => null))?.json?.sick ?? null) !== null
      for (const { id } of victims) {
        const first = () => fleet.ledger.starts(to).find((s) => s.agent === id)
        await until(async () => first() !== undefined || (await isSick(id)), { timeoutMs: 15_000, everyMs: 100, what: `work at ${id}` })
        if (first()) trial.recovered(first()!.at - to)
      }
    },
    check: (trial) => {
      const { victims, from, to } = refusing.get(trial.fleet)!
      for (const id of victims) {
        const refused = [...trial.records.values()].flatMap((r) => r.attempts).filter((a) => a.agent_id === id && a.outcome === 'unreachable' && at(a.sent_at) >= from && at(a.sent_at) <= to)
        if (refused.length > 0) trial.bit()
        const { slots, ttlSeconds } = trial.fleet.agents.find((a) => a.id === id)!
        // What was on the way when the first was refused; then one a beat.
        const beats = Math.ceil((to - from) / ((ttlSeconds * 1000) / 3)) + 1
        const first = Math.min(...refused.map((a) => at(a.ended_at!)))
        const at_once = refused.filter((a) => at(a.sent_at) <= first + 50).length
        trial.note(`${id}: ${refused.length} attempts refused, ${at_once} of them at once, in ${beats} beats`)
        if (at_once > slots) trial.violate(`${id}: ${at_once} attempts at once, with ${slots} slots`)
        // Its beats are 2 s apart. (Left in, it would soon be sick, and refuse no more than this.)
        const later = refused.map((a) => at(a.sent_at)).filter((sent) => sent > first + 50).sort((a, b) => a - b)
        const close = later.filter((sent, i) => sent - (later[i - 1] ?? -Infinity) < 1_000)
        if (close.length > 0) trial.violate(`${id}: ${close.length} attempts refused within a second of the one before`)
        if (refused.length - at_once > beats) trial.violate(`${id}: ${refused.length - at_once} attempts refused in ${beats} beats`)
      }
      elsewhereInTime(trial, (a) => victims.includes(a.agent_id) && a.outcome === 'unreachable', 2_000)
    },
  },
  {
    name: 'agent-closes-idle',
    fault: 'an agent that closes kept-alive connections just when the next task comes on them',
    promises: 'P1; sent again, under the same key',
    mixes: true,
    run: (trial) =>
      trial.broken(async () => {
        let cut = 0
        const stub = await startStub(trial, {
          type: 'closes-idle', slots: 1,
          talk: (d) => void d.socket.write(completed(d)),
          // The first of a connection is answered; the second is cut off at its first byte, by a reset or an orderly end.
          meddle: (socket, _chunk, requests) => {
            if (requests === 0) return false
            cut++
            if (cut % 2 === 0) socket.resetAndDestroy()
            else socket.destroy()
            return true
          },
        })
        const ids: string[] = []
        for (let i = 0; i < 30; i++) {
          ids.push(await stub.submit({ max_retries: 3 }))
          if (i % 3 === 0) await sleep(50)
        }
        for (const task of await ended(trial, ids)) {
          if (task.status !== 'completed') trial.violate(`${task.task_id} ended ${task.status} (${task.error})`)
          const keys = new Set(stub.of(task.task_id).map((d) => d.headers['idempotency-key']))
          if (keys.size !== 1 || !keys.has(task.task_id)) trial.violate(`${task.task_id} came under the keys ${[...keys].join(', ')}`)
          if (stub.of(task.task_id).length !== 1) trial.violate(`${task.task_id} was performed ${stub.of(task.task_id).length} times`)
        }
        trial.injected(10)
        trial.bit(Math.min(10, cut))
        trial.note(`${cut} connections closed under a request`)
        await stub.close()
      }),
  },
]
const refusing = new WeakMap<Fleet, { victims: string[]; from: number; to: number }>()
