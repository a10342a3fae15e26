/** Coming in and going out as a person does, and what a page of somebody else's can do in that person's browser: nothing. */
import { readFileSync } from 'node:fs'
import { createServer, request, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fixture } from '../processes.ts'
import { call, startSystem, until, type System } from '../system.ts'
import { launch, watch } from './browser.ts'

const ADMIN_KEY = 'planted-admin-key-0123456789abcdefghij'
/** A page that tries what it can, and says so in its title when it has. */
const EVIL = (url: string, agent: string): string => `<!doctype html><form id="f" method="post" action="${url}/agents/${agent}/unregister" target="inner"></form><iframe name="inner"></iframe><a href="${url}/docs">a link</a><script>
document.querySelector('#f').submit()
const tries = [
  fetch('${url}/agents/${agent}/unregister', { method: 'POST', mode: 'no-cors' }),
  fetch('${url}/agents/${agent}/unregister', { method: 'POST' }),
  fetch('${url}/agents/${agent}', { method: 'DELETE' }),
  fetch('${url}/agents', { credentials: 'include' }).then((res) => res.text()).then((text) => { document.title = 'read ' + text }),
  fetch('/agents/${agent}/unregister', { method: 'POST' }),
]
Promise.allSettled(tries).then(() => setTimeout(() => { if (document.title === '') document.title = 'tried' }, 300))
</script>`

let keyed: System
let open: System
let browser: Browser
let evil: Server
let view: string
let task: string
let agent: string
beforeAll(async () => {
  ;[keyed, open] = await Promise.all([startSystem({ key: ADMIN_KEY }), startSystem({ workers: 0 })])
  view = (await keyed.post('/keys', { name: 'a person', roles: ['view'] })).json.key
  await keyed.agent()
  await keyed.ended((task = await keyed.submit()))
  agent = (await open.post('/agents/register', { name: 'a', type: 'test', host: '127.0.0.1', port: 9 })).json.agent_id
  evil = createServer((_req, res) => res.setHeader('content-type', 'text/html').end(EVIL(open.url(), agent)))
  await new Promise<void>((listening) => evil.listen(0, '127.0.0.1', listening))
  browser = await launch({ 'evil.example': '127.0.0.1' })
})
afterAll(async () => {
  await browser?.close()
  evil?.close()
  await Promise.all([keyed, open].map((system) => system?.[Symbol.asyncDispose]()))
})

test('a person who opens a page logs in by a key, goes on to it and every other, and logs out', async () => {
  const context = await browser.newContext()
  const page = await context.newPage()
  const faults = watch(page, keyed.url())
  const at = (): string => page.url().slice(keyed.url().length)

  await page.goto(`${keyed.url()}/queues`)
  expect([at(), await page.title()]).toEqual(['/login?next=%2Fqueues', 'Switchyard: log in'])
  expect(await page.evaluate(() => document.activeElement?.id)).toBe('key')
  expect(faults).toEqual([])
  await page.getByLabel('Key').fill('sy_mistyped')
  await page.keyboard.press('Enter')
  await page.getByRole('alert').waitFor()
  expect(await page.getByRole('alert').innerText()).toContain('This key is not known here')
  expect(await page.getByLabel('Key').inputValue()).toBe('')
  faults.length = 0 // a 401 is told on the console
  await page.getByLabel('Key').fill(view)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.waitForURL(`${keyed.url()}/queues`)
  await until(async () => (await page.locator('body').innerText()).includes('echo'), { what: 'the queue on the Board' })
  await page.goto(`${keyed.url()}/queues/queue/test.echo/${encodeURIComponent(task)}`)
  await until(async () => (await page.locator('body').innerText()).includes(task), { what: 'the task on the Board' })

  // Nothing in the page can read the session, which is not the key.
  expect(await page.evaluate(() => document.cookie)).toBe('')
  const [session] = await context.cookies()
  expect(session).toMatchObject({ name: 'switchyard_session', httpOnly: true, sameSite: 'Strict', secure: false, path: '/' })
  expect(session!.value).not.toContain(view.split('_')[2])

  await page.goto(keyed.url())
  expect(await page.locator('body').innerText()).toContain('You are in as a person')
  const links = await page.locator('a').evaluateAll((all) => all.map((a) => a.getAttribute('href')!))
  expect(links).toEqual(expect.arrayContaining(['/docs', '/docs/errors', '/openapi.json', '/queues', '/metrics', '/agents', '/tasks']))
  for (const link of ['/docs', '/docs/errors', '/queues']) {
    await page.goto(keyed.url())
    await page.locator(`a[href="${link}"]`).click()
    await page.waitForURL(`${keyed.url()}${link}`)
  }
  // What is no page: for that the browser itself asks for an icon. The last is where the Board leads.
  for (const link of [...links, `/tasks/${task}`]) expect([link, (await context.request.get(keyed.url() + link)).status()]).toEqual([link, 200])
  expect(faults).toEqual([])

  await page.goto(keyed.url())
  await page.getByRole('button', { name: 'Log out' }).click()
  await page.waitForURL('**/login')
  expect(await context.cookies()).toEqual([])
  await page.goto(`${keyed.url()}/docs`)
  expect(at()).toBe('/login?next=%2Fdocs')
  expect(faults).toEqual([])
  await context.close()
})

test('by https, behind a proxy that is told nothing, the session is for https alone', async () => {
  // As nginx does unless it is told otherwise: under the name of what is behind it, and without a word of https.
  const proxy = createTlsServer({ cert: readFileSync(fixture('receiver.crt')), key: readFileSync(fixture('receiver.key')) }, (req, res) => {
    const to = request(keyed.url() + req.url, { method: req.method, headers: { ...req.headers, host: 'api:8080' } }, (from) => from.pipe(res.writeHead(from.statusCode!, from.headers)))
    req.pipe(to)
  })
  await new Promise<void>((listening) => proxy.listen(0, '127.0.0.1', listening))
  const url = `https://localhost:${(proxy.address() as AddressInfo).port}`
  const context = await browser.newContext({ ignoreHTTPSErrors: true })
  try {
    const page = await context.newPage()
    const faults = watch(page, url)
    await page.goto(`${url}/queues`)
    await page.getByLabel('Key').fill(view)
    await page.keyboard.press('Enter')
    await page.waitForURL(`${url}/queues`)
    await until(async () => (await page.locator('body').innerText()).includes('echo'), { what: 'the queue on the Board' })
    expect(await context.cookies()).toMatchObject([{ name: '__Host-switchyard_session', secure: true, httpOnly: true, sameSite: 'Strict', path: '/' }])
    await page.goto(url)
    await page.getByRole('button', { name: 'Log out' }).click()
    await page.waitForURL(`${url}/login`)
    expect([await context.cookies(), faults]).toEqual([[], []])
  } finally {
    await context.close()
    proxy.closeAllConnections()
    proxy.close()
  }
})

test('a link of another site leads to the login, and from there in by a click', async () => {
  const context = await browser.newContext()
  const page = await context.newPage()
  await page.goto(`${keyed.url()}/login?next=/docs`)
  await page.getByLabel('Key').fill(ADMIN_KEY)
  await page.keyboard.press('Enter')
  await page.waitForURL(`${keyed.url()}/docs`)
  await page.goto(`http://evil.example:${(evil.address() as AddressInfo).port}/`)
  await page.evaluate((to) => { document.querySelector('a')!.href = to }, `${keyed.url()}/docs`)
  await page.getByText('a link').click()
  await page.waitForURL('**/login?next=%2Fdocs')
  await page.getByText('Go on').click()
  await page.waitForURL(`${keyed.url()}/docs`)
  expect(await page.title()).toContain('API reference')
  await context.close()
})

test('a page of another site, or under a name that has come to mean us (DNS rebinding), neither changes nor reads anything while there are no keys', async () => {
  const page = await browser.newPage()
  const port = (evil.address() as AddressInfo).port
  const refused: string[] = []
  page.on('response', (response) => {
    if (response.url().startsWith(open.url())) refused.push(`${response.request().method()} ${response.status()}`)
  })
  await page.goto(`http://evil.example:${port}/`)
  await until(async () => (await page.title()) !== '', { what: 'it has tried' })
  expect(await page.title()).toBe('tried')
  expect(refused).toContain('POST 403')
  expect(refused.filter((one) => one.endsWith(' 200') && !one.startsWith('GET'))).toEqual([])
  expect((await call('GET', `${open.url()}/agents/${agent}`)).status).toBe(200)
  // Now the name means us, on our port: a page of ours, as the browser sees it.
  const rebound = open.url().replace('127.0.0.1', 'evil.example')
  const answer = await page.goto(`${rebound}/agents`)
  expect([answer!.status(), await answer!.text()]).toEqual([403, expect.stringContaining('no keys are in force here')])
  const tried = await page.evaluate(async (id) => (await fetch(`/agents/${id}/unregister`, { method: 'POST' })).status, agent)
  expect(tried).toBe(403)
  expect((await call('GET', `${open.url()}/agents/${agent}`)).status).toBe(200)
  // A link leads here as ever.
  await page.goto(`http://evil.example:${port}/`)
  await page.getByText('a link').click()
  await page.waitForURL('**/docs')
  expect(await page.title()).toContain('API reference')
  await page.close()
})
