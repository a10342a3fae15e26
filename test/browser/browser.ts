/** A Chromium, and what its pages do that no page of ours may do. */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { chromium, type Browser, type Page } from 'playwright-core'

/** @param names that are somebody's, and where they are */
export const launch = (names: Record<string, string> = {}): Promise<Browser> => {
  const executablePath = execFileSync(fileURLToPath(new URL('../../bin/browser', import.meta.url)), { encoding: 'utf8' }).trim()
  const rules = Object.entries(names).map(([name, at]) => `MAP ${name} ${at}`)
  // As root Chromium has no sandbox; these pages are our own.
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage', ...(rules.length === 0 ? [] : [`--host-resolver-rules=${rules.join(',')}`])] })
}

/** Each fault of a page from now on: what it says is wrong, what it asks of others than the router at `url`, and what it is refused. */
export const watch = (page: Page, url: string): string[] => {
  const faults: string[] = []
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(`console: ${message.text()}`)
  })
  page.on('pageerror', (error) => faults.push(`error: ${error.message}`))
  page.on('request', (request) => {
    const { protocol, origin } = new URL(request.url())
    if (protocol !== 'data:' && protocol !== 'blob:' && origin !== new URL(url).origin) faults.push(`outside: ${request.url()}`)
  })
  page.on('response', (response) => {
    if (response.status() >= 400) faults.push(`${response.status()}: ${response.url()}`)
  })
  return faults
}
