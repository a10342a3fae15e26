/** Idempotency-Key: a submit that is repeated, by whomever and whatever died in between, is one task, and gets one answer. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canonicalJson } from '../src/contracts/canonical.ts'
import type { Tasks } from '../src/tasks/tasks.ts'
import { newTaskSchema } from '../src/contracts/task.ts'
import { idempotencyOf } from '../src/contracts/idempotency.ts'
import { startCore, tasksAdding } from './core.ts'
import { call, startSystem, until, type Answer, type System } from './system.ts'

let system: System
beforeAll(async () => {
  system = await startSystem({ apis: 2 })
})
afterAll(() => system[Symbol.asyncDispose]())

let types = 0
/** An agent type of the test's own, with nobody of it alive. */
const setting = () => {
  const type = `idem${++types}`
  return {
    type,
    body: (more: object = {}) => ({ agent_type: type, task_type: 'echo', ...more }),
    ids: () => system.redis.zrange(system.keys.tasks(type, 'queued'), '0', '-1'),
  }
}
const submit = (body: object | string, key: string, query = '', headers: Record<string, string> = {}): Promise<Answer> => system.post(`/tasks${query}`, body, { 'idempotency-key': key, ...headers })
const keysOf = (type: string) => system.redis.keys(system.keys.idempotency(type, '*').replace(/[{}]/g, '?'))

describe('one key', () => {
  test('is one task, sent a hundred times at once to two APIs: every answer is the first, byte for byte', async () => {
    const { body, ids, type } = setting()
    const answers = await Promise.all(Array.from({ length: 100 }, () => submit(body({ parameters: { a: 1 } }), 'k')))
    expect(new Set(answers.map((a) => a.status))).toEqual(new Set([201]))
    expect(new Set(answers.map((a) => a.text)).size).toBe(1)
    expect(new Set(answers.map((a) => a.headers.get('location')))).toEqual(new Set([answers[0]!.json.status_url]))
    expect(answers.filter((a) => a.headers.get('idempotent-replayed') !== 'true')).toHaveLength(1)
    expect(await ids()).toEqual([answers[0]!.json.task_id])
    // The others have added no job.
    expect(await system.redis.zrange(`${system.keys.base(type)}${type}.echo:prioritized`, '0', '-1')).toEqual([answers[0]!.json.task_id])
    const a = await system.agent({ type })
    await system.ended(answers[0]!.json.task_id)
    expect(a.runs).toHaveLength(1)
  })

  test('answers the same when its task has ended, and when it is forgotten', async () => {
    const { type, body } = setting()
    const agent = await system.agent({ type })
    const first = await submit(body({ metadata: { m: 1 } }), 'k')
    const { task_id: id } = first.json
    await system.ended(id)
    const same = async () => {
      const again = await submit(body({ metadata: { m: 1 } }), 'k')
      expect([again.status, again.text, again.headers.get('location'), again.headers.get('idempotent-replayed')]).toEqual([201, first.text, first.headers.get('location'), 'true'])
    }
    await same()
    await system.redis.del(system.keys.task(type, id))
    await same()
    expect(first.headers.get('idempotent-replayed')).toBeNull()
    expect(agent.runs).toHaveLength(1)
  })

  test('may be a quoted string; agent types and other keys have tasks of their own', async () => {
    const { body } = setting()
    const other = setting()
    const first = await submit(body(), 'a"b\\c')
    expect((await submit(body(), '"a\\"b\\\\c"')).text).toBe(first.text)
    const answers = [await submit(body(), '"a"'), await submit(body(), 'A'), await submit(body(), 'x'.repeat(255)), await submit(other.body(), 'a')]
    expect(answers.map((a) => [a.status, a.headers.get('idempotent-replayed')])).toEqual(answers.map(() => [201, null]))
    expect(new Set([first, ...answers].map((a) => a.json.task_id)).size).toBe(5)
  })

  test.each(['', 'a b', 'x'.repeat(256), 'ü', '"open', '"a"b"', '"', '""', `"${'x'.repeat(256)}"`, 'a, a'])('that is %j is refused, and stores nothing', async (key) => {
    const { body, ids } = setting()
    const answer = await submit(body(), key)
    expect([answer.status, answer.json.type, answer.json.detail]).toEqual([400, '/docs/errors#malformed-request', 'the header Idempotency-Key must be 1 to 255 visible ASCII characters, plain or as a quoted string'])
    expect(await ids()).toEqual([])
  })

  test('is kept for a day of Redis’s time, or shorter if that is asked for, and says little of what it was', async () => {
    const { type, body, ids } = setting()
    await submit(body(), 'secret-of-mine')
    const [key] = await keysOf(type)
    expect(key).not.toContain('secret')
    const left = await system.redis.pttl(key!)
    expect(left).toBeGreaterThan(86_400_000 - 30_000)
    expect(left).toBeLessThanOrEqual(86_400_000)
    await system.redis.del(key!)
    await submit(body(), 'short', '', { 'idempotency-key-seconds': '1' })
    await until(async () => (await keysOf(type)).length === 0)
    expect((await submit(body(), 'short')).headers.get('idempotent-replayed')).toBeNull()
    expect(await ids()).toHaveLength(3)
    for (const seconds of ['0', '86401', '1.5', '', 'x']) expect((await submit(body(), 'n', '', { 'idempotency-key-seconds': seconds })).status).toBe(400)
  })

  test('of a pinned task is that of its agent’s type, whether the type is named or not', async () => {
    const { type } = setting()
    const agent = await system.agent({ type })
    const first = await submit({ agent_id: agent.id, task_type: 'echo' }, 'k')
    expect(first.json.agent_id).toBe(agent.id)
    expect((await submit({ agent_id: agent.id, task_type: 'echo' }, 'k')).text).toBe(first.text)
    expect((await submit({ agent_type: type, task_type: 'echo' }, 'k')).status).toBe(422)
    expect(await keysOf(type)).toHaveLength(1)
  })
})

describe('under one key', () => {
  const SAME = [
    '{"agent_type":"T","task_type":"echo","parameters":{"a":[1,100,0.5,9007199254740993],"é":"\\u00e9\\n"},"priority":5}',
    ' {"priority": 5.0, "parameters" :{"\\u00e9":"é\\u000a","a":[ 1e0,1E+2,5e-1,9007199254740993 ]},\n"task_type":"e\\u0063ho","agent_type":"T"} ',
    '{"agent_type":"T","priority":50e-1,"task_type":"x","task_type":"echo","parameters":{"a":[1.0,10e1,0.50,9007199254740993.0],"é":"é\\n"}}',
  ]
  const OTHER = [
    SAME[0]!.replace('9007199254740993', '9007199254740992'),
    SAME[0]!.replace('[1,100', '[100,1'),
    SAME[0]!.replace('0.5', '"0.5"'),
    SAME[0]!.replace('"priority":5', '"priority":6'),
    SAME[0]!.replace(',"priority":5', ''),
    SAME[0]!.replace('"é"', '"e"'),
  ]
  test('a body that only looks different is the same; another one is refused and changes nothing', async () => {
    const { type, ids } = setting()
    const of = (text: string) => text.replace('"T"', `"${type}"`)
    const first = await submit(of(SAME[0]!), 'k')
    expect(first.status).toBe(201)
    for (const text of SAME) expect((await submit(of(text), 'k')).text).toBe(first.text)
    for (const text of OTHER) {
      const answer = await submit(of(text), 'k')
      expect([answer.status, answer.json.type, answer.json.task_id], text).toEqual([422, '/docs/errors#idempotency-key-reused', first.json.task_id])
    }
    expect(await ids()).toEqual([first.json.task_id])
    expect((await submit(of(SAME[1]!), 'k')).text).toBe(first.text)
  })

  test('require_agent belongs to the request; and what was refused is not remembered', async () => {
    const { type, body } = setting()
    expect((await submit(body({ priority: 99 }), 'k')).status).toBe(422)
    expect((await submit(body(), 'k', '?require_agent=true')).json.type).toBe('/docs/errors#no-agent')
    expect(await keysOf(type)).toEqual([])
    const agent = await system.agent({ type, handle: () => new Promise(() => {}) })
    const first = await submit(body(), 'k', '?require_agent=true')
    expect(first.status).toBe(201)
    expect((await submit(body(), 'k')).json.type).toBe('/docs/errors#idempotency-key-reused')
    await agent.close()
    await system.call('DELETE', `/agents/${agent.id}`)
    // No agent now: but it was taken.
    expect((await submit(body(), 'k', '?require_agent=true')).text).toBe(first.text)
    expect((await system.get(`/tasks?agent_type=${type}`)).json.tasks.map((t: any) => t.task_id)).toEqual([first.json.task_id])
  })
})

test('numbers are compared by their digits, and no text takes long', () => {
  const same = [['0', '-0', '0.000', '0e9', '-0.0E-7'], ['1200', '1.2e3', '12E2', '0.12e+4', '1200.00'], ['-0.001', '-1e-3', '-0.1e-2'], ['1e400', '10e399'], ['"a/"', '"\\u0061\\/"'], ['{"a":1,"b":{}}', ' { "b" : { } ,"\\u0061":1.0}'], ['{"a":2}', '{"a":1,"a":2}'], ['[]', ' [ ] ']]
  for (const texts of same) expect(new Set(texts.map((text) => canonicalJson(text))).size, texts.join(' ')).toBe(1)
  const all = [...same.map(([text]) => text!), '1', '-1', '10', '0.1', '1e401', '"1e0"', 'true', '"true"', 'null', '[1]', '[[1]]', '"[1]"', '{"a":{}}', '{"a":[]}', '9007199254740993', '9007199254740992', '0.1000000000000000055511151231257827', '"\\ud800"', '"\\ud801"', '{"a,b":1}', '{"a":1,"b":1}']
  expect(new Set(all.map((text) => canonicalJson(text))).size).toBe(all.length)
  const began = performance.now()
  for (const text of [`0.${'0'.repeat(200_000)}1${'0'.repeat(200_000)}1`, `1e${'9'.repeat(200_000)}`, `"${'\\\\'.repeat(200_000)}"`, `[${'1,'.repeat(50_000)}1]`]) canonicalJson(text)
  expect(performance.now() - began).toBeLessThan(10_000)
})

test('an API that is killed at work leaves one task for each key, whatever its clients had to send again', { timeout: 120_000 }, async () => {
  await using own = await startSystem({ apis: 3 })
  const agent = await own.agent({ maxConcurrency: 50 })
  const KEYS = 200
  let [next, done, sentAgain] = [0, 0, 0]
  const answers = new Map<number, Set<string>>()
  const client = async () => {
    for (let n = next++; n < KEYS; n = next++) {
      for (;;) {
        const answer = await call('POST', `${own.api[0]!.url}/tasks`, { agent_type: 'test', task_type: 'echo', parameters: { n } }, { 'idempotency-key': `key-${n}` }).catch(() => null)
        if (answer?.status === 201) {
          answers.set(n, (answers.get(n) ?? new Set()).add(answer.json.task_id))
          done++
          break
        }
        sentAgain++
      }
    }
  }
  const clients = Promise.all(Array.from({ length: 20 }, client))
  for (const at of [50, 120]) {
    await until(() => done >= at, { timeoutMs: 60_000, everyMs: 1 })
    await own.api.shift()!.kill('SIGKILL') // who comes now goes to the next one
  }
  await clients
  expect(sentAgain).toBeGreaterThan(0)
  expect([...answers.values()].every((ids) => ids.size === 1)).toBe(true)
  const ids = [...answers.values()].flatMap((ids) => [...ids])
  const list = () => Promise.all(['queued', 'completed'].map((status) => own.redis.zrange(own.keys.tasks('test', status), '0', '-1')))
  await until(async () => (await list())[1]!.length >= KEYS, { timeoutMs: 60_000, what: 'the end of all' })
  expect((await list()).flat().sort()).toEqual(ids.sort())
  expect(agent.runs.map((run) => run.parameters.n).sort((a, b) => a - b)).toEqual(Array.from({ length: KEYS }, (_, n) => n))
})

describe('a submit that breaks off', () => {
  // Of one that is to wait, the job is added behind the record; of others it is one with it.
  const soon = { delay_seconds: 0.1 }
  const task = newTaskSchema(300).parse({ task_type: 'echo', agent_type: 'x', ...soon })
  /** As the API submits a body under a key, over parts of the test's own. */
  const take = (tasks: Pick<Tasks, 'submitOnce'>, type: string, key: string) => {
    const body = JSON.stringify({ agent_type: type, task_type: 'echo', ...soon })
    return tasks.submitOnce(task, type, { parameters: '{}', metadata: '{}', idempotency: idempotencyOf(key, body, false, 86_400) })
  }

  test('between its record and its job: a repeat is answered at once, and it runs once', async () => {
    const { type, body } = setting()
    const agent = await system.agent({ type })
    await using core = await startCore(system)
    // As if it had been killed there.
    void take(tasksAdding(core, () => new Promise(() => {})), type, 'k')
    const [id] = await until(async () => {
      const ids = await system.redis.zrange(system.keys.tasks(type, 'pending'), '0', '-1')
      return ids.length > 0 ? ids : null
    })
    const again = await submit(body(soon), 'k')
    expect([again.status, again.json.task_id, again.headers.get('idempotent-replayed')]).toEqual([201, id, 'true'])
    await system.redis.zadd(system.keys.timers(type), 0, id!) // as if its five seconds were over
    expect(await system.ended(id!, 30_000)).toMatchObject({ status: 'completed' })
    expect(agent.runs).toHaveLength(1)
  })

  test('as its job cannot be added, is taken: a repeat may have been told so', async () => {
    const { type, body } = setting()
    await using core = await startCore(system)
    const failing = tasksAdding(core, () => Promise.reject(new Error('Connection is closed.')))
    const first = await take(failing, type, 'k')
    expect(first.replayed).toBe(false)
    expect((await submit(body(soon), 'k')).json).toEqual(first.submitted)
    // Without a key the client is told no, and nothing stays.
    await expect(failing.submit(task, type, { parameters: '{}', metadata: '{}' })).rejects.toThrow('Connection is closed.')
    expect(await system.redis.zrange(system.keys.tasks(type, 'pending'), '0', '-1')).toEqual([first.submitted.task_id])
  })

  test('and reaches Redis twice, is one task, and is not taken for a repeat', async () => {
    const { type } = setting()
    await using core = await startCore(system)
    const id = `${type}.01a1fa13-5927-7017-a6a0-116602f009b8`
    const idempotency = idempotencyOf('k', '{}', false, 60)
    const once = () => core.tasks.submitOnce(task, type, { id, parameters: '{}', metadata: '{}', idempotency })
    const [first, second] = [await once(), await once()]
    expect([first.replayed, second.replayed]).toEqual([false, false])
    expect(second.submitted).toEqual(first.submitted)
    expect(await system.redis.zcard(`${system.keys.base(type)}${type}.echo:delayed`)).toBe(1)
  })
})
