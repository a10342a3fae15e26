/**
 * What an agent says of itself and what we say of it: zod schemas, and the types inferred from them.
 * Names on the wire are snake_case; two families of clients read `id`/`agent_id` and `name`/`agent_name`, so an answer carries both spellings.
 */
import { z } from 'zod'
import { HOST_FORM, hostFaults } from './host.ts'
import { always, integer, isObject, jsonObject, list, number, oneOf, pattern, text } from './members.ts'

/** Agent types: 1–64 of letters, digits, `_`, `-`. They become part of Redis keys and queue names. */
export const AgentType = pattern(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/, 'must be 1–64 of A–Z a–z 0–9 _ -, beginning with a letter or digit')
/** A capability is the task_type an agent offers; like a type, and dots (not first). */
export const Capability = pattern(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/, 'must be 1–64 of A–Z a–z 0–9 _ - ., beginning with a letter or digit')
/** An agent's id: chosen by the agent or made by us (a UUIDv7). */
export const AgentId = pattern(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/, 'must be 1–64 of A–Z a–z 0–9 _ - ., beginning with a letter or digit')
/** Paths of the API that stand where an agent's id would: an agent of such a name could neither be read nor beat. */
const TAKEN_IDS = ['register', 'cleanup', 'type']
/** Free text for people: 1–256 characters, no control characters, well-formed Unicode. */
const NAME_FORM = 'must be text of 1 to 256 characters, well-formed and without control characters'
export const Name = text(256, NAME_FORM).refine((s) => s.isWellFormed() && !/\p{Cc}/u.test(s), NAME_FORM)
export const JsonObject = jsonObject().meta({ type: 'object', additionalProperties: true })

export const MAX_METADATA_MEMBERS = 64
/** An agent's metadata: kept member by member, so its keys are text that comes back as it went. */
const Metadata = jsonObject()
  .refine((o) => !isObject(o) || Object.keys(o).every((key) => key.isWellFormed()), 'must have no key that is not well-formed Unicode')
  .refine((o) => !isObject(o) || Object.keys(o).length <= MAX_METADATA_MEMBERS, `must hold at most ${MAX_METADATA_MEMBERS} members`)
  .meta({ type: 'object', additionalProperties: true })

export const MAX_CAPABILITIES = 64
export const DEFAULT_TTL_SECONDS = 60

/** What an agent may report of itself. */
export const ReportedStatus = oneOf('healthy', 'degraded', 'unhealthy', 'draining')
/** What we say of it: as reported, or by its silence (`unreachable` at 0.75 of the TTL, `dead` at the TTL). */
export const AgentStatus = oneOf('healthy', 'degraded', 'unhealthy', 'draining', 'unreachable', 'dead')

const Ttl = number(5, 3600)
const MaxConcurrency = integer(1, 1000)

/** POST /agents/register */
export const Registration = z
  .strictObject({
    name: Name.optional().describe('For people. Required, here or as agent_name.'),
    agent_name: Name.optional().describe('The same as name.'),
    type: AgentType.default('default').describe('Which agent type it belongs to: tasks name the type they are for.'),
    host: text(300, HOST_FORM).describe('A host name or an IP address, alone or as name:port. Tasks are posted to http://host:port/task.'),
    port: integer(1, 65535).optional().describe('Required unless host holds it.'),
    capabilities: list(Capability, MAX_CAPABILITIES, 'capabilities').default([]).describe('The task types it can do. Without any it gets only tasks pinned to it.'),
    version: Name.optional().describe('For people.'),
    status: ReportedStatus.optional().describe('healthy unless said.'),
    agent_id: AgentId.refine((id) => !TAKEN_IDS.includes(id), `must be none of ${TAKEN_IDS.join(', ')}: they are paths of the API`).optional().describe('Its own id, to register again under; made by us when left out.'),
    ttl_seconds: Ttl.default(DEFAULT_TTL_SECONDS).describe('It is dead after so long a silence. Beat at a third of it.'),
    max_concurrency: MaxConcurrency.default(10).describe('It never has more tasks than this at once.'),
    instance_id: text(128).optional().describe('Changes when the agent’s process is a new one: what the old one was running is over.'),
    rotate_secret: z.boolean('must be true or false').optional().describe('It wants another signing secret. For a day what it is sent is signed with the one before as well.'),
    metadata: Metadata.optional().describe('Anything, at most 64 members; replaced by each registration, merged by heartbeats.'),
  })
  .refine((r) => r.name !== undefined || r.agent_name !== undefined, { path: ['name'], message: 'is required (name, or agent_name)', ...always })
  .superRefine(({ host, port }, context) => {
    for (const { pointer, detail } of hostFaults(host, port)) context.addIssue({ code: 'custom', path: [pointer.slice(1)], message: detail })
  }, always)
  .meta({ id: 'Registration', anyOf: [{ required: ['name'] }, { required: ['agent_name'] }] })
export type Registration = z.infer<typeof Registration>

/** POST /agents/{id}/heartbeat; the body may be left out altogether. */
export const Heartbeat = z
  .strictObject({
    status: ReportedStatus.optional(),
    metadata: Metadata.optional().describe('Merged, member by member, into what is known.'),
    running: list(text(128), 2000, 'attempt ids').optional().describe('The attempt ids it is working on now. Left out means unknown, and frees nothing.'),
    timestamp: z.iso.datetime('must be a time such as 2026-11-20T12:00:00.000Z').optional().describe('The `timestamp` of the last heartbeat’s answer, or `last_seen` of the registration’s: what began behind it is not missing from `running`, however late this one comes.'),
    max_concurrency: MaxConcurrency.optional(),
  })
  .meta({ id: 'Heartbeat' })
export type Heartbeat = z.infer<typeof Heartbeat>

/** Why and for how long an agent is taken out. */
export const Sick = z
  .object({
    since: z.iso.datetime(),
    until: z.iso.datetime().nullable().describe('It gets nothing until then. Null when that is over: it gets one task at a time, until it has completed one.'),
    times: z.int().describe('How often in a row: it is out for up to so many times 30 s, at most 5 minutes; for 5 s where nothing can replace it.'),
    reason: z.string(),
  })
  .meta({ id: 'Sick' })

/** An agent as every answer shows it. */
export const Agent = z
  .object({
    id: z.string(),
    agent_id: z.string().describe('The same as id.'),
    name: z.string(),
    agent_name: z.string().describe('The same as name.'),
    type: z.string(),
    host: z.string(),
    port: z.int(),
    capabilities: z.array(z.string()),
    status: AgentStatus.describe('As reported or as dispatch shows; unhealthy while it is sick, unreachable after 0.75 of the TTL in silence or a refused connection, dead after the TTL.'),
    resting_until: z.iso.datetime().nullable().describe('It answered 429 or 503 and gets nothing until then, whatever its status; null when it is not resting.'),
    sick: Sick.nullable().describe('It failed so many different tasks in a row, or half of its attempts, that it is taken out; null while it is not.'),
    suspect: z.boolean().describe('It fell silent together with most agents of its type, which may be our fault: it is kept for a while, tried last and with one task at a time.'),
    version: z.string().nullable(),
    ttl_seconds: z.number(),
    max_concurrency: z.int(),
    in_flight: z.int().describe('Slots taken now.'),
    is_alive: z.boolean(),
    registered_at: z.iso.datetime(),
    last_seen: z.iso.datetime(),
    last_heartbeat: z.iso.datetime().describe('The same as last_seen.'),
    generation: z.int().describe('Goes up when the agent’s process, host or port is another one.'),
    metadata: JsonObject,
  })
  .meta({ id: 'Agent' })
export type Agent = z.infer<typeof Agent>

const SIGNING = {
  signing_secret: z.string().describe('What it is sent is signed with this, by Standard Webhooks. It stays as long as the agent is registered, unless it is rotated; it is told nowhere else.'),
  signing_secret_id: z.string().describe('Changes with the secret; heartbeats are answered with it.'),
}

/** The answer to a registration: the agent, and how to stay alive. */
export const Registered = Agent.extend({ heartbeat_url: z.string(), heartbeat_interval_seconds: z.number().describe('A third of the TTL.'), ...SIGNING, agent_token: z.string().describe('What the agent may send as `Authorization: Bearer` from now on instead of a key: good for its heartbeats, its leaving and the attempts sent to it, until another process registers under its id, or from another place.') }).meta({ id: 'Registered' })

/** The answer to a heartbeat: a control channel from us to the agent. */
export const HeartbeatAnswer = z
  .object({
    received: z.literal(true),
    next_interval_seconds: z.number(),
    timestamp: z.iso.datetime(),
    cancel: z.array(z.string()).describe('Attempts the agent should stop.'),
    lost: z.array(z.string()).describe('Attempts the agent listed that are no longer its own.'),
    drain: z.boolean().describe('The agent is draining: it gets nothing new.'),
    signing_secret_id: z.string().nullable().describe('Of the signing secret that is due. When it is not that of its own the agent should register again, and is told the new one. Null when it has none.'),
  })
  .meta({ id: 'HeartbeatAnswer' })
export type HeartbeatAnswer = z.infer<typeof HeartbeatAnswer>

export const AgentList = z
  .object({ agents: z.array(Agent), count: z.int().describe('How many are in this page.'), next_cursor: z.string().nullable().describe('Give it as cursor for the next page; null at the end.') })
  .meta({ id: 'AgentList' })

/** POST /agents/{id}/rotate-secret; the body may be left out altogether. */
export const MAX_OVERLAP_SECONDS = 86_400
export const SecretRotation = z
  .strictObject({ overlap_seconds: number(0, MAX_OVERLAP_SECONDS).default(MAX_OVERLAP_SECONDS).describe('For so long what it is sent is signed with its present secret as well. 0 when that is in wrong hands.') })
  .meta({ id: 'SecretRotation' })

/** What POST /agents/{id}/rotate-secret answers. It does not tell the secret: the agent fetches that by itself. */
export const SecretRotated = z.object({ agent_id: z.string(), old_secret_until: z.iso.datetime() }).meta({ id: 'SecretRotated' })

/** What DELETE /agents/{id} answers. */
export const Unregistered = z.object({ agent_id: z.string(), unregistered: z.boolean().describe('False when it was not registered.') }).meta({ id: 'Unregistered' })

/** What POST /agents/cleanup answers. */
export const CleanedUp = z.object({ removed: z.int().describe('How many dead agents were removed.') }).meta({ id: 'CleanedUp' })
