/** Webhooks: a task's end told to its callback_url, at least once, signed, on schedule. */
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { verifyWebhook } from '../sdk/typescript/client.ts'
import { createCallbackPolicy } from '../src/contracts/callback.ts'
import { readSecret } from '../src/contracts/signature.ts'
import { createLogger } from '../src/logger.ts'
import { WAITS_MS } from '../src/tasks/webhooks/schedule.ts'
import { createWebhooks } from '../src/tasks/webhooks/webhooks.ts'
import { createWebhookSender } from '../src/transports/webhook.ts'
import { createPlaces } from '../src/workers/places.ts'
import { createWebhookDeliverer } from '../src/workers/webhooks.ts'
import { startCore } from './core.ts'
import { fixture } from './processes.ts'
import { becomesQuiet } from './quiet.ts'
import { SECRET, startReceiver, type Answering, type Receiver } from './receiver.ts'
import { startSystem, until, type System } from './system.ts'

const ALLOWED = { WEBHOOK_CIDRS: '127.0.0.0/8', WEBHOOK_SECRET: SECRET }

let system: System
const receivers: Receiver[] = []
beforeAll(async () => {
  system = await startSystem({ env: ALLOWED })
})
afterAll(async () => {
  await Promise.all(receivers.map((r) => r.close()))
  await becomesQuiet(system)
  await system[Symbol.asyncDispose]()
})

const receiver = async (answer?: Answering): Promise<Receiver> => {
  const made = await startReceiver(answer)
  receivers.push(made)
  return made
}
let types = 0
const setting = (of: () => System = () => system) => {
  const type = `hook${++types}`
  return {
    type,
    agent: (handle?: (task: any) => unknown) => of().agent({ type, ...(handle ? { handle } : {}) }),
    submit: (callback_url: string, more: object = {}): Promise<string> => of().submit({ agent_type: type, callback_url, ...more }),
  }
}
/** Its webhook, once that has come to what is asked for. */
const webhookOf = (id: string, is: (w: any) => unknown, of = system) => until(async () => { const { webhook } = await of.task(id); return webhook && is(webhook) ? webhook : null }, { what: `the webhook of ${id}` })
const delivered = (id: string, of = system) => webhookOf(id, (w) => w.status === 'delivered', of)
/** As if its time had come; a dispatcher is told, so that none has to look by itself first. */
const comesDue = async (id: string, to: Receiver, of = system): Promise<void> => {
  const type = id.split('.')[0]!
  await of.redis.zadd(of.keys.webhookQueue(type, to.url), 1, id)
  await of.redis.zadd(of.keys.webhookOrigins(type), 1, to.url)
  for (const dispatcher of await of.redis.zrange(of.keys.dispatchers(type), '0', '-1')) await of.redis.publish(of.keys.wakeChannel(type, dispatcher), `webhooks\t${of.keys.scope(type)}`)
}
/** A task that has ended. */
const cancelled = async (submitted: Promise<string>, of = system): Promise<string> => {
  const id = await submitted
  await of.call('DELETE', `/tasks/${id}`)
  return id
}
const redeliver = (id: string, of = system) => of.post(`/tasks/${id}/webhooks/redeliver`)

test('tells each of the four ends, signed, with the task as GET shows it', async () => {
  const to = await receiver()
  const { agent, submit } = setting()
  await agent((task) => {
    if (task.task_type === 'echo' && task.parameters.fails) throw new Error('no')
    return { big: 1 }
  })
  const good = await submit(`${to.url}/good?a=1`, { parameters: { n: 1 }, metadata: { m: 'ü' } })
  const bad = await submit(`${to.url}/bad`, { parameters: { fails: true }, max_retries: 0 })
  const late = await submit(`${to.url}/late`, { task_type: 'nobody', expires_in_seconds: 0.05 })
  const cancelled = await submit(`${to.url}/cancelled`, { task_type: 'nobody' })
  await system.call('DELETE', `/tasks/${cancelled}`)
  await system.ended(late)
  for (const id of [good, bad, late, cancelled]) await delivered(id)
  expect(to.came.map((c) => [c.path, c.event?.type]).sort()).toEqual([['/bad', 'task.failed'], ['/cancelled', 'task.cancelled'], ['/good?a=1', 'task.completed'], ['/late', 'task.timeout']])
  const came = to.came.find((c) => c.path === '/good?a=1')!
  const { webhook, ...shown } = await system.task(good)
  expect(came.event).toEqual({ type: 'task.completed', timestamp: shown.completed_at, data: { ...shown, webhook: null } })
  expect(came.id).toBe(webhook.id)
  expect(webhook).toEqual({ id: `msg_${good.split('.')[1]}`, status: 'delivered', attempts: [{ at: expect.any(String), status_code: 200, error: null, duration_ms: expect.any(Number) }], next_attempt_at: null })
  expect(came.headers['content-type']).toBe('application/json')
})

test('a try that fails is followed by nine more, on schedule, and then it has failed; asked for again it begins anew', async () => {
  const to = await receiver(() => 500)
  const { submit } = setting()
  const id = await cancelled(submit(to.url))
  for (const [i, wait] of WAITS_MS.entries()) {
    const webhook = await webhookOf(id, (w) => w.attempts.length === i + 1)
    expect(webhook).toMatchObject({ status: 'pending', attempts: Array(i + 1).fill({ at: expect.any(String), status_code: 500, error: 'the receiver answered 500', duration_ms: expect.any(Number) }) })
    const last = webhook.attempts.at(-1)
    const waits = Date.parse(webhook.next_attempt_at) - Date.parse(last.at) - last.duration_ms
    expect(waits).toBeGreaterThanOrEqual(wait - 2)
    expect(waits).toBeLessThan(wait * 1.1 + 10_000)
    await comesDue(id, to)
  }
  expect(await webhookOf(id, (w) => w.status === 'failed')).toMatchObject({ attempts: { length: 10 }, next_attempt_at: null })
  to.state.answer = () => 204
  expect((await redeliver(id)).status).toBe(202)
  expect((await delivered(id)).attempts.map((a: any) => a.status_code)).toEqual([...Array(10).fill(500), 204])
  expect(new Set(to.came.map((c) => c.id)).size).toBe(1)
  expect(new Set(to.came.map((c) => c.text)).size).toBe(1)
  expect(to.came.every((c) => c.event !== null)).toBe(true)
})

test('410 turns the URL off, for other tasks too, until somebody asks again', async () => {
  const to = await receiver(() => 410)
  const { submit } = setting()
  const id = await cancelled(submit(`${to.url}/gone`))
  expect(await webhookOf(id, (w) => w.status !== 'pending')).toMatchObject({ status: 'disabled', next_attempt_at: null, attempts: [{ status_code: 410 }] })
  const next = await cancelled(submit(`${to.url}/gone`))
  const other = await cancelled(submit(`${to.url}/other`))
  expect(await webhookOf(next, (w) => w.status !== 'pending')).toMatchObject({ status: 'disabled', attempts: [] })
  await webhookOf(other, (w) => w.status === 'disabled')
  expect(to.came.map((c) => c.path)).toEqual(['/gone', '/other'])
  to.state.answer = () => 200
  expect((await redeliver(next)).json).toMatchObject({ task_id: next, webhook: { status: expect.stringMatching(/^(pending|delivered)$/) } }) // it may have been quick
  await delivered(next)
  await delivered(await cancelled(submit(`${to.url}/gone`)))
})

test('a receiver that has too much to do is left alone for as long as it asks', async () => {
  const to = await receiver((_, res) => void res.writeHead(429, { 'retry-after': '120' }).end())
  const { type, submit } = setting()
  const id = await cancelled(submit(to.url))
  const webhook = await webhookOf(id, (w) => w.attempts.length === 1)
  expect(Date.parse(webhook.next_attempt_at) - Date.parse(webhook.attempts[0].at)).toBeGreaterThanOrEqual(120_000)
  const next = await cancelled(submit(to.url))
  const another = await receiver()
  await delivered(await cancelled(submit(another.url)))
  expect((await system.task(next)).webhook).toMatchObject({ status: 'pending', attempts: [] })
  expect(to.came).toHaveLength(1)
  expect(Number(await system.redis.zscore(system.keys.webhookOrigins(type), to.url))).toBeGreaterThan(Date.now() + 60_000)
})

test('one that never answers keeps neither tasks waiting nor other receivers', async () => {
  const dead = await receiver(() => new Promise(() => {}))
  const good = await receiver()
  const { agent, submit, type } = setting()
  await agent()
  await Promise.all(Array.from({ length: 60 }, () => submit(dead.url)))
  await until(() => dead.came.length >= 8)
  const ids = await Promise.all(Array.from({ length: 20 }, () => submit(good.url)))
  for (const id of ids) await delivered(id)
  // It is given 15 s for each, eight at a time: had these waited for it, it would have got all of its own.
  expect(dead.came.length).toBeLessThan(30)
  expect(await system.redis.zcard(system.keys.webhookQueue(type, dead.url))).toBe(60)
  await dead.close()
})

test('asking again needs a task that is there, has a callback_url and has ended', async () => {
  const to = await receiver()
  const { submit } = setting()
  const id = await submit(to.url)
  expect(await system.task(id)).toMatchObject({ callback_url: to.url, webhook: null })
  expect((await redeliver(id)).json).toMatchObject({ status: 409, type: '/docs/errors#task-not-ended', task_status: 'queued' })
  const without = await cancelled(system.submit({ agent_type: 'hookless' }))
  expect(await system.task(without)).toMatchObject({ callback_url: null, webhook: null })
  for (const no of [without, without.replace(/.$/, 'x'), 'nothing', `${without.slice(0, -4)}0000`]) expect([no, (await redeliver(no)).status]).toEqual([no, 404])
  expect((await system.post(`/tasks/${id}/webhooks/redeliver`, { a: 1 })).status).toBe(422)
  await cancelled(Promise.resolve(id))
  await delivered(id)
  expect((await redeliver(id)).status).toBe(202)
  await until(() => to.came.length === 2)
  expect(to.came[1]!.id).toBe(to.came[0]!.id)
  // A retry of the task is told of to the same URL, as a webhook of its own.
  const again = await cancelled(system.post(`/tasks/${id}/retry`).then((r) => r.json.task_id))
  await delivered(again)
  expect(to.came.map((c) => c.event?.data.task_id)).toEqual([id, id, again])
})

test('a URL that cannot be, or may not be, is refused with the submit', async () => {
  for (const callback_url of ['nonsense', 'http://me:pw@127.0.0.1/', 'http://127.1/', null]) {
    expect((await system.post('/tasks', { agent_type: 'x', task_type: 'x', callback_url })).json).toMatchObject({ status: 422, errors: [{ pointer: '/callback_url', detail: expect.stringMatching(/^must /) }] })
  }
  for (const callback_url of ['http://169.254.169.254/latest', 'http://10.0.0.1/', 'http://93.184.216.34/']) {
    expect((await system.post('/tasks', { agent_type: 'x', task_type: 'x', callback_url })).json).toMatchObject({ status: 403, type: '/docs/errors#host-not-allowed' })
  }
})

test('what is too large leaves out what matters least, and says so', async () => {
  const to = await receiver()
  const { agent, submit } = setting()
  await agent(() => 'y'.repeat(600_000))
  const id = await submit(to.url, { parameters: { x: 'x'.repeat(600_000) }, metadata: { kept: true } })
  await delivered(id)
  expect(to.came[0]!.event).toMatchObject({ omitted: ['parameters'], data: { parameters: {}, metadata: { kept: true }, result: 'y'.repeat(600_000), attempts: [{ outcome: 'completed' }] } })
})

test.concurrent('outlives the record of its task, which is shown for as long', async () => {
  const to = await receiver(() => 500)
  const { type, submit } = setting()
  const id = await cancelled(submit(to.url, { parameters: { n: 7 } }))
  await webhookOf(id, (w) => w.attempts.length === 1)
  await system.redis.hset(system.keys.task(type, id), 'created', 1, 'ended', 1)
  await until(async () => (await system.redis.exists(system.keys.task(type, id))) === 0, { what: 'its trim' })
  expect(await system.task(id)).toMatchObject({ status: 'cancelled', parameters: { n: 7 }, webhook: { status: 'pending' } })
  expect((await system.get(`/tasks?agent_type=${type}`)).json.tasks).toEqual([])
  to.state.answer = () => 200
  await comesDue(id, to)
  await until(() => to.came.length === 2)
  expect(to.came[1]!.event?.data).toMatchObject({ task_id: id, parameters: { n: 7 } })
  await until(async () => (await system.get(`/tasks/${id}`)).status === 404)
})

test('are counted, and the log names hosts but neither paths nor secrets', async () => {
  const to = await receiver()
  const { submit, type } = setting()
  await delivered(await cancelled(submit(`${to.url}/private?token=t0ken`)))
  const metrics = (await system.get('/metrics')).text
  expect(metrics).toContain(`switchyard_webhooks_total{agent_type="${type}",status="delivered"} 1`)
  expect(metrics).toContain(`switchyard_webhook_attempts_total{agent_type="${type}",outcome="delivered"} 1`)
  const log = [...system.api, ...system.worker].map((p) => p.log.join('')).join('')
  expect(log).toContain(to.url)
  for (const secret of ['t0ken', '/private', SECRET.slice(6)]) expect(log).not.toContain(secret)
})

test.concurrent('nothing that dies loses one, and what was sent twice has the same id; the secret is made once', { timeout: 60_000 }, async () => {
  const tls = { cert: await readFile(fixture('receiver.crt'), 'utf8'), key: await readFile(fixture('receiver.key'), 'utf8') }
  const plain = await receiver(() => new Promise(() => {}))
  const secure = await startReceiver(undefined, tls)
  receivers.push(secure)
  const env = { WEBHOOK_CIDRS: '127.0.0.0/8', NODE_EXTRA_CA_CERTS: fixture('receiver.crt') }
  await using own = await startSystem({ workers: 0, env })
  const { submit } = setting(() => own)
  const id = await cancelled(submit(plain.url), own)
  const tlsId = await cancelled(submit(`https://localhost:${secure.port}/x`), own)
  // Nobody was there when they ended.
  expect((await own.task(id)).webhook).toMatchObject({ status: 'pending', attempts: [] })
  const worker = await own.addWorker()
  await delivered(tlsId, own)
  const secret = (await own.redis.get(own.keys.webhookSecret))!
  expect(verifyWebhook(secret, secure.came[0]!.headers, secure.came[0]!.text).data.task_id).toBe(tlsId)
  // Killed between the POST and its outcome.
  await until(() => plain.came.length === 1)
  await worker.kill('SIGKILL')
  plain.state.answer = () => 200
  await own.addWorker()
  await comesDue(id, plain, own)
  expect((await delivered(id, own)).attempts).toEqual([
    { at: expect.any(String), status_code: null, error: 'nobody said what came of it; it may have arrived', duration_ms: null },
    { at: expect.any(String), status_code: 200, error: null, duration_ms: expect.any(Number) },
  ])
  expect(plain.came).toHaveLength(2)
  expect(plain.came[1]!.id).toBe(plain.came[0]!.id)
  for (const { headers, text } of plain.came) expect(verifyWebhook(secret, headers, text).data.task_id).toBe(id)
  expect(await own.redis.get(own.keys.webhookSecret)).toBe(secret)
})

describe('the outbox', () => {
  /** No process of ours takes anything here. */
  const outbox = async (maxKept = 1000) => {
    const own = await startSystem({ apis: 0, workers: 0 })
    const core = await startCore(own, ALLOWED)
    const webhooks = createWebhooks({ ...core, log: createLogger('test', 'silent'), maxBytes: 1e9, maxKept })
    const end = async (url: string): Promise<string> => {
      const { task_id } = await core.tasks.submit({ task_type: 'x', agent_type: 'box', callback_url: url, priority: 5, timeout_seconds: 1, max_retries: 0, retry_delay_seconds: 0, backoff: 'fixed', expires_in_seconds: 60 }, 'box', { parameters: '{}', metadata: '{}' })
      await core.tasks.cancel(task_id)
      return task_id
    }
    const overdue = async (id: string, origin: string) => {
      await own.redis.zadd(own.keys.webhookQueue('box', origin), 1, id)
      await own.redis.zadd(own.keys.webhookOrigins('box'), 1, origin)
    }
    const claim = async (token: string, room = { total: 9, each: 9, origins: [] as [string, number][] }) => webhooks.claim('box', token, room)
    return { own, webhooks, end, overdue, claim, [Symbol.asyncDispose]: async () => { await core[Symbol.asyncDispose](); await own[Symbol.asyncDispose]() } }
  }
  const good = { what: 'delivered', statusCode: 200, error: '', durationMs: 1, notBeforeMs: 0, restMs: 0 } as const

  test('gives a webhook to one sender at a time; what a slower one says counts no more', async () => {
    await using box = await outbox()
    const id = await box.end('https://a.example/1')
    const [first, second] = await Promise.all([box.claim('t1'), box.claim('t2')])
    expect(first.claimed.length + second.claimed.length).toBe(1)
    const old = [...first.claimed, ...second.claimed][0]!
    await box.overdue(id, 'https://a.example')
    const { claimed: [now] } = await box.claim('t3')
    expect(now).toMatchObject({ taskId: id, url: 'https://a.example/1', token: 't3' })
    expect(await box.webhooks.settle(old, good)).toBeNull()
    expect((await box.webhooks.read('box', id))!.status).toBe('pending')
    expect(await box.webhooks.settle(now!, good)).toEqual({ status: 'delivered', nextInMs: null })
    expect(await box.webhooks.settle(now!, good)).toBeNull()
    expect((await box.claim('t4')).claimed).toEqual([])
    expect(await box.own.redis.exists(box.own.keys.webhookQueue('box', 'https://a.example'), box.own.keys.webhookOrigins('box'))).toBe(0)
  })

  test('a sender that stops hands back what has no answer yet, at no cost to it', async () => {
    await using box = await outbox()
    const to = await receiver(() => new Promise(() => {}))
    const id = await box.end(to.url)
    const deliverer = () => createWebhookDeliverer({ webhooks: box.webhooks, sender: createWebhookSender({ policy: createCallbackPolicy({ cidrs: ['127.0.0.0/8'] }), system: false }), keys: async () => [readSecret(SECRET)!], places: createPlaces(4), log: createLogger('test', 'silent'), stopMs: 100 })
    const first = deliverer()
    first.look('box')
    await until(() => to.came.length === 1)
    await first.stop()
    expect(await box.webhooks.read('box', id)).toMatchObject({ status: 'pending', attempts: [] })
    to.state.answer = () => 200
    const second = deliverer()
    second.look('box')
    await until(async () => (await box.webhooks.read('box', id))?.status === 'delivered')
    await second.stop()
    expect(to.came.map((c) => c.id)).toEqual([to.came[0]!.id, to.came[0]!.id])
  })

  test('one whose senders die again and again is given up', async () => {
    await using box = await outbox()
    const id = await box.end('https://a.example/1')
    for (let i = 0; i < 6; i++) {
      expect((await box.claim(`t${i}`)).claimed).toHaveLength(1)
      await box.overdue(id, 'https://a.example')
    }
    expect((await box.claim('t')).claimed).toEqual([])
    expect(await box.webhooks.read('box', id)).toMatchObject({ status: 'failed', attempts: { length: 6 } })
  })

  test('is shared fairly among origins, and holds so many: of more those go first that have ended, then the oldest', async () => {
    await using box = await outbox(3)
    const a = [await box.end('https://a.example/1'), await box.end('https://a.example/2'), await box.end('https://a.example/3')]
    const b = await box.end('https://b.example/1')
    const { claimed, more } = await box.claim('t', { total: 3, each: 2, origins: [] })
    expect([claimed.map((c) => c.taskId).sort(), more]).toEqual([[a[0], a[1], b].sort(), true])
    expect((await box.claim('u', { total: 3, each: 2, origins: [['https://a.example', 0]] })).claimed).toEqual([])
    await box.webhooks.settle(claimed.find((c) => c.taskId === b)!, good)
    await box.webhooks.trim('box')
    const left = async () => (await Promise.all([...a, b].map(async (id) => ((await box.webhooks.read('box', id)) ? 1 : 0)))).join('')
    expect(await left()).toBe('1110')
    const c = await box.end('https://c.example/1')
    await box.webhooks.trim('box')
    expect([await left(), (await box.webhooks.read('box', c))!.status]).toEqual(['0110', 'pending'])
    expect(await box.own.redis.zrange(box.own.keys.webhookQueue('box', 'https://a.example'), '0', '-1').then((ids) => ids.sort())).toEqual([a[1], a[2]])
    expect(await box.own.redis.hget(box.own.keys.stats('box'), 'webhooks:dropped')).toBe('1')
    // Its late sender has nothing to say any more.
    expect(await box.webhooks.settle(claimed.find((x) => x.taskId === a[0])!, good)).toBeNull()
  })
})
