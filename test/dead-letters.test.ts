/** Dead letters: listed, summed up, and retried each once, whatever happens in between; over the API and the command line. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { kindOf } from '../src/tasks/dead-letters.ts'
import { startCore } from './core.ts'
import { becomesQuiet } from './quiet.ts'
import { startSystem, until, type Handler, type System } from './system.ts'

let system: System
beforeAll(async () => {
  system = await startSystem({ env: { SICK_AGENT_FAILURES: '0' } }) // all of these fail at the only agent there is
})
afterAll(() => system[Symbol.asyncDispose]())

let types = 0
/** An agent type of the test's own, whose agent does as the parameters say until it is healed. */
const setting = async () => {
  const type = `dead${++types}`
  let well = false
  const handle: Handler = (task, { res }) => {
    if (!well && task.parameters.error) throw new Error(task.parameters.error)
    if (!well && task.parameters.hang) return undefined
    if (task.parameters.bad) return void res.writeHead(422, { 'content-type': 'application/json' }).end('{"error":"Bad input"}')
    return 'ok'
  }
  const agent = await system.agent({ type, capabilities: ['echo', 'other'], maxConcurrency: 50, handle })
  return {
    type,
    agent,
    heal: () => (well = true),
    /** Ended tasks, in the order of their submission. */
    ended: async (tasks: Record<string, unknown>[]): Promise<string[]> => {
      const ids: string[] = []
      for (const task of tasks) ids.push(await system.submit({ agent_type: type, max_retries: 0, ...task }))
      await Promise.all(ids.map((id) => system.ended(id)))
      return ids
    },
    letters: async (query = ''): Promise<any> => (await system.get(`/dead-letters?agent_type=${type}${query}`)).json,
    retry: async (body: object = {}): Promise<any> => (await system.post('/dead-letters/retry', { agent_type: type, ...body })).json,
  }
}
const fails = (error: string, more: object = {}) => ({ parameters: { error }, ...more })
const idsOf = (page: any): string[] => page.tasks.map((t: any) => t.task_id)
const pages = async (query: string): Promise<string[]> => {
  const ids: string[] = []
  for (let cursor = ''; ; ) {
    const { json } = await system.get(`/dead-letters?${query}${cursor}`)
    expect(json.count).toBe(json.tasks.length)
    ids.push(...idsOf(json))
    if (json.next_cursor === null) return ids
    cursor = `&cursor=${json.next_cursor}`
  }
}

test.concurrent('those that failed or timed out are listed, newest first, by what they are and what went wrong', async () => {
  const { ended, letters, type } = await setting()
  const [, full, other, bad, late] = await ended([{ parameters: {} }, fails('Disk 17 is FULL'), fails('no such user: 4711', { task_type: 'other' }), { parameters: { bad: true } }, { parameters: { hang: true }, timeout_seconds: 0.05 }])
  const cancelled = await system.submit({ agent_type: type, delay_seconds: 100 })
  await system.call('DELETE', `/tasks/${cancelled}`)
  expect(idsOf(await letters())).toEqual([late, bad, other, full])
  expect((await letters()).tasks[3]).toMatchObject({ task_id: full, status: 'failed', error: 'Disk 17 is FULL', attempts: [{ outcome: 'failed' }], retried_as: null })
  expect(idsOf(await letters('&task_type=other'))).toEqual([other])
  expect(idsOf(await letters('&error=is%20full'))).toEqual([full])
  expect(idsOf(await letters('&error=NO%20SUCH'))).toEqual([other])
  expect(idsOf(await letters('&error=.*'))).toEqual([])
  expect(idsOf(await letters('&limit=3'))).toEqual([late, bad, other])
  expect(await pages(`agent_type=${type}&limit=2`)).toEqual([late, bad, other, full])
  expect(await pages(`agent_type=${type}&limit=1&error=u`)).toEqual([bad, other, full])
})

test.concurrent('over several types they come in one order', async () => {
  const settings = [await setting(), await setting(), await setting()]
  const ids: string[] = []
  for (let i = 0; i < 12; i++) ids.push(...(await settings[[0, 1, 0, 2][i % 4]!]!.ended([fails('the one of this test')])))
  expect(await pages('error=one%20of%20this&limit=5')).toEqual(ids.toReversed())
  expect(await pages('error=one%20of%20this&limit=200')).toEqual(ids.toReversed())
})

test.concurrent('come in one order also where many of one type do not match', async () => {
  const [many, few] = [`dead${++types}`, `dead${++types}`]
  const made = async (type: string, n: number, error: string): Promise<string> => {
    const id = `${type}.0198f0aa-${String(n).padStart(4, '0')}-7000-8000-000000000000`
    const now = Date.now()
    await system.redis.hset(system.keys.task(type, id), { status: 'failed', spec: ['1000', '0', '0', 'fixed', '5', '', 'echo', `${type}.echo`].join('\t'), error, parameters: '{}', metadata: '{}', created: now, not_before: now, expires: now, ended: now })
    await system.redis.zadd(system.keys.tasks(type, 'failed'), 0, id)
    return id
  }
  for (const type of [many, few]) await system.redis.zadd(system.keys.types, Date.now(), type)
  await Promise.all(Array.from({ length: 520 }, (_, i) => made(many, 1000 + i, 'another')))
  const ids: string[] = []
  for (let n = 0; n < 6; n++) ids.unshift(await made(n < 3 ? few : many, n, 'rare indeed'))
  expect(await pages('error=rare%20indeed&limit=2')).toEqual(ids)
  expect(await pages('error=rare%20indeed&limit=4')).toEqual(ids)
})

test.concurrent('are counted by type and kind of error', async () => {
  const { ended, type } = await setting()
  await ended([fails('user 12 not found'), fails('user 3456 not found'), fails('user 7 not found', { task_type: 'other' }), fails('no'), fails('user 9 not found')])
  const { json } = await system.get(`/dead-letters/summary?agent_type=${type}`)
  expect(json).toMatchObject({ count: 5, complete: true, groups: [{ agent_type: type, task_type: 'echo', error: 'user # not found', count: 3 }, { count: 1 }, { count: 1 }] })
  expect(json.groups[0].newest_task_id).toBe(idsOf((await system.get(`/dead-letters?agent_type=${type}&task_type=echo&limit=1`)).json)[0])
  expect((await system.get(`/dead-letters/summary?agent_type=${type}&error=no&task_type=other`)).json).toMatchObject({ count: 1, groups: [{ error: 'user # not found' }] })
  expect(kindOf('task cost.0198f0aa-1b2c-7d3e-8f40-abcdefabcdef\n failed at 10.0.0.1:8001 (trace deadbeef01): 3 of 12 defaced')).toBe('task cost.# failed at # (trace #): # of # defaced')
})

test.concurrent('are retried, all that match, each once, and then are none any more', async () => {
  const { ended, letters, retry, heal, agent } = await setting()
  const [a, b, c] = await ended([fails('disk full'), fails('disk full', { parameters: { error: 'disk full', n: 18 }, priority: 9, metadata: { who: 'me' } }), fails('other')])
  expect(await retry({ error: 'nothing like this' })).toEqual({ retried: 0, skipped: 0, task_ids: [], more: false, next_cursor: null, error: null })
  heal()
  const done = await retry({ error: 'DISK' })
  expect(done).toMatchObject({ retried: 2, skipped: 0, more: false, next_cursor: null, error: null })
  const again = await Promise.all(done.task_ids.map((id: string) => system.ended(id)))
  expect(again).toMatchObject([{ status: 'completed', retry_of: a, priority: 5 }, { status: 'completed', retry_of: b, priority: 9, metadata: { who: 'me' } }])
  expect(idsOf(await letters())).toEqual([c])
  expect((await letters('&include_retried=true')).tasks).toMatchObject([{ task_id: c, retried_as: null }, { task_id: b, retried_as: done.task_ids[1] }, { task_id: a, status: 'failed', retried_as: done.task_ids[0] }])
  expect((await retry({ error: 'DISK' })).retried).toBe(0)
  expect((await system.post(`/tasks/${a}/retry`)).json).toMatchObject({ status: 409, task_id: done.task_ids[0] })
  expect((await retry()).retried).toBe(1)
  await until(() => agent.runs.length === 6)
})

test.concurrent('are retried so many at a time, and once also by several at once', async () => {
  const { ended, retry, letters, type, heal } = await setting()
  const ids = await ended(Array.from({ length: 30 }, (_, i) => fails(i % 3 === 0 ? 'wanted' : 'unwanted')))
  heal()
  const first = await retry({ limit: 4, task_type: 'echo' })
  expect(first).toMatchObject({ retried: 4, more: true, next_cursor: expect.any(String) })
  const news = new Set(first.task_ids)
  // The newest, and the oldest of them first.
  expect(await Promise.all(first.task_ids.map(async (id: string) => (await system.task(id)).retry_of))).toEqual(ids.slice(-4))
  for (const done of await Promise.all([retry(), retry(), retry({ cursor: first.next_cursor }), retry({ limit: 10 })])) for (const id of done.task_ids) news.add(id)
  expect(news.size).toBe(30)
  expect(await letters()).toMatchObject({ count: 0, next_cursor: null })
  const made = (await system.get(`/tasks?agent_type=${type}&limit=200`)).json.tasks.filter((t: any) => t.retry_of !== null)
  expect(made.map((t: any) => t.retry_of).sort()).toEqual(ids.toSorted())
  for (const id of news) await system.ended(id as string)
})

test.concurrent('whoever dies amid it leaves none undone, and none is done twice', async () => {
  const { ended, retry, letters, heal, type } = await setting()
  const ids = await ended(Array.from({ length: 20 }, () => fails('no')))
  heal()
  await using core = await startCore(system)
  const dies = core.tasks.deadLetters.retry({ type, includeRetried: false }, 20).catch(() => {})
  const left = await until(async () => { const { count } = await letters(); return count < 20 ? { count } : null }, { everyMs: 1 })
  core.redis.disconnect()
  await dies
  expect((await retry()).retried).toBeLessThanOrEqual(left.count)
  const again: string[] = (await Promise.all(ids.map((id) => system.task(id)))).map((t) => t.retried_as)
  expect(new Set(again).size).toBe(20)
  // The sweeper's look, a little sooner.
  for (const id of again) await system.redis.zadd(system.keys.timers(type), 'XX', 1, id)
  for (const [i, task] of (await Promise.all(again.map((id) => system.ended(id)))).entries()) expect(task).toMatchObject({ status: 'completed', retry_of: ids[i], redeliveries: 0 })
  expect(await system.redis.zcard(system.keys.tasks(type, 'completed'))).toBe(20)
})

test.concurrent('what is asked wrongly is told, and nothing is done', async () => {
  const faults = async (answer: Promise<any>) => (await answer).json.errors?.map((e: any) => e.pointer)
  expect(await faults(system.get('/dead-letters?error=&limit=0&cursor=x&status=failed'))).toEqual(['error', 'limit', 'cursor', 'status'])
  expect(await faults(system.get(`/dead-letters?error=${'x'.repeat(257)}&include_retried=yes&agent_type=a.b`))).toEqual(['agent_type', 'error', 'include_retried'])
  expect(await faults(system.post('/dead-letters/retry', { agent_type: 1, error: null, limit: 1001, ids: [] }))).toEqual(['/agent_type', '/error', '/limit', '/ids'])
  expect(await faults(system.post('/dead-letters/retry', { cursor: 'bm8' }))).toEqual(['/cursor'])
  expect((await system.post('/dead-letters/retry')).status).toBe(400)
  expect((await system.get('/dead-letters/retry')).status).toBe(405)
  expect((await system.post('/dead-letters/retry', { agent_type: 'nobody' })).json).toMatchObject({ retried: 0, more: false })
  expect((await system.get('/dead-letters?agent_type=nobody')).json).toEqual({ tasks: [], count: 0, next_cursor: null })
})

const sy = (...args: string[]): Promise<{ code: number | null; out: string; err: string }> =>
  new Promise((done) => {
    const child = spawn(process.execPath, [fileURLToPath(new URL('../bin/switchyard.js', import.meta.url)), 'dead-letters', ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, SWITCHYARD_URL: system.url(), FORCE_COLOR: undefined } })
    const said = { out: '', err: '' }
    child.stdout.on('data', (chunk) => (said.out += chunk))
    child.stderr.on('data', (chunk) => (said.err += chunk))
    child.once('close', (code) => done({ code, ...said }))
  })

test.concurrent('the command line lists them, counts them, and retries them only when told to', async () => {
  const { ended, letters, type, heal } = await setting()
  const [one, two] = await ended([fails('user 1 is gone'), fails('user 22 is gone')])
  const [list, json, dry] = await Promise.all([sy('list', '--type', type), sy('list', '--type', type, '--limit', '1', '--json'), sy('retry', '--type', type, '--error', 'gone')])
  expect(list.out.split('\n').slice(1, 3).map((line) => line.split(' ')[0])).toEqual([two, one])
  expect(JSON.parse(json.out)).toMatchObject({ count: 1, tasks: [{ task_id: two }], next_cursor: expect.any(String) })
  expect(dry).toMatchObject({ code: 2, out: expect.stringMatching(new RegExp(`^COUNT +TASK +ERROR +NEWEST\n2 +${type} echo +user # is gone +${two}\n$`)), err: '2 dead letters\nNothing was retried: --yes does it.\n' })
  expect((await letters()).count).toBe(2)
  heal()
  expect(await sy('retry', '--type', type, '--yes')).toEqual({ code: 0, out: '2 dead letters retried\n', err: '' })
  expect((await sy('retry', '--type', type)).err).toBe('No such dead letter.\n')
  for (const id of [one, two]) await system.ended((await system.task(id!)).retried_as)
})

test('nothing is left behind', () => becomesQuiet(system))
