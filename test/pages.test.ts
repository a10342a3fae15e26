/** How people come in with a browser: a key pasted at /login, a session that reads and nothing else, and a way out. */
import { createHmac, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createSessions } from '../src/access/session.ts'
import { BROWSER_OPERATIONS, createOperations } from '../src/api/operations.ts'
import { pathIn } from '../src/api/session.ts'
import { exchange, type Got } from './exact.ts'
import { startSystem, until, type System } from './system.ts'

const ADMIN_KEY = 'planted-admin-key-0123456789abcdefghij'
const NEVER_MADE = `sy_${'0'.repeat(12)}_${'0'.repeat(43)}`

let system: System
let view: { key: string; key_id: string }
const makeKey = async (body: object): Promise<{ key: string; key_id: string }> => (await system.post('/keys', body)).json
beforeAll(async () => {
  system = await startSystem({ workers: 0, key: ADMIN_KEY })
  view = await makeKey({ name: 'who <b>looks', roles: ['view'] })
  await system.submit({ agent_type: 'cost' })
})
afterAll(() => system[Symbol.asyncDispose]())

type Headers = Record<string, string>
const HTML = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' }
/** As a browser asks, which is led nowhere. */
const ask = async (method: string, path: string, headers: Headers = {}, body?: string): Promise<Got> => {
  const about: Headers = body === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded', 'content-length': String(Buffer.byteLength(body)) }
  const got = await exchange(system.url(), { method, path, headers: Object.entries({ host: 'localhost', ...about, ...headers }), body })
  if (!got) throw new Error(`no answer to ${method} ${path}`)
  return got
}
const form = (members: Headers): string => new URLSearchParams(members).toString()
const logIn = (key: string, { next = '/', headers = {} }: { next?: string; headers?: Headers } = {}): Promise<Got> => ask('POST', '/login', headers, form({ key, next }))
/** What a browser keeps of Set-Cookie; several stand there apart by commas, as there are none in ours. */
const cookiesIn = async (key: string, headers: Headers = {}): Promise<string[]> => {
  const res = await fetch(`${system.url()}/login`, { method: 'POST', redirect: 'manual', headers, body: new URLSearchParams({ key }) })
  expect(res.status).toBe(303)
  return res.headers.getSetCookie()
}
const sessionOf = async (key: string): Promise<string> => /^switchyard_session=([^;]+)/.exec((await cookiesIn(key))[0]!)![1]!
const withSession = (session: string): Headers => ({ cookie: `theme=dark; switchyard_session=${session}; x=y` })

test('a browser without a session is led to the login and back, where it came from; programs are told 401', async () => {
  for (const path of ['/', '/docs', '/docs/errors', '/queues', '/queues/queue/cost.echo?status=latest', '/metrics', '/tasks', '/agents']) {
    const { status, headers, text } = await ask('GET', path, HTML)
    expect([status, headers.location, headers['cache-control'], text]).toEqual([303, path === '/' ? '/login' : `/login?next=${encodeURIComponent(path)}`, 'no-store', ''])
    expect((await ask('GET', path)).status, path).toBe(401)
    expect((await ask('GET', path, { ...HTML, authorization: `Bearer ${NEVER_MADE}` })).status, path).toBe(401)
  }
  // Where no session is good there is nothing to log in for.
  for (const path of ['/keys', '/events', '/nowhere', '/dead-letters']) expect((await ask('GET', path, HTML)).status, path).toBe(401)
  for (const method of ['POST', 'HEAD', 'DELETE']) expect((await ask(method, '/tasks', HTML)).status, method).toBe(401)
  const { status, headers, text } = await ask('GET', '/login?next=%2Fqueues', HTML)
  expect([status, headers['cache-control'], headers['content-security-policy']]).toEqual([200, 'no-store', expect.stringMatching(/default-src 'none'.*form-action 'self'/)])
  expect(text).toContain('name="next" value="/queues"')
  expect(text).toMatch(/<label for="key">.*<input id="key" name="key" type="password" required autofocus/s)
  expect(text).not.toContain('<script')
  const { status: came, headers: to } = await logIn(view.key, { next: '/queues' })
  expect([came, to.location]).toEqual([303, '/queues'])
})

test('the cookie is for us alone, for 12 hours, and does not hold the key', async () => {
  const [given, taken] = await cookiesIn(view.key)
  expect(given).toMatch(/^switchyard_session=sys_[\w~-]+; Path=\/; Max-Age=43(?:199|200); HttpOnly; SameSite=Strict$/)
  expect(taken).toBe('__Host-switchyard_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure')
  expect(given).toContain(view.key_id)
  expect(given).not.toContain(view.key.split('_')[2])
  // By https, as the browser itself says.
  const [secure, other] = await cookiesIn(view.key, { origin: 'https://router.example' })
  expect(secure).toMatch(/^__Host-switchyard_session=sys_[\w~-]+; Path=\/; Max-Age=43(?:199|200); HttpOnly; SameSite=Strict; Secure$/)
  expect(other).toMatch(/^switchyard_session=; .*Max-Age=0/)
  expect((await ask('GET', '/metrics', { cookie: secure!.split(';')[0]! })).status).toBe(200)
})

test('a session reads what people look at, as far as its key may, and nothing else', async () => {
  const cookie = withSession(await sessionOf(view.key))
  const may = Object.entries(createOperations(300)).filter(([, { inBrowser }]) => inBrowser)
  expect(may.map(([route]) => route)).toEqual(expect.arrayContaining(['GET /', 'GET /docs', 'GET /docs/errors', 'GET /queues', 'GET /metrics', 'GET /tasks/{id}']))
  for (const [route, { body, inBrowser }] of Object.entries(createOperations(300))) {
    const [method, pattern] = route.split(' ') as [string, string]
    if (inBrowser) expect(method, route).toBe('GET')
    if (route.startsWith('GET /health')) continue
    const text = body ? JSON.stringify(body.example) : undefined
    const { status } = await ask(method, pattern.replace('{id}', 'x').replace('{type}', 'cost'), { ...cookie, ...(text === undefined ? {} : { 'content-type': 'application/json' }) }, text)
    expect([route, status]).toEqual([route, inBrowser ? (route.includes('{id}') ? 404 : 200) : 401])
  }
  for (const path of ['/queues/api/queues', '/queues/queue/cost.echo', '/queues/static/favicon.ico', '/TASKS/']) expect((await ask('GET', path, cookie)).status, path).toBe(200)
  expect((await ask('PUT', '/queues/api/queues/pause', cookie)).status).toBe(401)
  expect((await ask('GET', '/none', cookie)).status).toBe(404)
  const submit = withSession(await sessionOf((await makeKey({ name: 's', roles: ['submit'] })).key))
  expect((await ask('GET', '/docs', submit)).status).toBe(200)
  expect(JSON.parse((await ask('GET', '/metrics', submit)).text)).toMatchObject({ status: 403, roles_needed: ['view', 'admin'] })
  // Not as a key, nor beside one that is wrong.
  expect((await ask('GET', '/tasks', { authorization: `Bearer ${await sessionOf(view.key)}` })).status).toBe(401)
  expect((await ask('GET', '/tasks', { ...cookie, authorization: `Bearer ${NEVER_MADE}` })).status).toBe(401)
})

test('it is refused where a page of another site asks by the browser, which is led to the login and on by a click', async () => {
  const cookie = withSession(await sessionOf(view.key))
  for (const site of ['cross-site', 'same-site']) {
    expect((await ask('GET', '/tasks', { ...cookie, 'sec-fetch-site': site })).status).toBe(401)
    expect((await ask('GET', '/queues', { ...cookie, ...HTML, 'sec-fetch-site': site })).headers.location).toBe('/login?next=%2Fqueues')
    expect((await ask('GET', '/login?next=%2Fqueues', { ...HTML, 'sec-fetch-site': site })).text).toMatch(/A link of another site.*<a href="\/queues">Go on<\/a>/)
    expect((await logIn(view.key, { headers: { 'sec-fetch-site': site } })).status).toBe(403)
    expect((await ask('POST', '/logout', { ...cookie, 'sec-fetch-site': site }, '')).status).toBe(403)
  }
  for (const site of ['same-origin', 'none']) expect((await ask('GET', '/tasks', { ...cookie, 'sec-fetch-site': site })).status).toBe(200)
})

test('nobody but us makes one, and none can be changed', async () => {
  const session = await sessionOf(view.key)
  const admin = await sessionOf(ADMIN_KEY)
  const [, id, end, mac] = /^sys_(\w+)~(\d+)~(.+)$/.exec(session)!
  const secret = (await system.redis.hget(system.keys.access, 'token_secret'))!
  // Who knows what agents' tokens are made with, but not under our label, or not the key's digest.
  const signed = (text: string, more = ''): string => createHmac('sha256', Buffer.from(secret, 'base64url')).update(text).update(more).digest('base64url')
  const namespace = system.keys.namespace
  const forged = [`sys_${id}~${end}~${signed(`agent\n${namespace}\n${id}~${end}`)}`, `sys_${id}~${end}~${signed(`session\n${namespace}\n${id}~${end}\n`)}`, `sys_ADMIN_KEY~${end}~${signed(`session\n${namespace}\nADMIN_KEY~${end}\n`, ADMIN_KEY)}`]
  const changed = [`sys_${id}~${Number(end) + 1}~${mac}`, `sys_ADMIN_KEY~${end}~${mac}`, `${session}x`, session.slice(0, -1), `${session.slice(0, -2)}${session.endsWith('AA') ? 'BB' : 'AA'}`, session.replace('sys_', 'sya_'), view.key, '', '~', 'x'.repeat(5_000), admin.replace('ADMIN_KEY', id!)]
  for (const bad of [...forged, ...changed]) expect((await ask('GET', '/tasks', withSession(bad))).status, bad.slice(0, 100)).toBe(401)
  for (const good of [session, admin]) expect((await ask('GET', '/tasks', withSession(good))).status).toBe(200)
  // Over by Redis's clock, though rightly made and of a key that goes on.
  const { digest } = JSON.parse((await system.redis.hget(system.keys.access, `key:${id}`))!)
  const [seconds] = await system.redis.time()
  const ending = (inMs: number): string => createSessions(secret, namespace).make({ keyId: id!, endMs: Number(seconds) * 1000 + inMs }, Buffer.from(digest, 'base64url'))
  expect((await ask('GET', '/tasks', withSession(ending(60_000)))).status).toBe(200)
  expect((await ask('GET', '/tasks', withSession(ending(-1_000)))).status).toBe(401)
})

test('another secret, namespace, key or label is another session', () => {
  const [secret, digest] = [randomBytes(32).toString('base64url'), randomBytes(32)]
  const sessions = createSessions(secret, 'sy')
  const said = { keyId: 'aaaaaaaaaaaa', endMs: 1_900_000_000_000 }
  const session = sessions.make(said, digest)
  const reads = (by: typeof sessions, its: Buffer | undefined = digest) => by.read(session, () => its)
  expect(reads(sessions)).toEqual(said)
  expect(reads(createSessions(secret, 'sy'))).toEqual(said)
  for (const other of [createSessions(randomBytes(32).toString('base64url'), 'sy'), createSessions(secret, 'other')]) expect(reads(other)).toBeNull()
  for (const its of [randomBytes(32), undefined]) expect(sessions.read(session, () => its)).toBeNull()
})

test('it ends with its key: one that has expired, been revoked or been changed is out, and it never outlives the key', async () => {
  const soon = await makeKey({ name: 'soon over', roles: ['view'], expires_in_seconds: 2 })
  const [given] = await cookiesIn(soon.key)
  expect(Number(/Max-Age=(\d+)/.exec(given!)![1])).toBeLessThanOrEqual(2)
  const over = { cookie: given!.split(';')[0]! }
  const gone = await makeKey({ name: 'to be revoked', roles: ['view'] })
  const revoked = withSession(await sessionOf(gone.key))
  expect((await ask('GET', '/tasks', revoked)).status).toBe(200)
  await system.call('DELETE', `/keys/${gone.key_id}`)
  expect((await ask('GET', '/tasks', revoked)).status).toBe(401)
  expect((await ask('GET', '/', { ...HTML, ...revoked })).headers.location).toBe('/login')
  await until(async () => (await ask('GET', '/tasks', over)).status === 401, { what: 'its end' })
  // Of two processes with other ADMIN_KEYs, as while it is changed, each takes the sessions of its own.
  const other = await system.addApi({ ADMIN_KEY: `${ADMIN_KEY}2` })
  try {
    const tasks = async (session: string) => (await fetch(`${other.url}/tasks`, { headers: withSession(session) })).status
    expect(await tasks(await sessionOf(view.key))).toBe(200)
    expect(await tasks(/switchyard_session=([^;]+)/.exec((await fetch(`${system.api[0]!.url}/login`, { method: 'POST', redirect: 'manual', body: new URLSearchParams({ key: ADMIN_KEY }) })).headers.getSetCookie()[0]!)![1]!)).toBe(401)
  } finally {
    system.api.pop()
    await other.kill()
  }
})

test('a wrong key gets the form again, and a sentence that says so; what was typed is not repeated', async () => {
  for (const key of [NEVER_MADE, 'typed by mistake', '', 'x'.repeat(3_000), `${ADMIN_KEY}x`, '<b>"', 'sya_one~1~1~' + 'A'.repeat(43)]) {
    const { status, headers, text } = await logIn(key, { next: '/queues' })
    expect([status, headers['set-cookie'], headers['cache-control']], key).toEqual([401, undefined, 'no-store'])
    expect(text).toMatch(/<p role="alert" id="fault" class="fault">This key is not known here/)
    expect(text).toContain('aria-describedby="fault about" aria-invalid="true"')
    expect(text).toContain('value="/queues"')
    if (key !== '') expect(text).not.toContain(key)
  }
  const { json: agent } = await system.post('/agents/register', { name: 'a', type: 'cost', host: '127.0.0.1', port: 9 })
  expect((await logIn(agent.agent_token)).text).toContain('This is an agent’s token')
  expect((await logIn(` ${view.key}\n`)).status).toBe(303) // as it is pasted
})

test('what is no such form is refused before much of it is read', async () => {
  const send = (headers: Headers, body: string) => ask('POST', '/login', headers, body)
  expect((await send({ 'content-type': 'application/json' }, JSON.stringify({ key: view.key }))).status).toBe(415)
  expect((await send({ 'content-type': 'multipart/form-data; boundary=x' }, '--x--')).status).toBe(415)
  expect((await send({ 'content-encoding': 'gzip' }, 'x')).status).toBe(415)
  expect((await send({ 'content-length': '5000' }, 'key=')).status).toBe(413)
  expect((await exchange(system.url(), { method: 'POST', path: '/login', headers: [['host', 'localhost'], ['content-type', 'application/x-www-form-urlencoded'], ['transfer-encoding', 'chunked']], body: `1388\r\n${'x'.repeat(5000)}\r\n0\r\n\r\n` }))!.status).toBe(413)
  for (const bad of ['%', '%E0%A4%A', 'key=%00', '&&&', 'key=a&key=b']) expect((await send({}, bad)).status, bad).toBe(401)
  for (const [method, path] of [['PUT', '/login'], ['GET', '/logout'], ['DELETE', '/logout']] as const) expect((await ask(method, path, { authorization: `Bearer ${view.key}` })).status).toBe(405)
})

test('many wrong keys in a minute are said to be many, and logged; a right one comes in all the same', async () => {
  let last = await logIn(NEVER_MADE)
  for (let i = 0; i < 110 && last.status !== 429; i++) last = await logIn(NEVER_MADE)
  expect([last.status, last.headers['retry-after'], last.text]).toEqual([429, '60', expect.stringContaining('many wrong ones have been tried')])
  await until(() => system.api[0]!.log.join('').includes('many wrong keys are tried at /login'), { what: 'a word of it in the log' })
  expect((await logIn(view.key)).status).toBe(303)
})

const ELSEWHERE = ['//evil.example', '///evil.example', '/\\evil.example', '/\t/evil.example', '/\n/evil.example', '\\\\evil.example', 'https://evil.example/', 'evil.example', 'javascript:alert(1)', '/x\r\nSet-Cookie: a=b', '/ä', ' /docs', '/login', '/login?next=/login', '/logout', `/${'x'.repeat(3_000)}`, '']
test.each(ELSEWHERE)('next=%j leads to /', async (next) => {
  const { status, headers } = await logIn(view.key, { next })
  expect([status, headers.location]).toEqual([303, '/'])
  expect((await ask('GET', `/login?next=${encodeURIComponent(next)}`, HTML)).text).toContain('name="next" value="/"')
})
test('next is a path of ours, as it was asked for', () => {
  for (const path of ['/', '/docs', '/docs/errors#task-ended', '/queues/queue/cost.echo?status=latest&page=2', '/tasks/%E0', '/x?to=https://a.example/']) {
    expect(pathIn(path)).toBe(path)
    expect(new URL(path, 'http://ours.example').origin).toBe('http://ours.example')
  }
  for (const path of [...ELSEWHERE, null, undefined]) expect(pathIn(path)).toBe('/')
})

test('the first page says who is in, and lets out who is so by a session', async () => {
  const cookie = withSession(await sessionOf(view.key))
  const { text, headers } = await ask('GET', '/', cookie)
  expect(text).toContain(`You are in as <strong>who &lt;b&gt;looks</strong> (key ${view.key_id}), role view. <form method="post" action="/logout"`)
  expect(headers['cache-control']).toBe('no-store')
  expect((await ask('GET', '/', withSession(await sessionOf(ADMIN_KEY)))).text).toContain('<strong>ADMIN_KEY</strong>, role admin.')
  expect((await ask('GET', '/', { authorization: `Bearer ${view.key}` })).text).not.toContain('/logout')
  expect((await ask('GET', '/login?next=/docs', cookie)).text).toMatch(/You are in as .*<a href="\/docs">Go on<\/a>/)
  const out = await fetch(`${system.url()}/logout`, { method: 'POST', redirect: 'manual', headers: cookie })
  expect([out.status, out.headers.get('location'), out.headers.getSetCookie().map((one) => one.replace(/=;.*(Max-Age=0).*/, ' $1'))]).toEqual([303, '/login', ['switchyard_session Max-Age=0', '__Host-switchyard_session Max-Age=0']])
})

test('what is for browsers is open, and in no document', async () => {
  expect(Object.values(BROWSER_OPERATIONS).map(({ access }) => access)).toEqual(['open', 'open', 'open'])
  expect((await system.get('/openapi.json')).text).not.toMatch(/"\/log(in|out)"/)
})
