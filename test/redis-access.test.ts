/**
 * A Redis that others could reach: by TLS, with a certificate on either side, as a user that may do what docs/operations.md says, and nothing else.
 * What Redis denied stands in its ACL LOG.
 */
import { readFile, readdir } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ConfigError } from '../src/errors.ts'
import { createLogger } from '../src/logger.ts'
import { createRedis, whenReady, type RedisTls } from '../src/redis/client.ts'
import { startCore } from './core.ts'
import { clean, fixture, ROOT, run } from './processes.ts'
import { SECRET, startReceiver, type Receiver } from './receiver.ts'
import { accepts, startRedis, startSystem, until, type System } from './system.ts'

const CERT = fixture('receiver.crt') // of localhost and 127.0.0.1, signed by itself
const KEY = fixture('receiver.key')
const pem = (file: string): Promise<string> => readFile(file, 'utf8')
const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })

/** The arguments of ACL SETUSER, as they are told. */
const rules = async (): Promise<string[]> => {
  const text = await readFile(join(ROOT, 'docs/operations.md'), 'utf8')
  const command = /^redis-cli ACL SETUSER ((?:.*\\\n)*.*)$/m.exec(text)![1]!
  return command.replaceAll("'", '').split(/[\s\\]+/).filter(Boolean)
}
const [USER, PASSWORD] = ['switchyard', 'PASSWORD']
const ADMIN_KEY = 'planted-admin-key-0123456789abcdefghij'
const bearer = (key: string) => ({ authorization: `Bearer ${key}` })

let store: Awaited<ReturnType<typeof startRedis>>
let admin: Redis
let port: number
beforeAll(async () => {
  port = await freePort()
  const tls = { 'tls-port': String(port), 'tls-cert-file': CERT, 'tls-key-file': KEY, 'tls-ca-cert-file': CERT, 'tls-auth-clients': 'yes' }
  store = await startRedis({ settings: tls })
  admin = new Redis({ path: store.socket })
  await admin.call('ACL', 'SETUSER', ...(await rules()))
})
afterAll(async () => {
  admin?.disconnect()
  await store?.close()
})

const denied = async (): Promise<unknown[]> => (await admin.call('ACL', 'LOG')) as unknown[]

describe('a whole system', () => {
  let system: System
  let receiver: Receiver
  const url = () => `rediss://${USER}:${PASSWORD}@localhost:${port}`
  beforeAll(async () => {
    receiver = await startReceiver()
    system = await startSystem({ key: ADMIN_KEY, env: { REDIS_URL: url(), REDIS_PREFIX: 'sy', REDIS_TLS_CA: CERT, REDIS_TLS_CERT: CERT, REDIS_TLS_KEY: KEY, WEBHOOK_CIDRS: '127.0.0.0/8', WEBHOOK_SECRET: SECRET, SICK_AGENT_FAILURES: '0' } })
  })
  afterAll(async () => {
    await system?.[Symbol.asyncDispose]()
    await receiver?.close()
  })
  const ok = async (method: string, path: string, body?: unknown, headers?: Record<string, string>) => {
    const answer = await system.call(method, path, body, headers)
    expect(answer.status, `${method} ${path}: ${answer.text.slice(0, 300)}`).toBeLessThan(300)
    return answer.json
  }

  test('does all that it does as that user, by TLS, and is denied nothing', async () => {
    const agent = await system.agent({ type: 'cost', capabilities: ['echo', 'fail', 'later'], handle: (task, exchange) => {
      if (task.task_type === 'later') return accepts(task, exchange)
      if (task.task_type === 'fail') throw new Error('on purpose')
      return { echo: 1 }
    } })
    const watching = new AbortController()
    const [all] = await Promise.all([fetch(`${system.url()}/events`, { signal: watching.signal, headers: bearer(ADMIN_KEY) }), ok('GET', '/health/ready')])
    const submit = (more: object) => system.submit({ agent_type: 'cost', ...more })

    // Tasks: run, submitted twice, in a batch, cancelled before and at their agent, told later, failed and retried.
    const told = await submit({ callback_url: `${receiver.url}/done` })
    await system.ended(told)
    await until(() => receiver.came.length === 1)
    await until(async () => (await system.task(told)).webhook.status === 'delivered')
    await ok('POST', `/tasks/${told}/webhooks/redeliver`)
    for (let i = 0; i < 2; i++) await ok('POST', '/tasks', { agent_type: 'cost', task_type: 'echo' }, { 'idempotency-key': 'k' })
    await ok('POST', '/tasks/batch', { tasks: [{ agent_type: 'cost', task_type: 'echo', priority: 15 }, { agent_type: 'cost', task_type: 'echo', delay_seconds: 1 }, { agent_id: agent.id, task_type: 'echo' }] })
    const waiting = await submit({ task_type: 'nobody', expires_in_seconds: 1 })
    await ok('GET', `/tasks/${waiting}/explain`)
    await ok('DELETE', `/tasks/${await submit({ delay_seconds: 60 })}`)
    const later = await submit({ task_type: 'later', timeout_seconds: 20 })
    const { attemptId } = await until(() => agent.runs.find((run) => run.taskId === later))
    await ok('POST', `/tasks/${later}/progress`, { attempt_id: attemptId, percent: 5, message: 'm', extend_seconds: 30 })
    await agent.beat({ running: [attemptId], metadata: { a: 1 } })
    const one = await fetch(`${system.url()}/tasks/${later}/events`, { signal: watching.signal, headers: bearer(ADMIN_KEY) })
    await ok('POST', `/tasks/${later}/result`, { attempt_id: attemptId, status: 'completed', result: 2 })
    const cancelled = await submit({ task_type: 'later' })
    await until(() => agent.runs.find((run) => run.taskId === cancelled))
    await ok('DELETE', `/tasks/${cancelled}`)
    await agent.beat({ running: [] })
    const failing = await submit({ task_type: 'fail', max_retries: 1, retry_delay_seconds: 0.05 })
    await system.ended(failing)
    await ok('GET', '/dead-letters')
    await ok('GET', '/dead-letters/summary')
    await ok('POST', '/dead-letters/retry', { agent_type: 'cost' })
    await ok('POST', `/tasks/${await submit({ task_type: 'fail', max_retries: 0 }).then((id) => system.ended(id)).then((task: any) => task.task_id)}/retry`)

    // Schedules: one runs.
    await ok('PUT', '/schedules/often', { every_seconds: 1, task: { agent_type: 'cost', task_type: 'echo' } })
    await until(async () => (await ok('GET', '/schedules/often')).runs > 0)
    for (const step of ['pause', 'resume']) await ok('POST', `/schedules/often/${step}`)
    await ok('GET', '/schedules')

    // What people look at.
    for (const path of ['/tasks', '/tasks?agent_type=cost&status=completed', '/agents', '/agents/type/cost', `/agents/${agent.id}`, '/health', '/metrics']) await ok('GET', path)
    for (const queue of ['cost.echo', 'cost.later', 'cost.nobody', 'cost.~schedules']) {
      for (const status of ['latest', 'active', 'waiting', 'prioritized', 'completed', 'failed', 'delayed', 'paused', 'waiting-children']) await ok('GET', `/queues/api/queues?activeQueue=${encodeURIComponent(queue)}&status=${status}&page=1`)
    }
    const board = await ok('GET', `/queues/api/queues/cost.echo/${told}`)
    expect(board.job.id).toBe(told)
    await ok('GET', `/queues/api/queues/cost.echo/${told}/logs`)
    const metrics = await fetch(`${system.worker[0]!.url}/metrics`, { headers: bearer(ADMIN_KEY) })
    expect(metrics.status).toBe(200)

    // And the end of it.
    await system.ended(waiting)
    await ok('DELETE', '/schedules/often')
    await ok('POST', '/agents/cleanup')
    await ok('POST', `/agents/${agent.id}/unregister`)
    for (const seen of [all, one]) expect(new TextDecoder().decode((await seen!.body!.getReader().read()).value)).toMatch(/event|id:|:/)
    watching.abort()
    expect(await denied()).toEqual([])
  })

  test('so it does for a tenant, whose key is made in that Redis itself', async () => {
    await using made = run(process.execPath, ['src/access/main.ts', JSON.stringify({ name: 'n', roles: ['admin'], namespace: 'acme' })], { cwd: ROOT, env: { ...clean, ADMIN_KEY, REDIS_URL: url(), REDIS_PREFIX: 'sy', REDIS_TLS_CA: CERT, REDIS_TLS_CERT: CERT, REDIS_TLS_KEY: KEY } })
    expect(await made.ended, made.output()).toBe(0)
    const key = made.output().trim()
    const as = (method: string, path: string, body?: unknown) => ok(method, path, body, bearer(key))
    const watching = new AbortController()
    const all = await fetch(`${system.url()}/events`, { signal: watching.signal, headers: bearer(key) })
    const agent = await system.agent({ key, type: 'cost', handle: () => 1 })
    const { task_id } = await as('POST', '/tasks', { agent_type: 'cost', task_type: 'echo', callback_url: `${receiver.url}/acme` })
    await until(async () => (await as('GET', `/tasks/${task_id}`)).webhook?.status === 'delivered')
    await as('PUT', '/schedules/often', { every_seconds: 1, task: { agent_type: 'cost', task_type: 'echo' } })
    await until(async () => (await as('GET', '/schedules/often')).runs > 0)
    for (const path of ['/tasks', '/agents', '/schedules', '/dead-letters', `/tasks/${task_id}/explain`, '/metrics', '/queues/api/queues', '/keys']) await as('GET', path)
    await as('DELETE', '/schedules/often')
    await as('DELETE', `/agents/${agent.id}`)
    expect(new TextDecoder().decode((await all.body!.getReader().read()).value)).toMatch(/event|id:|:/)
    watching.abort()
    expect(await denied()).toEqual([])
  })

  test('lets nobody register that Redis as an agent, under whichever name', async () => {
    for (const host of ['localhost', '127.0.0.1', '::1']) {
      const answer = await system.post('/agents/register', { name: 'a', type: 'cost', host, port, capabilities: [] })
      expect(answer.json, host).toMatchObject({ status: 403, detail: expect.stringMatching(/its store listens/) })
    }
  })

  test('comes back by itself, and is denied nothing on the way', async () => {
    await admin.call('CLIENT', 'KILL', 'USER', USER)
    await until(async () => (await system.get('/health/ready')).status === 200)
    await until(async () => (await system.get('/tasks')).status === 200)
    expect(await denied()).toEqual([])
  })
})

describe('the user of docs/operations.md', () => {
  /** What is sent by itself, not from within a script; ioredis and BullMQ send some of it. */
  const DIRECT =
    'ping info client|setname multi exec script|load eval evalsha wait publish subscribe unsubscribe xinfo|stream unlink ' +
    'exists get hget hgetall hincrby hmget hset hsetnx set time xrange xrevrange zcard zrange zrangebylex zrem zrevrange'

  const commandsIn = async (folder: string, wanted: (path: string) => boolean): Promise<string[]> => {
    const files = (await readdir(folder, { recursive: true })).filter(wanted)
    const texts = await Promise.all(files.map((file) => pem(join(folder, file))))
    return texts.flatMap((text) => [...text.matchAll(/(?:redis\.p?call|rcall)\(\s*["']([A-Za-z]+)["'](?:, '(USAGE)')?/g)].map(([, name, part]) => [name!, ...(part ? [part] : [])].join('|').toLowerCase()))
  }

  test('may use each command that a script of ours or of BullMQ names, and no other', async () => {
    const allowed = (await rules()).filter((rule) => rule.startsWith('+')).map((rule) => rule.slice(1)).sort()
    const scripts = [...(await commandsIn(join(ROOT, 'src'), (path) => path.endsWith('.lua'))), ...(await commandsIn(join(ROOT, 'node_modules/bullmq/dist/cjs/scripts'), (path) => path.endsWith('.js') && !path.startsWith('relay')))]
    expect(allowed).toEqual([...new Set([...scripts, ...DIRECT.split(' ')])].sort())
  })

  test('can do nothing else, nor reach what is not ours', async () => {
    const redis = new Redis({ path: store.socket, username: USER!, password: PASSWORD! })
    for (const [command, ...args] of [['CONFIG', 'GET', '*'], ['FLUSHALL'], ['KEYS', '*'], ['ACL', 'LIST'], ['CLIENT', 'LIST'], ['MONITOR'], ['SHUTDOWN'], ['GET', 'other'], ['SET', 'syx', '1'], ['PUBLISH', 'other', 'x'], ['PSUBSCRIBE', '*'], ['EVAL', "return redis.call('GET', 'other')", '0']]) {
      await expect(redis.call(command!, ...args), command).rejects.toThrow(/NOPERM|permission|can't access/i)
    }
    redis.disconnect()
    await admin.call('ACL', 'LOG', 'RESET')
  })
})

describe('a Redis that does not let us in is told of at once', () => {
  const refusal = async (url: string, tls: RedisTls = {}): Promise<string> => {
    const redis = createRedis({ url, tls, name: 'test', log: createLogger('test', 'silent') })
    try {
      await whenReady(redis, url)
      return 'it was let in'
    } catch (error) {
      return (error as Error).message
    } finally {
      redis.disconnect()
    }
  }
  const at = (host = 'localhost', user = `${USER}:${PASSWORD}`) => `rediss://${user}@${host}:${port}`

  test('with what is to be set', async () => {
    const [ca, cert, key, stranger] = await Promise.all([pem(CERT), pem(CERT), pem(KEY), pem(fixture('stranger.crt'))])
    const ours = { ca, cert, key }
    expect(await refusal(at(), ours)).toBe('it was let in')
    expect(await refusal(at('127.0.0.1'), ours)).toBe('it was let in')
    expect(await refusal(at())).toMatch(/^The certificate of Redis at rediss:\/\/…@localhost:\d+ is not trusted \(.*\): set REDIS_TLS_CA /)
    expect(await refusal(at(), { ...ours, ca: stranger })).toMatch(/is not trusted .* set REDIS_TLS_CA/)
    expect(await refusal(at('127.0.0.2'), ours)).toMatch(/is for another name .* let REDIS_URL name it/)
    expect(await refusal(at(), { ca })).toMatch(/does not accept our certificate, or the lack of one .* set REDIS_TLS_CERT and REDIS_TLS_KEY/)
    expect(await refusal(at('localhost', `${USER}:wrong`), ours)).toMatch(/does not accept the user and password of REDIS_URL \(WRONGPASS/)
    await admin.call('ACL', 'SETUSER', 'poor', 'on', '>p', '+ping')
    await expect(startCore({ redisUrl: at(), prefix: 'sy' })).rejects.toThrow(ConfigError) // which ends a process, as the last it says
    const poor = startCore({ redisUrl: at('localhost', 'poor:p'), prefix: 'sy' }, { REDIS_TLS_CA: CERT, REDIS_TLS_CERT: CERT, REDIS_TLS_KEY: KEY })
    await expect(poor).rejects.toThrow(/does not let us do what is needed \(NOPERM.*docs\/operations\.md/)
  })
})
