/** POST /tasks/batch: many tasks in one request, each taken or refused by itself. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { itemsOf } from '../src/contracts/items.ts'
import { call, startSystem, until, type System } from './system.ts'

let system: System
beforeAll(async () => {
  system = await startSystem()
})
afterAll(() => system[Symbol.asyncDispose]())

let types = 0
const newType = () => `batch${++types}`
const batch = (tasks: unknown, query = '', headers: Record<string, string> = {}) => system.post(`/tasks/batch${query}`, typeof tasks === 'string' ? tasks : { tasks }, headers)
const stored = async (type: string) => (await system.get(`/tasks?agent_type=${type}&limit=200`)).json.tasks as any[]

describe('a batch', () => {
  test('takes what is good and refuses only what is not, each in its place and with the words it would get alone', async () => {
    const type = newType()
    const agent = await system.agent({ type })
    const bad = [
      { task_type: 'echo', agent_type: type, max_retries: -1, nonsense: 1 },
      5, null, [], 'x',
      { task_type: 'echo', agent_id: 'nobody' },
      { task_type: 'echo', agent_id: agent.id, agent_type: 'other' },
      { task_type: 'echo', agent_type: type, parameters: JSON.parse('['.repeat(40) + ']'.repeat(40)) },
    ]
    const good = (n: number) => ({ task_type: 'echo', agent_type: type, parameters: { n } })
    const sent = [good(0), ...bad.flatMap((one, i) => [one, good(i + 1)]), { task_type: 'x', agent_id: agent.id, parameters: { n: 99 } }]
    const { status, json } = await batch(sent)
    expect([status, json.accepted, json.refused, json.tasks.map((t: any) => t.index)]).toEqual([200, bad.length + 2, bad.length, sent.map((_, i) => i)])
    for (const [i, task] of sent.entries()) {
      const answer = json.tasks[i]
      if (bad.includes(task as never)) {
        if (typeof task !== 'object' || task === null || Array.isArray(task)) expect(answer.error).toMatchObject({ type: '/docs/errors#invalid-request', errors: [{ pointer: '', detail: 'must be an object' }] })
        else {
          const { instance: _, detail, error, ...alone } = (await system.post('/tasks', task)).json
          expect(answer).toEqual({ index: i, error: expect.objectContaining(alone.errors?.[0].pointer === '/parameters' || /deeper/.test(detail) ? { status: 422 } : { ...alone, detail, error }) })
        }
      } else {
        expect(answer).toEqual({ index: i, task_id: expect.stringMatching(`^${type}\\.`), status: 'queued', agent_id: (task as any).agent_id ?? null, created_at: expect.any(String), status_url: `/tasks/${answer.task_id}` })
        expect(await system.ended(answer.task_id)).toMatchObject({ status: 'completed', parameters: (task as any).parameters })
      }
    }
    expect(agent.runs).toHaveLength(bad.length + 2)
    expect(await stored(type)).toHaveLength(bad.length + 2)
  })

  test('of several agent types, priorities and times goes as its tasks would one by one; payloads keep their bytes', async () => {
    const [a, b] = [newType(), newType()]
    const text = (type: string, parameters: string, more = '') => `{"task_type":"echo","parameters":${parameters},"agent_type":"${type}"${more}}`
    const exact = '{ "big": 18446744073709551616, "z":1.0, "a":"\\u00e9 ß" }'
    const answer = await batch(` {"tasks" :\n[ ${[text(a, '{"n":1}'), text(b, exact, ',"metadata": {"m" : 1e2}'), text(a, '{"n":2}', ',"priority":"high"'), text(a, '{"n":3}'), text(a, '{"n":4}', ',"delay_seconds":0.2')].join(' ,\r\n')} ] }\t`)
    expect(answer.json).toMatchObject({ accepted: 5, refused: 0 })
    expect(answer.json.tasks.map((t: any) => t.status)).toEqual(['queued', 'queued', 'queued', 'queued', 'pending'])
    const agents = [await system.agent({ type: a, maxConcurrency: 1 }), await system.agent({ type: b })]
    for (const { task_id } of answer.json.tasks) await system.ended(task_id)
    expect(agents[0]!.runs.map((run) => run.parameters.n)).toEqual([2, 1, 3, 4])
    expect(agents[1]!.runs[0]!.body).toContain(`"parameters":${exact}`)
    expect((await system.get(answer.json.tasks[1].status_url)).text).toContain('"metadata":{"m" : 1e2}')
  })

  test('may have 1,000 tasks and 10 MiB; no more, and then nothing is stored', async () => {
    const type = newType()
    const task = (bytes: number) => ({ task_type: 'echo', agent_type: type, parameters: { x: 'x'.repeat(bytes) } })
    const { json } = await batch(Array.from({ length: 1000 }, () => task(10)))
    expect([json.accepted, json.refused, new Set(json.tasks.map((t: any) => t.task_id)).size]).toEqual([1000, 0, 1000])
    // In order: by their ids, and in their queue.
    const ids = json.tasks.map((t: any) => t.task_id)
    expect(await system.redis.zrange(system.keys.tasks(type, 'queued'), '0', '-1')).toEqual(ids)
    expect(await system.redis.zrange(`${system.keys.base(type)}${type}.echo:prioritized`, '0', '-1')).toEqual(ids)
    const other = newType()
    expect((await batch(Array.from({ length: 1001 }, () => ({ ...task(1), agent_type: other })))).json.errors).toEqual([{ pointer: '/tasks', detail: 'must be a list of at most 1000 tasks' }])
    const large = await batch([...Array.from({ length: 9 }, () => task(1_000_000)), task(1_100_000)])
    expect([large.json.accepted, large.json.tasks[9].error.type]).toEqual([9, '/docs/errors#payload-too-large'])
    const over = await batch(Array.from({ length: 11 }, () => task(1_000_000)))
    expect([over.status, over.json.detail]).toEqual([413, 'the body is larger than 10 MiB'])
    expect(await stored(other)).toEqual([])
    expect((await batch([])).json).toEqual({ accepted: 0, refused: 0, tasks: [] })
  })

  test('that is no JSON, or of another form, is refused as a whole, also when its last task is at fault', async () => {
    const type = newType()
    const good = `{"task_type":"echo","agent_type":"${type}"}`
    const many = Array.from({ length: 200 }, () => good).join(',')
    for (const text of [`{"tasks":[${many},{"a":]}`, `{"tasks":[${many},]}`, `{"tasks":[${many}}`, `{"tasks":[${many}]`, `{"tasks":[${many}]}}`, `{"tasks":[${many} ${good}]}`, `{"tasks":[${many},\u0001${good}]}`, `{"tasks":[${many},{"x":tru}]}`, `{"tasks":[${many},"\n"]}`, `["tasks"]`, '5', '{"tasks"']) {
      const answer = await batch(text)
      expect([answer.status, answer.json.type], text.slice(-40)).toEqual([400, '/docs/errors#invalid-json'])
    }
    const cut = await batch(`{"tasks":[${JSON.stringify({ x: 'x'.repeat(600_000) })},${JSON.stringify({ x: 'x'.repeat(600_000) })}`)
    expect([cut.status, cut.json.detail]).toEqual([400, 'the body must be {"tasks": [...]}, and is not, or it is not JSON'])
    const wrong: [string, object][] = [
      ['{}', [{ pointer: '/tasks', detail: 'is required' }]],
      ['{"tasks":{}}', [{ pointer: '/tasks', detail: 'must be a list of at most 1000 tasks' }]],
      [`{"tasks":[${good}],"require_agent":true}`, [{ pointer: '/require_agent', detail: 'is not known here' }]],
    ]
    for (const [text, errors] of wrong) expect((await batch(text)).json.errors).toEqual(errors)
    expect((await batch([], '?x=1')).status).toBe(422)
    expect((await call('GET', `${system.url()}/tasks/batch`)).headers.get('allow')).toBe('POST, OPTIONS')
    expect(await stored(type)).toEqual([])
    // The same said in another way is the same.
    expect((await batch(`{"\\u0074asks":[${good}]}`)).json.accepted).toBe(1)
    expect((await batch(`{"tasks":[1,2],"tasks":[${good},${good}]}`)).json.accepted).toBe(2)
  })

  test('with require_agent takes those for which somebody is there', async () => {
    const [there, nobody] = [newType(), newType()]
    await system.agent({ type: there })
    const { json } = await batch([there, nobody, there].map((agent_type) => ({ agent_type, task_type: 'echo' })), '?require_agent=true')
    expect(json.tasks.map((t: any) => t.error?.type ?? t.status)).toEqual(['queued', '/docs/errors#no-agent', 'queued'])
    expect(await system.redis.zscore(system.keys.types, nobody)).toBeNull()
  })
})

describe('keys of tasks in a batch', () => {
  test('are those of tasks alone: sent again, in whatever company, a task is the same', async () => {
    const type = newType()
    const task = (n: number, key?: string) => ({ agent_type: type, task_type: 'echo', parameters: { n }, ...(key === undefined ? {} : { idempotency_key: key }) })
    const first = (await batch([task(1, 'one'), task(2), task(3, 'three'), task(1, 'one'), task(4, 'three')])).json
    expect(first.tasks.map((t: any) => t.error?.type ?? t.replayed ?? null)).toEqual([null, null, null, true, '/docs/errors#idempotency-key-reused'])
    expect(first.tasks[3]).toEqual({ ...first.tasks[0], index: 3, replayed: true })
    const alone = await system.post('/tasks', task(3), { 'idempotency-key': 'three' })
    expect([alone.status, alone.headers.get('idempotent-replayed'), alone.json.task_id]).toEqual([201, 'true', first.tasks[2].task_id])
    const again = (await batch([task(3, 'three'), task(1, 'one')])).json
    expect(again.tasks.map((t: any) => t.task_id)).toEqual([first.tasks[2].task_id, first.tasks[0].task_id])
    expect(await stored(type)).toHaveLength(3)
    for (const key of ['', 'a b', 'x'.repeat(256), 5]) expect((await batch([{ ...task(1), idempotency_key: key }])).json.tasks[0].error.errors).toEqual([{ pointer: '/idempotency_key', detail: 'must be 1 to 255 visible ASCII characters' }])
    const header = await batch([task(1)], '', { 'idempotency-key': 'k' })
    expect([header.status, header.json.detail]).toEqual([400, 'a batch takes no Idempotency-Key: give each of its tasks a member idempotency_key'])
    await batch([task(9, 'short')], '', { 'idempotency-key-seconds': '1' })
    await until(async () => (await batch([task(9, 'short')], '', { 'idempotency-key-seconds': '1' })).json.tasks[0].replayed === undefined)
  })
})

describe('jobs of a batch', () => {
  test('that were lost are added by the sweeper', async () => {
    const type = newType()
    const agent = await system.agent({ type })
    const ids = (await batch(Array.from({ length: 20 }, (_, n) => ({ agent_type: `${type}x`, task_type: 'echo', parameters: { n } })))).json.tasks.map((t: any) => t.task_id)
    const queue = `${system.keys.base(`${type}x`)}${type}x.echo`
    await system.redis.del(`${queue}:prioritized`, ...ids.map((id: string) => `${queue}:${id}`))
    await system.redis.zadd(system.keys.timers(`${type}x`), ...ids.flatMap((id: string) => [0, id]))
    const other = await system.agent({ type: `${type}x` })
    for (const id of ids) expect(await system.ended(id)).toMatchObject({ status: 'completed' })
    expect([other.runs.length, agent.runs.length]).toEqual([20, 0])
  })
})

test('a body is taken apart only where that is sure', () => {
  const parts = (text: string) => {
    const items = itemsOf(text, 'tasks')
    const found: string[] = []
    for (let next = items.next(); ; next = items.next()) {
      if (next.done) return [next.value, ...found]
      found.push(next.value)
    }
  }
  expect(parts(' { "tasks" : [ {"a":[1,"]}"]} , 2 ,"x,\\"" ] } ')).toEqual([true, '{"a":[1,"]}"]}', '2', '"x,\\""'])
  expect(parts('{"tasks":[]}')).toEqual([true])
  for (const text of ['', '{', '[]', '{"tasks":[}', '{"tasks":[1 2]}', '{"tasks":[1,]}', '{"tasks":[,1]}', '{"tasks":[1]}x', '{"tasks":[1],"b":1}', '{"other":[1]}', '{"tasks":{}}', '{"tasks":["a', '{"tasks":[[', '\ufeff{"tasks":[]}']) expect(parts(text)[0], text).toBe(false)
})
