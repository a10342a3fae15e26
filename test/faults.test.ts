/** What a client is told of bad input: every fault at once, each once, with its place and a plain sentence that tells what is allowed. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { AgentQuery } from '../src/api/agents.ts'
import { SubmitQuery, TaskQuery } from '../src/api/tasks.ts'
import { Heartbeat, Registration } from '../src/contracts/agent.ts'
import { newTaskSchema } from '../src/contracts/task.ts'
import { startSystem, type System } from './system.ts'

let system: System
let agentId: string
beforeAll(async () => {
  system = await startSystem({ workers: 0 })
  agentId = (await system.post('/agents/register', { name: 'a', type: 'cost', host: '127.0.0.1', port: 9 })).json.id
})
afterAll(() => system[Symbol.asyncDispose]())

type Faults = Record<string, string>
/** The faults by their place; one place may have one fault only. */
const faults = async (path: string, body?: unknown, method = 'POST'): Promise<Faults> => {
  const { status, json } = await system.call(method, path, body)
  expect(status, JSON.stringify(json)).toBe(422)
  const places = json.errors.map((e: { pointer: string }) => e.pointer)
  expect(new Set(places).size, JSON.stringify(json.errors)).toBe(places.length)
  for (const { pointer, detail } of json.errors) expect(json.detail).toContain(`${pointer} ${detail}`.trim())
  return Object.fromEntries(json.errors.map((e: { pointer: string; detail: string }) => [e.pointer, e.detail]))
}

test('all faults of a registration, host, port and query among them', async () => {
  expect(await faults('/agents/register?x=1', { host: 'http://x', capabilities: ['ok', '.no'], ttl_seconds: 1, max_concurrency: 1.5, status: 'dead', metadata: [], nonsense: 1, type: 'a b' })).toEqual({
    x: 'is not known here',
    '/name': 'is required (name, or agent_name)',
    '/host': 'must be a host name or address such as agent.example or 10.0.0.5, alone or as name:port, without http:// or a path',
    '/port': 'is required (or host as name:port)',
    '/type': 'must be 1–64 of A–Z a–z 0–9 _ -, beginning with a letter or digit',
    '/capabilities/1': 'must be 1–64 of A–Z a–z 0–9 _ - ., beginning with a letter or digit',
    '/ttl_seconds': 'must be a number from 5 to 3600',
    '/max_concurrency': 'must be a whole number from 1 to 1000',
    '/status': 'must be healthy, degraded, unhealthy or draining',
    '/metadata': 'must be an object',
    '/nonsense': 'is not known here',
  })
  expect(await faults('/agents/register', {})).toEqual({ '/name': 'is required (name, or agent_name)', '/host': 'is required', '/port': 'is required (or host as name:port)' })
  expect(await faults('/agents/register', { name: 'a', host: 'http://x:8001/task' })).toEqual({ '/host': expect.stringContaining('without http://') })
  expect(await faults('/agents/register', { name: 'a', host: 5, port: '80', metadata: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [i, i])) })).toEqual({
    '/host': expect.stringContaining('such as agent.example'),
    '/port': 'must be a whole number from 1 to 65535',
    '/metadata': 'must hold at most 64 members',
  })
})

test('all faults of a task, and of its query', async () => {
  expect(await faults('/tasks?require_agent=1&x=1', { priority: 'urgent', timeout_seconds: 301, max_retries: -1, delay_seconds: 'x', parameters: [], backoff: 'linear' })).toEqual({
    require_agent: 'must be true or false',
    x: 'is not known here',
    '/task_type': 'is required',
    '/agent_type': 'is required unless agent_id is given',
    '/parameters': 'must be an object',
    '/priority': 'must be a whole number from 1 to 15, or low, normal, high or critical',
    '/timeout_seconds': 'must be a number from 0.01 to 300',
    '/max_retries': 'must be a whole number from 0 to 100',
    '/backoff': 'must be exponential or fixed',
    '/delay_seconds': 'must be a number from 0 to 2592000',
  })
})

test('a bad run_at is one fault, whatever is wrong with it', async () => {
  for (const run_at of ['tomorrow', '', '2026-02-30T00:00:00Z', '9999-12-31T23:59:59Z', 5, null]) {
    expect(await faults('/tasks', { task_type: 'x', agent_type: 'cost', run_at })).toEqual({ '/run_at': 'must be a time with its zone, such as 2026-01-31T12:00:00Z, at most 30 days from now' })
  }
  expect(await faults('/tasks', { task_type: 'x', agent_type: 'cost', run_at: '2026-01-01T00:00:00Z', delay_seconds: 1 })).toEqual({ '/run_at': 'cannot be given beside delay_seconds: give one of them' })
})

test('all faults of a heartbeat and of a query', async () => {
  expect(await faults(`/agents/${agentId}/heartbeat?a=1`, { status: 'dead', running: 'x', max_concurrency: 0, x: 1 })).toEqual({
    a: 'is not known here',
    '/status': 'must be healthy, degraded, unhealthy or draining',
    '/running': 'must be a list of at most 2000 attempt ids',
    '/max_concurrency': 'must be a whole number from 1 to 1000',
    '/x': 'is not known here',
  })
  expect(await faults('/tasks?limit=0&limit=1&status=gone&cursor=x&agent_id=%20&y=1', undefined, 'GET')).toEqual({
    limit: 'is given more than once',
    status: 'must be pending, queued, sent, running, retrying, completed, failed, timeout or cancelled',
    cursor: 'must be a next_cursor that this server gave',
    agent_id: expect.stringContaining('must be 1–64 of'),
    y: 'is not known here',
  })
  expect(await faults(`/agents?q=${'x'.repeat(5000)}`, undefined, 'GET')).toEqual({ '': 'the query is longer than 4096 characters' })
})

test('no member, whatever is sent for it, is answered in the words of a library', () => {
  const values = [null, true, 5.5, -1, 1e99, Infinity, '', ' ', '5', 'x'.repeat(1000), {}, [], [5], [''], ['x'.repeat(1000)]]
  for (const schema of [Registration, newTaskSchema(300), Heartbeat, AgentQuery, TaskQuery, SubmitQuery]) {
    for (const member of Object.keys(schema.shape)) {
      for (const value of values) {
        const issues = (schema.safeParse({ [member]: value }).error?.issues ?? []).filter((i) => i.path[0] === member)
        for (const { message } of issues) expect(message, `${member}: ${JSON.stringify(value)}`).toMatch(/^(must |is required|cannot be given |an IPv4 address is |the port in it must be )/)
      }
    }
  }
})
