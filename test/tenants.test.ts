/** Tenants: what belongs to one namespace is, for a key of another, what never existed; by every route that there is. */
import { createHmac } from 'node:crypto'
import type { EventEmitter } from 'node:events'
import type { Request, Response } from 'express'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { verifyWebhook } from '../sdk/typescript/client.ts'
import { MAX_KEYS_OF_NAMESPACE } from '../src/access/keyring.ts'
import { MAX_NAMESPACES } from '../src/access/namespaces.ts'
import { createTokens } from '../src/access/token.ts'
import { setCaller } from '../src/api/caller.ts'
import { createTenants } from '../src/api/tenants.ts'
import type { Shared } from '../src/api/routes.ts'
import { Namespace, ROLES, type Role } from '../src/contracts/key.ts'
import { createLogger } from '../src/logger.ts'
import { tell } from '../src/redis/nodes.ts'
import { webhookSecretsOf } from '../src/redis/secret.ts'
import { createSubscriber, reconnectSubscriber } from '../src/redis/subscriber.ts'
import { createFeeds } from '../src/tasks/feeds.ts'
import { filled, routes } from './api-document.ts'
import { startCore } from './core.ts'
import { SECRET, startReceiver, type Receiver } from './receiver.ts'
import { accepts, call, startSystem, until, type Answer, type Run, type System, type TestAgent } from './system.ts'

const ADMIN_KEY = 'planted-admin-key-0123456789abcdefghij'
const NEVER = 'never'
const schedule = (type: string, seconds = 3600) => ({ every_seconds: seconds, task: { agent_type: type, task_type: 'x' } })

let system: System
let receiver: Receiver
type Keys = Record<Role, string>
const [acme, beta, operator] = [{}, {}, {}] as [Keys, Keys, Keys]
const as = (key: string, method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> => call(method, system.url() + path, body, { authorization: `Bearer ${key}`, ...headers })
const good = async (asked: Promise<Answer>): Promise<any> => {
  const { status, json, text } = await asked
  expect(status, text).toBeLessThan(300)
  return json
}

/** What a namespace has: a task in each state that matters, an agent that has one in hand, a schedule and a key; `name` is part of every name and id. */
type Estate = { name: string; keys: Keys; tasks: string[]; running: string; key: string; agent: TestAgent; attempt: Run }
const settle = async (name: string, keys: Keys): Promise<Estate> => {
  const agent = await system.agent({ key: keys.agent, id: name, name, type: name, capabilities: ['later'], ttlSeconds: 3600, handle: accepts })
  const submit = async (more: object): Promise<string> => (await good(as(keys.submit, 'POST', '/tasks', { agent_type: name, task_type: name, ...more }))).task_id
  const tasks = [await submit({ parameters: { of: name } }), await submit({ expires_in_seconds: 0.01 }), await submit({ task_type: 'later', timeout_seconds: 300 })]
  const becomes = (id: string, status: string) => until(async () => (await as(keys.view, 'GET', `/tasks/${id}`)).json.status === status, { what: status })
  await good(as(keys.submit, 'PUT', `/schedules/${name}`, schedule(name)))
  const attempt = await agent.delivery()
  await becomes(tasks[1]!, 'timeout')
  await becomes(tasks[2]!, 'running')
  const { key_id: key } = await good(as(keys.admin, 'POST', '/keys', { name, roles: ['view'] }))
  return { name, keys, tasks, running: tasks[2]!, key, agent, attempt }
}
let ofAcme: Estate
let ofOperator: Estate
beforeAll(async () => {
  receiver = await startReceiver()
  system = await startSystem({ key: ADMIN_KEY, env: { WEBHOOK_CIDRS: '127.0.0.0/8', WEBHOOK_SECRET: SECRET } })
  for (const [keys, namespace] of [[acme, 'acme'], [beta, 'beta'], [operator]] as const) for (const role of ROLES) keys[role] = (await good(as(ADMIN_KEY, 'POST', '/keys', { name: 'n', roles: [role], namespace }))).key
  ;[ofAcme, ofOperator] = await Promise.all([settle('plantedacme', acme), settle('plantedoperator', operator)])
})
afterAll(async () => {
  await receiver?.close()
  for (const more of ['o', 't']) for await (const found of system.redis.scanStream({ match: `${system.prefix}${more}:*`, count: 1000 })) if (found.length > 0) await system.redis.unlink(...found)
  await system?.[Symbol.asyncDispose]()
})

/** All of it, as its own keys see it. */
const whole = async ({ name, keys, tasks }: Estate): Promise<string> => {
  const paths = [...tasks.map((id) => `/tasks/${id}`), `/agents/${name}`, `/schedules/${name}`]
  const found = await good(as(keys.admin, 'GET', '/keys'))
  for (const key of found.keys) delete key.last_used_at
  return JSON.stringify([found, ...(await Promise.all(paths.map((path) => good(as(keys.view, 'GET', path)))))])
}

describe('by every route with an id in its path', () => {
  /** By what the id is of. */
  const never = ({ name }: Estate): Record<string, string> => ({ tasks: `${name}.01980a1c-6f0e-7c3a-9d2b-1f6a2b3c4d5e`, agents: NEVER, schedules: NEVER, keys: '000000000000', type: NEVER })
  const there = ({ name, tasks, key }: Estate): Record<string, string[]> => ({ tasks, agents: [name], schedules: [name], keys: [key], type: [name] })
  const withId = routes.filter((route) => route.path.includes('{'))
  const kindOf = (path: string): string => (path.includes('{type}') ? 'type' : path.split('/')[1]!)
  /** What is told of one, but for its id and the time. */
  const told = (id: string, { status, headers, text }: Answer): unknown => ({
    status, type: headers.get('content-type'), location: headers.get('location')?.replaceAll(id, 'ID'), text: text.replaceAll(id, 'ID').replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME'),
  })

  test('there are many such routes, and each is about something that is looked for here', () => {
    expect(withId.length).toBeGreaterThan(20)
    for (const { name, path } of withId) expect(there(ofAcme)[kindOf(path)], `say in this test what there is of ${name}`).toBeDefined()
  })

  const callers: [string, () => Promise<string> | string][] = [
    ...ROLES.map((role): [string, () => string] => [`a key of role ${role}`, () => beta[role]]),
    ['an agent’s token', async () => (await good(as(beta.agent, 'POST', '/agents/register', { name: 'b', agent_id: 'b', type: 'b', host: '127.0.0.1', port: 9 }))).agent_token],
    ['the operator’s key, but for keys,', () => operator.admin],
  ]
  test.each(callers)('to %s what is another namespace’s is as what never existed', async (who, keyOf) => {
    const key = await keyOf()
    const isOperator = who.startsWith('the operator')
    for (const estate of isOperator ? [ofAcme] : [ofAcme, ofOperator]) {
      const before = await whole(estate)
      for (const { name, method, path, body } of withId) {
        const kind = kindOf(path)
        if (kind === 'keys' && isOperator) continue
        const sent = body && (body.example['attempt_id'] === undefined ? body.example : { ...body.example, attempt_id: estate.attempt.attemptId })
        const ask = async (id: string): Promise<unknown> => {
          const answer = await as(key, method, filled(path, () => id), sent ?? undefined)
          if (name === 'PUT /schedules/{id}' && answer.status < 300) await good(as(key, 'DELETE', `/schedules/${id}`))
          return told(id, answer)
        }
        const expected = await ask(never(estate)[kind]!)
        for (const id of there(estate)[kind]!) expect(await ask(id), `${name} ${id}`).toEqual(expected)
      }
      expect(await whole(estate)).toBe(before)
    }
  })

  test('and to its own it is there', async () => {
    const { tasks, running, attempt, agent } = ofAcme
    for (const id of tasks) for (const path of ['', '/explain']) expect((await as(acme.view, 'GET', `/tasks/${id}${path}`)).status).toBe(200)
    expect((await as(acme.agent, 'POST', `/tasks/${running}/progress`, { attempt_id: attempt.attemptId })).status).toBe(200)
    expect((await agent.beat()).status).toBe(200)
    expect((await as(acme.view, 'GET', `/tasks/${tasks[0]}/explain`)).json).toMatchObject({ dispatchers: 1, reason: 'no_agent_capable' })
    // `wait` and what is watched, too.
    for (const path of ['?wait=5', '/events']) expect((await as(beta.view, 'GET', `/tasks/${running}${path}`)).status).toBe(404)
  })
})

describe('lists, and what else tells of many,', () => {
  const plain = routes.filter(({ method, path }) => method === 'GET' && !path.includes('{')).map(({ path }) => path).filter((path) => path !== '/events')
  const narrow = (name: string) => ['/tasks', '/schedules', '/dead-letters', '/dead-letters/summary'].map((path) => `${path}?agent_type=${name}`).concat(`/agents?type=${name}`)

  test('show to each what is its own', async () => {
    for (const { name, keys } of [ofAcme, ofOperator]) {
      for (const path of ['/tasks', '/agents', '/schedules', '/dead-letters', '/dead-letters/summary', '/metrics', '/queues/api/queues', '/keys', ...narrow(name)]) expect((await as(keys.admin, 'GET', path)).text, path).toContain(name)
    }
    const theirs = (await as(acme.view, 'GET', '/metrics')).text
    expect(theirs).toContain('switchyard_slots_used{agent_type="plantedacme"} 1')
    expect(theirs).not.toMatch(/process_cpu|nodejs_|switchyard_http_request|switchyard_shed/) // of the process, which is everybody's
    expect((await as(operator.view, 'GET', '/metrics')).text).toMatch(/process_cpu[^]*switchyard_http_request/)
  })

  test('and nobody else', async () => {
    for (const [key, names] of [[beta.admin, [ofAcme.name, ofOperator.name]], [beta.submit, [ofAcme.name, ofOperator.name]], [acme.admin, [ofOperator.name]], [operator.admin, [ofAcme.name]]] as const) {
      for (const path of [...plain, '/queues/api/queues', ...names.flatMap(narrow)]) {
        if (path === '/keys' && key === operator.admin) continue
        const { status, text } = await as(key, 'GET', path)
        if (key !== beta.submit) expect(status, path).toBe(200)
        for (const name of names) expect(text.includes(name), `${path} tells of ${name}`).toBe(false)
      }
    }
    expect((await call('GET', `${system.url()}/health`)).text).not.toContain('planted')
    // What a worker measures of itself is of all namespaces.
    for (const [key, status] of [[acme.admin, 403], [operator.view, 200]] as const) expect((await call('GET', `${system.worker[0]!.url}/metrics`, undefined, { authorization: `Bearer ${key}` })).status).toBe(status)
  })

  test('nor does a session that was got by the key', async () => {
    const res = await fetch(`${system.url()}/login`, { method: 'POST', redirect: 'manual', headers: { 'content-type': 'application/x-www-form-urlencoded' }, body: new URLSearchParams({ key: acme.view }) })
    const cookie = res.headers.getSetCookie()[0]!.split(';', 1)[0]!
    const look = (path: string) => fetch(system.url() + path, { headers: { cookie } })
    expect(await (await look('/')).text()).toContain('namespace acme')
    for (const path of ['/tasks', '/queues/api/queues']) expect(await (await look(path)).text().then((text) => [text.includes(ofAcme.name), text.includes(ofOperator.name)]), path).toEqual([true, false])
    expect(await Promise.all([ofAcme, ofOperator].map(async ({ running }) => (await look(`/tasks/${running}`)).status))).toEqual([200, 404])
  })

  test('what happens is told to who watches that namespace', async () => {
    const watch = async (key: string) => {
      const stop = new AbortController()
      const res = await fetch(`${system.url()}/events`, { headers: { authorization: `Bearer ${key}` }, signal: stop.signal })
      let text = ''
      void (async () => { for await (const chunk of res.body!.pipeThrough(new TextDecoderStream())) text += chunk })().catch(() => {})
      return { text: () => text, stop: () => stop.abort() }
    }
    const watching = await Promise.all([acme.view, beta.view, operator.view].map(watch))
    for (const [i, key] of [acme.submit, beta.submit, operator.submit].entries()) {
      const { task_id } = await good(as(key, 'POST', '/tasks', { agent_type: 'seen', task_type: `of${i}` }))
      await until(() => watching[i]!.text().includes(task_id), { what: 'its event' })
    }
    for (const { text, stop } of watching) {
      expect(text().match(/^event: task/gm)).toHaveLength(1)
      stop()
    }
  })

  test('what changes many changes one’s own', async () => {
    const before = await Promise.all([ofAcme, ofOperator].map(whole))
    expect(await good(as(beta.submit, 'POST', '/dead-letters/retry', {}))).toMatchObject({ retried: 0 })
    await good(as(beta.admin, 'POST', '/agents/cleanup'))
    expect(await Promise.all([ofAcme, ofOperator].map(whole))).toEqual(before)
  })
})

describe('what is named in a body', () => {
  test('is looked for in one’s own namespace', async () => {
    const answers = async (id: string) => [
      await as(beta.submit, 'POST', '/tasks', { agent_id: id, task_type: 'x' }),
      await as(beta.submit, 'PUT', '/schedules/s', { every_seconds: 60, task: { agent_id: id, task_type: 'x' } }),
      await as(beta.submit, 'POST', '/tasks/batch', { tasks: [{ agent_id: id, task_type: 'x' }] }),
      await as(beta.submit, 'POST', '/tasks?require_agent=true', { agent_type: id, task_type: 'later' }),
    ].map(({ status, text }) => [status, text.replaceAll(id, 'ID')])
    for (const { name } of [ofAcme, ofOperator]) expect(await answers(name)).toEqual(await answers(NEVER))
  })

  test('may be the same in two: Idempotency-Keys, agents, schedules', async () => {
    const both = [acme, beta]
    const submitted = await Promise.all(both.map(({ submit }, i) => as(submit, 'POST', '/tasks', { agent_type: 'twice', task_type: `of${i}` }, { 'idempotency-key': 'same' })))
    expect(submitted.map(({ status, headers }) => [status, headers.get('idempotent-replayed')])).toEqual([[201, null], [201, null]])
    expect(new Set(submitted.map(({ json }) => json.task_id)).size).toBe(2)
    const registered = await Promise.all(both.map(({ agent }, i) => as(agent, 'POST', '/agents/register', { agent_id: 'same', name: `of${i}`, type: `type${i}`, host: '127.0.0.1', port: 9 })))
    expect(registered.map(({ status }) => status)).toEqual([201, 201])
    expect(new Set(registered.map(({ json }) => json.signing_secret)).size).toBe(2)
    const put = await Promise.all(both.map(({ submit }, i) => as(submit, 'PUT', '/schedules/same', schedule('same', 3600 + i))))
    expect(put.map(({ status }) => status)).toEqual([201, 201])

    // A token speaks for the agent of its own namespace.
    const [ours, theirs] = registered.map(({ json }) => json.agent_token as string) as [string, string]
    await good(as(theirs, 'DELETE', '/agents/same'))
    await good(as(beta.submit, 'DELETE', '/schedules/same'))
    expect(await good(as(acme.view, 'GET', '/agents/same'))).toMatchObject({ name: 'of0', is_alive: true })
    expect(await good(as(acme.view, 'GET', '/schedules/same'))).toMatchObject({ every_seconds: 3600 })
    await good(as(ours, 'POST', '/agents/same/heartbeat'))
    for (const forged of [ours.replace('acme~', 'beta~'), ours.replace('acme~', ''), ours.replace('acme~', 'default~')]) expect((await as(forged, 'POST', '/agents/same/heartbeat')).status, forged).toBe(401)
  })
})

describe('keys', () => {
  test('of a tenant’s admin are of that tenant; the operator makes, sees and ends all', async () => {
    expect((await as(beta.admin, 'POST', '/keys', { name: 'x', roles: ['view'], namespace: 'acme' })).json).toMatchObject({ status: 403, detail: expect.stringContaining('namespace beta') })
    expect((await as(beta.admin, 'POST', '/keys', { name: 'x', roles: ['admin'], namespace: 'default' })).status).toBe(403)
    const made = await good(as(beta.admin, 'POST', '/keys', { name: 'x', roles: ['admin'] }))
    expect(made).toMatchObject({ namespace: 'beta' })
    const next = await good(as(beta.admin, 'POST', `/keys/${made.key_id}/rotate`, { old_expires_in_seconds: 0 }))
    expect(next).toMatchObject({ namespace: 'beta', name: 'x' })
    const seen = async (key: string) => new Set((await good(as(key, 'GET', '/keys'))).keys.map((one: { namespace: string }) => one.namespace))
    expect(await seen(next.key)).toEqual(new Set(['beta']))
    expect(await seen(operator.admin)).toEqual(new Set(['acme', 'beta', 'default']))
    expect(await good(as(operator.admin, 'DELETE', `/keys/${next.key_id}`))).toMatchObject({ revoked: true })
    expect(await good(as(operator.admin, 'POST', '/keys', { name: 'x', roles: ['view'], namespace: 'default' }))).toMatchObject({ namespace: 'default' })
    for (const namespace of ['', 'A', '-a', 'a_b', 'a/b', 'a:b', 'a{b}', 'a*', 'x'.repeat(33), 1, null]) expect((await as(ADMIN_KEY, 'POST', '/keys', { name: 'x', roles: ['view'], namespace })).json, String(namespace)).toMatchObject({ status: 422, errors: [{ pointer: '/namespace' }] })
  })

  test('are so many of a namespace, and namespaces are so many, at most; the first key is an operator’s', async () => {
    await using core = await startCore({ redisUrl: system.redisUrl, prefix: `${system.prefix}o` })
    const make = (namespace: string | undefined, roles: Role[] = ['view'], by = 'default') => core.keyring.create({ name: 'n"namespace":"n0"', roles, ...(namespace === undefined ? {} : { namespace }) }, by, false)
    await expect(make('acme', ['admin'])).rejects.toThrow('/namespace must be left out while there is no admin of all namespaces')
    await expect(make('acme')).rejects.toThrow('/roles must hold admin')
    const { key_id } = await make(undefined, ['admin'])
    await Promise.all(Array.from({ length: MAX_NAMESPACES }, (_, i) => make(`n${i}`)))
    await expect(make('more')).rejects.toThrow(`already ${MAX_NAMESPACES} namespaces`)
    expect((await core.namespaces.list()).length).toBe(MAX_NAMESPACES)
    await Promise.all(Array.from({ length: MAX_KEYS_OF_NAMESPACE - 1 }, () => make(undefined, ['admin'], 'n1')))
    await expect(make('n1')).rejects.toThrow(`namespace n1 already has ${MAX_KEYS_OF_NAMESPACE} keys`)
    expect(await make('n0')).toMatchObject({ namespace: 'n0' })
    // Those of tenants do not make it less the last one.
    await core.keyring.revoke(key_id, 'default')
    await expect(make('n0', ['admin'])).rejects.toThrow('/namespace')
    expect(await make(undefined, ['view'], 'n0')).toMatchObject({ namespace: 'n0' })
    // One that was made before there were namespaces.
    await system.redis.hset(core.keys.access, 'key:oldoldoldold', JSON.stringify({ name: 'old', roles: ['admin'], digest: '', createdMs: 1, expiresMs: null, requestsPerSecond: null }))
    expect((await core.keyring.list('default'))[0]).toMatchObject({ name: 'old', namespace: 'default' })
    expect((await core.keyring.list('n0')).map((one) => one.namespace)).toEqual(['n0', 'n0', 'n0'])
    expect(await core.keyring.revoke('oldoldoldold', 'n0')).toBe(false)
  })

  test('a token of an agent says its namespace; one of before there were any is of the default one', () => {
    const secret = Buffer.alloc(32, 7).toString('base64url')
    const tokens = createTokens(secret)
    const life = { agentId: 'a', generation: 1, registeredMs: 2 }
    const before = `sya_a~1~2~${createHmac('sha256', Buffer.alloc(32, 7)).update('agent\ndefault\na~1~2').digest('base64url')}`
    expect(tokens.make({ namespace: 'default', ...life })).toBe(before)
    expect(tokens.read(before)).toEqual({ namespace: 'default', ...life })
    expect(tokens.read(tokens.make({ namespace: 'acme', ...life }))).toEqual({ namespace: 'acme', ...life })
    expect(Namespace.safeParse('default').success).toBe(true)
  })
})

describe('the routes of a namespace', () => {
  const log = createLogger('test', 'silent')
  /** No route is asked for here but one that is not there. */
  const shared = { log, reads: { ones: { bound: (x: unknown) => x }, pages: { bound: (x: unknown) => x } }, forms: {} } as unknown as Shared

  test('are made once for all who ask first, again should that fail, and let go of when others are asked about; with all that listened', async () => {
    await using core = await startCore({ redisUrl: system.redisUrl, prefix: `${system.prefix}t` })
    const subscriber = await createSubscriber(core.redis, { url: system.redisUrl, name: 'test', log })
    try {
      const feeds = createFeeds({ subscriber, log })
      const asked: string[] = []
      let fails = true
      const failing = { ...core, of: async (namespace: string) => { asked.push(namespace); if (fails) throw new Error('away'); return core.of(namespace) } }
      let served = 0
      const lead = createTenants({ core: failing, feeds, shared, service: () => void served++ })
      const ask = async (namespace: string): Promise<void> => {
        const res = { locals: {} } as unknown as Response
        setCaller(res, { kind: 'key', id: 'k', namespace, roles: ['view'], requestsPerSecond: null })
        const before = served
        await lead({ method: 'GET', url: '/none' } as Request, res, () => { throw new Error('it went on to the default one') })
        await until(() => served > before)
      }
      await expect(ask('n0')).rejects.toThrow('away')
      fails = false
      await Promise.all([ask('n0'), ask('n0'), ask('n0')])
      expect(asked).toEqual(['n0', 'n0'])
      const listening = () => [core.redis, subscriber as unknown as EventEmitter].flatMap((one) => one.eventNames().map((event) => one.listenerCount(event))).reduce((sum, n) => sum + n)
      const one = listening()
      await ask('n1')
      const each = listening() - one
      for (let i = 2; i < MAX_NAMESPACES + 60; i++) await ask(`n${i}`)
      await until(() => listening() <= one + each * (MAX_NAMESPACES + 20), { what: 'what listened for those let go of is gone' })
      await ask('n0')
      expect(asked.filter((namespace) => namespace === 'n0')).toHaveLength(3)
      await ask('n159')
      expect(asked.filter((namespace) => namespace === 'n159')).toHaveLength(1)
    } finally {
      subscriber.disconnect()
    }
  })

  test('hear of what happens again when the connection is back, each of its own; and are told when one is let go of', async () => {
    await using core = await startCore({ redisUrl: system.redisUrl, prefix: `${system.prefix}t` })
    const subscriber = await createSubscriber(core.redis, { url: system.redisUrl, name: 'test', log })
    try {
      const feeds = createFeeds({ subscriber, log })
      const heard: string[] = []
      const follow = async (namespace: string) => {
        const parts = await core.of(namespace)
        await feeds.of(parts).follow({ type: 'x', event: (event) => heard.push(`${namespace} ${event.taskId}`), gap: () => {}, end: () => heard.push(`${namespace} end`) })
        return parts
      }
      const [one, two] = [await follow('one'), await follow('two')]
      let last = 0 // each is later than the one before, also within a millisecond: or it is one that was heard of
      const happens = (parts: typeof one, id: string) => tell(parts.redis, parts.keys.eventsChannel('x'), `${Date.now()}-${++last}\t${id}\tqueued`)
      await happens(one, 'a')
      await until(() => heard.length === 1)
      const gone = new Promise<void>((resolve) => subscriber.on('close', () => resolve()))
      reconnectSubscriber(subscriber)
      await gone
      await until(async () => (await happens(two, 'b')) === 1, { what: 'the subscription' })
      await until(async () => { await happens(two, 'b'); return heard.includes('two b') }) // what comes while the log is read is held, or in it
      await until(async () => (await happens(one, 'c')) === 1)
      await until(async () => { await happens(one, 'c'); return heard.includes('one c') })
      feeds.forget('one')
      expect(heard.at(-1)).toBe('one end')
      await happens(two, 'd')
      await until(() => heard.includes('two d'))
      expect(new Set(heard)).toEqual(new Set(['one a', 'two b', 'one c', 'one end', 'two d']))
    } finally {
      subscriber.disconnect()
    }
  })
})

test('two with agents of the same type and id each get their own tasks, and their webhooks arrive, signed with their own secret', async () => {
  const tenants = await Promise.all(
    [['acme', acme], ['beta', beta]].map(async ([namespace, keys]) => {
      const { agent: key, submit, view } = keys as Keys
      const mine = await system.agent({ key, id: 'twin', type: 'twins', handle: () => namespace })
      const ids: string[] = []
      for (let i = 0; i < 5; i++) ids.push((await good(as(submit, 'POST', '/tasks', { agent_type: 'twins', task_type: 'echo', callback_url: `${receiver.url}/${namespace}` }))).task_id)
      return { namespace: namespace as string, view, mine, ids }
    }),
  )
  for (const { namespace, view, mine, ids } of tenants) {
    for (const id of ids) expect((await until(async () => { const { json } = await as(view, 'GET', `/tasks/${id}?wait=5`); return json.status === 'completed' && json.webhook.status === 'delivered' ? json : null })).result).toBe(namespace)
    expect(mine.runs.map((run) => run.taskId).sort()).toEqual(ids.sort())
    const came = receiver.came.filter(({ path }) => path === `/${namespace}`)
    const [secret] = webhookSecretsOf(namespace, [SECRET])
    expect(came.map(({ headers, text }) => verifyWebhook(secret!, headers, text).data.task_id).sort()).toEqual(ids)
    expect(came.every(({ event }) => event === null)).toBe(true) // by the secret of the default one it is none
  }
})
