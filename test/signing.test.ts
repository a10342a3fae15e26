/** Agents know that it is us: what is sent to them is signed, by a secret of each, and both SDKs take nothing else. Signatures are made and checked by hand here. */
import { createHmac } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { deliveryId, newSecret, readSecret, signedHeaders, stopId } from '../src/contracts/signature.ts'
import { readSecret as readSecretSdk, verify } from '../sdk/typescript/signature.ts'
import { startCore } from './core.ts'
import { clean, ROOT, run, until } from './processes.ts'
import { asked, environment, SDK, start as startPython, version } from './sdk-python.ts'
import { call, startSystem, type System } from './system.ts'
import { REGISTERED, standIn } from './stand-in.ts'

const DAY_S = 86_400
let system: System
beforeAll(async () => {
  system = await startSystem()
})
afterAll(() => system[Symbol.asyncDispose]())

type Came = { method: string; path: string; headers: IncomingMessage['headers']; body: Buffer }
/** An agent that keeps what comes to it byte for byte, and answers when it is let. */
const recorder = async (of: System, more: object = {}) => {
  const came: Came[] = []
  let let_ = (): void => {}
  const held = new Promise<void>((resolve) => (let_ = resolve))
  const server = createServer(async (req, res) => {
    const chunks: Buffer[] = []
    for await (const chunk of req) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks)
    came.push({ method: req.method!, path: req.url!, headers: req.headers, body })
    if (req.method === 'DELETE') return void res.writeHead(200).end()
    const task = JSON.parse(body.toString())
    if (task.task_type === 'hold') await Promise.race([held, new Promise((resolve) => res.once('close', resolve))])
    if (task.task_type === 'later') return void res.writeHead(202).end()
    res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ task_id: task.task_id, status: 'completed', result: 1 }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const type = `r${(server.address() as { port: number }).port}`
  const register = async (extra: object = {}) =>
    (await call('POST', `${of.url()}/agents/register`, { agent_id: `${type}-1`, name: 'recorder', type, host: '127.0.0.1', port: (server.address() as { port: number }).port, capabilities: ['echo', 'hold', 'later'], ...more, ...extra })).json
  const registered = await register()
  return {
    came, type, register, registered, id: registered.agent_id as string, secret: registered.signing_secret as string, letGo: () => let_(),
    submit: (task_type = 'echo', parameters: object = {}) => of.submit({ agent_type: type, task_type, parameters }),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** By hand, and by no code of ours. */
const signatureOf = (secret: string, id: string, timestamp: string, body: Buffer | string): string =>
  `v1,${createHmac('sha256', Buffer.from(secret.replace('whsec_', ''), 'base64')).update(Buffer.concat([Buffer.from(`${id}.${timestamp}.`), Buffer.from(body)])).digest('base64')}`
const given = ({ headers }: Came): string[] => String(headers['webhook-signature']).split(' ')
const isSignedBy = (c: Came, secret: string): boolean => given(c).includes(signatureOf(secret, String(c.headers['webhook-id']), String(c.headers['webhook-timestamp']), c.body))
const byHand = (secret: string, id: string, body: string, agoSeconds = 0): Record<string, string> => {
  const timestamp = String(Math.floor(Date.now() / 1000) - agoSeconds)
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatureOf(secret, id, timestamp, body) }
}

describe('what is sent', () => {
  test('a task and its cancel are signed with the secret of the registration, each under an id of its own, by Redis’s time', async () => {
    await using agent = await recorder(system)
    expect(readSecret(agent.secret)).toHaveLength(32)
    const id = await agent.submit('hold', { text: 'Zürich 😀 \u0000', n: 1 })
    await until('it came', () => agent.came.length === 1)
    const { attempt_id } = JSON.parse(agent.came[0]!.body.toString())
    expect(agent.came[0]!.headers).toMatchObject({ 'webhook-id': `task_${attempt_id}`, 'webhook-timestamp': String(Math.floor(Number(attempt_id.split('.')[0]) / 1000)) })
    expect(isSignedBy(agent.came[0]!, agent.secret)).toBe(true)
    expect(given(agent.came[0]!)).toHaveLength(1)
    await system.call('DELETE', `/tasks/${id}`)
    const stop = await until('it is told', () => agent.came.find((c) => c.method === 'DELETE'))
    expect(stop).toMatchObject({ path: `/task/${id}`, headers: { 'switchyard-attempt': attempt_id, 'webhook-id': `stop_${attempt_id}` }, body: Buffer.alloc(0) })
    expect(isSignedBy(stop, agent.secret)).toBe(true)
    // Nothing of the one is the other's.
    expect(given(stop)).not.toEqual(given(agent.came[0]!))
  })

  test('the cancel of a task that was answered 202 is signed too, by whichever dispatcher sends it', async () => {
    await using agent = await recorder(system)
    const id = await agent.submit('later')
    await system.becomes(id, 'running')
    await until('it is parked', async () => (await system.redis.hget(system.keys.task(agent.type, id), 'parked')) !== null)
    await system.call('DELETE', `/tasks/${id}`)
    const stop = await until('it is told', () => agent.came.find((c) => c.method === 'DELETE'))
    expect([isSignedBy(stop, agent.secret), stop.headers['webhook-id']]).toEqual([true, `stop_${JSON.parse(agent.came[0]!.body.toString()).attempt_id}`])
    expect(Math.abs(Number(stop.headers['webhook-timestamp']) - Date.now() / 1000)).toBeLessThan(60)
  })

  test('an agent that registered before there were secrets is sent tasks without a signature', async () => {
    await using agent = await recorder(system)
    await system.redis.hdel(system.keys.agent(agent.type, agent.id), 'salt')
    await system.ended(await agent.submit())
    expect(agent.came[0]!.headers).not.toHaveProperty('webhook-signature')
    expect((await call('POST', `${system.url()}/agents/${agent.id}/heartbeat`)).json.signing_secret_id).toBe(null)
  })
})

describe('the secret', () => {
  test('stays as it is when an agent registers again, is of each agent alone, and another after it has left', async () => {
    await using agent = await recorder(system)
    await using other = await recorder(system)
    const again = await agent.register({ instance_id: 'another process' })
    expect([again.signing_secret, again.signing_secret_id]).toEqual([agent.secret, agent.registered.signing_secret_id])
    expect(other.secret).not.toBe(agent.secret)
    await system.call('DELETE', `/agents/${agent.id}`)
    expect((await agent.register()).signing_secret).not.toBe(agent.secret)
  })

  test('is told at the registration, and nowhere else', async () => {
    await using agent = await recorder(system)
    await system.ended(await agent.submit())
    await system.post(`/agents/${agent.id}/rotate-secret`)
    const second = await agent.register()
    const beat = await call('POST', `${system.url()}/agents/${agent.id}/heartbeat`)
    expect(beat.json.signing_secret_id).toBe(second.signing_secret_id)
    const shown = await Promise.all(['/agents', `/agents/${agent.id}`, `/agents/type/${agent.type}`, '/metrics', '/tasks'].map(async (path) => (await system.get(path)).text))
    const kept: string[] = []
    for await (const keys of system.redis.scanStream({ match: `${system.prefix}:*`, count: 1000 })) for (const key of keys as string[]) kept.push((await system.redis.dumpBuffer(key))?.toString('latin1') ?? '')
    const all = [...shown, beat.text, ...kept, ...[...system.api, ...system.worker].map((p) => p.log.join(''))].join('\n')
    const master = (await system.redis.get(system.keys.signingSecret))!
    for (const secret of [agent.secret, second.signing_secret]) expect(all).not.toContain(secret.slice('whsec_'.length, -2))
    expect([...shown, beat.text, ...[...system.api, ...system.worker].map((p) => p.log.join(''))].join('\n')).not.toContain(master.slice(6, -2))
  })

  test('is changed when the agent or an operator asks; what is sent is signed with both for a while, the new one first', async () => {
    await using agent = await recorder(system)
    const second = await agent.register({ rotate_secret: true })
    expect(second.signing_secret).not.toBe(agent.secret)
    // Its answer was lost, and it asks again: it is the same rotation.
    expect((await agent.register({ rotate_secret: true })).signing_secret).toBe(second.signing_secret)
    expect((await agent.register()).signing_secret).toBe(second.signing_secret)
    await system.ended(await agent.submit())
    expect(agent.came.at(-1)).toSatisfy((c: Came) => given(c).length === 2 && isSignedBy(c, agent.secret) && isSignedBy(c, second.signing_secret))
    expect(given(agent.came.at(-1)!)[0]).toBe(signatureOf(second.signing_secret, String(agent.came.at(-1)!.headers['webhook-id']), String(agent.came.at(-1)!.headers['webhook-timestamp']), agent.came.at(-1)!.body))

    // It is in wrong hands: the old one is to end now.
    const { status, json } = await system.post(`/agents/${agent.id}/rotate-secret`, { overlap_seconds: 0 })
    expect([status, Date.parse(json.old_secret_until) <= Date.now() + 1000]).toEqual([200, true])
    await system.ended(await agent.submit())
    expect(agent.came.at(-1)).toSatisfy((c: Came) => given(c).length === 1 && isSignedBy(c, second.signing_secret))

    expect(Date.parse((await system.post(`/agents/${(await recorder(system).then(async (a) => { await a[Symbol.asyncDispose](); return a })).id}/rotate-secret`)).json.old_secret_until) - Date.now()).toBeGreaterThan((DAY_S - 60) * 1000)
    for (const [body, code] of [[{ overlap_seconds: -1 }, 422], [{ overlap_seconds: DAY_S + 1 }, 422], [{ now: true }, 422], ['[', 400]] as const) expect((await system.post(`/agents/${agent.id}/rotate-secret`, body)).status).toBe(code)
    expect((await system.post('/agents/nobody/rotate-secret')).status).toBe(404)
  })

  test('of the installation may be changed: agents go on with the one that they have, and hear of the new one', async () => {
    const [first, second] = [newSecret(), newSecret()]
    await using made = await startCore(system)
    const salts = 'salt'
    const old = made.signing.secret('a', salts)!
    expect(readSecret(old.secret)).toEqual(createHmac('sha256', readSecret((await system.redis.get(system.keys.signingSecret))!)!).update('switchyard agent default a salt').digest())
    try {
      // One that was made counts beside one that is set, for a day.
      await using set = await startCore(system, { SIGNING_SECRET: first })
      const now = set.signing.secret('a', salts)!
      const keysOf = (of: typeof set, all: string) => of.signing.keys('a', all).map((key) => key.export())
      expect(keysOf(set, salts)).toEqual([readSecret(now.secret), readSecret(old.secret)])
      expect([now.secret === old.secret, now.id === old.id]).toEqual([false, false])
      expect(await system.redis.pttl(system.keys.signingSecret)).toBeGreaterThan((DAY_S - 60) * 1000)
      await using changed = await startCore(system, { SIGNING_SECRET: `${second} ${first}` })
      expect(changed.signing.keys('a', 'new old').length).toBe(6)
      expect(keysOf(changed, salts)).toContainEqual(readSecret(now.secret))
      expect(changed.signing.secret('a', salts)!.secret).not.toBe(now.secret)
      expect(changed.signing.secret('b', salts)!.secret).not.toBe(changed.signing.secret('a', salts)!.secret)
    } finally {
      await system.redis.persist(system.keys.signingSecret)
    }
  })
})

describe('the test vectors of docs/protocol.md', async () => {
  const text = await readFile(join(ROOT, 'docs/protocol.md'), 'utf8')
  const vectors = [...text.matchAll(/^secret: (.*)\nwebhook-id: (.*)\nwebhook-timestamp: (.*)\nwebhook-signature: (.*)\nbody:(?: (.*))?$/gm)].map(([, secrets, id, timestamp, signature, body = '']) => ({ secrets: secrets!.split(' '), id: id!, timestamp: timestamp!, signature: signature!, body }))

  test('are what the router sends, and what both SDKs take', async () => {
    expect(vectors.map((v) => v.id.split('_')[0])).toEqual(['task', 'stop', 'task'])
    for (const { secrets, id, timestamp, signature, body } of vectors) {
      const attemptId = id.slice(5)
      const ours = signedHeaders(secrets.map((one) => readSecret(one)!), { id: id.startsWith('task') ? deliveryId(attemptId) : stopId(attemptId), timestamp: Number(timestamp), body: Buffer.from(body) })
      expect(ours).toEqual({ 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature })
      expect(secrets.map((one) => signatureOf(one, id, timestamp, body)).join(' ')).toBe(signature)
      for (const secret of secrets) {
        const check = (headers: object, sent = body, nowSeconds = Number(timestamp)) => verify([readSecretSdk(secret)], { ...ours, ...headers }, Buffer.from(sent), { nowSeconds })
        expect(check({})).toBe(null)
        for (const fault of [check({ 'webhook-id': `${id}0` }), check({ 'webhook-timestamp': String(Number(timestamp) + 1) }), check({}, `${body} `), check({}, body, Number(timestamp) + 301), check({}, body, Number(timestamp) - 301)]) expect(fault).toEqual(expect.any(String))
      }
    }
  })

  test.skipIf(version.status !== 0)('and by Python’s own hmac', async () => {
    const found = await asked(
      `
import base64, hashlib, hmac, json, os
from switchyard import verify
from switchyard.signature import keys_of
found = []
for v in json.loads(os.environ["VECTORS"]):
    body = v["body"].encode()
    by_hand = " ".join("v1," + base64.b64encode(hmac.new(base64.b64decode(s[6:]), f'{v["id"]}.{v["timestamp"]}.'.encode() + body, hashlib.sha256).digest()).decode() for s in v["secrets"])
    def fault(secret, body=body, now=int(v["timestamp"]), **more):
        headers = {"webhook-id": v["id"], "webhook-timestamp": v["timestamp"], "webhook-signature": v["signature"], **more}
        return verify(keys_of(secret), headers, body, now)
    for s in v["secrets"]:
        found.append([by_hand == v["signature"], fault(s), all([fault(s, body + b" "), fault(s, now=int(v["timestamp"]) + 301), fault(s, **{"webhook-id": v["id"] + "0"}), fault(s, **{"webhook-timestamp": str(int(v["timestamp"]) + 1)})])])
print(json.dumps(found))`,
      { VECTORS: JSON.stringify(vectors) },
    )
    expect(found).toEqual(Array(4).fill([true, null, true]))
  })
})

const LANGUAGES = [
  ['TypeScript', (env: Record<string, string>) => run(process.execPath, [join(ROOT, 'test/agents/typescript.ts')], { cwd: ROOT, env: { ...clean, ...env } })],
  ['Python', (env: Record<string, string>) => startPython([join(ROOT, 'test/agents/python.py')], { cwd: ROOT, env: { ...environment, PYTHONPATH: SDK, ...env } })],
] as const

describe.each(LANGUAGES)('an agent of the %s SDK', { timeout: 60_000 }, (language, launch) => {
  const promise = test.skipIf(language === 'Python' && version.status !== 0)
  const joined = async (of: { url: string }, env: Record<string, string> = {}) => {
    const agent = launch({ AGENT_TYPE: `s${language}`, AGENT_ID: `sdk-${language}`, AGENT_TTL_SECONDS: '5', LOG_LEVEL: 'info', ...env, SWITCHYARD_URL: of.url })
    const port = await until(`it listens: ${agent.output()}`, () => /listening (?:on|at .*,) port (\d+)/.exec(agent.output())?.[1])
    return { ...agent, url: `http://127.0.0.1:${port}`, port: Number(port) }
  }

  promise('obeys the router alone, and is served with no gap while its secret changes', async () => {
    await using agent = await joined({ url: system.url() })
    const [type, id] = [`s${language}`, `sdk-${language}`]
    const record = await until('it is registered', async () => { const r = await system.get(`/agents/${id}`); return r.status === 200 ? r.json : null })
    // Whoever registers under its id is told its secret: that is how the test has it.
    const { name, host, port, capabilities, max_concurrency, ttl_seconds } = record
    const secretNow = async () => (await system.post('/agents/register', { agent_id: id, type, name, host, port, capabilities, max_concurrency, ttl_seconds })).json.signing_secret as string
    const secret = await secretNow()

    const body = JSON.stringify({ task_id: 't', task_type: 'echo', parameters: { a: 1 }, attempt_id: '1.a', attempt: 1 })
    const send = (headers: Record<string, string>, sent = body) => call('POST', `${agent.url}/task`, sent, headers)
    const right = byHand(secret, 'task_1.a', body)
    expect(await send(right)).toMatchObject({ status: 200, json: { status: 'completed', result: { a: 1 } } })
    const tampered: [Record<string, string>, string?][] = [
      [{}], [right, body.replace('"a":1', '"a":2')], [{ ...right, 'webhook-timestamp': String(Number(right['webhook-timestamp']) + 1) }], [{ ...right, 'webhook-id': 'task_1.b' }],
      [byHand(secret, 'task_1.a', body, 400)], [byHand(newSecret(), 'task_1.a', body)], [byHand(secret, 'stop_1.a', body)],
    ]
    for (const [headers, sent] of tampered) expect(await send(headers, sent)).toMatchObject({ status: 401, json: { error: expect.any(String), retryable: true } })

    // A cancel by anybody else stops nothing; neither does a task's signature.
    const slow = await system.submit({ agent_type: type, task_type: 'sleep', parameters: { seconds: 30 } })
    const { attempt_id } = (await system.becomes(slow, 'sent')).attempts[0]
    await until('it works', async () => (await call('GET', `${agent.url}/health`)).json.running === 1)
    const stop = (headers: Record<string, string>) => call('DELETE', `${agent.url}/task/${slow}`, undefined, { 'switchyard-attempt': attempt_id, ...headers })
    for (const headers of [{}, byHand(secret, `task_${attempt_id}`, ''), byHand(secret, `stop_${slow}`, ''), byHand(secret, `stop_${attempt_id}`, '', 400)]) expect((await stop(headers)).status).toBe(401)
    expect((await call('GET', `${agent.url}/health`)).json.running).toBe(1)
    await system.call('DELETE', `/tasks/${slow}`)
    expect((await system.ended(slow)).status).toBe('cancelled')
    await until('its cancel was believed', async () => (await call('GET', `${agent.url}/health`)).json.running === 0)

    // Work goes on while the secret changes and the agent comes by the new one.
    let going = true
    const ids: string[] = []
    const working = (async () => { while (going) { ids.push(await system.submit({ agent_type: type, parameters: { n: ids.length } })); await system.ended(ids.at(-1)!) } })()
    await system.post(`/agents/${id}/rotate-secret`, { overlap_seconds: 60 })
    const next = await secretNow()
    expect(next).not.toBe(secret)
    await until('it has the new one', async () => (await send(byHand(next, 'task_1.a', body))).status === 200, 15_000)
    await system.redis.hset(system.keys.agent(type, id), 'salt', (await system.redis.hget(system.keys.agent(type, id), 'salt'))!.split(' ')[0]!) // the overlap is over
    const before = ids.length
    await until('work with the new one alone', () => ids.length > before + 3)
    going = false
    await working
    const tasks = await Promise.all(ids.map((one) => system.task(one)))
    expect(tasks.filter((t) => t.status !== 'completed' || t.attempts.length !== 1)).toEqual([])
    agent.child.kill('SIGTERM')
    expect(await agent.ended).toBe(0)
  })

  promise('asks whoever comes before its registration is answered to wait, and obeys a router that has no secrets; verifying can be left out', async () => {
    const state = { code: 503, more: {} as object }
    await using router = await standIn((path) => (path === '/agents/register' ? { ...REGISTERED, code: state.code, ...state.more } : { received: true, next_interval_seconds: 60, cancel: [], lost: [], drain: false }))
    await using agent = await joined(router)
    const body = JSON.stringify({ task_id: 't', task_type: 'echo', parameters: {}, attempt_id: '1.a' })
    const send = (url: string, headers: Record<string, string> = {}) => call('POST', `${url}/task`, body, headers)
    const early = await send(agent.url)
    expect([early.status, early.headers.get('retry-after')]).toEqual([503, '1'])
    expect((await call('DELETE', `${agent.url}/task/t`)).status).toBe(503)
    state.code = 201
    await until('it obeys an old router', async () => (await send(agent.url)).status === 200, 15_000)

    const secret = newSecret()
    state.more = { signing_secret: secret, signing_secret_id: 'x' }
    await using verifying = await joined(router)
    await until('it verifies', async () => (await send(verifying.url)).status === 401, 15_000)
    expect((await send(verifying.url, byHand(secret, 'task_1.a', body))).status).toBe(200)
    const seen = router.registrations().length
    await using trusting = await joined(router, { AGENT_VERIFY: 'false' })
    await until('it is registered', () => router.registrations().length > seen)
    expect((await send(trusting.url)).status).toBe(200)
    for (const one of [agent, verifying, trusting]) one.child.kill('SIGKILL')
  })
})
