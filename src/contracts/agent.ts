/**
 * What an agent says of itself and what we say of it: zod schemas, and the types inferred from them.
 * Names on the wire are snake_case; two families of clients read `id`/`agent_id` and `name`/`agent_name`, so an answer carries both spellings.
 */
import { z } from 'zod'

/** Agent types: 1–64 of letters, digits, `_`, `-`. They become part of Redis keys and queue names. */
export const AgentType = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/, 'must be 1–64 of A–Z a–z 0–9 _ -, beginning with a letter or digit')
/** A capability is the task_type an agent offers; like a type, and dots (not first). */
export const Capability = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/, 'must be 1–64 of A–Z a–z 0–9 _ - ., beginning with a letter or digit')
/** An agent's id: chosen by the agent or made by us (a UUIDv7). */
export const AgentId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/, 'must be 1–64 of A–Z a–z 0–9 _ - ., beginning with a letter or digit')
/** Free text for people: 1–256 characters, no control characters, well-formed Unicode. */
export const Name = z
  .string()
  .min(1)
  .max(256)
  .refine((s) => s.isWellFormed() && !/\p{Cc}/u.test(s), 'must hold no control characters and be well-formed Unicode')
/** Any JSON object. Handlers keep its bytes as sent; this only says that it is an object. */
export const JsonObject = z
  .custom<Record<string, unknown>>((v) => typeof v === 'object' && v !== null && !Array.isArray(v), 'must be an object')
  .meta({ type: 'object', additionalProperties: true })

export const MAX_CAPABILITIES = 64
export const DEFAULT_TTL_SECONDS = 60

/** What an agent may report of itself. */
export const ReportedStatus = z.enum(['healthy', 'degraded', 'unhealthy', 'draining'])
/** What we say of it: as reported, or by its silence (`unreachable` at 0.75 of the TTL, `dead` at the TTL). */
export const AgentStatus = z.enum(['healthy', 'degraded', 'unhealthy', 'draining', 'unreachable', 'dead'])

const Ttl = z.number().min(5).max(3600)
const MaxConcurrency = z.int().min(1).max(1000)

/** POST /agents/register */
export const Registration = z
  .strictObject({
    name: Name.optional(),
    agent_name: Name.optional(),
    type: AgentType.default('default'),
    host: z.string().min(1).max(300),
    port: z.int().min(1).max(65535).optional(),
    capabilities: z.array(Capability).max(MAX_CAPABILITIES).default([]),
    version: Name.optional(),
    status: ReportedStatus.optional(),
    agent_id: AgentId.optional(),
    ttl_seconds: Ttl.default(DEFAULT_TTL_SECONDS),
    max_concurrency: MaxConcurrency.default(10),
    instance_id: z.string().min(1).max(128).optional(),
    metadata: JsonObject.optional(),
  })
  .refine((r) => r.name !== undefined || r.agent_name !== undefined, { path: ['name'], message: 'is required (name, or agent_name)' })
  .meta({ id: 'Registration' })
export type Registration = z.infer<typeof Registration>

/** POST /agents/{id}/heartbeat; the body may be left out altogether. */
export const Heartbeat = z
  .strictObject({
    status: ReportedStatus.optional(),
    metadata: JsonObject.optional(),
    /** Attempt ids the agent is working on now. Left out means unknown and frees nothing. */
    running: z.array(z.string().min(1).max(128)).max(2000).optional(),
    max_concurrency: MaxConcurrency.optional(),
  })
  .meta({ id: 'Heartbeat' })
export type Heartbeat = z.infer<typeof Heartbeat>

/** An agent as every answer shows it. */
export const Agent = z
  .object({
    id: z.string(),
    agent_id: z.string(),
    name: z.string(),
    agent_name: z.string(),
    type: z.string(),
    host: z.string(),
    port: z.int(),
    capabilities: z.array(z.string()),
    status: AgentStatus,
    version: z.string().nullable(),
    ttl_seconds: z.number(),
    max_concurrency: z.int(),
    in_flight: z.int(),
    is_alive: z.boolean(),
    registered_at: z.iso.datetime(),
    last_seen: z.iso.datetime(),
    last_heartbeat: z.iso.datetime(),
    generation: z.int(),
    metadata: JsonObject,
  })
  .meta({ id: 'Agent' })
export type Agent = z.infer<typeof Agent>

/** The answer to a registration: the agent, and how to stay alive. */
export const Registered = Agent.extend({ heartbeat_url: z.string(), heartbeat_interval_seconds: z.number() }).meta({ id: 'Registered' })

/** The answer to a heartbeat: a control channel from us to the agent. */
export const HeartbeatAnswer = z
  .object({
    received: z.literal(true),
    next_interval_seconds: z.number(),
    timestamp: z.iso.datetime(),
    /** Attempts the agent should stop. */
    cancel: z.array(z.string()),
    /** Attempts the agent listed that are no longer its own. */
    lost: z.array(z.string()),
    /** True when the agent is draining: it gets nothing new. */
    drain: z.boolean(),
  })
  .meta({ id: 'HeartbeatAnswer' })
export type HeartbeatAnswer = z.infer<typeof HeartbeatAnswer>

export const AgentList = z.object({ agents: z.array(Agent), count: z.int(), next_cursor: z.string().nullable() }).meta({ id: 'AgentList' })
