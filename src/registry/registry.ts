/**
 * Agents and their slots. Every change is one atomic script (*.lua beside this file); this file gives them types.
 * An agent's bookkeeping lives under its type; a small index, agent id → type, is written before and behind it.
 */
import { MAX_METADATA_MEMBERS, MAX_OVERLAP_SECONDS, type Agent, type Heartbeat, type HeartbeatAnswer, type Registration } from '../contracts/agent.ts'
import { iso } from '../contracts/time.ts'
import { AgentTypeConflict, InvalidRequest, TooManyAgents } from '../errors.ts'
import { createBatch } from '../redis/batch.ts'
import type { Redis } from '../redis/client.ts'
import { uuidv7 } from '../redis/ids.ts'
import type { Keys } from '../redis/keys.ts'
import { placeOf, timeAt } from '../redis/nodes.ts'
import { fieldsOf, loadScript } from '../redis/scripts.ts'
import { newSalt, type AgentSecret, type Signing } from './signing.ts'
import { createAgentIndex } from './agent-index.ts'
import type { Types } from './types.ts'

/** A dead agent's record is kept this long: a heartbeat brings it back. */
const KEEP_MS = 24 * 3_600_000
/** A secret that an agent asked to be changed counts so long beside the new one. */
const ROTATION_MS = MAX_OVERLAP_SECONDS * 1000
/** Of a type, those that died within a day included. */
const MAX_AGENTS = 100_000
/** What goes beside the metadata in an agent's hash. */
const OTHER_FIELDS = 32
/** The metadata of one registration or heartbeat, in characters of JSON. */
const MAX_METADATA_TEXT = 16_384

/** A reserved place at an agent, for one attempt at the task whose job was taken for it. */
export type Slot = {
  type: string
  /** The queue that its job is of. */
  queue: string
  /** The task; null when its job turned out to be none, and no other was found. */
  job: string | null
  /** What the job is locked with, and each that is taken for this slot behind it. */
  lock: string
  /** What the id of its attempt ends with. */
  token: string
  /** When it was asked for (`performance.now()`). */
  askedAt: number
  /** What tasks/begin.lua says of the attempt that has begun with it; null when none has. */
  begun: readonly unknown[] | null
  /** The hold, until an attempt begins. */
  lease: string
  agentId: string
  name: string
  host: string
  port: number
  /** What its secrets are derived from (signing.ts). */
  salts: string
}

/** Unguessable: of the attempt that a slot is for, and of the lock on its job; and when it is asked for. */
export type SlotTokens = Pick<Slot, 'token' | 'lock' | 'askedAt'>

/** Reads what the scripts' `slot_reply` gives; '' is no slot. */
export const readSlot = (type: string, cells: unknown, { token, lock, askedAt }: SlotTokens): Slot | null => {
  if (!Array.isArray(cells)) return null
  const [lease, queue, agentId, name, host, port, salts, job = null, begun = null] = cells as [string, string, string, string, string, string, string, string?, unknown[]?]
  return { type, queue, job, lock, token, askedAt, begun, lease, agentId, name, host, port: Number(port), salts }
}

/** An agent as read: on the wire, plus `metadataText`, its metadata as the JSON text that was sent. */
export type AgentView = Omit<Agent, 'metadata'> & { metadataText: string }

/** What read.lua gives of an agent. */
type Cells = [fields: string[], inFlight: number, status: Agent['status'], restsUntilMs: string] | null

/** `sick` of its hash, as sick.lua writes it. */
const readSick = (text: string, restsUntilMs: string): Agent['sick'] => {
  const [since, , times, ...reason] = text.split('\t')
  return { since: iso(Number(since)), until: restsUntilMs === '' ? null : iso(Number(restsUntilMs)), times: Number(times), reason: reason.join('\t') }
}

const view = (cells: Cells): AgentView | null => {
  if (cells === null) return null
  const [flat, inFlight, status, rest] = cells
  const f = fieldsOf(flat)
  if (f.id === undefined) return null
  const sick = f.trial === 'sick' && f.sick !== undefined ? readSick(f.sick, rest) : null
  const metadata = Object.keys(f).flatMap((k) => (k.startsWith('m:') ? [`${JSON.stringify(k.slice(2))}:${f[k]}`] : []))
  return {
    id: f.id,
    agent_id: f.id,
    name: f.name!,
    agent_name: f.name!,
    type: f.type!,
    host: f.host!,
    port: Number(f.port),
    capabilities: JSON.parse(f.capabilities!) as string[],
    status,
    suspect: f.out === 'suspect' && status !== 'dead',
    resting_until: rest === '' || status === 'dead' || sick ? null : iso(Number(rest)),
    sick,
    version: f.version ? f.version : null,
    ttl_seconds: Number(f.ttl) / 1000,
    max_concurrency: Number(f.max),
    in_flight: inFlight,
    is_alive: status !== 'dead',
    registered_at: iso(Number(f.registered)),
    last_seen: iso(Number(f.seen)),
    last_heartbeat: iso(Number(f.seen)),
    generation: Number(f.generation),
    metadataText: `{${metadata.join(',')}}`,
  }
}

/** Metadata by top-level key, each value as JSON text: merging is then Redis's HSET. */
export type MetadataFields = [key: string, value: string][]
const flatten = (metadata: MetadataFields): string[] => metadata.flatMap(([k, v]) => [`m:${k}`, v])

/** So many of so many agents have missed a beat at once, and are kept until then; or that is over. */
export type MassSilence = { what: 'held' | 'over'; missed: number; of: number; untilMs: number }

export type AgentFilter = { type?: string | undefined; capability?: string | undefined; status?: string | undefined; includeDead?: boolean; limit: number; cursor?: string | undefined }

export type Registry = ReturnType<typeof createRegistry>

/** Of metadata, in a page of agents; the one that goes beyond it is its last. One may have a megabyte. */
const MAX_PAGE_CHARS = 4 * 1024 * 1024
const READ_AT_ONCE = 25
/** Heartbeats are in no hurry, and there may be many: those of so long go to Redis together. */
const GATHER_BEATS_MS = 20

export const createRegistry = ({ redis, keys, types, signing }: { redis: Redis; keys: Keys; types: Types; signing: Signing }) => {
  const script = (file: string) => loadScript(redis, new URL(file, import.meta.url))
  const scripts = {
    register: script('./register.lua'),
    heartbeat: createBatch(script('./heartbeat.lua'), GATHER_BEATS_MS),
    rotate: script('./rotate.lua'),
    unregister: script('./unregister.lua'),
    release: script('./release.lua'),
    sweep: script('./sweep.lua'),
    cleanup: script('./cleanup.lua'),
    read: script('./read.lua'),
    unindex: script('./unindex.lua'),
  }

  const readMany = async (type: string, ids: string[]): Promise<(AgentView | null)[]> => {
    if (ids.length === 0) return []
    const rows = (await scripts.read(keys.base(type), ...ids)) as Cells[]
    return rows.map(view)
  }

  const { find: indexed, recall, forget, write: writeIndex } = createAgentIndex(redis, keys)

  /**
   * Takes agents out of the index whose records are gone. A registration in parallel wins: one that is still to write its record writes
   * the index once more behind it, and of one that has written it the record is seen here, and put back.
   */
  const unindex = async (type: string, ids: string[]): Promise<void> => {
    if (ids.length === 0) return
    const gone = (await scripts.unindex(keys.base(''), type, ...ids)) as string[]
    await Promise.all(gone.map(async (id) => (await redis.exists(keys.agent(type, id))) === 1 && redis.hsetnx(keys.agentTypes, id, type)))
  }

  /** The type of an agent that is known, living or dead. */
  const typeOf = async (id: string): Promise<string | null> => {
    const type = await indexed(id)
    if (type === null || (await redis.exists(keys.agent(type, id))) === 1) return type
    await unindex(type, [id])
    return null
  }

  /** The agent, or null. */
  const get = async (id: string): Promise<AgentView | null> => {
    const type = await indexed(id)
    if (type === null) return null
    const [agent] = await readMany(type, [id])
    if (!agent) await unindex(type, [id])
    return agent ?? null
  }

  /** Which life of an agent is the present one; null when it is not known. */
  const lifeOf = async (id: string): Promise<{ generation: number; registeredMs: number } | null> => {
    const lifeUnder = async (type: string | null) => {
      const [generation, registered] = type === null ? [] : await redis.hmget(keys.agent(type, id), 'generation', 'registered')
      return generation && registered ? { generation: Number(generation), registeredMs: Number(registered) } : null
    }
    // It may live under another type than was known: of that life nobody may be let off the question.
    return (await lifeUnder(recall(id))) ?? lifeUnder(await indexed(id))
  }

  /**
   * Registers an agent, or updates it: idempotent for a known `agent_id`.
   * @param at where it is, host and port apart
   * @throws AgentTypeConflict when a living agent of another type has this id; TooManyAgents, TooManyTypes
   */
  const register = async (r: Registration, at: { host: string; port: number }, metadata: MetadataFields): Promise<{ created: boolean; agent: AgentView; secret: AgentSecret }> => {
    checkMetadata(metadata)
    const id = r.agent_id ?? uuidv7()
    const known = r.agent_id === undefined ? null : await get(id)
    if (known && known.type !== r.type && known.is_alive) throw new AgentTypeConflict(id, known.type)
    if (known?.type !== r.type && (await redis.zcard(keys.agents(r.type))) >= MAX_AGENTS) throw new TooManyAgents(r.type, MAX_AGENTS)
    if (known && known.type !== r.type) await scripts.unregister(keys.base(known.type), id, '')
    await types.ensure(r.type)
    await writeIndex(id, r.type)
    const capabilities = [...new Set(r.capabilities)]
    const name = r.name ?? r.agent_name!
    const ttlMs = Math.round(r.ttl_seconds * 1000)
    const [created, salts] = (await scripts.register(
      keys.base(r.type), id, r.instance_id ?? '', at.host, at.port, ttlMs, KEEP_MS + ttlMs, capabilities.join(' '), r.status ?? '', r.max_concurrency,
      newSalt(), r.rotate_secret ? ROTATION_MS : '',
      'name', name, 'type', r.type, 'version', r.version ?? '', 'capabilities', JSON.stringify(capabilities), ...flatten(metadata),
    )) as [number, string]
    const [[agent]] = await Promise.all([readMany(r.type, [id]), writeIndex(id, r.type)])
    return { created: created === 1, agent: agent!, secret: signing.secret(id, salts)! }
  }

  const checkMetadata = (metadata: MetadataFields) => {
    if (metadata.length > MAX_METADATA_MEMBERS) throw tooMuchMetadata()
    if (metadata.reduce((n, [k, v]) => n + k.length + v.length, 0) > MAX_METADATA_TEXT) {
      throw new InvalidRequest([{ pointer: '/metadata', detail: `is longer than ${MAX_METADATA_TEXT} characters of JSON` }])
    }
  }
  const tooMuchMetadata = () => new InvalidRequest([{ pointer: '/metadata', detail: `holds more than ${MAX_METADATA_MEMBERS} members` }])

  /** What the clock of each server said at last, and when we heard it. */
  const clocks = new Map<string, { redisMs: number; heardAt: number }>()
  const heardTime = (type: string, redisMs: number) => {
    const clock = { redisMs, heardAt: performance.now() }
    clocks.set(placeOf(redis, keys.base(type)) ?? '', clock)
    return clock
  }
  /** Redis's time at a moment of ours, or a little less. */
  const redisTimeAt = async (type: string, at: number): Promise<number> => {
    const clock = clocks.get(placeOf(redis, keys.base(type)) ?? '') ?? heardTime(type, await timeAt(redis, keys.base(type)))
    return Math.floor(clock.redisMs - clock.heardAt + at)
  }

  /**
   * A sign of life; revives an agent that fell silent or died.
   * @returns null for an id never registered, or unregistered
   */
  const heartbeat = async (id: string, beat: Heartbeat, metadata: MetadataFields, cameAt = performance.now()): Promise<HeartbeatAnswer | null> => {
    const known = recall(id)
    const type = known ?? (await indexed(id))
    if (type === null) return null
    checkMetadata(metadata)
    // When the list was made we can only bound: before it came here, which may be long behind it; behind the answer that it names.
    const knownMs = beat.running ? Math.min(await redisTimeAt(type, cameAt), beat.timestamp === undefined ? Infinity : Date.parse(beat.timestamp)) : ''
    const told = [
      id, KEEP_MS, beat.status ?? '', beat.max_concurrency ?? '', MAX_METADATA_MEMBERS + OTHER_FIELDS, knownMs, metadata.length,
      ...flatten(metadata), ...(beat.running ?? []),
    ]
    const reply = await scripts.heartbeat(keys.base(type), [told.length, ...told])
    if (reply === null) {
      forget(id)
      if (known !== null) return heartbeat(id, beat, metadata, cameAt)
      await unindex(type, [id])
      return null
    }
    if (reply === 'metadata') throw tooMuchMetadata()
    const [ttl, status, cancel, lost, now, salts] = reply as [string, string, string[], string[], string, string]
    heardTime(type, Number(now))
    return { received: true, next_interval_seconds: Number(ttl) / 3000, timestamp: iso(Number(now)), cancel, lost, drain: status === 'draining', signing_secret_id: signing.secretId(id, salts) }
  }

  /**
   * Gives an agent another secret; it fetches it when its next beat tells of it.
   * @returns until when what is sent to it is signed with the one before too; null for an id that is not registered
   */
  const rotateSecret = async (id: string, overlapMs: number): Promise<string | null> => {
    const type = await indexed(id)
    const untilMs = type === null ? null : ((await scripts.rotate(keys.base(type), id, newSalt(), Math.round(overlapMs))) as string | null)
    return untilMs === null ? null : iso(Number(untilMs))
  }

  /** Idempotent. The index goes last, so a crash in between leaves something to repeat. */
  const unregister = async (id: string, life?: { generation: number; registeredMs: number }): Promise<boolean> => {
    const type = await indexed(id)
    if (type === null) return false
    const was = await scripts.unregister(keys.base(type), id, life ? `${life.generation} ${life.registeredMs}` : '')
    await unindex(type, [id])
    return was === 1
  }

  /** Agents by type and id; `next_cursor` continues behind the last one looked at. */
  const list = async (filter: AgentFilter): Promise<{ agents: AgentView[]; next: { type: string; id: string } | null }> => {
    const all = filter.type === undefined ? (await types.list()).sort() : [filter.type]
    const [fromType, fromId] = filter.cursor === undefined ? ['', ''] : (filter.cursor.split('/', 2) as [string, string])
    const agents: AgentView[] = []
    let chars = 0
    for (const type of all) {
      if (type < fromType) continue
      let after = type === fromType ? fromId : ''
      for (;;) {
        const ids = await redis.zrange(keys.agents(type), after === '' ? '-' : `(${after}`, '+', 'BYLEX', 'LIMIT', 0, 200)
        for (let from = 0; from < ids.length; from += READ_AT_ONCE) {
          const some = ids.slice(from, from + READ_AT_ONCE)
          const rows = await readMany(type, some)
          for (const [i, id] of some.entries()) {
            const a = rows[i]
            if (!a || (!a.is_alive && !filter.includeDead && filter.status !== 'dead')) continue
            if (filter.status !== undefined && a.status !== filter.status) continue
            if (filter.capability !== undefined && !a.capabilities.includes(filter.capability)) continue
            agents.push(a)
            chars += a.metadataText.length
            if (agents.length === filter.limit || chars > MAX_PAGE_CHARS) return { agents, next: { type, id } }
          }
        }
        if (ids.length < 200) break
        after = ids.at(-1)!
      }
    }
    return { agents, next: null }
  }

  /** Removes the dead now. */
  const cleanup = async (): Promise<number> => {
    let removed = 0
    for (const type of await types.list()) {
      let after = ''
      for (;;) {
        const [ids, last] = (await scripts.cleanup(keys.base(type), 500, after)) as [string[], string]
        await unindex(type, ids)
        removed += ids.length
        if (last === '') break
        after = last
      }
    }
    return removed
  }

  /** Gives back a slot that no attempt came of. */
  const release = async (slot: Slot): Promise<void> => {
    await scripts.release(keys.base(slot.type), slot.agentId, slot.lease)
  }

  /** Looks at the agents whose time has come; says who died, and when most fall silent at once, or are heard again. */
  const sweep = async (type: string): Promise<{ died: string[]; more: boolean; silence: MassSilence | null }> => {
    const [died, more, gone, news] = (await scripts.sweep(keys.base(type), 200)) as [string[], number, string[], '' | [MassSilence['what'], number, number, string]]
    await unindex(type, gone)
    const silence = news === '' ? null : { what: news[0], missed: news[1], of: news[2], untilMs: Number(news[3]) }
    return { died, more: more === 1, silence }
  }

  return { typeOf, lifeOf, register, heartbeat, rotateSecret, unregister, get, list, cleanup, release, sweep }
}
