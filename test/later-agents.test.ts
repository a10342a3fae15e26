/** Agents of both SDKs whose results come later, and who report their progress, with a real router. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { becomesQuiet } from './quiet.ts'
import { ROOT, clean, run, until } from './processes.ts'
import { noPython } from './python.ts'
import { call, startSystem, type System } from './system.ts'

// Nearly all of each is waiting.
vi.setConfig({ maxConcurrency: 8 })

let system: System
beforeAll(async () => {
  system = await startSystem()
})
afterAll(async () => {
  await becomesQuiet(system)
  await system[Symbol.asyncDispose]()
})

let types = 0
type Language = readonly [name: string, command: string, script: string]
const TYPESCRIPT: Language = ['TypeScript', process.execPath, 'later.ts']
const PYTHON: Language = ['Python', 'python3', 'later.py']
/** A type of the test's own, its agents, and what is done with its tasks. */
const setting = (of: System, [, command, script]: Language) => {
  const type = `later${script.slice(-2)}${++types}`
  const listed = async (): Promise<any[]> => (await of.get(`/agents/type/${type}`)).json.agents
  const start = async (env: Record<string, string> = {}) => {
    const before = (await listed()).map((agent) => agent.id)
    const agent = run(command, [join(ROOT, 'test/agents', script)], { cwd: ROOT, env: { ...clean, SWITCHYARD_URL: of.url(), AGENT_TYPE: type, AGENT_VERIFY: 'false', PYTHONDONTWRITEBYTECODE: '1', PYTHONUNBUFFERED: '1', ...env } })
    const { port } = await until(`it registers: ${agent.output()}`, async () => (await listed()).find((one) => !before.includes(one.id)))
    return {
      ...agent,
      says: (what: string | RegExp) => until(`it says ${what}: ${agent.output()}`, () => agent.output().match(what)),
      /** Opens a task's gate, past the router. */
      open: (taskId: string) => call('POST', `http://127.0.0.1:${port}/task`, { task_id: 'o', task_type: 'open', parameters: { name: taskId }, attempt_id: `o-${taskId}` }),
    }
  }
  const submit = (task_type: string, parameters: object = {}, more: object = {}): Promise<string> => of.submit({ agent_type: type, task_type, parameters, ...more })
  const slots = async (): Promise<number> => (await listed()).reduce((sum, agent) => sum + agent.in_flight, 0)
  return { start, submit, slots, listed }
}

describe.each([TYPESCRIPT, PYTHON])('an agent of the %s SDK', { timeout: 60_000, concurrent: true }, (...language) => {
  const promise = test.skipIf(language[0] === 'Python' && noPython)

  promise('answers 202, and the result that it tells ends the task, with its failures retried', async () => {
    const { start, submit, slots } = setting(system, language)
    await using agent = await start()
    const id = await submit('later')
    expect(await system.becomes(id, 'running')).toMatchObject({ attempts: [{ attempt: 1, outcome: null }] })
    expect(await slots()).toBe(1)
    await agent.open(id)
    expect(await system.ended(id)).toMatchObject({ status: 'completed', result: { a: ['ä', 1.5, null] }, retry_count: 0, execution_time_ms: expect.any(Number), attempts: [{ outcome: 'completed' }] })
    const [failing, final] = [await submit('later', { ends: 'fails' }, { max_retries: 1, retry_delay_seconds: 0.1 }), await submit('later', { ends: 'final' })]
    for (const one of [failing, final]) await agent.open(one)
    expect(await system.ended(failing)).toMatchObject({ status: 'failed', error: expect.stringMatching(/on purpose$/), attempts: [{ outcome: 'failed' }, { outcome: 'failed' }] })
    expect(await system.ended(final)).toMatchObject({ status: 'failed', error: 'no such account', attempts: [{ outcome: 'rejected' }] })
    await until('its slots are free', async () => (await slots()) === 0)
    expect(agent.output()).not.toMatch(/could not tell|does not take/)
  })

  promise('reports its progress, and may take the time that it was granted, answered 202 or not', async () => {
    const { start, submit } = setting(system, language)
    await using agent = await start()
    const id = await submit('report', { reports: [{ percent: 40, message: 'loaded', data: { rows: 3 }, extendSeconds: 60 }, { percent: 41, extendSeconds: 50 }] }, { timeout_seconds: 4, max_retries: 0 })
    await agent.says(`reported ${id} true,true`)
    const told = await system.becomes(id, 'running')
    expect(told.progress).toEqual({ percent: 41, message: 'loaded', data: { rows: 3 }, at: expect.any(String) })
    const left = [...agent.output().matchAll(/left \S+ (\d+)/g)].map((match) => Number(match[1]))
    for (const seconds of left) expect(Math.abs(seconds - 60)).toBeLessThan(8)
    await until('its first time is over', () => Date.now() > Date.parse(told.started_at) + 5500)
    await agent.open(id)
    expect(await system.ended(id)).toMatchObject({ status: 'completed', result: [true, true], retry_count: 0 })
  })

  promise('stops at once what is cancelled, and has its slot back soon', async () => {
    const { start, submit, slots } = setting(system, language)
    await using agent = await start()
    const id = await submit('later')
    await system.becomes(id, 'running')
    await agent.says(`began ${id}`)
    expect((await system.call('DELETE', `/tasks/${id}`)).json.status).toBe('cancelled')
    // Its beats come every 20 s: the router has told it by itself.
    await agent.says(`ended ${id} cancelled`)
    await until('its slot is free', async () => (await slots()) === 0)
    expect(await system.task(id)).toMatchObject({ status: 'cancelled', late_results: [] })
  })

  promise('gives what it cannot finish to another, at no cost to the task, when it leaves', async () => {
    const { start, submit, listed } = setting(system, language)
    await using first = await start({ AGENT_NAME: 'first', AGENT_DRAIN_SECONDS: '0.2' })
    const id = await submit('later', { ignores: true }, { max_retries: 0 })
    await system.becomes(id, 'running')
    await first.says(`began ${id}`)
    await using second = await start({ AGENT_NAME: 'second' })
    first.child.kill('SIGTERM')
    expect(await first.ended, first.output()).toBe(0)
    await second.says(`began ${id}`)
    expect((await listed()).map((agent) => agent.name)).toEqual(['second'])
    await second.open(id)
    expect(await system.ended(id)).toMatchObject({ status: 'completed', retry_count: 0, redeliveries: 1, attempts: [{ agent_name: 'first', outcome: 'lost' }, { agent_name: 'second', outcome: 'completed' }] })
  })
})

test('a router that was away is told the results of both', { timeout: 60_000 }, async () => {
  await using own = await startSystem()
  const both = [TYPESCRIPT, ...(noPython ? [] : [PYTHON])].map((language) => setting(own, language))
  await using ending = new AsyncDisposableStack()
  const agents = await Promise.all(both.map(async ({ start }) => ending.use(await start())))
  const ids = await Promise.all(both.map(({ submit }) => submit('later')))
  for (const id of ids) await own.becomes(id, 'running')
  const { port } = new URL(own.url())
  await own.api.shift()!.kill('SIGKILL')
  await Promise.all(agents.map((agent, i) => agent.open(ids[i]!)))
  for (const agent of agents) await agent.says(/could not tell the result/)
  await own.addApi({ PORT: port })
  for (const id of ids) expect(await own.ended(id)).toMatchObject({ status: 'completed', retry_count: 0, redeliveries: 0 })
})
