/** The API's document as HTML: contents at the side; for each request its parameters, body, answers and a curl line; then the schemas. */
import { escapeHtml } from './html.ts'
import type { Described, Document, Parameter, Schema } from './openapi.ts'

/** Text with inline Markdown, as HTML. */
type Inline = (text: string) => string

const METHODS = ['post', 'get', 'put', 'patch', 'delete']
const anchor = (method: string, path: string) => `${method}-${path.replace(/\W+/g, '-').replace(/^-|-$/g, '')}`
const schemaName = (ref: string) => ref.split('/').at(-1)!

/** A schema in a few words: `string`, `Task[]`, `1 | 2`, `integer, 1 to 15`. */
const typeHtml = (s: Schema): string => {
  if (s.$ref !== undefined) return `<a href="#schema-${schemaName(s.$ref)}">${schemaName(s.$ref)}</a>`
  if (s.anyOf && s.type === undefined) return s.anyOf.map(typeHtml).filter((t) => t !== 'any').join(' or ') || 'any'
  if (s.enum) return s.enum.map((v) => `<code>${escapeHtml(JSON.stringify(v))}</code>`).join(' ')
  if (s.const !== undefined) return `<code>${escapeHtml(JSON.stringify(s.const))}</code>`
  if (s.type === 'array' && s.items) return `array of ${typeHtml(s.items)}${s.maxItems === undefined ? '' : `, at most ${String(s.maxItems)}`}`
  const type = [s.type ?? 'any'].flat().map(String).join(' or ')
  return [s.format === 'date-time' ? 'time, RFC 3339' : type, ...limits(s)].join(', ')
}

const limits = (s: Schema): string[] => {
  const range = (low: unknown, high: unknown, unit: string) => {
    if (low === undefined && high === undefined) return []
    const bounds = high === undefined ? `from ${low}` : low === undefined ? `to ${high}` : `${low} to ${high}`
    return [`${bounds}${unit}`]
  }
  const pattern = typeof s.pattern === 'string' ? [`<code>${escapeHtml(s.pattern)}</code>`] : []
  return [...range(s.minimum, s.maximum, ''), ...range(s.minLength, s.maxLength, ' characters'), ...pattern]
}

const row = (name: string, s: Schema, required: boolean, description: string | undefined, inline: Inline): string => {
  const standard = s.default === undefined ? '' : ` <span class="soft">default <code>${escapeHtml(JSON.stringify(s.default))}</code></span>`
  return `<tr><td><code>${escapeHtml(name)}</code>${required ? ' <span class="must">required</span>' : ''}</td><td><span class="type">${typeHtml(s)}</span>${standard}${description ? `<br>${inline(description)}` : ''}</td></tr>`
}

const membersTable = (s: Schema, inline: Inline): string => {
  const members = Object.entries(s.properties ?? {})
  return members.length === 0 ? '' : `<table>${members.map(([name, m]) => row(name, m, s.required?.includes(name) ?? false, m.description, inline)).join('')}</table>`
}

const parametersHtml = (parameters: Parameter[], inline: Inline): string =>
  ([['path', 'In the path'], ['query', 'In the query'], ['header', 'Headers']] as const)
    .map(([place, title]) => {
      const here = parameters.filter((p) => p.in === place)
      return here.length === 0 ? '' : `<h4>${title}</h4><table>${here.map((p) => row(p.name, p.schema, p.required ?? false, p.description, inline)).join('')}</table>`
    })
    .join('')

const curl = (method: string, path: string, o: Described): string => {
  const example = o.requestBody?.content['application/json']?.example as object | undefined
  const lines = [`curl ${method === 'get' ? '' : `-X ${method.toUpperCase()} `}http://127.0.0.1:8080${path}`]
  if (example !== undefined && (o.requestBody!.required || Object.keys(example).length > 0)) lines.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(example)}'`)
  return `<pre>${escapeHtml(lines.join(' \\\n  '))}</pre>`
}

const bodyHtml = (o: Described, document: Document, inline: Inline): string => {
  const schema = o.requestBody?.content['application/json']?.schema
  if (!schema) return ''
  const whole = schema.$ref === undefined ? schema : document.components.schemas[schemaName(schema.$ref)]!
  const members = membersTable(whole, inline) || '<p class="soft">No members.</p>'
  return `<h4>Body: ${schema.$ref ? typeHtml(schema) : 'object'}${o.requestBody!.required ? '' : ', may be left out'}</h4>${members}`
}

const answersHtml = (o: Described, inline: Inline): string => {
  const rows = Object.entries(o.responses).map(([status, answer]) => {
    const content = Object.entries(answer.content ?? {}).map(([type, { schema }]) => (schema?.$ref ? typeHtml(schema) : `<code>${escapeHtml(type)}</code>`))
    const headers = Object.keys(answer.headers ?? {}).map((h) => `<code>${h}</code>`)
    const more = [...content, ...headers].join(', ')
    return `<tr><td><code>${status}</code></td><td>${inline(answer.description)}${more ? ` <span class="soft">${more}</span>` : ''}</td></tr>`
  })
  return `<h4>Answers</h4><table>${rows.join('')}</table>`
}

const operationHtml = (id: string, title: string, o: Described, document: Document, inline: Inline, example: string): string =>
  `<section><h3 id="${id}">${title}</h3><p>${inline(o.summary)}.${o.description ? ` <span class="soft">${inline(o.description)}</span>` : ''}</p>${example}${parametersHtml(o.parameters ?? [], inline)}${bodyHtml(o, document, inline)}${answersHtml(o, inline)}</section>`

const methodHtml = (method: string) => `<span class="method ${method}">${method.toUpperCase()}</span>`

export const referenceHtml = (document: Document, inline: Inline): { nav: string; main: string } => {
  const operations = Object.entries(document.paths).flatMap(([path, item]) => METHODS.flatMap((method) => (item[method] ? [{ method, path, o: item[method] }] : [])))
  const groups = document.tags.map((tag) => ({ tag, members: operations.filter(({ o }) => o.tags?.includes(tag.name)) }))
  const webhooks = Object.entries(document.webhooks).flatMap(([name, item]) => Object.values(item).map((o) => ({ id: `webhook-${name}`, to: name === 'task' ? '/task' : 'callback_url', o })))
  const schemas = Object.entries(document.components.schemas)

  const nav = [
    `<p><a href="/">Switchyard</a> <span class="soft">${escapeHtml(document.info.version)}</span></p>`,
    ...groups.map(({ tag, members }) => `<strong>${escapeHtml(tag.name)}</strong><ul>${members.map(({ method, path }) => `<li><a href="#${anchor(method, path)}">${methodHtml(method)} ${escapeHtml(path)}</a></li>`).join('')}</ul>`),
    `<strong>Sent to you</strong><ul>${webhooks.map(({ id, to }) => `<li><a href="#${id}">${methodHtml('post')} ${to}</a></li>`).join('')}</ul>`,
    `<strong>Schemas</strong><ul>${schemas.map(([name]) => `<li><a href="#schema-${name}">${name}</a></li>`).join('')}</ul>`,
  ].join('')

  const main = [
    `<h1>${escapeHtml(document.info.title)} API</h1><p>${inline(document.info.description)}</p><p><a href="/openapi.json">openapi.json</a> · <a href="/docs/errors">Errors</a></p>`,
    ...groups.map(({ tag, members }) => `<h2>${escapeHtml(tag.name)}</h2><p>${inline(tag.description)}</p>${members.map(({ method, path, o }) => operationHtml(anchor(method, path), `${methodHtml(method)} <code>${escapeHtml(path)}</code>`, o, document, inline, curl(method, path, o))).join('')}`),
    `<h2>Sent to you</h2>${webhooks.map(({ id, to, o }) => operationHtml(id, `${methodHtml('post')} <code>${to}</code>`, o, document, inline, '')).join('')}`,
    `<h2>Schemas</h2>${schemas.map(([name, s]) => `<section><h3 id="schema-${name}">${name}</h3>${membersTable(s, inline)}</section>`).join('')}`,
  ].join('')
  return { nav, main }
}
