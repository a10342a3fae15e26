/** Keys: who may ask what, by the very table that says so; how they come, change and go; and what an agent's token is good for. */
import { createServer, type Server } from 'node:http'
import { connect } from 'node:net'
import express from 'express'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { accountFor } from '../src/api/access.ts'
import { createOperations, type Operation } from '../src/api/operations.ts'
import { ROLES, type Role } from '../src/contracts/key.ts'
import { ROOT, clean, run } from './processes.ts'
import { atBest, call, startSystem, until, type Answer, type System } from './system.ts'

const ADMIN_KEY = 'planted-admin-key-0123456789abcdefghij'
const NEVER_MADE = `sy_${'0'.repeat(12)}_${'0'.repeat(43)}`
const OPERATIONS = createOperations(300)

let system: System
/** By role. */
const keys = {} as Record<Role, string>
const secrets: string[] = [ADMIN_KEY]
const bearer = (key: string | undefined): Record<string, string> => (key === undefined ? {} : { authorization: `Bearer ${key}` })
const as = (key: string | undefined, method: string, path: string, body?: unknown, at = system.url()): Promise<Answer> => call(method, at + path, body, bearer(key))

const makeKey = async (body: object): Promise<{ key: string; key_id: string; expires_at: string | null }> => {
  const { status, json, text } = await as(ADMIN_KEY, 'POST', '/keys', body)
  expect(status, text).toBe(201)
  secrets.push(json.key)
  return json
}

beforeAll(async () => {
  system = await startSystem({ apis: 2, env: { ADMIN_KEY } })
  for (const role of ROLES) keys[role] = (await makeKey({ name: `of ${role}`, roles: [role] })).key
})
afterAll(() => system[Symbol.asyncDispose]())

/** The head of an answer, and a problem if it is one: an answer that goes on is left. */
const headOf = async (route: string, { body }: Operation, key: string | undefined, ids: Record<string, string> = {}) => {
  const [method, pattern] = route.split(' ') as [string, string]
  const path = pattern.replace(/\/(tasks|agents|schedules|keys)\/\{id\}/, (_, of: string) => `/${of}/${ids[of] ?? IDS[of]}`).replace('{type}', 'none')
  const end = new AbortController()
  const res = await fetch(system.url() + path, { method, signal: end.signal, headers: { ...bearer(key), ...(body ? { 'content-type': 'application/json' } : {}) }, ...(body ? { body: JSON.stringify(body.example) } : {}) })
  const isProblem = res.headers.get('content-type')?.startsWith('application/problem+json') === true
  const problem: any = isProblem ? await res.json() : {}
  end.abort()
  return { status: res.status, challenge: res.headers.get('www-authenticate'), problem }
}
const IDS: Record<string, string> = { tasks: 'none.01980a1c-6f0e-7c3a-9d2b-1f6a2b3c4d5e', agents: 'nobody', schedules: 'none', keys: '000000000000' }

const isOpen = (o: Operation): boolean => o.access === 'open'
const mayDo = ({ access }: Operation, role: Role): boolean => access === 'open' || role === 'admin' || access.includes(role)

describe.each(Object.entries(OPERATIONS))('%s', (route, operation) => {
  test(isOpen(operation) ? 'needs no key' : 'is 401 without a key, and with a false one', async () => {
    for (const key of [undefined, NEVER_MADE]) {
      const { status, challenge, problem } = await headOf(route, operation, key)
      if (isOpen(operation)) expect(status).not.toBe(401)
      else expect({ status, challenge, problem }).toMatchObject({ status: 401, challenge: expect.stringMatching(/^Bearer/), problem: { type: '/docs/errors#unauthorized', detail: expect.stringMatching(key === undefined ? /switchyard keys create/ : /not known/) } })
    }
  })

  test.each(ROLES)('a key of role %s', async (role) => {
    const { status, problem } = await headOf(route, operation, keys[role])
    if (mayDo(operation, role)) expect([401, 403], JSON.stringify(problem)).not.toContain(status)
    else {
      expect({ status, problem }).toMatchObject({ status: 403, problem: { type: '/docs/errors#forbidden', roles_needed: expect.arrayContaining(['admin']) } })
      for (const needed of problem.roles_needed as Role[]) expect(mayDo(operation, needed)).toBe(true)
      expect(problem.detail).toContain(problem.roles_needed[0])
    }
  })
})

test('a route of which nobody says who may ask it keeps the process from starting', () => {
  const app = express()
  app.get('/tasks/:id', () => {})
  expect(accountFor(app, OPERATIONS)).toEqual(['GET /tasks/{id}'])
  const router = express.Router()
  router.post('/secret/:name', () => {})
  app.use(router)
  expect(() => accountFor(app, OPERATIONS)).toThrow('say in operations.ts who may ask POST /secret/{name}')
})

test('what is no key, or almost one, is none', async () => {
  const almost = ['x', `${keys.admin}x`, keys.admin.slice(0, -1), keys.admin.toLowerCase(), keys.admin.replace('sy_', 'sya_'), `${ADMIN_KEY}x`, ADMIN_KEY.slice(1), 'sya_one~1~1~' + 'A'.repeat(43), 'x'.repeat(600)]
  for (const key of almost) expect((await as(key, 'GET', '/tasks')).status, key).toBe(401)
  for (const authorization of [keys.admin, `Basic ${keys.admin}`, 'Bearer', 'Bearer ', `Bearer ${keys.admin} ${keys.admin}`]) expect((await call('GET', `${system.url()}/tasks`, undefined, { authorization })).status, authorization).toBe(401)
  for (const authorization of [`bearer ${keys.view}`, `BEARER  ${keys.view} `, `Bearer ${ADMIN_KEY}`]) expect((await call('GET', `${system.url()}/tasks`, undefined, { authorization })).status, authorization).toBe(200)
})

test('other spellings of a path are the same route, and what is not there is told only to those who have a key', async () => {
  for (const path of ['/KEYS', '/keys/', '/%6beys']) expect((await as(keys.view, 'GET', path)).status, path).toBe(path.includes('%') ? 404 : 403)
  for (const path of ['/none', '/tasks/x/y/z', '/%E0%A4%A']) expect((await as(undefined, 'GET', path)).status, path).toBe(401)
  expect((await as(keys.view, 'GET', '/none')).status).toBe(404)
  expect((await as(keys.view, 'PATCH', '/tasks')).status).toBe(405)
  expect((await as(keys.view, 'HEAD', '/keys')).status).toBe(403)
  expect((await as(keys.view, 'HEAD', '/tasks')).status).toBe(200)
  for (const path of ['/health/', '/HEALTH', '/health/live']) expect((await as(undefined, 'GET', path)).status, path).toBe(200)
})

test('a stranger is sent away before the body has come', async () => {
  const { hostname, port } = new URL(system.url())
  const socket = connect(Number(port), hostname)
  let said = ''
  socket.on('data', (chunk) => (said += chunk.toString()))
  socket.write(`POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{`)
  await until(() => said.includes('\r\n\r\n'), { what: 'an answer' })
  expect(said).toMatch(/^HTTP\/1\.1 401 /)
  socket.destroy()
})

test('a client that asks before it sends is told to go on once it is known, and not before', async () => {
  /** All that is said to the head of a submit, until the connection ends; the body is sent when it is asked for. */
  const said = (headers: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const body = '{"agent_type":"cost","task_type":"x"}'
      const socket = connect(Number(new URL(system.url()).port), '127.0.0.1', () => socket.write(`POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nExpect: 100-continue\r\n${headers}\r\n`))
      let text = ''
      socket.on('data', (chunk) => {
        if (text === '' && String(chunk).startsWith('HTTP/1.1 100')) socket.write(body)
        text += String(chunk)
      })
      socket.on('end', () => resolve(text)).on('error', reject)
      socket.setTimeout(10_000, () => reject(new Error(`it has not ended: ${text}`)))
    })
  for (const headers of ['', `Authorization: Bearer ${NEVER_MADE}\r\n`]) expect(await said(headers)).toMatch(/^HTTP\/1\.1 401 [^]*\r\nConnection: close\r\n/)
  // Known, and not to be let in there.
  expect(await said(`Authorization: Bearer ${keys.view}\r\n`)).toMatch(/^HTTP\/1\.1 403 [^]*\r\nConnection: close\r\n/)
  expect(await said(`Authorization: Bearer ${ADMIN_KEY}\r\nConnection: close\r\n`)).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 201 /)
})

test('what is kept of a key is a digest; a list shows when it was last used, and never the key', async () => {
  const { key, key_id } = await makeKey({ name: 'used', roles: ['view', 'submit', 'view'] })
  expect(key).toMatch(new RegExp(`^sy_${key_id}_[0-9A-Za-z]{43}$`))
  expect((await as(key, 'GET', '/tasks')).status).toBe(200)
  const used = async () => (await as(ADMIN_KEY, 'GET', '/keys')).json.keys.find((k: { key_id: string }) => k.key_id === key_id)
  expect(await until(async () => ((await used()).last_used_at === null ? null : used()), { what: 'its use is noted' })).toEqual({
    key_id, name: 'used', roles: ['view', 'submit'], namespace: 'default', requests_per_second: null, created_at: expect.any(String), expires_at: null, expired: false, last_used_at: expect.any(String),
  })
  expect((await as(ADMIN_KEY, 'GET', '/keys')).json.admin_key).toBe(true)
  const kept = JSON.stringify(await system.redis.hgetall(system.keys.access))
  for (const secret of secrets) {
    expect(kept).not.toContain(secret.split('_').at(-1))
    for (const { log } of [...system.api, ...system.worker]) expect(log.join('')).not.toContain(secret.split('_').at(-1))
  }
  expect(system.api.map(({ log }) => log.join('')).join('')).toContain(key_id) // what is logged of it
})

test('a rotated key goes on beside the new one, until the end that it was given', async () => {
  const old = await makeKey({ name: 'rotated', roles: ['submit'] })
  const { json: next } = await as(ADMIN_KEY, 'POST', `/keys/${old.key_id}/rotate`, { old_expires_in_seconds: 1 })
  expect(next).toMatchObject({ name: 'rotated', roles: ['submit'], expires_at: null })
  secrets.push(next.key)
  for (const at of system.api) await until(async () => (await as(next.key, 'GET', '/tasks', undefined, at.url)).status === 200)
  for (const at of system.api) await until(async () => (await as(old.key, 'GET', '/tasks', undefined, at.url)).status === 401)
  expect((await as(next.key, 'GET', '/tasks')).status).toBe(200)
  expect((await as(ADMIN_KEY, 'GET', '/keys')).json.keys.find((k: { key_id: string }) => k.key_id === old.key_id)).toMatchObject({ expired: true })
  const all = await Promise.all([1, 2, 3].map(() => as(ADMIN_KEY, 'POST', `/keys/${next.key_id}/rotate`)))
  expect(all.map((a) => a.status)).toEqual([201, 201, 201])
  expect(new Set(all.map((a) => a.json.key)).size).toBe(3)
  expect((await as(ADMIN_KEY, 'POST', '/keys/000000000000/rotate')).status).toBe(404)
})

test('a revoked key is out at every process within 2 s, also when nobody hears of it', async () => {
  const { key, key_id } = await makeKey({ name: 'gone', roles: ['view'] })
  const [here, there] = system.api.map((a) => a.url) as [string, string]
  expect((await as(key, 'GET', '/tasks', undefined, there)).status).toBe(200)
  const stream = await fetch(`${there}/events`, { headers: bearer(key) })
  const ended = stream.text().catch(() => 'cut off')
  expect((await as(ADMIN_KEY, 'DELETE', `/keys/${key_id}`, undefined, here)).json).toEqual({ key_id, revoked: true })
  expect((await as(key, 'GET', '/tasks', undefined, here)).status).toBe(401)
  await until(async () => (await as(key, 'GET', '/tasks', undefined, there)).status === 401)
  expect(await ended).toBe('cut off') // what goes on ends with it
  expect((await as(ADMIN_KEY, 'DELETE', `/keys/${key_id}`)).json).toEqual({ key_id, revoked: false })

  const tookMs = await atBest(2_000, async () => {
    const silent = await makeKey({ name: 'silent', roles: ['view'] })
    for (const at of [here, there]) await until(async () => (await as(silent.key, 'GET', '/tasks', undefined, at)).status === 200)
    await system.redis.hdel(system.keys.access, `key:${silent.key_id}`)
    await system.redis.hset(system.keys.access, 'version', silent.key_id) // as the script does, but that it publishes nothing
    const since = performance.now()
    for (const at of [here, there]) await until(async () => (await as(silent.key, 'GET', '/tasks', undefined, at)).status === 401)
    return performance.now() - since
  })
  expect(tookMs).toBeLessThan(2_000)
})

test('a key with a limit makes so many requests a second, whichever process it asks; heartbeats, results and cancels are not counted', async () => {
  const LIMIT = 5
  const { key } = await makeKey({ name: 'limited', roles: ['submit', 'agent'], requests_per_second: LIMIT })
  for (const at of system.api) await until(async () => (await as(key, 'DELETE', `/tasks/${IDS['tasks']}`, undefined, at.url)).status === 404)
  // Within one second, if need be at the third go: a window may end in the midst.
  const passed = await atBest(LIMIT + 1, async () => (await Promise.all(Array.from({ length: 40 }, () => as(key, 'GET', '/tasks')))).filter((a) => a.status === 200).length)
  expect(passed).toBe(LIMIT)
  const refused = await until(async () => (await Promise.all(Array.from({ length: 10 }, () => as(key, 'GET', '/tasks')))).find((a) => a.status === 429))
  expect(refused.json).toMatchObject({ type: '/docs/errors#rate-limited', limit: LIMIT })
  expect(refused.headers.get('ratelimit-policy')).toBe('"key";q=5;w=1')
  expect(refused.headers.get('ratelimit')).toBe('"key";r=0;t=1')
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
  const free = [['DELETE', `/tasks/${IDS['tasks']}`], ['POST', '/agents/nobody/heartbeat'], ['POST', `/tasks/${IDS['tasks']}/result`, { attempt_id: 'a', status: 'completed' }]] as const
  for (const [method, path, body] of free) expect(new Set((await Promise.all(Array.from({ length: 10 }, () => as(key, method, path, body)))).map((a) => a.status)), path).toEqual(new Set([404]))
  await until(async () => (await as(key, 'GET', '/tasks')).status === 200)
  expect((await as(keys.submit, 'GET', '/tasks')).headers.get('ratelimit')).toBeNull()
})

describe('an agent’s token', () => {
  let server: Server
  let port: number
  /** The attempts that came, by task. */
  const came = new Map<string, string>()
  beforeAll(async () => {
    server = createServer((req, res) => {
      let text = ''
      req.on('data', (chunk) => (text += chunk))
      req.on('end', () => {
        const { task_id, attempt_id } = req.method === 'POST' ? JSON.parse(text) : { task_id: '', attempt_id: '' }
        came.set(task_id, attempt_id)
        res.writeHead(202).end()
      })
    })
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
    port = (server.address() as { port: number }).port
  })
  afterAll(() => {
    server.closeAllConnections()
    server.close()
  })

  const register = async (agent_id: string, more: object = {}): Promise<string> => {
    const { status, json, text } = await as(keys.agent, 'POST', '/agents/register', { name: agent_id, agent_id, type: 'tokens', host: '127.0.0.1', port, capabilities: [agent_id], instance_id: '1', ...more })
    expect([200, 201], text).toContain(status)
    secrets.push(json.agent_token)
    return json.agent_token
  }
  /** A task that is at the agent, and its attempt. */
  const at = async (agent: string) => {
    const { json } = await as(keys.submit, 'POST', '/tasks', { agent_type: 'tokens', task_type: agent, max_retries: 0 })
    return { task: json.task_id as string, attempt: await until(() => came.get(json.task_id), { what: `a delivery to ${agent}` }) }
  }
  const result = (attempt_id: string) => ({ attempt_id, status: 'completed', result: { by: 'it' } })
  const record = (task: string) => system.redis.hgetall(system.keys.task('tokens', task))

  test('speaks for that agent and what was sent to it, and for nothing else', async () => {
    const [one, two] = [await register('one'), await register('two')]
    expect((await as(one, 'POST', '/agents/one/heartbeat')).status).toBe(200)
    for (const [route, operation] of Object.entries(OPERATIONS)) {
      if (operation.access === 'open' || operation.access.includes('token')) continue
      expect((await headOf(route, operation, one)).status, route).toBe(403)
    }
    const { task, attempt } = await at('one')
    await until(async () => (await as(keys.view, 'GET', `/tasks/${task}`)).json.status === 'running', { what: 'its 202 is noted' })
    const before = await record(task)
    expect((await as(two, 'POST', `/tasks/${task}/result`, result(attempt))).json).toMatchObject({ status: 403, detail: expect.stringContaining('not sent to agent two') })
    expect((await as(two, 'POST', `/tasks/${task}/progress`, { attempt_id: attempt, percent: 5 })).status).toBe(403)
    for (const [method, path] of [['POST', '/agents/one/heartbeat'], ['POST', '/agents/one/unregister'], ['DELETE', '/agents/one']] as const) expect((await as(two, method, path)).status, path).toBe(403)
    expect(await record(task)).toEqual(before)
    expect((await as(one, 'POST', `/tasks/${task}/result`, result('another'))).status).toBe(409)
    expect((await as(one, 'POST', `/tasks/${task}/progress`, { attempt_id: attempt, percent: 5 })).status).toBe(200)
    expect((await as(one, 'POST', `/tasks/${task}/result`, result(attempt))).json).toMatchObject({ status: 'completed' })
    // It has ended: what another says of that attempt is not even kept.
    expect((await as(two, 'POST', `/tasks/${task}/result`, result(attempt))).status).toBe(403)
    expect((await as(one, 'POST', `/tasks/${task}/result`, result(attempt))).status).toBe(200)
    expect((await as(keys.view, 'GET', `/tasks/${task}`)).json).toMatchObject({ status: 'completed', result: { by: 'it' }, late_results: [] })
  })

  test('and only in its present life: not when another process or another owner of the id has registered since', async () => {
    const first = await register('lives')
    expect(await register('lives')).toBe(first) // a mere repeat
    const { task, attempt } = await at('lives')
    const second = await register('lives', { instance_id: '2' })
    for (const path of ['/agents/lives/heartbeat', '/agents/lives/unregister']) expect((await as(first, 'POST', path)).json, path).toMatchObject({ status: 403, detail: expect.stringContaining('register again') })
    expect((await as(first, 'POST', `/tasks/${task}/result`, result(attempt))).status).toBe(403)
    expect((await as(second, 'POST', '/agents/lives/heartbeat')).status).toBe(200)
    expect((await as(second, 'DELETE', '/agents/lives')).json).toMatchObject({ unregistered: true })
    // Generations begin at 1 again; what tells them apart is when they began.
    const third = await register('lives')
    expect((await as(first, 'POST', '/agents/lives/heartbeat')).status).toBe(403)
    expect((await as(third, 'POST', '/agents/lives/heartbeat')).status).toBe(200)
    // One that was read from a process that has not heard of it yet would pass the first look.
    for (const forged of [third.replace('lives', 'livez'), third.replace('~1~', '~2~'), `${third.slice(0, -2)}AA`, third.slice(0, -1)]) expect((await as(forged, 'POST', '/agents/lives/heartbeat')).status, forged).toBe(401)
  })
})

describe('without an ADMIN_KEY', () => {
  test('on a loopback address all is open until the first key, which must be one of an admin; while Redis is away those known last count', async () => {
    await using open = await startSystem({ workers: 0, ownRedis: true })
    const ask = (key: string | undefined, method: string, path: string, body?: unknown) => as(key, method, path, body, open.api[0]!.url)
    expect((await ask(undefined, 'GET', '/tasks')).status).toBe(200)
    expect((await ask(NEVER_MADE, 'GET', '/tasks')).status).toBe(200)
    expect((await ask(undefined, 'POST', '/keys', { name: 'a', roles: ['view'] })).json).toMatchObject({ status: 422, errors: [{ pointer: '/roles' }] })
    expect((await ask(undefined, 'POST', '/keys', { name: 'a', roles: [] })).status).toBe(422)
    const { json: admin } = await ask(undefined, 'POST', '/keys', { name: 'a', roles: ['admin'] })
    expect((await ask(undefined, 'GET', '/tasks')).status).toBe(401)
    expect((await ask(admin.key, 'GET', '/tasks')).status).toBe(200)
    const { json: view } = await ask(admin.key, 'POST', '/keys', { name: 'b', roles: ['view'] })
    expect((await ask(view.key, 'POST', '/tasks', {})).status).toBe(403)

    // Unknown ones are looked for a few times a second, however many come.
    const scripts = async () => Number(/cmdstat_evalsha:calls=(\d+)/.exec(await open.redis.info('commandstats'))?.[1] ?? 0)
    const [before, began] = [await scripts(), performance.now()]
    const strange = await Promise.all(Array.from({ length: 200 }, (_, i) => ask(`sy_${String(i).padStart(12, '0')}_${'0'.repeat(43)}`, 'GET', '/tasks')))
    expect(new Set(strange.map((a) => a.status))).toEqual(new Set([401]))
    expect((await scripts()) - before).toBeLessThan(20 + (6 * (performance.now() - began)) / 1000)

    await open.ownRedis!.kill()
    await until(async () => (await ask(view.key, 'GET', '/tasks')).status === 503)
    expect((await ask(undefined, 'GET', '/tasks')).status).toBe(401)
    expect((await ask(NEVER_MADE, 'GET', '/tasks')).status).toBe(401)
    expect((await ask(view.key, 'POST', '/tasks', {})).status).toBe(403)
    await open.ownRedis!.start()
    await until(async () => (await ask(view.key, 'GET', '/tasks')).status === 200)
    for (const { key_id } of [view, admin]) await ask(admin.key, 'DELETE', `/keys/${key_id}`)
    expect((await ask(undefined, 'GET', '/tasks')).status).toBe(200)
  })

  test('on another address the process does not start, and says in one line how to make a key; unless it is told to be open', async () => {
    const env = { ...clean, REDIS_URL: system.redisUrl, REDIS_PREFIX: `${system.prefix}o`, HOST: '0.0.0.0', PORT: '0', LOG_LEVEL: 'warn' }
    await using refused = run(process.execPath, ['src/api/main.ts'], { cwd: ROOT, env })
    await using open = run(process.execPath, ['src/api/main.ts'], { cwd: ROOT, env: { ...env, INSECURE_OPEN: '1' } })
    expect(await refused.ended).toBe(1)
    const lines = refused.output().trim().split('\n')
    expect(lines).toHaveLength(1)
    expect(JSON.parse(lines[0]!).msg).toMatch(/no key yet.*ADMIN_KEY.*switchyard keys create --local --role admin/)
    await until(() => open.output().includes('INSECURE_OPEN'), { what: 'a warning' })
  })
})
