/** Pages for people: where to find what, the reference, the errors; and the document itself. */
import { readFile } from 'node:fs/promises'
import { Router, type Response } from 'express'
import { escapeHtml, page } from './html.ts'
import { sendJson } from './json.ts'
import type { Document } from './openapi.ts'
import { notAllowed } from './problem.ts'
import { referenceHtml } from './reference.ts'

// Says to the browser what the page keeps to anyway.
const CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"

/** Headings get their text as id: `## task-ended` is where `/docs/errors#task-ended` leads. */
const errorsPage = async (file: URL): Promise<string> => {
  const { Marked } = await import('marked')
  const markdown = new Marked({
    renderer: {
      heading({ tokens, text, depth }) {
        return `<h${depth} id="${escapeHtml(text)}">${this.parser.parseInline(tokens)}</h${depth}>\n`
      },
    },
  })
  const text = await readFile(file, 'utf8')
  const types = [...text.matchAll(/^## (.+)$/gm)].map(([, type]) => `<li><a href="#${escapeHtml(type!)}">${escapeHtml(type!)}</a></li>`)
  return page('Switchyard: errors', `<a href="/docs">API reference</a><ul>${types.join('')}</ul>`, await markdown.parse(text))
}

const landing = (who: string): string => `<h1>Switchyard</h1><p>A task router for fleets of HTTP agents.</p>${who}<table>${[
  ['/docs', 'The API, every request with an example'],
  ['/docs/errors', 'What each problem means, and what to do'],
  ['/openapi.json', 'The API as an OpenAPI 3.1 document'],
  ['/queues', 'A look into every queue'],
  ['/metrics', 'Numbers for Prometheus'],
  ['/health', 'Whether work goes on'],
  ['/agents', 'The agents there are'],
  ['/tasks', 'The latest tasks'],
]
  .map(([path, what]) => `<tr><td><a href="${path}">${path}</a></td><td>${what}</td></tr>`)
  .join('')}</table>`

export const sendHtml = (res: Response, html: string): void => {
  res.setHeader('Content-Security-Policy', CONTENT_POLICY)
  res.type('html').send(html)
}

/** Made when it is first asked for: each costs a start more than most processes ever use of it. */
const lazily = <T>(make: () => T): (() => T) => {
  let made: { value: T } | undefined
  return () => (made ??= { value: make() }).value
}

/**
 * @param createDocument the API's document; made when it is first asked for
 * @param whoIsIn as the landing page says it
 */
export const pageRoutes = (createDocument: () => Document, whoIsIn: (res: Response) => string, errorsFile = new URL('../../docs/errors.md', import.meta.url)): Router => {
  const document = lazily(createDocument)
  const json = lazily(() => JSON.stringify(document()))
  const reference = lazily(async () => {
    const { Marked } = await import('marked')
    const inline = new Marked()
    const { nav, main } = referenceHtml(document(), (text) => inline.parseInline(text, { async: false }))
    return page('Switchyard: API reference', nav, main)
  })
  let errors: string | undefined

  const routes = Router()
  routes.get('/', (_req, res) => {
    res.setHeader('Cache-Control', 'no-store')
    sendHtml(res, page('Switchyard', '', landing(whoIsIn(res))))
  })
  routes.get('/docs', async (_req, res) => sendHtml(res, await reference()))
  routes.get('/docs/errors', async (_req, res) => {
    errors ??= await errorsPage(errorsFile)
    sendHtml(res, errors)
  })
  routes.get('/openapi.json', (_req, res) => sendJson(res, 200, json()))
  routes.all(['/', '/docs', '/docs/errors', '/openapi.json'], notAllowed('GET'))
  return routes
}
