/** Keys: what each role may, what is asked for one and what is told of it. The key itself is told once, when it is made. */
import { z } from 'zod'
import { Name } from './agent.ts'
import { integer, list, number, oneOf, pattern } from './members.ts'

/** `submit`: bring work and look after it · `agent`: register agents and speak for them · `view`: look · `admin`: all of it, and keys. */
export const ROLES = ['submit', 'agent', 'view', 'admin'] as const
export const Role = oneOf(...ROLES)
export type Role = z.infer<typeof Role>

/** A key's id: the part of it that may be seen. */
export const KeyId = pattern(/^[A-Za-z0-9]{12}$/, 'must be 12 of A–Z a–z 0–9')

/** Nothing that has a meaning in a key of Redis, a pattern of channels, a path or a token. */
export const Namespace = pattern(/^[a-z0-9][a-z0-9-]{0,31}$/, 'must be 1 to 32 of a–z 0–9 -, and not begin with -')

const DAY_SECONDS = 86_400
export const DEFAULT_OVERLAP_SECONDS = DAY_SECONDS
const RequestsPerSecond = integer(1, 100_000)
const Lifetime = number(1, 3650 * DAY_SECONDS)
const roles = list(Role, ROLES.length, 'roles').refine((all) => all.length > 0, 'must name at least one role').describe('What it may: `submit` brings work and looks after it, `agent` registers agents and speaks for them, `view` looks, `admin` may all of that, and makes keys.')

/** POST /keys */
export const NewKey = z
  .strictObject({
    name: Name.describe('For people: whose it is.'),
    roles,
    namespace: Namespace.optional().describe('Whose tasks, agents, schedules and events it is about; those of other namespaces are not there for it. Unless given that of the key it is made with: `default`, whose admin makes keys for all.'),
    expires_in_seconds: Lifetime.optional().describe('It is of no use after that; it never expires unless given.'),
    requests_per_second: RequestsPerSecond.optional().describe('More are refused (429). Heartbeats, registrations, results, progress and cancels are not counted. No limit unless given.'),
  })
  .meta({ id: 'NewKey' })
export type NewKey = z.infer<typeof NewKey>

/** POST /keys/{id}/rotate; the body may be left out. */
export const Rotation = z
  .strictObject({
    old_expires_in_seconds: number(0, 30 * DAY_SECONDS).default(DEFAULT_OVERLAP_SECONDS).describe('So long the old key goes on beside the new one, if it does not expire before.'),
    expires_in_seconds: Lifetime.optional().describe('Of the new key; it never expires unless given.'),
  })
  .meta({ id: 'Rotation' })
export type Rotation = z.infer<typeof Rotation>

/** A key as lists show it. */
export const Key = z
  .object({
    key_id: z.string().describe('The part of the key between its underscores.'),
    name: z.string(),
    roles: z.array(Role),
    namespace: z.string().describe('`default` unless it was made for another.'),
    requests_per_second: z.int().nullable().describe('Null: no limit.'),
    created_at: z.iso.datetime(),
    expires_at: z.iso.datetime().nullable(),
    expired: z.boolean(),
    last_used_at: z.iso.datetime().nullable().describe('To the minute or so.'),
  })
  .meta({ id: 'Key' })
export type Key = z.infer<typeof Key>

/** The only answer that holds the key. */
export const KeyMade = Key.extend({ key: z.string().describe('`sy_<id>_<secret>`, sent as `Authorization: Bearer`. It is told now and never again.') }).meta({ id: 'KeyMade' })
export type KeyMade = z.infer<typeof KeyMade>

export const KeyList = z.object({ keys: z.array(Key), count: z.int(), admin_key: z.boolean().describe('Whether ADMIN_KEY is set beside them, at the process that answers.') }).meta({ id: 'KeyList' })

/** What DELETE /keys/{id} answers. */
export const KeyRevoked = z.object({ key_id: z.string(), revoked: z.boolean().describe('False when there was none.') }).meta({ id: 'KeyRevoked' })
