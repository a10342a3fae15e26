/** The API's document, OpenAPI 3.1, made from the zod schemas that check requests and the table of operations. */
import { z } from 'zod'
import { AgentId, AgentType } from '../contracts/agent.ts'
import { KeyId } from '../contracts/key.ts'
import { ScheduleId } from '../contracts/schedule.ts'
import { Delivery, DeliveryAnswer, WebhookEvent } from '../contracts/task.ts'
import type { ProblemType } from '../errors.ts'
import { createOperations, TAGS, type Operation, type OperationAnswer } from './operations.ts'
import { Problem, PROBLEMS } from './problem.ts'

/** JSON Schema 2020-12, as far as zod writes it. */
export type Schema = {
  $ref?: string
  type?: string | string[]
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  anyOf?: Schema[]
  enum?: unknown[]
  const?: unknown
  default?: unknown
  description?: string
  [more: string]: unknown
}
export type Parameter = { name: string; in: 'path' | 'query' | 'header'; required?: boolean; description?: string; schema: Schema }
export type Content = Record<string, { schema?: Schema; example?: unknown }>
export type Answer = { description: string; content?: Content; headers?: Record<string, { description: string; schema: Schema }> }
export type Described = { operationId: string; summary: string; description?: string; tags?: string[]; parameters?: Parameter[]; security?: Record<string, string[]>[]; requestBody?: { required: boolean; content: Content }; responses: Record<string, Answer> }
export type Document = {
  openapi: string
  info: { title: string; version: string; description: string; license: { name: string; identifier: string } }
  servers: { url: string }[]
  tags: { name: string; description: string }[]
  paths: Record<string, Record<string, Described>>
  webhooks: Record<string, Record<string, Described>>
  components: { schemas: Record<string, Schema>; securitySchemes: Record<string, Schema> }
}

const DESCRIPTION = `A task router for fleets of HTTP agents. Agents register what they can do, clients submit tasks, and each task is handed to the least-loaded
healthy agent that can do it, and seen to exactly one end. JSON throughout, in snake_case; errors are problem documents (RFC 9457), each type explained at [/docs/errors](/docs/errors).`

const COMPONENTS = '#/components/schemas/'

const HEADERS: Record<string, { description: string; schema: Schema }> = {
  Location: { description: 'The path of what was made.', schema: { type: 'string' } },
  'Retry-After': { description: 'Seconds after which to try again.', schema: { type: 'integer' } },
  'WWW-Authenticate': { description: 'How to say who asks.', schema: { type: 'string' } },
  'Idempotent-Replayed': { description: '`true` when the task was taken before, under the same key.', schema: { type: 'string', enum: ['true'] } },
}

const SECURITY_SCHEMES: Record<string, Schema> = {
  key: { type: 'http', scheme: 'bearer', bearerFormat: 'sy_<id>_<secret>', description: 'A key, made by `POST /keys` or `switchyard keys create`. What stands with an operation are the roles of which it must have one. On a loopback address no key is needed until the first one is made.' },
  agent_token: { type: 'http', scheme: 'bearer', bearerFormat: 'sya_…', description: 'The `agent_token` of an agent’s latest registration: for what concerns that agent, and the attempts sent to it.' },
}

/** Where ids stand in paths, and their form. One of another form is simply not there: 404. */
const pathParameter = (path: string, name: string): Parameter => {
  const schema = name === 'type' ? AgentType : path.startsWith('/agents') ? AgentId : path.startsWith('/schedules') ? ScheduleId : path.startsWith('/keys') ? KeyId : z.string().meta({ examples: ['cost.01980a1c-6f0e-7c3a-9d2b-1f6a2b3c4d5e'] })
  return { name, in: 'path', required: true, schema: plain(schema) }
}

/** Requests and answers are told as they are on the wire, so both by what they take in. */
const options = {
  io: 'input',
  unrepresentable: 'any',
  override: ({ jsonSchema: schema }: { jsonSchema: z.core.JSONSchema.BaseSchema }) => {
    // JavaScript's bounds of integers say nothing; the forms of times, and of numbers and flags in queries, are said by their types.
    if (schema.minimum === Number.MIN_SAFE_INTEGER) delete schema.minimum
    if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum
    if (schema.format === 'date-time' || schema.type === 'integer') delete schema.pattern
    if (schema.type === 'boolean') delete schema.enum
  },
} as const

const bare = (schema: Schema): Schema => Object.fromEntries(Object.entries(schema).filter(([key]) => !['$schema', '$defs', 'id'].includes(key)))
const converted = (schema: z.ZodType): Schema => JSON.parse(JSON.stringify(z.toJSONSchema(schema, options)).replaceAll('"#/$defs/', `"${COMPONENTS}`)) as Schema
const plain = (schema: z.ZodType): Schema => bare(converted(schema))

/** Schemas with an id (`.meta({ id })`) are told once, by name, and so are those within them. */
const createComponents = () => {
  const named = new Map<string, Schema>()
  const add = (schema: z.ZodType): Schema => {
    const id = z.globalRegistry.get(schema)?.id
    const whole = converted(schema)
    for (const [inner, s] of Object.entries((whole.$defs ?? {}) as Record<string, Schema>)) named.set(inner, bare(s))
    if (id === undefined) return bare(whole)
    if (!whole.$ref) named.set(id, bare(whole)) // zod may have put it among the inner ones
    return { $ref: COMPONENTS + id }
  }
  return { add, schemas: (): Record<string, Schema> => Object.fromEntries([...named].sort(([a], [b]) => (a < b ? -1 : 1))) }
}
type Components = ReturnType<typeof createComponents>

const queryParameters = (query: z.ZodObject): Parameter[] =>
  Object.entries(query.shape as Record<string, z.ZodType>).map(([name, field]) => {
    const { description, ...schema } = plain(field)
    if (field instanceof z.ZodDefault) schema.default = field.def.defaultValue
    return { name, in: 'query', ...(description === undefined ? {} : { description }), schema }
  })

const headerParameter = ([name, description]: [string, string]): Parameter => ({ name, in: 'header', description, schema: { type: 'string' } })

const answer = ({ description, schema, contentType, headers }: OperationAnswer, components: Components): Answer => ({
  description,
  ...(headers === undefined ? {} : { headers: Object.fromEntries(headers.map((h) => [h, HEADERS[h]!])) }),
  ...(schema === undefined || contentType !== undefined ? {} : { content: { 'application/json': { schema: components.add(schema) } } }),
  ...(contentType === undefined ? {} : { content: { [contentType]: { schema: { type: contentType === 'application/json' ? 'object' : 'string', ...(schema ? { contentSchema: components.add(schema) } : {}) } } } }),
})

const problemsOf = (path: string, o: Operation): ProblemType[] => {
  const types = new Set<ProblemType>(o.access === 'open' ? [] : ['unauthorized', 'forbidden', 'rate-limited'])
  for (const type of o.problems ?? []) types.add(type)
  if (o.body) for (const type of ['invalid-json', 'payload-too-large', 'unsupported-media-type', 'invalid-request'] as const) types.add(type)
  if (!o.storeless) for (const type of ['invalid-request', 'store-unavailable', 'overloaded'] as const) types.add(type)
  if (path.includes('{')) types.add('malformed-request')
  return [...types, 'internal']
}

/** One answer a status; a status may stand for several problem types. */
const problemAnswers = (path: string, o: Operation, components: Components): Record<string, Answer> => {
  const byStatus = Map.groupBy(problemsOf(path, o), (type) => PROBLEMS[type].status)
  return Object.fromEntries(
    [...byStatus].map(([status, types]) => [
      status,
      {
        description: types.map((type) => `[${type}](/docs/errors#${type}): ${PROBLEMS[type].title}`).join('; '),
        ...(status === 401 ? { headers: { 'WWW-Authenticate': HEADERS['WWW-Authenticate']! } } : {}),
        ...(status === 503 || status === 429 ? { headers: { 'Retry-After': HEADERS['Retry-After']! } } : {}),
        content: { 'application/problem+json': { schema: components.add(Problem) } },
      },
    ]),
  )
}

/** `{}`: without either, which works as long as no keys are in force, and where `access` is open for ever. The roles of a bearer scheme stand for what may be asked by it. */
const securityOf = ({ access }: Operation): Record<string, string[]>[] => {
  if (access === 'open') return []
  const roles = [...new Set([...access.filter((one) => one !== 'token'), 'admin'])]
  return [{ key: roles }, ...(access.includes('token') ? [{ agent_token: [] }] : []), {}]
}

const describe = (method: string, path: string, o: Operation, components: Components): Described => {
  const parameters = [...[...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => pathParameter(path, name!)), ...(o.query ? queryParameters(o.query) : []), ...Object.entries(o.requestHeaders ?? {}).map(headerParameter)]
  const answers = Object.fromEntries(Object.entries(o.answers).map(([status, a]) => [status, answer(a, components)]))
  return {
    operationId: [method.toLowerCase(), ...path.split(/\W+/).filter(Boolean)].join('_'),
    tags: [o.tag],
    summary: o.summary,
    ...(o.description === undefined ? {} : { description: o.description }),
    ...(parameters.length === 0 ? {} : { parameters }),
    security: securityOf(o),
    ...(o.body ? { requestBody: { required: !o.body.optional, content: { 'application/json': { schema: components.add(o.body.schema), example: o.body.example } } } } : {}),
    responses: { ...problemAnswers(path, o, components), ...answers },
  }
}

/** What we ask of an agent, told as a webhook: the one request that goes the other way. */
const delivery = (components: Components): Described => ({
  operationId: 'deliver_task',
  summary: 'What an agent is asked: POST http://host:port/task',
  description: 'With the headers `Idempotency-Key` (the task id) and `Switchyard-Attempt`. The same task may be delivered again after a fault, with another attempt id. Redirects are not followed.',
  requestBody: { required: true, content: { 'application/json': { schema: components.add(Delivery) } } },
  responses: {
    200: { description: 'Done, or failed: as `status` says.', content: { 'application/json': { schema: components.add(DeliveryAnswer) } } },
    429: { description: 'No room (so does 503). Costs no attempt; the agent rests for as long as Retry-After says.', headers: { 'Retry-After': HEADERS['Retry-After']! } },
    '4XX': { description: 'Refused for good, unless it says `retryable: true`. 408 and 425 are tried again.', content: { 'application/json': { schema: components.add(DeliveryAnswer) } } },
    '5XX': { description: 'A failed attempt, tried again at another agent if there is one, unless it says `retryable: false`.', content: { 'application/json': { schema: components.add(DeliveryAnswer) } } },
  },
})

/** What we tell whoever asked to be told. */
const taskEnded = (components: Components): Described => ({
  operationId: 'tell_end',
  summary: 'What a callback_url is sent when its task ends',
  description:
    'Signed as Standard Webhooks has it: `webhook-id` (the same at every try), `webhook-timestamp`, `webhook-signature`. It may come more than once. Until it is answered 2xx it is sent ten times over three days; redirects are not followed.',
  requestBody: { required: true, content: { 'application/json': { schema: components.add(WebhookEvent) } } },
  responses: {
    '2XX': { description: 'Taken. The body is not read.' },
    410: { description: 'Nobody wants it any more: for a day nothing is sent to this URL.' },
    429: { description: 'Too much (so are 502, 503 and 504): the receiver is left alone for as long as Retry-After says, at most 5 minutes.', headers: { 'Retry-After': HEADERS['Retry-After']! } },
  },
})

/** @param o.maxTimeoutSeconds the operator's upper bound for `timeout_seconds` */
export const createDocument = ({ version, maxTimeoutSeconds }: { version: string; maxTimeoutSeconds: number }): Document => {
  const components = createComponents()
  const paths: Document['paths'] = {}
  for (const [route, operation] of Object.entries(createOperations(maxTimeoutSeconds))) {
    const [method, path] = route.split(' ', 2) as [string, string]
    paths[path] = { ...paths[path], [method.toLowerCase()]: describe(method, path, operation, components) }
  }
  const webhooks = { task: { post: delivery(components) }, ended: { post: taskEnded(components) } }
  return {
    openapi: '3.1.0',
    info: { title: 'Switchyard', version, description: DESCRIPTION, license: { name: 'MIT', identifier: 'MIT' } },
    servers: [{ url: '/' }],
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    paths,
    webhooks,
    components: { schemas: components.schemas(), securitySchemes: SECURITY_SCHEMES },
  }
}
