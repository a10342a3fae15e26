/** Who is let in before there are keys: nobody’s page in a browser but ours; and who looks at a worker’s metrics. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createVisitorCheck } from '../src/access/visitor.ts'
import { exchange, type Got } from './exact.ts'
import { call, startSystem, until, type System } from './system.ts'

type Headers = Record<string, string>
const passes = (check: ReturnType<typeof createVisitorCheck>, headers: Headers, method = 'GET'): boolean => check({ method, headers }) === null

describe('the name by which we are asked', () => {
  const check = createVisitorCheck({ host: '127.0.0.1', loopback: true, allowed: ['router.example', '.svc.local'] })
  test.each(['127.0.0.1', '127.0.0.1:8080', '10.0.0.5:1', '[::1]', '[::1]:8080', 'localhost', 'LOCALHOST:8080', 'localhost.', '127.0.0.1.', 'a.b.localhost:1', 'router.example', 'Router.example:443', 'a.svc.local'])('%s is one that only we can have', (host) => expect(passes(check, { host })).toBe(true))
  test.each(['evil.example', 'evil.example:8080', 'localhost.evil.example', 'evil-localhost', 'xlocalhost', '127.0.0.1.evil.example', '2130706433', '0x7f.1', '127.1', 'x.router.example', 'router.example.evil', 'svc.local', 'api', '[::1', 'evil@localhost', '127.0.0.1@evil.example', 'localhost:80:90', 'evil.example#.localhost', '', ' '])('%j may be another’s', (host) => {
    expect(passes(check, { host: 'localhost' })).toBe(true)
    expect(passes(check, { host })).toBe(false)
  })
  test('where others reach us, one without a dot is a name of that network; and HOST is ours, whatever it is', () => {
    const open = createVisitorCheck({ host: 'box.lan', loopback: false, allowed: [] })
    for (const host of ['api:8080', 'router', 'box.lan:8080', '192.168.0.7:8080', 'localhost']) expect(passes(open, { host }), host).toBe(true)
    for (const host of ['evil.example', 'other.lan', 'api.evil.example:8080']) expect(passes(open, { host }), host).toBe(false)
    expect(passes(createVisitorCheck({ host: '127.0.0.1', loopback: true, allowed: [] }), {})).toBe(true) // HTTP/1.0, which no browser speaks
  })
})

describe('what a browser says of where a request comes from', () => {
  const check = createVisitorCheck({ host: '127.0.0.1', loopback: true, allowed: [] })
  const host = 'localhost:8080'
  test.each<[method: string, headers: Headers, good: boolean]>([
    ['GET', {}, true],
    ['POST', {}, true],
    ['GET', { 'sec-fetch-site': 'cross-site' }, true],
    ['HEAD', { 'sec-fetch-site': 'same-site' }, true],
    ['POST', { 'sec-fetch-site': 'same-origin', origin: 'http://localhost:8080' }, true],
    ['POST', { 'sec-fetch-site': 'none' }, true],
    ['POST', { origin: 'http://localhost:8080' }, true],
    ['POST', { origin: 'https://localhost:8080' }, true],
    ['GET', { 'sec-fetch-site': 'same-origin', origin: 'https://proxied.example' }, true],
    ['POST', { 'sec-fetch-site': 'cross-site' }, false],
    ['POST', { 'sec-fetch-site': 'same-site', origin: 'http://localhost:3000' }, false],
    ['DELETE', { 'sec-fetch-site': 'cross-site' }, false],
    ['OPTIONS', { origin: 'http://evil.example' }, false],
    ['POST', { origin: 'http://evil.example' }, false],
    ['POST', { origin: 'http://localhost:3000' }, false],
    ['POST', { origin: 'null' }, false],
    ['GET', { origin: 'http://evil.example' }, false],
    ['PUT', { 'sec-fetch-site': 'odd' }, false],
  ])('%s %j', (method, headers, good) => expect(passes(check, { host, ...headers }, method)).toBe(good))
})

describe('a Switchyard', () => {
  let system: System
  beforeAll(async () => {
    system = await startSystem()
  })
  afterAll(() => system[Symbol.asyncDispose]())
  const ask = async (url: string, method: string, path: string, headers: Headers = {}, body?: string): Promise<Got> =>
    (await exchange(url, { method, path, headers: Object.entries({ host: 'localhost', ...(body === undefined ? {} : { 'content-length': String(body.length) }), ...headers }), body }))!

  test('without keys does nothing for a page of another site, not even where no body is needed; says why, and is as healthy by any name', async () => {
    const agent = await system.agent()
    const url = system.url()
    for (const headers of [{ host: 'evil.example' }, { host: 'evil.example', origin: 'http://evil.example', 'sec-fetch-site': 'same-origin' }, { origin: 'http://evil.example' }, { 'sec-fetch-site': 'cross-site' }]) {
      for (const path of [`/agents/${agent.id}/unregister`, '/agents/cleanup']) {
        const { status, text } = await ask(url, 'POST', path, headers, '')
        expect({ status, problem: JSON.parse(text) }).toMatchObject({ status: 403, problem: { type: '/docs/errors#forbidden', detail: expect.stringMatching(/no keys are in force here.*switchyard keys create/) } })
      }
    }
    for (const path of ['/', '/docs', '/agents', '/queues', '/metrics', '/none']) expect((await ask(url, 'GET', path, { host: 'evil.example' })).status, path).toBe(403)
    expect((await call('GET', `${url}/agents/${agent.id}`)).json.status).toBe('healthy')
    expect((await ask(url, 'GET', '/docs', { 'sec-fetch-site': 'cross-site' })).status).toBe(200) // by a link
    // There is nothing to log in to, and nobody to log out.
    for (const method of ['GET', 'POST']) expect(await ask(url, method, '/login', {}, 'key=x')).toMatchObject({ status: 200, text: expect.stringMatching(/No keys are in force here.*<a href="\/">/) })
    expect((await ask(url, 'GET', '/')).text).not.toContain('/logout')
    for (const path of ['/health', '/health/live', '/health/ready']) expect((await ask(url, 'GET', path, { host: 'health.example' })).status, path).toBe(200)
    const worker = system.worker[0]!.url
    expect([(await ask(worker, 'GET', '/metrics')).status, (await ask(worker, 'GET', '/metrics', { host: 'evil.example' })).status, (await ask(worker, 'GET', '/health', { host: 'evil.example' })).status]).toEqual([200, 403, 200])
  })

  test('with keys takes any name, for a key goes with each request; and a worker’s metrics are for who may look, its health for all', async () => {
    const worker = system.worker[0]!.url
    const there = await system.addWorker({ HOST: '0.0.0.0' })
    const elsewhere = there.url.replace('0.0.0.0', '127.0.0.1')
    // Strangers reach it, and there is no key yet: nobody may.
    expect((await ask(elsewhere, 'GET', '/metrics')).status).toBe(401)
    const { key: admin } = (await system.post('/keys', { name: 'a', roles: ['admin'] })).json
    const bearer = (key: string): Headers => ({ authorization: `Bearer ${key}` })
    const make = async (role: string): Promise<string> => (await call('POST', `${system.url()}/keys`, { name: role, roles: [role] }, bearer(admin))).json.key
    const keys = { view: await make('view'), submit: await make('submit'), agent: await make('agent') }
    for (const url of [worker, elsewhere]) {
      const asStranger = async () => (await ask(url, 'GET', '/metrics')).status
      const asAgent = async () => (await ask(url, 'GET', '/metrics', bearer(keys.agent))).status
      await until(async () => (await asStranger()) === 401 && (await asAgent()) === 403, { what: 'the worker has heard of the keys, the last one too' })
      const statuses = async (path: string) => Promise.all([keys.view, admin, keys.submit, keys.agent, 'sy_no'].map(async (key) => (await ask(url, 'GET', path, bearer(key))).status))
      expect(await statuses('/metrics')).toEqual([200, 200, 403, 403, 401])
      for (const path of ['/health', '/health/live', '/health/ready']) expect((await ask(url, 'GET', path)).status, path).toBe(200)
    }
    const refused = await ask(elsewhere, 'GET', '/metrics')
    expect([refused.headers['www-authenticate'], refused.text]).toEqual(['Bearer realm="switchyard"', expect.stringContaining('role view')])
    expect((await ask(elsewhere, 'GET', '/metrics', bearer(keys.view))).text).toContain('switchyard_worker_in_flight')
    expect((await ask(system.url(), 'GET', '/tasks', { host: 'router.example', origin: 'http://evil.example', ...bearer(keys.view) })).status).toBe(200)
    const { keys: listed } = (await call('GET', `${system.url()}/keys`, undefined, bearer(admin))).json
    for (const { key_id } of [...listed].reverse()) await call('DELETE', `${system.url()}/keys/${key_id}`, undefined, bearer(admin))
  })

  test('that is open to its network is asked by the names there are, and by those that ALLOWED_HOSTS has', async () => {
    await using open = await startSystem({ workers: 0, env: { HOST: '0.0.0.0', INSECURE_OPEN: '1', ALLOWED_HOSTS: 'Router.example, .svc.cluster.local' } })
    const url = open.url().replace('0.0.0.0', '127.0.0.1')
    const statuses = await Promise.all(['api:8080', 'router.example', 'api.default.svc.cluster.local:80', '0.0.0.0', 'evil.example', 'x.router.example'].map(async (host) => (await ask(url, 'GET', '/agents', { host })).status))
    expect(statuses).toEqual([200, 200, 200, 200, 403, 403])
  })
})
