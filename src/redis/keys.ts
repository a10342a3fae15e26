/**
 * Every Redis key and channel, named in one place: for TypeScript by `createKeys`, for Lua by `luaNames` (made from the same table).
 *
 * All keys of one agent type in one namespace share a hash tag, `sy:{default/cost}:`, so each script is atomic on one node
 * and agent types may spread over a cluster. BullMQ's own keys live beside ours under the same tag: its queue names hold a dot
 * (`cost.analyze`) and none of ours do, so the two can never meet.
 */

/** Keys with an id behind them: `sy:{default/cost}:agent:<id>`. */
const WITH_ID = {
  /** hash: an agent; expires 24 h after its last beat, or some minutes later */
  agent: 'agent:',
  /** zset: its leases, attempt id → deadline in ms of Redis time */
  leases: 'leases:',
  /** set: its attempts whose tasks are to be cancelled */
  cancels: 'cancels:',
  /** hash: its attempts that are parked, attempt id → task */
  parked: 'parked:',
  /** set: the parked tasks of a queue; their jobs stand in none of BullMQ's lists */
  aside: 'aside:',
  /** zset: the living agents of a capability, by score: see registry/slots.lua */
  pool: 'pool:',
  /** hash: a task's record */
  task: 'task:',
  /** zset, all scores 0: the ids of the tasks of a status; by id is by time */
  tasks: 'tasks:',
  /** zset, all scores 0: what the ended records of a status take, by stretches of the list: see tasks/weigh.lua */
  stretches: 'stretches:',
  /** hash: the webhook of an ended task: see tasks/webhooks/outbox.lua */
  webhook: 'webhook:',
  /** hash: a task's record, kept for its webhook after its own time was over */
  webhook_task: 'webhook-task:',
  /** zset: the webhooks of one origin (`https://app.example`) that are to be sent, task → when */
  webhook_queue: 'webhook-queue:',
  /** string: what an Idempotency-Key was first answered, by the key's digest (tasks/submit.lua); expires by itself */
  idempotency: 'idempotency:',
  /** string: the requests of a key within a second (api/limit.ts); expires by itself */
  rate: 'rate:',
  /** hash: a schedule's record (schedules/schedule.lua) */
  schedule: 'schedule:',
} as const

/** Keys of which an agent type has one. */
const SINGLE = {
  /** zset, all scores 0: every agent known */
  agents: 'agents',
  /** zset: agent → when someone must look at it next (silence, rest, a lease's deadline) */
  watch: 'watch',
  /** zset: task → when someone must look at its record next (due, expired, overdue, without a job) */
  timers: 'timers',
  /** zset: queue → when it was last seen with work */
  queues: 'queues',
  /** zset: dispatcher → its load as last said, plus the wakes sent since; of the empty type: → ms at which it last made progress (presence.lua) */
  dispatchers: 'dispatchers',
  /** hash: `tick`, when a dispatcher last looked; `grace`, since when silence counts again; `hold`, until when the silent are kept (registry/health.lua) */
  sweep: 'sweep',
  /** stream: what happened to tasks, the latest (record.lua) */
  events: 'events',
  /** hash: what of its retries an agent type has spent (tasks/budget.lua); expires by itself */
  retry_budget: 'retry-budget',
  /** hash: bytes of ended records by status, and of those kept for their webhooks: see tasks/weigh.lua, tasks/webhooks/outbox.lua */
  weight: 'weight',
  /** hash: counts for /metrics */
  stats: 'stats',
  /** hash: queue → when a dispatcher was last told of it and has not come yet */
  woken: 'woken',
  /** zset: task → when its webhook is to be forgotten */
  webhooks: 'webhooks',
  /** zset: origin → when its first webhook is to be sent, or its rest is over */
  webhook_origins: 'webhook-origins',
  /** zset: origin → until when it asked not to be sent anything */
  webhook_rests: 'webhook-rests',
  /** zset: URL that answered 410 → until when nothing is sent there */
  webhooks_disabled: 'webhooks-disabled',
  /** of the empty type only, string: what webhooks are signed with where no secret was set (secret.ts) */
  webhook_secret: 'webhook-secret',
  /** of the empty type only, string: what agents' secrets are derived from where none was set (registry/signing.ts) */
  signing_secret: 'signing-secret',
  /** zset: schedule → when someone must look at it next: due, or its run not submitted yet; +inf while paused */
  schedules: 'schedules',
  /** of the empty type only, zset, all scores 0: `<schedule>\t<agent type>`; a schedule is there, and runs, when it is in here */
  schedule_ids: 'schedule-ids',
  /** of the empty type, and of types that there cannot be (`~1`), string: written behind what a replica is to have (acknowledgement.ts); expires by itself */
  acknowledged: 'acknowledged',
  /** of the empty type only, hash: the keys by which one comes in, and what agents' tokens are made with (src/access) */
  access: 'access',
  /** of the default namespace’s empty type only, zset: each other namespace → ms at which it was last seen in use (namespaces.ts) */
  namespaces: 'namespaces',
  /** of the empty type only, zset: agent type → ms at which it was last seen in use (types.ts) */
  types: 'types',
  /** of the empty type only, hash: agent id → its type; written before the agent, and again behind it */
  agent_types: 'agent-types',
} as const

/** Lua for the same keys, by the name that a script uses; KEYS[1] of every script is the base. Only what a script names is put into it. */
export const luaNames: Record<string, string> = Object.fromEntries([
  ...Object.entries(WITH_ID).map(([name, part]) => [`${name}_key`, `local function ${name}_key(id) return base .. '${part}' .. id end`]),
  ...Object.entries(SINGLE).map(([name, part]) => [name.toUpperCase(), `local ${name.toUpperCase()} = base .. '${part}'`]),
  ['events_channel', "local function events_channel() return base .. 'events' end"],
  ['access_channel', "local function access_channel() return base .. 'access' end"],
  ['wake_channel', "local function wake_channel(dispatcher) return base .. 'wake:' .. dispatcher end"],
  ['publish', "local function publish(channel, message) return redis.call('PUBLISH', channel, message) end"],
])
/** Of a cluster's nodes each tells its own subscribers only, and not those of all: a message stays with the type that it is of. */
export const inCluster = (lua: string): string => lua.replace("redis.call('PUBLISH'", "redis.call('SPUBLISH'")
/** What every script begins with: `sy:{default/cost}:` gives prefix sy, scope default/cost, agent_type cost. */
export const luaBase = "local base = KEYS[1]\nlocal prefix, scope, agent_type = string.match(base, '^(.-):{(.-/(.-))}:$')"
/**
 * For a script that is about several types, of one server: `at_base` sets its names anew for the next of them.
 * @param names the lines of `luaNames` that it has
 */
export const luaAtBase = (names: readonly string[]): string => {
  const again = [luaBase.replace('KEYS[1]', 'its'), ...names].join('\n').match(/^local (?!function).*$/gm)!
  return `local function at_base(its)\n${again.join('\n').replace(/^local /gm, '')}\nend`
}

export type Keys = ReturnType<typeof createKeys>

/** Of those whose keys name no namespace. */
export const DEFAULT_NAMESPACE = 'default'

/**
 * @param prefix what all keys begin with (`sy`)
 * @param namespace whose agents and tasks these are
 */
export const createKeys = (prefix: string, namespace = DEFAULT_NAMESPACE) => {
  const base = (type: string) => `${prefix}:{${namespace}/${type}}:`
  const withId = (part: keyof typeof WITH_ID) => (type: string, id: string) => base(type) + WITH_ID[part] + id
  const single = (part: keyof typeof SINGLE) => (type: string) => base(type) + SINGLE[part]
  return {
    namespace,
    /** KEYS[1] of every script. */
    base,
    /** BullMQ's prefix for the queues of a type. */
    bullPrefix: (type: string) => `${prefix}:{${namespace}/${type}}`,
    /** How a type is named in wakes. */
    scope: (type: string) => `${namespace}/${type}`,
    agent: withId('agent'),
    leases: withId('leases'),
    pool: withId('pool'),
    task: withId('task'),
    tasks: withId('tasks'),
    idempotency: withId('idempotency'),
    schedule: withId('schedule'),
    agents: single('agents'),
    watch: single('watch'),
    timers: single('timers'),
    queues: single('queues'),
    dispatchers: single('dispatchers'),
    events: single('events'),
    stats: single('stats'),
    weight: single('weight'),
    stretches: withId('stretches'),
    retryBudget: single('retry_budget'),
    sweep: single('sweep'),
    webhook: withId('webhook'),
    webhookTask: withId('webhook_task'),
    webhookQueue: withId('webhook_queue'),
    webhooks: single('webhooks'),
    webhookOrigins: single('webhook_origins'),
    webhooksDisabled: single('webhooks_disabled'),
    webhookSecret: single('webhook_secret')(''),
    signingSecret: single('signing_secret')(''),
    schedules: single('schedules'),
    scheduleIds: single('schedule_ids')(''),
    /** One of many, so that each server of a cluster has some. */
    acknowledged: (n: number) => (n === 0 ? single('acknowledged')('') : `${prefix}:{${namespace}/~${n}}:${SINGLE.acknowledged}`),
    access: single('access')(''),
    namespaces: single('namespaces')(''),
    types: single('types')(''),
    agentTypes: single('agent_types')(''),
    /** says `namespace/type` when one is new */
    typesChannel: `${base('')}types`,
    /** What the library puts in front of `:<key>`. */
    rate: `${base('')}rate`,
    /** says that the keys have changed */
    accessChannel: `${base('')}access`,
    eventsChannel: (type: string) => `${base(type)}events`,
    wakeChannel: (type: string, dispatcher: string) => `${base(type)}wake:${dispatcher}`,
  }
}

/** The queue of a capability. A pinned task's is `cost.@<agent id>`: no capability begins with `@`. */
export const queueName = (type: string, capabilityOrPin: string): string => `${type}.${capabilityOrPin}`
/** What of a task's id comes behind its type. It sorts by time, over all types. */
export const uuidOf = (taskId: string): string => taskId.slice(taskId.indexOf('.') + 1)
/** To sort ids of tasks by, over all types. */
export const newestFirst = (a: string, b: string): number => (uuidOf(a) < uuidOf(b) ? 1 : -1)
/** The type in front of a task id's first dot; types hold no dots. Undefined when the id is not of our form. */
export const typeOfTask = (taskId: string): string | undefined =>
  /^([A-Za-z0-9][A-Za-z0-9_-]{0,63})\.[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.exec(taskId)?.[1]
