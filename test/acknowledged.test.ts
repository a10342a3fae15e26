/** What Redis's settings make of the promises; and ACK=replica: what is acknowledged outlives the machine that Redis is on. */
import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { Redis } from 'ioredis'
import { describe, expect, test } from 'vitest'
import { judge } from '../src/redis/checks.ts'
import { startCore } from './core.ts'
import { tempFolder } from './processes.ts'
import { startProxy } from './proxy.ts'
import { call, startSystem, until, type Answer } from './system.ts'

const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })

/** A Redis that others can replicate, or be a replica of. */
const startServer = async (replicaOf?: number) => {
  const folder = await tempFolder()
  const port = await freePort()
  const replication = ['--repl-diskless-sync-delay', '0', ...(replicaOf === undefined ? [] : ['--replicaof', `127.0.0.1 ${replicaOf}`])]
  const child = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--appendonly', 'yes', '--appendfsync', 'no', '--save', '', '--dir', folder.path, ...replication], { stdio: 'ignore' })
  const gone = new Promise((resolve) => child.once('exit', resolve))
  const redis = new Redis({ port, host: '127.0.0.1', retryStrategy: () => 50, maxRetriesPerRequest: null })
  redis.on('error', () => {})
  await until(() => redis.ping().then(() => true, () => false), { what: 'redis' })
  if (replicaOf !== undefined) await until(async () => (await redis.info('replication')).includes('master_link_status:up'), { what: 'the replica' })
  const kill = async () => {
    child.kill('SIGKILL')
    await gone
  }
  return {
    port, redis, kill,
    [Symbol.asyncDispose]: async () => {
      redis.disconnect()
      await kill()
      await folder[Symbol.asyncDispose]()
    },
  }
}

test('with ACK=replica nothing that was acknowledged is lost with the master, and without it something is', async () => {
  await using master = await startServer()
  const link = await startProxy({ port: master.port })
  await using replica = await startServer(link.port)
  const way = await startProxy({ port: master.port })
  try {
    await using system = await startSystem({ workers: 0, env: { REDIS_URL: `redis://127.0.0.1:${way.port}`, REDIS_PREFIX: 'ack', ACK: 'replica' }, key: 'planted-admin-key-0123456789abcdefghij' })
    const other = await system.addApi({ ACK: 'memory' })
    system.api.pop() // asked by name only
    const submit = (key: string) => system.post('/tasks', { task_type: 'echo', agent_type: 'test' }, { 'Idempotency-Key': key })
    const kept: string[] = []
    /** Repeated as clients do: a machine that stands still has a replica that is late. */
    const accepted = (ask: () => Promise<Answer>) =>
      until(async () => {
        const answer = await ask()
        if (answer.status !== 503) expect([200, 201]).toContain(answer.status)
        return answer.status === 503 ? null : answer
      })
    for (const { json } of await Promise.all(Array.from({ length: 50 }, (_, i) => accepted(() => submit(`calm-${i}`))))) kept.push(json.task_id)
    const schedule = { task: { task_type: 'echo', agent_type: 'test' }, every_seconds: 3600 }
    await accepted(() => system.call('PUT', '/schedules/kept', schedule))

    // Another namespace has parts of its own.
    const { json: tenant } = await accepted(() => system.post('/keys', { name: 'n', roles: ['submit'], namespace: 'acme' }))
    const ofTenant = (key: string) => system.post('/tasks', { task_type: 'echo', agent_type: 'test' }, { 'Idempotency-Key': key, authorization: `Bearer ${tenant.key}` })
    await accepted(() => ofTenant('calm'))

    // The replica hears nothing more, and the master does not know.
    link.lose()
    const asked = Date.now()
    const refused = await Promise.all([
      submit('late'), ofTenant('late'), system.post('/tasks/batch', { tasks: [{ task_type: 'echo', agent_type: 'test' }] }), system.call('DELETE', `/tasks/${kept[0]}`), system.call('PUT', '/schedules/late', schedule),
    ])
    expect(Date.now() - asked).toBeLessThan(6000) // 2 s
    for (const { status, json, headers } of refused) {
      expect(json).toMatchObject({ type: '/docs/errors#store-unavailable', stored: 'unconfirmed', detail: expect.stringContaining('no replica') })
      expect([status, headers.get('retry-after')]).toEqual([503, '1'])
    }
    const lost = await call('POST', `${other.url}/tasks`, { task_type: 'echo', agent_type: 'test' })
    expect(lost.status).toBe(201)
    expect((await system.get(`/tasks/${lost.json.task_id}`)).status).toBe(200) // reading waits for nobody

    // It fails, and the replica takes its place.
    await master.kill()
    await replica.redis.replicaof('NO', 'ONE')
    await using next = await startServer(replica.port)
    way.turn({ port: replica.port })
    way.resetAll()
    kept.push((await accepted(() => submit('late'))).json.task_id)
    for (const id of kept) expect((await system.get(`/tasks/${id}`)).status).toBe(200)
    for (const id of kept) expect(await next.redis.exists(`ack:{default/test}:task:${id}`)).toBe(1)
    expect((await system.get('/schedules/kept')).status).toBe(200)
    expect((await system.get(`/tasks/${lost.json.task_id}`)).status).toBe(404) // so much for the fault
    await expect(startCore({ redisUrl: `redis://127.0.0.1:${next.port}`, prefix: 'ack' })).rejects.toThrow(`This Redis is a replica of 127.0.0.1:${replica.port}, and takes no writes: let REDIS_URL name the master.`)
    await other.kill('SIGKILL')
  } finally {
    way.close()
    link.close()
  }
})

describe('what a Redis is', () => {
  const well = 'redis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\nconnected_slaves:0\r\naof_enabled:1\r\nmaxmemory:0\r\ntotal_system_memory:8589934592\r\nmaxmemory_policy:noeviction\r\ncluster_enabled:0\r\n'
  const but = (change: Record<string, string>) => Object.entries(change).reduce((info, [name, value]) => info.replace(new RegExp(`^${name}:.*$`, 'm'), `${name}:${value}`), well)

  test('says nothing where all is well, or where nothing is told', () => {
    for (const info of [well, '', but({ maxmemory: '4294967296' })]) expect(judge({ info, config: {} }, 'memory')).toEqual({ refused: [], weak: [] })
    expect(judge({ info: well, config: { appendfsync: 'everysec' } }, 'memory').weak).toEqual([])
    expect(judge({ info: but({ connected_slaves: '1' }), config: {} }, 'replica').weak).toEqual([])
  })

  test.each([
    [{ redis_version: '6.0.16' }, /^Redis 6\.0\.16 is too old/],
    [{ redis_mode: 'sentinel' }, /^This is a Sentinel/],
    [{ cluster_enabled: '1' }, /node of a cluster/],
    [{ maxmemory_policy: 'allkeys-lru' }, /would evict/],
  ])('%j is refused', (change, line) => {
    expect(judge({ info: but(change), config: {} }, 'memory').refused).toEqual([expect.stringMatching(line)])
  })

  test.each([
    [{ aof_enabled: '0' }, {}, /no append-only file/],
    [{}, { appendfsync: 'no' }, /appendfsync everysec/],
    [{ maxmemory: '8000000000' }, {}, /^redis may take 7\.5 GiB of the 8\.0 .* 75 %/],
    [{}, {}, /^ACK=replica, and no replica is connected/],
  ])('%j with %j weakens a promise', (change, config, line) => {
    expect(judge({ info: but(change), config }, 'replica').weak).toContainEqual(expect.stringMatching(line))
  })
})
