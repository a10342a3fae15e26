/** The API's document, as tests read it that hold for every route: what a new route takes is tried on the day it is described. */
import { createDocument, type Described, type Parameter, type Schema } from '../src/api/openapi.ts'

export const MAX_TIMEOUT_SECONDS = 300 // as it is unless configured
export const document = createDocument({ version: 'test', maxTimeoutSeconds: MAX_TIMEOUT_SECONDS })

const PREFIX = '#/components/schemas/'
/** A schema itself, where it is only named. */
export const known = (schema: Schema): Schema => (schema.$ref === undefined ? schema : document.components.schemas[schema.$ref.slice(PREFIX.length)]!)

export type Route = {
  /** `POST /tasks/{id}/retry` */
  name: string
  method: string
  path: string
  parameters: (where: Parameter['in']) => Parameter[]
  body: { schema: Schema; required: boolean; example: Record<string, unknown> } | null
  answers: string[]
}

const routeOf = (path: string, method: string, o: Described): Route => {
  const content = o.requestBody?.content['application/json']
  return {
    name: `${method.toUpperCase()} ${path}`,
    method: method.toUpperCase(),
    path,
    parameters: (where) => (o.parameters ?? []).filter((p) => p.in === where),
    body: content ? { schema: known(content.schema!), required: o.requestBody!.required, example: content.example as Record<string, unknown> } : null,
    answers: Object.keys(o.responses),
  }
}
export const routes: Route[] = Object.entries(document.paths).flatMap(([path, item]) => Object.entries(item).map(([method, o]) => routeOf(path, method, o)))

/** What a path stands for when each `{name}` in it is replaced. */
export const filled = (path: string, of: (name: string) => string): string => path.replace(/\{(\w+)\}/g, (_, name: string) => of(name))

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

/** Whether a schema lets a JSON value pass, as far as our schemas go. Undefined passes none. */
export const accepts = (of: Schema, value: unknown): boolean => {
  const schema = known(of)
  if (value === undefined) return false
  if (schema.anyOf && schema.type === undefined && !schema.anyOf.some((one) => accepts(one, value))) return false
  if (schema.enum && !schema.enum.includes(value)) return false
  const { minimum = -Infinity, maximum = Infinity, minLength = 0, maxLength = Infinity, maxItems = Infinity, pattern } = schema as { minimum?: number; maximum?: number; minLength?: number; maxLength?: number; maxItems?: number; pattern?: string }
  switch (schema.type) {
    case 'integer':
    case 'number':
      return typeof value === 'number' && value >= minimum && value <= maximum && Number.isFinite(value) && (schema.type === 'number' || Number.isInteger(value))
    case 'string':
      return typeof value === 'string' && value.length >= minLength && value.length <= maxLength && (pattern === undefined || new RegExp(pattern).test(value))
    case 'boolean':
      return typeof value === 'boolean'
    case 'array':
      return Array.isArray(value) && value.length <= maxItems && value.every((item) => accepts(schema.items ?? {}, item))
    case 'object':
      return isRecord(value) && (schema.required ?? []).every((name) => name in value) && Object.entries(schema.properties ?? {}).every(([name, member]) => value[name] === undefined || accepts(member, value[name]))
    default:
      return true
  }
}
