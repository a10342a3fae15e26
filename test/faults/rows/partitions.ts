/** Cut cables between any two parts: bytes are held, and neither side hears of it; in both directions, or in one. */
import { call, sleep, until } from '../../system.ts'
import { sentAt } from '../checker.ts'
import { mono, wallAhead } from '../clock.ts'
import type { Proxy } from '../../proxy.ts'
import type { Row, Trial } from '../row.ts'

const HEALS_MS = 5_000

const WAYS = [true, 'up', 'down'] as const

/** Holds what goes over some links, for so long; then waits until `healed` says so. */
const cut = async (trial: Trial, links: readonly Proxy[], how: (typeof WAYS)[number], ms: number, what: string, healed: (since: number) => unknown): Promise<void> => {
  const held = () => links.reduce((sum, p) => sum + p.seen.heldBytes, 0)
  const before = held()
  await trial.broken(async () => {
    trial.injected()
    for (const p of links) p.set({ blackhole: how })
    await sleep(ms)
    if (held() > before) trial.bit()
    for (const p of links) p.set({})
  })
  const since = mono()
  await until(() => healed(since), { timeoutMs: 40_000, everyMs: 20, what: `${what}, once healed` }).catch((error: Error) => trial.violate(error.message))
  const took = mono() - since
  trial.recovered(took)
  if (took > HEALS_MS) trial.violate(`${what}: ${Math.round(took)} ms after the cable was mended${how === true ? '' : ` (cut ${how})`}`)
}

export const partitionRows: readonly Row[] = [
  {
    name: 'cut-dispatcher-agent',
    fault: 'dispatchers cut off from a third of the agents, in both directions or one',
    promises: 'P1–P9; heals within 5 s',
    mixes: true,
    agentsFail: true,
    fleet: { links: ['dispatcher-agent'] },
    load: { rate: 50, slowMs: 1500, task: { timeout_seconds: 3 } },
    run: async (trial) => {
      const { fleet, random } = trial
      for (const how of WAYS) {
        // A third, so that enough are left: an agent that fails again and again is taken out for longer than it takes to heal.
        const agents = fleet.agents.filter(() => random.chance(0.33)).slice(0, 7)
        if (agents.length === 0) agents.push(random.pick(fleet.agents))
        const isSick = async (): Promise<Set<string>> => new Set(((await call('GET', `${fleet.api()}/agents?limit=200`)).json.agents as { agent_id: string; sick: unknown }[]).filter((a) => a.sick !== null).map((a) => a.agent_id))
        await cut(trial, agents.map((a) => fleet.toAgents.get(a.id)!), how, 5_000, 'work at agents that were cut off', async (since) => {
          const reached = (id: string): boolean => fleet.ledger.starts(since).some((s) => s.agent === id && sentAt(s.attempt, wallAhead()) > since)
          if (agents.every((a) => reached(a.id))) return true
          const sick = await isSick()
          return agents.every((a) => sick.has(a.id) || reached(a.id))
        })
        await sleep(1000)
      }
    },
  },
  {
    name: 'cut-agent-api',
    fault: 'agents cut off from the APIs, from all or one: no beats, no results that come later',
    promises: 'P1–P9; heals within 5 s',
    mixes: true,
    agentsFail: true,
    fleet: { links: ['agent-api'] },
    load: { rate: 50, later: 0.4, slowMs: 1500, task: { timeout_seconds: 4 } },
    run: async (trial) => {
      const { fleet, random } = trial
      for (const how of WAYS) {
        const host = random.pick(fleet.hosts)
        // From all of them it falls silent; from one it goes to the other.
        const links = how === true ? host.toApis : host.toApis.slice(0, 1)
        await cut(trial, links, how, how === true ? 8_000 : 4_000, 'agents that are healthy again', async () => {
          const { json } = await call('GET', `${fleet.api()}/agents?limit=200`)
          return host.agents.every((own) => json.agents.find((a: { agent_id: string; status: string }) => a.agent_id === own.id)?.status === 'healthy')
        })
      }
    },
  },
  {
    name: 'cut-api-redis',
    fault: 'one of two APIs cut off from Redis, in both directions or one',
    promises: 'P1–P9, P13; heals within 5 s',
    mixes: true,
    fleet: { links: ['api-redis'] },
    load: { rate: 50, later: 0.3 },
    run: async (trial) => {
      const { fleet, random } = trial
      for (const how of WAYS) {
        const api = random.pick(fleet.apis)
        await cut(trial, [api.toRedis!], how, 6_000, `${api.name} answering`, async () => (await call('GET', `${api.url}/tasks/alpha.0199b1c0-0000-7000-8000-000000000001`).catch(() => null))?.status === 404)
        await sleep(1000)
      }
    },
  },
  {
    name: 'cut-dispatcher-redis',
    fault: 'one of four dispatchers cut off from Redis, for longer than its locks',
    promises: 'P1–P9, P12; heals within 5 s',
    mixes: true,
    lateEnds: true,
    fleet: { links: ['dispatcher-redis'] },
    load: { rate: 60, slow: 0.15 },
    run: async (trial) => {
      const { fleet, random } = trial
      for (const [how, ms] of [[true, 14_000], ['down', 4_000], ['up', 4_000]] as const) {
        const dispatcher = random.pick(fleet.dispatchers)
        let before = -1
        await cut(trial, [dispatcher.toRedis!], how, ms, `work at ${dispatcher.name}`, async () => {
          if (before < 0) before = await fleet.attemptsOf(dispatcher)
          return (await fleet.attemptsOf(dispatcher)) > before + 2
        })
        await sleep(1000)
      }
    },
  },
]
