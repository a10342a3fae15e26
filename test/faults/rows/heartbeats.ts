/** Heartbeats that do not come, or not in time; and two agents under one id. */
import { call, sleep, until } from '../../system.ts'
import { sentAt } from '../checker.ts'
import { mono, wallAhead } from '../clock.ts'
import type { Row, Trial } from '../row.ts'
import { completed, ended, listenStub, type Delivery } from '../stub.ts'

type Seen = { agent_id: string; status: string; is_alive: boolean }
const agentsNow = async ({ fleet }: Trial): Promise<Seen[]> => (await call('GET', `${fleet.api()}/agents?include_dead=true&limit=200`).catch(() => null))?.json?.agents ?? []
/** What dispatchers have said of agents that died. */
const saidDead = ({ fleet }: Trial): number => fleet.dispatchers.reduce((n, d) => n + (d.proc.log.join('').match(/an agent is dead/g)?.length ?? 0), 0)

const TTL_SECONDS = 5

export const heartbeatRows: readonly Row[] = [
  {
    name: 'beats-mostly-silent',
    fault: '60 % of the agents silent at once for two TTLs: their links to the APIs are cut',
    promises: 'not all are evicted: they get work on',
    agentsFail: true,
    fleet: { hosts: 5, agentsPerHost: 4, ttlSeconds: TTL_SECONDS, links: ['agent-api'] },
    load: { rate: 50, later: 0, slowMs: 1500 },
    run: async (trial) => {
      const { fleet } = trial
      const silent = fleet.hosts.slice(0, 3)
      const ids = silent.flatMap((h) => h.agents.map((a) => a.id))
      const deadBefore = saidDead(trial)
      let mostDead = 0
      await trial.broken(async () => {
        trial.injected()
        const from = mono()
        for (const p of silent.flatMap((h) => h.toApis)) p.set({ blackhole: true })
        let asked = false
        while (mono() < from + 2 * TTL_SECONDS * 1000) {
          // Suspects come last: more than the others have room for, once all are silent for longer than their TTL.
          if (!asked && mono() > from + (TTL_SECONDS + 1.5) * 1000) {
            asked = true
            for (let i = 0; i < 200; i++) trial.load.one({ work: { ms: 500, how: 'answer' } })
          }
          mostDead = Math.max(mostDead, (await agentsNow(trial)).filter((a) => !a.is_alive).length)
          await sleep(200)
        }
        if (silent.every((h) => h.toApis.some((p) => p.seen.heldBytes > 0))) trial.bit()
        // Silent for longer than the TTL by now.
        const worked = new Set(fleet.ledger.starts(from + (TTL_SECONDS + 1.5) * 1000).filter((s) => sentAt(s.attempt, wallAhead()) > from + (TTL_SECONDS + 1.5) * 1000).map((s) => s.agent))
        const kept = ids.filter((id) => worked.has(id)).length
        trial.note(`${kept} of ${ids.length} silent agents got work behind their TTL; ${mostDead} were dead at once`)
        if (kept < ids.length / 2) trial.violate(`only ${kept} of ${ids.length} agents that fell silent together got work behind their TTL`)
        for (const p of silent.flatMap((h) => h.toApis)) p.set({})
      })
      if (mostDead > 0 || saidDead(trial) > deadBefore) trial.violate(`${mostDead} of ${ids.length} agents that fell silent together were dead`)
      const since = mono()
      await until(async () => { const now = await agentsNow(trial); return ids.every((id) => now.find((a) => a.agent_id === id)?.status === 'healthy') }, { timeoutMs: 20_000, everyMs: 50, what: 'all agents healthy again' })
      trial.recovered(mono() - since)
    },
  },
  {
    name: 'beats-under-load',
    fault: '500 tasks a second for 10 s, far above what agents can do: beats must get through',
    promises: 'no agent is evicted',
    fleet: { ttlSeconds: 2 * TTL_SECONDS },
    load: { rate: 20, slow: 0, later: 0.1, watched: 0.02, cancelled: 0.01, doubled: 0.01, task: { timeout_seconds: 30 } },
    run: async (trial) => {
      const { load } = trial
      const evicted = new Set<string>()
      const before = saidDead(trial)
      let stopped = false
      const watching = (async () => {
        for (; !stopped; await sleep(250)) for (const a of await agentsNow(trial)) if (a.status === 'unreachable' || a.status === 'dead') evicted.add(`${a.agent_id} (${a.status})`)
      })()
      trial.injected()
      const from = mono()
      const tasks = 5_000
      // Rising for 3 s: code that has just been loaded is slow.
      const due = (s: number): number => Math.min(tasks, 500 * (s < 3 ? (s * s) / 6 : s - 1.5))
      for (let sent = 0; sent < tasks; await sleep(5)) for (; sent < due((mono() - from) / 1000); sent++) load.one({ work: { ms: trial.random.whole(100, 400), how: 'answer' } })
      const offered = tasks / ((mono() - from) / 1000)
      await until(() => load.told.filter((t) => t.takenAt !== null).length > tasks * 0.9, { timeoutMs: 90_000, everyMs: 250, what: 'all tasks being taken' })
      const waiting = load.told.filter((t) => t.takenAt !== null).length - new Set(trial.fleet.ledger.starts().map((s) => s.task)).size
      trial.note(`${Math.round(offered)} tasks a second; ${waiting} waited at the end`)
      if (waiting > 200) trial.bit()
      await sleep(5_000)
      stopped = true
      await watching
      if (evicted.size > 0 || saidDead(trial) > before) trial.violate(`evicted while they beat: ${[...evicted].join(', ')}; ${saidDead(trial) - before} said to be dead`)
    },
  },
  {
    name: 'agent-on-two-hosts',
    fault: 'one agent_id registered from two hosts in turn',
    promises: 'P5, P9: one generation wins, results are not mixed',
    mixes: true,
    run: (trial) => trial.broken(() => onTwoHosts(trial)),
  },
]

const SLOTS = 3
const onTwoHosts = async (trial: Trial): Promise<void> => {
  const { fleet } = trial
  const id = 'twice'
  const told: { attemptId: string; status: number }[] = []
  /** Works 100 ms, and answers or tells later, by its own name. */
  const talk = (own: string) => (d: Delivery): void => {
    const result = { by: own, attempt_id: d.attemptId }
    const later = d.body.parameters.later === true
    if (later) d.socket.write('HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n')
    setTimeout(async () => {
      if (!later) return void d.socket.write(completed(d, result))
      const { status } = await call('POST', `${fleet.api()}/tasks/${d.taskId}/result`, { attempt_id: d.attemptId, status: 'completed', result })
      told.push({ attemptId: d.attemptId, status })
    }, later ? 700 : 100)
  }
  const hosts = await Promise.all(['a', 'b'].map(async (name) => ({ name, ...(await listenStub({ talk: talk(name) })) })))
  const generations: { at: number; name: string; generation: number }[] = []
  const register = async (turn: number): Promise<void> => {
    const { name, port } = hosts[turn % 2]!
    const { status, json: agent } = await call('POST', `${fleet.api()}/agents/register`, { agent_id: id, name: id, type: 'twice', host: '127.0.0.1', port, capabilities: ['work'], max_concurrency: SLOTS, ttl_seconds: 30, instance_id: name })
    if (status !== 200 && status !== 201) throw new Error(`not registered: ${status}`)
    generations.push({ at: mono(), name, generation: agent.generation })
  }
  await register(0)
  const ids: string[] = []
  for (let turn = 1; turn <= 12; turn++) {
    for (let i = 0; i < 6; i++) {
      const { json: task } = await call('POST', `${fleet.api()}/tasks`, { task_type: 'work', agent_type: 'twice', parameters: { later: i % 2 === 0 }, timeout_seconds: 10, max_retries: 3, retry_delay_seconds: 0.1 })
      ids.push(task.task_id)
      await sleep(100)
    }
    trial.injected()
    await register(turn)
  }
  const tasks = await ended(trial, ids, 60_000)
  const deliveries = hosts.flatMap((h) => h.deliveries.map((d) => ({ ...d, host: h.name })))
  const ahead = wallAhead()
  for (const [i, g] of generations.entries()) {
    const before = generations[i - 1]
    if (before && g.generation !== before.generation + 1) trial.violate(`generation ${g.generation} came behind ${before.generation}`)
    // What was sent between its registration and the next (which is being made for a while) went to it.
    const next = generations[i + 1]?.at ?? Infinity
    const its = deliveries.filter((d) => sentAt(d.attemptId, ahead) > g.at + 2 && d.at < next - 200)
    if (its.some((d) => d.host === g.name)) trial.bit(i > 0 ? 1 : 0)
    const strays = its.filter((d) => d.host !== g.name)
    if (strays.length > 0) trial.violate(`${strays.length} attempts went to ${strays[0]!.host} while ${g.name} was registered`)
  }
  for (const task of tasks) {
    const result = task.result as { by?: string; attempt_id?: string } | null
    const own = deliveries.find((d) => d.attemptId === result?.attempt_id)
    if (task.status !== 'completed') trial.violate(`${task.task_id} ended ${task.status} (${task.error})`)
    else if (!own || own.taskId !== task.task_id || own.host !== result!.by) trial.violate(`${task.task_id} has the result of ${result?.by}, from an attempt at ${own?.host}`)
    for (const t of told) if (t.status === 200 && deliveries.find((d) => d.attemptId === t.attemptId)?.taskId === task.task_id && result?.attempt_id !== t.attemptId) trial.violate(`${task.task_id}: a result was taken and is not the task's`)
  }
  trial.note(`${told.filter((t) => t.status === 409).length} of ${told.length} results came too late for their generation`)
  await until(async () => (await call('GET', `${fleet.api()}/agents/${id}`)).json.in_flight === 0, { timeoutMs: 20_000 }).catch(() => trial.violate('P6: slots held'))
  await call('DELETE', `${fleet.api()}/agents/${id}`)
  for (const h of hosts) h.end()
}
