/** The pages as a person sees them: in a real browser, which also says what they ask of others, and what their policy forbade them. */
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startSystem, until, type System } from '../system.ts'
import { launch, watch } from './browser.ts'

/** It would show in the page's title, and in what was said. */
const HOSTILE = `<img src="http://outside.example/x.png" onerror="document.title='taken'"><script>document.title='taken'</script>`

let system: System
let browser: Browser
let ids: { completed: string; failed: string }
beforeAll(async () => {
  system = await startSystem()
  browser = await launch()
  await system.agent({ capabilities: ['echo'], name: HOSTILE.slice(0, 200), handle: ({ parameters }) => { if (parameters.fail) throw new Error(HOSTILE); return { html: HOSTILE } } })
  const [completed, failed] = await Promise.all([system.submit({ parameters: { html: HOSTILE }, metadata: { html: HOSTILE } }), system.submit({ parameters: { html: HOSTILE, fail: true }, max_retries: 0 })])
  ids = { completed, failed }
  await Promise.all([system.ended(completed), system.ended(failed)])
})
afterAll(async () => {
  await browser?.close()
  await system?.[Symbol.asyncDispose]()
})

/** A page that was opened, and what it did that no page of ours may do. */
const open = async (path: string): Promise<{ page: Page; faults: string[] }> => {
  const page = await browser.newPage()
  const faults = watch(page, system.url())
  await page.goto(system.url() + path, { waitUntil: 'networkidle' })
  return { page, faults }
}

test.each([
  ['/', 'Switchyard', 'A task router for fleets of HTTP agents.'],
  ['/docs', 'API reference', 'POST /tasks'],
  ['/docs/errors', 'errors', 'queue-full'],
])('%s is a page without faults', async (path, title, words) => {
  const { page, faults } = await open(path)
  expect(await page.title()).toContain(title)
  expect(await page.locator('body').innerText()).toContain(words)
  expect(faults).toEqual([])
  await page.close()
})

test('a link of the landing page leads to each page', async () => {
  const { page } = await open('/')
  const links = await page.locator('a').evaluateAll((all) => all.map((a) => a.getAttribute('href')!))
  expect(links).toContain('/queues')
  for (const link of links) expect([link, (await page.request.get(system.url() + link)).status()]).toEqual([link, 200])
  await page.close()
})

test('the Board shows queues and what is in them, loads nothing from elsewhere, and runs nothing that tasks bring', async () => {
  const { page, faults } = await open('/queues')
  await until(async () => (await page.locator('body').innerText()).includes('echo'), { what: 'the queue' })
  for (const id of [ids.completed, ids.failed]) {
    await page.goto(`${system.url()}/queues/queue/test.echo/${encodeURIComponent(id)}`, { waitUntil: 'networkidle' })
    await until(async () => (await page.locator('body').innerText()).includes(id), { what: `the job of ${id}` })
    await until(async () => (await page.locator('body').innerText()).includes('outside.example'), { what: 'what the task brought, as text' })
  }
  expect(await page.title()).not.toContain('taken')
  expect(faults).toEqual([])
  await page.close()
})

test('a page of ours stands in nobody else’s frame', async () => {
  const { page } = await open('/docs')
  for (const path of ['/docs', '/queues']) {
    const policy = (await page.request.get(system.url() + path)).headers()['content-security-policy']
    expect(policy).toMatch(/default-src '(none|self)'/)
    expect(policy).toMatch(/frame-ancestors '(none|self)'/)
  }
  await page.close()
})
