/** What a cluster is for: a part of it dies, or moves, and the rest does not notice. Each test has a cluster of its own. */
import { describe, expect, test } from 'vitest'
import { accepts, call, sleep, startSystem, until, type Answer, type System } from '../system.ts'
import { startCluster, type ClusterNode, type TestCluster } from './cluster.ts'

type Cluster = TestCluster & AsyncDisposable
const cluster = async (options: Parameters<typeof startCluster>[0]): Promise<Cluster> => {
  const one = await startCluster(options)
  return { ...one, [Symbol.asyncDispose]: one.close }
}

const slotOf = async (of: TestCluster, key: string): Promise<number> => Number(await of.nodes.at(-1)!.redis.call('CLUSTER', 'KEYSLOT', key))
/** The master of a key, as the cluster was made. */
const masterOf = async (of: TestCluster, key: string): Promise<ClusterNode> => of.masters[Math.floor(((await slotOf(of, key)) * of.masters.length) / 16_384)]!
type Placed = { type: string; master: ClusterNode }
/** An agent type on each master but that of the types' index, which is the last one's. */
const typesOn = async (of: TestCluster, system: System): Promise<{ index: ClusterNode; others: [Placed, Placed] }> => {
  const index = await masterOf(of, system.keys.types)
  const others: Placed[] = []
  for (let i = 0; others.length < of.masters.length - 1; i++) {
    const master = await masterOf(of, system.keys.base(`t${i}`))
    if (master !== index && !others.some((one) => one.master === master)) others.push({ type: `t${i}`, master })
  }
  return { index, others: others as [Placed, Placed] }
}

/** Submits to a type, one behind the other, until told to stop; each again under its key until it is taken. */
const startClient = (system: System, type: string, everyMs = 20) => {
  const taken: string[] = []
  const answers: { status: number; ms: number; at: number }[] = []
  let stopping = false
  const run = async (): Promise<void> => {
    for (let i = 0; !stopping; i++) {
      for (;;) {
        const asked = performance.now()
        const answer: Answer = await system.post('/tasks', { task_type: 'echo', agent_type: type, parameters: { i } }, { 'Idempotency-Key': `${type}-${i}` })
        answers.push({ status: answer.status, ms: performance.now() - asked, at: performance.now() })
        if (answer.status === 201) {
          taken.push(answer.json.task_id)
          break
        }
        await sleep(50)
      }
      await sleep(everyMs)
    }
  }
  const done = run()
  done.catch(() => {}) // a test that has failed has ended the API
  return { taken, answers, stop: async () => { stopping = true; await done } }
}

const allEnd = async (system: System, ids: readonly string[]): Promise<void> => {
  for (const id of ids) expect((await system.ended(id, 60_000)).status).toBe('completed')
}

describe('a master dies', () => {
  test('the other types go on, its own are away and say so, and its replica takes over with all that was acknowledged', async () => {
    await using of = await cluster({ masters: 3, replicas: 3 })
    await using system = await startSystem({ store: of.url, workers: 2, env: { ACK: 'replica' } })
    const { others: [dying, living] } = await typesOn(of, system)
    const agents = [await system.agent({ type: dying.type }), await system.agent({ type: dying.type }), await system.agent({ type: living.type })]
    const clients = [startClient(system, dying.type), startClient(system, dying.type), startClient(system, living.type)] as const
    for (let i = 0; i < 3; i++) await until(() => agents[i]!.runs.length > 10)

    // A parked task, whose result comes while its master is away.
    const parked = await system.agent({ type: dying.type, capabilities: ['later'], handle: accepts })
    const late = await system.submit({ agent_type: dying.type, task_type: 'later', timeout_seconds: 120 })
    const { attemptId } = await parked.delivery()
    // And somebody who watches.
    const watching = call('GET', `${system.api[0]!.url}/tasks/${late}?wait=14`)
    await until(async () => (await system.redis.pubsub('NUMSUB', system.keys.eventsChannel(dying.type)))[1] === 1, { what: 'watching' })
    await sleep(200)

    const killedAt = performance.now()
    await dying.master.kill()
    const went = [agents[2]!.runs.length, clients[2].taken.length]
    expect((await system.post('/tasks', { task_type: 'echo', agent_type: dying.type })).status).toBe(503)
    expect((await system.get(`/tasks/${clients[0].taken[0]}`)).status).toBe(503)
    await until(() => agents[2]!.runs.length > went[0]! + 5 && clients[2].taken.length > went[1]! + 5, { timeoutMs: 5_000, what: 'the others going on' })
    // It has no replica then, and nothing can be acknowledged: until the one that died is back, as one.
    await until(async () => (await of.replicas[of.masters.indexOf(dying.master)]!.redis.info('replication')).includes('role:master'), { timeoutMs: 30_000, what: 'its replica in its place' })
    expect((await until(async () => { const got = await system.get(`/tasks/${late}`); return got.status === 200 ? got : null })).json.status).toBe('running')
    const promoted = performance.now()
    dying.master.start()
    const told = await until(async () => {
      const answer = await call('POST', `${system.url()}/tasks/${late}/result`, { attempt_id: attemptId, status: 'completed', result: 7 })
      return answer.status === 200 ? performance.now() : null
    }, { timeoutMs: 30_000, everyMs: 200, what: 'its result acknowledged' })
    expect((await watching).json).toMatchObject({ status: 'completed', result: 7 })
    const before = agents[0]!.runs.length + agents[1]!.runs.length
    await until(() => agents[0]!.runs.length + agents[1]!.runs.length > before + 10, { timeoutMs: 10_000, what: 'its work going on' })
    await Promise.all(clients.map((client) => client.stop()))

    // Nothing hung, the others were never told no but for what was under way to the replica in that moment.
    for (const client of clients) expect(Math.max(...client.answers.map(({ ms }) => ms))).toBeLessThan(6_000) // 2 s
    expect([...new Set(clients.flatMap((client) => client.answers.map(({ status }) => status)))].sort()).toEqual([201, 503])
    expect(clients[2].answers.filter(({ status }) => status !== 201)).toEqual([])
    expect(promoted - killedAt).toBeLessThan(20_000) // 2 s of silence, and about as much until it is elected
    expect(told - promoted).toBeLessThan(20_000)
    // Everything acknowledged ended, once; only what was in flight may have been sent twice.
    await allEnd(system, clients.flatMap((client) => client.taken))
    const runs = new Map<string, number>()
    for (const agent of agents) for (const { taskId } of agent.runs) runs.set(taskId, (runs.get(taskId) ?? 0) + 1)
    const twice = [...runs].filter(([, times]) => times > 1).map(([id]) => id)
    expect(twice.filter((id) => id.startsWith(`${living.type}.`))).toEqual([])
    expect(twice.length).toBeLessThanOrEqual(20)
    expect((await system.get('/health/ready')).status).toBe(200)
  })

  test('which knows the types: types that are in use go on all the same, and readiness says what is missing', async () => {
    await using of = await cluster({ masters: 3, replicas: 3 })
    await using system = await startSystem({ store: of.url })
    const { index, others } = await typesOn(of, system)
    const { type } = others[0]!
    const agent = await system.agent({ type, ttlSeconds: 6 })
    const client = startClient(system, type)
    await until(() => agent.runs.length > 10)
    await index.kill()
    const went = agent.runs.length
    expect((await system.get('/health/ready')).status).toBe(503)
    expect((await agent.beat()).status).toBe(200)
    await until(() => agent.runs.length > went + 10, { timeoutMs: 5_000, what: 'work going on' })
    await until(async () => (await system.get('/health/ready')).status === 200, { timeoutMs: 30_000, what: 'its replica in its place' })
    const other = await system.agent({ type: others[1]!.type })
    await system.ended(await system.submit({ agent_type: others[1]!.type }))
    expect(other.runs.length).toBe(1)
    await client.stop()
    expect(client.answers.filter(({ status }) => status !== 201)).toEqual([])
    await allEnd(system, client.taken)
  })

  test('that has no replica: it comes back, and its work goes on where it was', async () => {
    await using of = await cluster({ masters: 3 })
    await using system = await startSystem({ store: of.url })
    const { others: [dying, living] } = await typesOn(of, system)
    const agents = [await system.agent({ type: dying.type, handle: async () => { await sleep(50); return 1 } }), await system.agent({ type: living.type })]
    const clients = [startClient(system, dying.type), startClient(system, living.type)] as const
    for (const agent of agents) await until(() => agent.runs.length > 10)
    await dying.master.kill()
    const went = agents[1]!.runs.length
    await until(() => agents[1]!.runs.length > went + 20, { what: 'the others going on' })
    // A process that starts meanwhile serves the others.
    const more = await system.addApi()
    expect((await call('POST', `${more.url}/tasks`, { task_type: 'echo', agent_type: living.type })).status).toBe(201)
    expect((await call('POST', `${more.url}/tasks`, { task_type: 'echo', agent_type: dying.type })).status).toBe(503)
    const over = Date.now() + 6_500
    while (Date.now() < over) {
      // The cluster says meanwhile that it has failed. A dispatcher that looks at the others' types makes progress.
      expect((await call('POST', `${more.url}/tasks`, { task_type: 'echo', agent_type: dying.type })).status).toBe(503)
      expect((await system.get('/health/ready')).status).toBe(200)
      await sleep(200)
    }
    dying.master.start()
    const back = performance.now()
    const before = agents[0]!.runs.length
    await until(() => agents[0]!.runs.length > before + 10, { timeoutMs: 20_000, what: 'its work going on' })
    expect(performance.now() - back).toBeLessThan(15_000)
    await Promise.all(clients.map((client) => client.stop()))
    expect(clients[1].answers.filter(({ status }) => status !== 201)).toEqual([])
    await allEnd(system, clients.flatMap((client) => client.taken))
  })

  test('by standing still: what is asked of it fails within 2 s, and the others go on', async () => {
    await using of = await cluster({ masters: 3, replicas: 3 })
    await using system = await startSystem({ store: of.url })
    const { others: [dying, living] } = await typesOn(of, system)
    const agents = [await system.agent({ type: dying.type }), await system.agent({ type: living.type })]
    const clients = [startClient(system, dying.type), startClient(system, living.type)] as const
    for (const agent of agents) await until(() => agent.runs.length > 10)
    dying.master.pause()
    try {
      const went = agents[1]!.runs.length
      await until(() => agents[1]!.runs.length > went + 20, { timeoutMs: 8_000, what: 'the others going on' })
      const before = agents[0]!.runs.length
      await until(() => agents[0]!.runs.length > before + 10, { timeoutMs: 30_000, what: 'its replica in its place' })
    } finally {
      dying.master.go()
    }
    await sleep(1_000) // it hears that it is a replica now
    await Promise.all(clients.map((client) => client.stop()))
    for (const client of clients) expect(Math.max(...client.answers.map(({ ms }) => ms))).toBeLessThan(6_000) // 2 s
    expect(clients[1].answers.filter(({ status }) => status !== 201)).toEqual([])
    await allEnd(system, clients[1].taken)
    // Without ACK=replica what it took last may be lost: as the documents say.
    expect((await system.get('/health/ready')).status).toBe(200)
  })
})

describe('slots move', () => {
  test('to a replica that is told to take over: nothing is lost and nothing is done twice', async () => {
    await using of = await cluster({ masters: 3, replicas: 3 })
    await using system = await startSystem({ store: of.url })
    const { others: [moving] } = await typesOn(of, system)
    const agent = await system.agent({ type: moving.type })
    const client = startClient(system, moving.type)
    await until(() => agent.runs.length > 10)
    await of.replicas[of.masters.indexOf(moving.master)]!.redis.call('CLUSTER', 'FAILOVER')
    await until(async () => (await moving.master.redis.info('replication')).includes('role:slave'), { what: 'the failover' })
    const before = agent.runs.length
    await until(() => agent.runs.length > before + 10, { timeoutMs: 15_000, what: 'work going on' })
    await client.stop()
    await allEnd(system, client.taken)
    expect(new Set(agent.runs.map(({ taskId }) => taskId)).size).toBe(agent.runs.length)
  })

  test('key by key to another master: meanwhile their types wait, and nothing is lost', async () => {
    await using of = await cluster({ masters: 3 })
    await using system = await startSystem({ store: of.url })
    const { others: [moving, there] } = await typesOn(of, system)
    const agent = await system.agent({ type: moving.type })
    const client = startClient(system, moving.type)
    await until(() => agent.runs.length > 10)
    const slot = await slotOf(of, system.keys.base(moving.type))
    const [from, to] = [moving.master, there.master]
    const [fromId, toId] = await Promise.all([from, to].map(async ({ redis }) => (await redis.call('CLUSTER', 'MYID')) as string))
    await to.redis.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId!)
    await from.redis.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId!)
    for (let first = true; ; first = false) {
      const keys = (await from.redis.call('CLUSTER', 'GETKEYSINSLOT', slot, 5)) as string[]
      if (keys.length === 0) break
      await from.redis.call('MIGRATE', '127.0.0.1', to.port, '', 0, 5_000, 'KEYS', ...keys)
      if (first) expect((await system.post('/tasks', { task_type: 'echo', agent_type: moving.type })).status).toBe(503)
    }
    expect(await to.redis.call('CLUSTER', 'COUNTKEYSINSLOT', slot)).toBeGreaterThan(5)
    for (const { redis } of [to, from, ...of.masters.filter((one) => one !== to && one !== from)]) await redis.call('CLUSTER', 'SETSLOT', slot, 'NODE', toId!)
    const before = agent.runs.length
    await until(() => agent.runs.length > before + 10, { timeoutMs: 15_000, what: 'work going on' })
    await client.stop()
    await allEnd(system, client.taken)
    expect(new Set(agent.runs.map(({ taskId }) => taskId)).size).toBe(agent.runs.length)
    const reached = await to.redis.call('CLUSTER', 'COUNTKEYSINSLOT', slot)
    expect(reached).toBeGreaterThan(5)
  })
})
