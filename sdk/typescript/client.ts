/**
 * A client of a Switchyard router. Published as `switchyard/client`; needs nothing but Node 22 or newer.
 *
 *     const client = createClient({ url: 'http://127.0.0.1:8080' })
 *     const task = await client.tasks.submit({ agent_type: 'text', task_type: 'word_count', parameters: { text: 'one two' } }).wait()
 */
import { createAgents, type AgentsClient } from './agents.ts'
import { watchEvents, type Gap, type WatchOptions } from './events.ts'
import { createDeadLetters, type DeadLettersClient } from './dead-letters.ts'
import { createHttp, type CallOptions } from './http.ts'
import { createKeys, type KeysClient } from './keys.ts'
import { createSchedules, type SchedulesClient } from './schedules.ts'
import { createTasks, type TasksClient } from './tasks.ts'
import { DEFAULT_URL } from './url.ts'
import type { Live, Ready, TaskEvent } from './wire.ts'

export type * from './wire.ts'
export type * from './explain.ts'
export * from './errors.ts'
export type { AgentsClient } from './agents.ts'
export type { Gap, WatchOptions } from './events.ts'
export type { DeadLettersClient } from './dead-letters.ts'
export type { CallOptions } from './http.ts'
export type { KeysClient } from './keys.ts'
export type { List } from './list.ts'
export type { SchedulesClient } from './schedules.ts'
export { verifyWebhook, WebhookVerificationError, type WebhookHeaders } from './webhook.ts'
export { isEnd, type BatchOptions, type GetOptions, type Submission, type SubmitOptions, type TaskHandle, type TasksClient, type WaitOptions } from './tasks.ts'

export type ClientOptions = {
  /** Where the router is; else the environment's SWITCHYARD_URL, else http://127.0.0.1:8080. */
  url?: string | undefined
  /** Sent as a bearer token; else the environment's SWITCHYARD_API_KEY, else none. */
  apiKey?: string | undefined
  /** For each call, tries and pauses included, unless the call says another; 30 unless given. */
  timeoutSeconds?: number | undefined
  /** Reads the JSON of answers instead of JSON.parse, for whom numbers beyond 2^53 must keep their digits. */
  parseJson?: ((text: string) => unknown) | undefined
  /** Instead of the platform's fetch: to go through a proxy, or to look on. */
  fetch?: typeof globalThis.fetch | undefined
}

export type Client = {
  tasks: TasksClient
  deadLetters: DeadLettersClient
  agents: AgentsClient
  schedules: SchedulesClient
  keys: KeysClient
  /**
   * What happens to the tasks of a type, or to all, from now on, as it happens; broken connections are made again, without a gap or a
   * repeat. An event of type `gap` says that some were forgotten before they could be sent. Leaving the loop ends the watching.
   */
  events(options?: WatchOptions & { agentType?: string | undefined }): AsyncGenerator<TaskEvent | Gap, void>
  /** Whether work goes on. Also answers, rather than throws, when it does not: look at `status`. */
  health(options?: CallOptions): Promise<Ready>
  /** The same as health. */
  ready(options?: CallOptions): Promise<Ready>
  /** Whether the API process runs. */
  live(options?: CallOptions): Promise<Live>
  /** Metrics, in Prometheus's text format. */
  metrics(options?: CallOptions): Promise<string>
  /** The API's document, OpenAPI 3.1. */
  openapi(options?: CallOptions): Promise<Record<string, unknown>>
}

const DEFAULT_TIMEOUT_SECONDS = 30

/** @throws TypeError when the url is none, or the key cannot be one */
export const createClient = (o: ClientOptions = {}): Client => {
  const http = createHttp({
    // An empty variable counts as not set.
    url: o.url ?? (process.env['SWITCHYARD_URL'] || DEFAULT_URL),
    apiKey: o.apiKey ?? (process.env['SWITCHYARD_API_KEY'] || undefined),
    timeoutSeconds: o.timeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS,
    parseJson: o.parseJson ?? JSON.parse,
    fetch: o.fetch ?? globalThis.fetch,
  })
  // 503 is an answer there, not a failure.
  const readiness = (path: string, options: CallOptions = {}): Promise<Ready> => http.json('GET', path, { ...options, again: 'always', accept: [503] })
  return {
    tasks: createTasks(http),
    deadLetters: createDeadLetters(http),
    agents: createAgents(http),
    schedules: createSchedules(http),
    keys: createKeys(http),
    events: ({ agentType, ...options } = {}) => watchEvents(http, '/events', { agent_type: agentType }, options, () => false),
    health: (options) => readiness('/health', options),
    ready: (options) => readiness('/health/ready', options),
    live: (options = {}) => http.json('GET', '/health/live', { ...options, again: 'always' }),
    metrics: (options = {}) => http.text('GET', '/metrics', { ...options, again: 'always' }),
    openapi: (options = {}) => http.json('GET', '/openapi.json', { ...options, again: 'always' }),
  }
}
