/** Results that come later and progress, in the SDKs of both languages: the same promises, kept by twins, before a stand-in for the router. With a real one: later-agents.test.ts. */
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { ROOT, clean, run, until, type Running } from './processes.ts'
import { noPython } from './python.ts'
import { BEAT, REGISTERED, standIn } from './stand-in.ts'
import { call } from './system.ts'

// Nearly all of each is waiting.
vi.setConfig({ maxConcurrency: 6 })

const MIB = 1024 * 1024
const LANGUAGES = [['TypeScript', process.execPath, 'later.ts'], ['Python', 'python3', 'later.py']] as const

/** A router that takes what it is told, unless `says` has other answers for a task's results or progress: one each time, the last for ever. */
const startRouter = async () => {
  const says: Record<string, unknown[]> = {}
  const beat = { ...BEAT }
  const router = await standIn((path) => {
    if (path === '/agents/register') return { ...REGISTERED, code: 201 }
    if (path.endsWith('/heartbeat')) return beat
    const [, , taskId, what] = path.split('/')
    const next = says[`${taskId} ${what}`]
    if (next && next.length > 0) return next.length > 1 ? next.shift() : next[0]
    return what === 'progress' ? { task_id: taskId, status: 'running', deadline_at: new Date().toISOString(), cancel_requested: false } : { task_id: taskId, status: 'completed' }
  })
  const told = (taskId: string, what = 'result') => router.seen.filter((one) => one.path === `/tasks/${taskId}/${what}`)
  return { ...router, says, beat, told, lists: (attemptId: string): boolean => router.beats().at(-1)?.body.running?.includes(attemptId) === true, leaves: () => router.seen.some((one) => one.path.endsWith('/unregister')) }
}
type Router = Awaited<ReturnType<typeof startRouter>>

describe.each(LANGUAGES)('the %s SDK', { concurrent: true, timeout: 60_000 }, (language, command, script) => {
  const promise = test.skipIf(language === 'Python' && noPython)
  const startAgent = async (router: Router, env: Record<string, string> = {}) => {
    const agent: Running = run(command, [join(ROOT, 'test/agents', script)], { cwd: ROOT, env: { ...clean, SWITCHYARD_URL: router.url, PYTHONDONTWRITEBYTECODE: '1', PYTHONUNBUFFERED: '1', LOG_LEVEL: 'debug', ...env } })
    const port = await until(`it listens: ${agent.output()}`, () => /listening on port (\d+)/.exec(agent.output())?.[1])
    if (env['AGENT_REGISTER'] !== '0') await until('it beats', () => router.beats().length > 0)
    const url = `http://127.0.0.1:${port}`
    return {
      ...agent,
      url,
      /** Waits as long as its test. */
      send: async (task_id: string, task_type: string, parameters: object = {}, more: object = {}): Promise<{ status: number; json: any }> => {
        const res = await fetch(`${url}/task`, { method: 'POST', body: JSON.stringify({ task_id, task_type, parameters, timeout_seconds: 30, attempt: 1, attempt_id: `of-${task_id}`, ...more }) })
        return { status: res.status, json: await res.json() }
      },
      open: (name: string) => call('POST', `${url}/task`, { task_id: 'o', task_type: 'open', parameters: { name }, attempt_id: 'of-o' }),
      says: (what: string | RegExp) => until(`it says ${what}: ${agent.output()}`, () => agent.output().match(what)),
      running: async (): Promise<number> => (await call('GET', `${url}/health`)).json.running,
    }
  }

  promise('answers 202 at once, lists the attempt, and tells the result when it is there (T12)', async () => {
    await using router = await startRouter()
    await using agent = await startAgent(router)
    const answer = await agent.send('a', 'later')
    expect([answer.status, answer.json]).toEqual([202, { task_id: 'a', status: 'running' }])
    await agent.says('began a')
    // The same attempt again is the same attempt.
    expect((await agent.send('a', 'later')).status).toBe(202)
    await until('it is listed', () => router.lists('of-a'))
    expect([await agent.running(), router.told('a')]).toEqual([1, []])
    await agent.open('a')
    await until('it is told', () => router.told('a').length > 0)
    expect(router.told('a')[0]!.body).toEqual({ attempt_id: 'of-a', task_id: 'a', status: 'completed', result: { a: ['ä', 1.5, null] }, execution_time_ms: expect.any(Number) })
    await until('it is listed no more', () => !router.lists('of-a'))
    await until('its place is free', async () => (await agent.running()) === 0)
    expect([router.told('a').length, agent.output().match(/began a/g)!.length]).toEqual([1, 1])
  })

  promise('tells of a failure what it would have answered', async () => {
    await using router = await startRouter()
    await using agent = await startAgent(router)
    const kinds = ['fails', 'final', 'large', 'largest', 'no_json']
    for (const ends of kinds) {
      expect((await agent.send(ends, 'later', { ends })).status).toBe(202)
      await agent.open(ends)
    }
    await until('all is told', () => kinds.every((ends) => router.told(ends).length > 0))
    const said = Object.fromEntries(kinds.map((ends) => [ends, router.told(ends)[0]!]))
    const failed = { task_id: expect.any(String), attempt_id: expect.any(String), status: 'failed' }
    expect(said['fails']!.body).toEqual({ ...failed, error: expect.stringMatching(/^(RuntimeError: )?on purpose$/) })
    expect(said['final']!.body).toEqual({ ...failed, error: 'no such account', retryable: false })
    expect(said['large']!.body).toEqual({ ...failed, error: expect.stringMatching(/returned .*10\d{5} bytes/), retryable: false })
    expect(said['no_json']!.body).toEqual({ ...failed, error: expect.stringMatching(/returned .*no JSON/), retryable: false })
    expect(said['largest']!.body.status).toBe('completed')
    expect(Number(said['largest']!.headers['content-length'])).toBeLessThanOrEqual(MIB)
  })

  promise('tells a result until the router has heard it, which may be away', async () => {
    await using router = await startRouter()
    await using agent = await startAgent(router)
    router.says['a result'] = [undefined, { code: 503, headers: { 'retry-after': '1' } }, { text: '<html>' }, { code: 404, text: 'no such service' }, { task_id: 'a', status: 'completed' }]
    await agent.send('a', 'later')
    await agent.open('a')
    await until('it was told twice', () => router.told('a').length >= 2)
    // Until that is done the attempt is its own.
    const beats = router.beats().length
    await until('a beat', () => router.beats().length > beats + 1)
    expect(router.lists('of-a')).toBe(true)
    expect(await agent.running()).toBe(1)
    await until('its place is free', async () => (await agent.running()) === 0)
    const told = router.told('a')
    expect(told).toHaveLength(5)
    expect(new Set(told.map((one) => JSON.stringify(one.body))).size).toBe(1)
    expect(told[1]!.at - told[0]!.at).toBeGreaterThan(150)
    expect(told[2]!.at - told[1]!.at).toBeGreaterThan(950)
  })

  promise('tells no more what is stale or unknown, and of what is refused that it was', async () => {
    await using router = await startRouter()
    await using agent = await startAgent(router)
    Object.assign(router.says, { 'stale result': [409], 'unknown result': [{ code: 404, type: '/docs/errors#not-found' }], 'hopeless result': [413] })
    router.says['refused result'] = [{ code: 422, error: 'not like this' }, { task_id: 'refused', status: 'failed' }]
    const all = ['stale', 'unknown', 'refused', 'hopeless']
    for (const id of all) {
      await agent.send(id, 'later')
      await agent.open(id)
    }
    await until('all places are free', async () => all.every((id) => router.told(id).length > 0) && (await agent.running()) === 0)
    expect(all.map((id) => router.told(id).length)).toEqual([1, 1, 2, 2])
    expect(router.told('refused')[1]!.body).toEqual({ attempt_id: 'of-refused', task_id: 'refused', status: 'failed', error: expect.stringContaining('422 not like this'), retryable: false })
  })

  promise('stops what is cancelled, lost or over, and tells nothing of it', async () => {
    await using router = await startRouter()
    await using agent = await startAgent(router)
    const remove = async (id: string, attempt?: string): Promise<number> => (await call('DELETE', `${agent.url}/task/${id}`, undefined, attempt === undefined ? {} : { 'Switchyard-Attempt': attempt })).status
    for (const id of ['a', 'b', 'c']) await agent.send(id, 'later')
    await agent.send('a', 'later', {}, { attempt_id: 'another-of-a', attempt: 2 })
    await until('both run', () => agent.output().match(/began a/g)?.length === 2)
    expect([await remove('a', 'of-b'), await remove('b', 'of-a'), await remove('nothing')]).toEqual([404, 404, 404])
    expect(agent.output()).not.toContain('ended')
    expect(await remove('a', 'another-of-a')).toBe(200)
    await agent.says('ended a cancelled')
    await until('one place is free', async () => (await agent.running()) === 3)
    router.beat.lost = ['of-b']
    await agent.says('ended b lost')
    await agent.send('d', 'later', {}, { timeout_seconds: 0.3 })
    await agent.says('ended d timeout')
    expect([await remove('a'), await remove('c')]).toEqual([200, 200])
    await until('all places are free', async () => (await agent.running()) === 0)
    for (const id of ['a', 'b', 'c', 'd']) expect(router.told(id), id).toEqual([])
    // Its work is done, and nobody wants it: no more tries.
    router.says['e result'] = [503]
    await agent.send('e', 'later')
    await agent.open('e')
    await until('it was told', () => router.told('e').length > 0)
    router.beat.lost = ['of-e']
    await until('its place is free', async () => (await agent.running()) === 0)
  })

  promise('tells progress as often as is useful, and stops when it hears that the attempt is over (T13)', async () => {
    await using router = await startRouter()
    await using agent = await startAgent(router)
    const taken = { task_id: 'x', status: 'running', deadline_at: new Date().toISOString(), cancel_requested: false }
    const begins = async (id: string, reports: object[]) => {
      const answer = agent.send(id, 'report', { reports })
      await agent.says(`reported ${id}`)
      return answer
    }
    // Of what comes within a second the newest is told, whole, and what is left out stays.
    const many = begins('many', [{ percent: 10, message: 'begun' }, ...Array.from({ length: 300 }, (_, i) => ({ percent: 20 + i / 10 })), { percent: 100.5, data: { rows: 3 } }])
    const told = () => router.told('many', 'progress').map((one) => one.body)
    await until('the newest is told', () => told().at(-1)?.percent === 100)
    expect([told()[0], told().at(-1)]).toEqual([{ attempt_id: 'of-many', percent: 10, message: 'begun' }, { attempt_id: 'of-many', percent: 100, message: 'begun', data: { rows: 3 } }])
    expect(told().length).toBeLessThan(10)
    await agent.open('many')
    expect((await many).json).toMatchObject({ status: 'completed', result: Array(302).fill(true) })
    // Whatever becomes of a report, the work goes on.
    router.says['away progress'] = [undefined]
    router.says['refused progress'] = [{ code: 422, error: 'not like this' }]
    for (const id of ['away', 'refused']) {
      const answer = begins(id, [{ percent: 10 }])
      await agent.open(id)
      expect((await answer).json).toMatchObject({ status: 'completed', result: [false] })
    }
    // Unless the attempt is over.
    router.says['stale progress'] = [{ code: 409, error: 'stale' }]
    router.says['unwanted progress'] = [{ ...taken, cancel_requested: true }]
    expect((await begins('stale', [{ percent: 10 }])).json).toMatchObject({ status: 'failed' })
    expect((await begins('unwanted', [{ percent: 10 }])).json).toMatchObject({ status: 'failed', retryable: false })
    expect(agent.output()).toMatch(/ended stale lost[^]*ended unwanted cancelled/)
  })

  promise('asks for more time, and follows what is granted, whatever the router’s clock says', async () => {
    await using router = await startRouter()
    await using agent = await startAgent(router)
    const at = (seconds: number) => ({ task_id: 'x', status: 'running', deadline_at: new Date(Date.parse('2001-01-01T00:00:00.000Z') + seconds * 1000).toISOString(), cancel_requested: false })
    router.says['more progress'] = [at(100), at(150), at(150)]
    const answer = agent.send('more', 'report', { reports: [{ extendSeconds: 60 }, { extendSeconds: 500, message: 'bounded' }, { extendSeconds: 10 }] }, { timeout_seconds: 4 })
    await agent.says('reported more')
    expect(router.told('more', 'progress').map((one) => one.body)).toEqual([{ attempt_id: 'of-more', extend_seconds: 60 }, { attempt_id: 'of-more', message: 'bounded', extend_seconds: 500 }, { attempt_id: 'of-more', message: 'bounded', extend_seconds: 10 }])
    const left = [...agent.output().matchAll(/left more (\d+)/g)].map((match) => Number(match[1]))
    for (const [i, seconds] of [60, 110, 110].entries()) expect(Math.abs(left[i]! - seconds), left.join()).toBeLessThan(8)
    const began = performance.now()
    await until('its first time is over', () => performance.now() - began > 4300)
    expect(agent.output()).not.toContain('ended more')
    await agent.open('more')
    expect((await answer).json).toMatchObject({ status: 'completed', result: [true, true, true] })
    // One that is not granted ends as it would have.
    router.says['no-more progress'] = [409]
    expect((await agent.send('no-more', 'report', { reports: [{ extendSeconds: 60 }] })).json.status).toBe('failed')
  })

  promise('answers 202 by itself what takes longer than it was told, and at once what does not', async () => {
    await using router = await startRouter()
    await using agent = await startAgent(router, { AGENT_LATER_AFTER_SECONDS: '0.2' })
    const began = performance.now()
    expect((await agent.send('a', 'work')).status).toBe(202)
    expect(performance.now() - began).toBeGreaterThan(190)
    expect((await agent.open('a')).status).toBe(200)
    await until('it is told', () => router.told('a').length > 0)
    expect(router.told('a')[0]!.body).toMatchObject({ attempt_id: 'of-a', status: 'completed' })
  })

  promise('waits with its leaving for what is under way, and for what is to be told (L1, L2)', async () => {
    await using router = await startRouter()
    await using agent = await startAgent(router)
    router.says['b result'] = [503, 503, { task_id: 'b', status: 'completed' }]
    for (const id of ['a', 'b']) await agent.send(id, 'later')
    await agent.open('b')
    await until('b was told', () => router.told('b').length > 0)
    agent.child.kill('SIGTERM')
    await until('it drains', () => router.beats().some((beat) => beat.body.status === 'draining' && beat.body.running.includes('of-a')))
    expect((await agent.send('c', 'later')).status).toBe(503)
    await until('b is told', () => router.told('b').length === 3)
    expect(router.leaves()).toBe(false)
    // It takes no new tasks; what this one waits for comes to it by a beat.
    router.beat.cancel = ['of-a']
    expect(await agent.ended, agent.output()).toBe(0)
    expect([router.told('a').length, router.told('b').length, router.leaves()]).toEqual([0, 3, true])
  })

  promise('leaves in time when neither its handlers nor the router answer, and gives back what it has', async () => {
    await using router = await startRouter()
    await using agent = await startAgent(router, { AGENT_DRAIN_SECONDS: '0.3' })
    router.says['deaf result'] = [503]
    for (const id of ['obeys', 'deaf', 'ignores']) await agent.send(id, 'later', { ignores: id === 'ignores' })
    await agent.open('deaf')
    await until('it was told', () => router.told('deaf').length > 0)
    agent.child.kill('SIGTERM')
    expect(await agent.ended, agent.output()).toBe(0)
    expect(router.told('deaf').length).toBeGreaterThan(1)
    // What it could not do it no longer lists, and so gives back.
    expect([...router.told('obeys'), ...router.told('ignores')]).toEqual([])
    expect([router.beats().at(-1)!.body.running, router.leaves()]).toEqual([[], true])
  })

  promise('answers as ever where there is nobody to tell', async () => {
    await using router = await startRouter()
    await using alone = await startAgent(router, { AGENT_REGISTER: '0' })
    await using agent = await startAgent(router)
    for (const [it, more] of [[alone, {}], [agent, { attempt_id: undefined }]] as const) {
      const answer = it.send('a', 'later', {}, more)
      await it.says('began a')
      await it.open('a')
      expect(await answer).toMatchObject({ status: 200, json: { status: 'completed', result: { a: ['ä', 1.5, null] } } })
      expect((await it.send('p', 'report', { reports: [{ percent: 1 }], ignores: false }, { ...more, timeout_seconds: 0.2 })).json.status).toBe('failed')
      expect(it.output()).toContain('reported p false')
    }
    expect(router.seen.filter((one) => one.path.startsWith('/tasks'))).toEqual([])
  })
})
