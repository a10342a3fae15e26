/** The API's document: it tells of every route and no other, it is OpenAPI 3.1, and what the API answers is as it says. The pages made of it. */
import { readFile } from 'node:fs/promises'
import { Validator } from '@seriousme/openapi-schema-validator'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { createGuard } from '../src/access/guard.ts'
import { accountFor } from '../src/api/access.ts'
import { createFeeds } from '../src/tasks/feeds.ts'
import { createApp } from '../src/api/app.ts'
import type { Described, Document, Schema } from '../src/api/openapi.ts'
import { BROWSER_OPERATIONS, createOperations } from '../src/api/operations.ts'
import { PROBLEMS } from '../src/api/problem.ts'
import { readConfig } from '../src/config.ts'
import { createHostPolicy } from '../src/contracts/host.ts'
import { createCore } from '../src/core.ts'
import { createLogger } from '../src/logger.ts'
import { startSystem, type System } from './system.ts'

let system: System
let document: Document
beforeAll(async () => {
  system = await startSystem({ workers: 0 })
  document = (await system.get('/openapi.json')).json
})
afterAll(() => system[Symbol.asyncDispose]())

const operations = (d: Document): [route: string, Described][] => Object.entries(d.paths).flatMap(([path, item]) => Object.entries(item).map(([method, o]): [string, Described] => [`${method.toUpperCase()} ${path}`, o]))

test('tells of every route, and of no other', async () => {
  const config = readConfig({ REDIS_URL: inject('redisUrl'), REDIS_PREFIX: `${system.prefix}o` })
  const log = createLogger('test', 'silent')
  const core = await createCore({ config, log, name: 'test' })
  try {
    const app = createApp({ core, feeds: createFeeds({ subscriber: core.redis, log }), config, policy: createHostPolicy({ cidrs: [] }), guard: createGuard({ ...core, subscriber: core.redis, adminKey: undefined, closed: false, log }), log, isStopping: () => false })
    // The Board is an app of its own, mounted at one path.
    const known = accountFor(app, { ...createOperations(300), ...BROWSER_OPERATIONS })
    expect(known).toEqual(expect.arrayContaining(Object.keys(BROWSER_OPERATIONS)))
    const routes = [...known.filter((route) => !(route in BROWSER_OPERATIONS)), 'GET /queues']
    expect(routes.length).toBeGreaterThan(15)
    expect(operations(document).map(([route]) => route).sort()).toEqual(routes.sort())
  } finally {
    core.redis.disconnect()
  }
})

test('is valid OpenAPI 3.1', async () => {
  const validator = new Validator()
  expect(await validator.validate(structuredClone(document))).toEqual({ valid: true })
  expect(validator.version).toBe('3.1')
})

/** As far as our schemas go. */
const fits = (value: unknown, schema: Schema): boolean => {
  if (schema.anyOf && schema.type === undefined) return schema.anyOf.some((one) => fits(value, one))
  if (schema.enum && !schema.enum.includes(value)) return false
  if (typeof value === 'number' && !(value >= Number(schema.minimum ?? -Infinity) && value <= Number(schema.maximum ?? Infinity))) return false
  const type = Array.isArray(value) ? 'array' : Number.isInteger(value) && schema.type === 'integer' ? 'integer' : typeof value
  return schema.type === type
}

test('every default is one that its schema allows', () => {
  const parameters = operations(document).flatMap(([route, o]) => (o.parameters ?? []).map(({ name, schema }): [string, Schema] => [`${route} ${name}`, schema]))
  const members = Object.entries(document.components.schemas).flatMap(([of, { properties = {} }]) => Object.entries(properties).map(([name, schema]): [string, Schema] => [`${of} ${name}`, schema]))
  const defaults = [...parameters, ...members].filter(([, schema]) => 'default' in schema)
  expect(Object.fromEntries(defaults.map(([where, schema]) => [where, schema.default]))).toMatchObject({ 'POST /tasks require_agent': false, 'GET /agents include_dead': false, 'GET /tasks limit': 50, 'NewTask priority': 5, 'NewTask backoff': 'exponential', 'Registration capabilities': [] })
  for (const [where, schema] of defaults) expect(fits(schema.default, schema), `${where} ${JSON.stringify(schema)}`).toBe(true)
})

test('refers only to schemas it has, has none that nobody refers to, and gives each operation an id of its own', () => {
  const refs = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name)
  expect([...new Set(refs)].sort()).toEqual(Object.keys(document.components.schemas))
  for (const [name, schema] of Object.entries(document.components.schemas)) expect(schema, name).toMatchObject({ type: 'object', properties: expect.anything() })
  const ids = operations(document).map(([, o]) => o.operationId)
  expect(new Set(ids).size).toBe(ids.length)
})

test('every operation says what else may come: a 500, and for what reads a body 400, 413, 415 and 422, all of them problems', () => {
  for (const [route, o] of operations(document)) {
    const statuses = Object.keys(o.responses)
    expect(statuses, route).toEqual(expect.arrayContaining(o.requestBody ? ['400', '413', '415', '422', '500'] : ['500']))
    for (const status of statuses.filter((s) => Number(s) >= 400 && !route.startsWith('GET /health'))) {
      expect(Object.keys(o.responses[status]!.content!), `${route} ${status}`).toEqual(['application/problem+json'])
    }
    for (const [, name] of route.matchAll(/\{(\w+)\}/g)) expect(o.parameters, route).toContainEqual(expect.objectContaining({ name, in: 'path', required: true }))
  }
})

test('its examples are requests that are taken', async () => {
  for (const [route, { body, answers }] of Object.entries(createOperations(300))) {
    if (!body) continue
    expect(body.schema.safeParse(body.example).success, route).toBe(true)
    if (route.includes('{')) continue
    const [method, path] = route.split(' ') as [string, string]
    const answer = await system.call(method, path, body.example)
    expect(Object.keys(answers), `${route} ${answer.text}`).toContain(String(answer.status))
    // With one there, the next would need it.
    if (route === 'POST /keys') await system.call('DELETE', `/keys/${answer.json.key_id}`, undefined, { authorization: `Bearer ${answer.json.key}` })
  }
})

test('what is answered has the members that it says, and all of them', async () => {
  const { json: agent } = await system.post('/agents/register', { name: 'a', type: 'doc', host: '127.0.0.1', port: 9 })
  const { json: task } = await system.post('/tasks', { task_type: 'x', agent_type: 'doc' })
  const answers: Record<string, any> = {
    Registered: agent,
    Submitted: task,
    Agent: (await system.get(`/agents/${agent.id}`)).json,
    AgentList: (await system.get('/agents')).json,
    HeartbeatAnswer: (await system.post(`/agents/${agent.id}/heartbeat`)).json,
    Task: (await system.get(`/tasks/${task.task_id}`)).json,
    Explanation: (await system.get(`/tasks/${task.task_id}/explain`)).json,
    TaskList: (await system.get('/tasks')).json,
    Cancelled: (await system.call('DELETE', `/tasks/${task.task_id}`)).json,
    SecretRotated: (await system.post(`/agents/${agent.id}/rotate-secret`, { overlap_seconds: 60 })).json,
    Unregistered: (await system.call('DELETE', `/agents/${agent.id}`)).json,
    CleanedUp: (await system.post('/agents/cleanup')).json,
    Schedule: (await system.call('PUT', '/schedules/doc', { cron: '0 9 * * *', task: { agent_type: 'doc', task_type: 'x' } })).json,
    ScheduleList: (await system.get('/schedules')).json,
    ScheduleDeleted: (await system.call('DELETE', '/schedules/doc')).json,
    Problem: (await system.post('/tasks', {})).json,
    Ready: (await system.get('/health')).json,
    KeyList: (await system.get('/keys')).json,
    Live: (await system.get('/health/live')).json,
  }
  for (const [name, answer] of Object.entries(answers)) {
    const { properties, required } = document.components.schemas[name]!
    const optional = Object.keys(properties!).filter((k) => !required?.includes(k) && !(k in answer))
    expect([...Object.keys(answer), ...optional].sort(), name).toEqual(Object.keys(properties!).sort())
  }
})

test('the bound of timeout_seconds is the operator’s', async () => {
  await using other = await startSystem({ workers: 0, env: { MAX_TASK_TIMEOUT_SECONDS: '20' } })
  const { json } = await other.get('/openapi.json')
  expect(json.components.schemas.NewTask.properties.timeout_seconds).toMatchObject({ maximum: 20, default: 20 })
})

describe('pages', () => {
  /** Whatever a browser would fetch for a page: none may be elsewhere. */
  const fetched = (html: string) => [...html.matchAll(/<(?:link|script|img|iframe)[^>]*?(?:href|src)="([^"]*)"|@import[^;]*|url\(([^)]*)\)/g)].map(([all, one, other]) => one ?? other ?? all)

  test('/docs tells of every operation and schema, and asks nothing of anyone', async () => {
    const { text, headers } = await system.get('/docs')
    expect(headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(headers.get('content-security-policy')).toContain("default-src 'none'")
    expect(fetched(text)).toEqual(['data:,'])
    expect(text).not.toMatch(/<script|https:\/\//)
    for (const [route, o] of operations(document)) {
      const [method, path] = route.split(' ') as [string, string]
      expect(text, route).toContain(`<span class="method ${method.toLowerCase()}">${method}</span> <code>${path}</code></h3>`)
      expect(text, route).toContain(o.summary)
    }
    for (const name of Object.keys(document.components.schemas)) expect(text).toContain(`id="schema-${name}"`)
    for (const [, target] of text.matchAll(/href="#([^"]+)"/g)) expect(text, target).toContain(`id="${target}"`)
    expect(text).toContain('curl -X POST http://127.0.0.1:8080/tasks')
    expect(text).toContain('<code>max_retries</code>')
  })

  test('/docs/errors has a heading for every problem type, with its status, and no other', async () => {
    const markdown = await readFile(new URL('../docs/errors.md', import.meta.url), 'utf8')
    const sections = [...markdown.matchAll(/^## (.+)\n\n\*\*(\d+)/gm)].map(([, type, status]) => [type, Number(status)])
    expect(Object.fromEntries(sections)).toEqual(Object.fromEntries(Object.entries(PROBLEMS).map(([type, { status }]) => [type, status])))
    const { text } = await system.get('/docs/errors')
    for (const type of Object.keys(PROBLEMS)) expect(text).toContain(`<h2 id="${type}">`)
    expect(fetched(text)).toEqual(['data:,'])
  })

  test('/ leads to what there is, and all of it is there', async () => {
    const { status, text } = await system.get('/')
    expect(status).toBe(200)
    const links = [...text.matchAll(/href="(\/[^"]*)"/g)].map(([, path]) => path!)
    expect(links).toEqual(expect.arrayContaining(['/docs', '/queues', '/metrics', '/health']))
    for (const path of links) expect([path, (await system.get(path)).status]).toEqual([path, path === '/health' ? 503 : 200])
  })
})
