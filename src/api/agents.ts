/** Routes of agents: they register, beat and leave; people look. */
import { Router, type Request, type Response } from 'express'
import { z } from 'zod'
import type { Guard } from '../access/guard.ts'
import { AgentId, AgentStatus, AgentType, Capability, Heartbeat, Registration, SecretRotation } from '../contracts/agent.ts'
import { parseHost, type HostPolicy } from '../contracts/host.ts'
import { rawMember, rawMembers } from '../contracts/raw.ts'
import { NotFound } from '../errors.ts'
import type { Logger } from '../logger.ts'
import type { AgentView, MetadataFields, Registry } from '../registry/registry.ts'
import { callerOf, type Own } from './caller.ts'
import { body, Cursor, Empty, Flag, Limit, noQuery, query, readBody, type Body } from './input.ts'
import { pageText, rawJson, sendJson, stringify } from './json.ts'
import { notAllowed } from './problem.ts'

const wire = ({ metadataText, ...agent }: AgentView): Record<string, unknown> => ({ ...agent, metadata: rawJson(metadataText) })

/** The members of a body's `metadata`, each value as the JSON text that was sent. */
const metadataOf = (req: Request): MetadataFields => {
  const text = rawMember((req.body as Body).text, 'metadata')
  if (text === undefined) return []
  const keys = Object.keys(JSON.parse(text) as object)
  const members = rawMembers(text, keys) as Record<string, string>
  return keys.map((k) => [k, members[k]!])
}

export const AgentQuery = z.strictObject({
  type: AgentType.optional(),
  capability: Capability.optional().describe('Only agents that have it.'),
  status: AgentStatus.optional(),
  include_dead: Flag.default(false).describe('Dead agents are kept for a day.'),
  limit: Limit.default(200),
  cursor: Cursor(/^[A-Za-z0-9_-]{1,64}\/[A-Za-z0-9_.-]{1,64}$/).optional(),
})

/** The same, where the path says the type. */
export const AgentOfTypeQuery = AgentQuery.omit({ type: true })

/** An id that cannot be ours is simply not there. */
const agentId = (id: string): string => {
  if (!AgentId.safeParse(id).success) throw new NotFound('there is no such agent; its id is not of the form that ids have')
  return id
}

export const agentRoutes = ({ registry, policy, own, namespace, guard, log }: { registry: Registry; policy: HostPolicy; own: Own; namespace: string; guard: Guard; log: Logger }): Router => {
  const routes = Router()

  routes.post('/agents/register', ...readBody(), async (req, res) => {
    const registration = body(Registration, req)
    const at = parseHost(registration.host, registration.port)
    policy.checkLiteral(at.host, at.port)
    const { created, agent, secret } = await registry.register(registration, at, metadataOf(req))
    log.info({ agent: agent.id, agent_type: agent.type, host: agent.host, port: agent.port, generation: agent.generation }, created ? 'an agent registered' : 'an agent registered again')
    res.set('Location', `/agents/${agent.id}`)
    const agentToken = guard.tokenFor({ namespace, agentId: agent.id, generation: agent.generation, registeredMs: Date.parse(agent.registered_at) })
    sendJson(res, created ? 201 : 200, stringify({ ...wire(agent), heartbeat_url: `/agents/${agent.id}/heartbeat`, heartbeat_interval_seconds: agent.ttl_seconds / 3, signing_secret: secret.secret, signing_secret_id: secret.id, agent_token: agentToken }))
  })
  routes.all('/agents/register', notAllowed('POST'))

  routes.post('/agents/cleanup', ...readBody({ optional: true }), async (req, res) => {
    body(Empty, req)
    sendJson(res, 200, stringify({ removed: await registry.cleanup() }))
  })
  routes.all('/agents/cleanup', notAllowed('POST'))

  routes.get('/agents', async (req, res) => sendJson(res, 200, await page(query(AgentQuery, req))))
  routes.all('/agents', notAllowed('GET'))
  routes.get('/agents/type/:type', async (req, res) => {
    const type = AgentType.safeParse(req.params.type)
    if (!type.success) throw new NotFound('there is no such agent type')
    sendJson(res, 200, await page({ ...query(AgentOfTypeQuery, req), type: type.data }))
  })
  routes.all('/agents/type/:type', notAllowed('GET'))

  const page = async (q: z.output<typeof AgentQuery>): Promise<string> => {
    const { agents, next } = await registry.list({ type: q.type, capability: q.capability, status: q.status, includeDead: q.include_dead, limit: q.limit, cursor: q.cursor })
    return pageText('agents', agents.map((a) => stringify(wire(a))), next && `${next.type}/${next.id}`)
  }

  routes.post('/agents/:id/heartbeat', ...readBody({ optional: true }), async (req, res) => {
    const id = agentId(String(req.params.id))
    const beat = body(Heartbeat, req)
    await own.agent(res, id)
    const answer = await registry.heartbeat(id, beat, beat.metadata === undefined ? [] : metadataOf(req))
    if (!answer) throw new NotFound(`agent ${id} is not registered; register it (POST /agents/register)`)
    sendJson(res, 200, stringify(answer))
  })
  routes.all('/agents/:id/heartbeat', notAllowed('POST'))

  routes.post('/agents/:id/rotate-secret', ...readBody({ optional: true }), async (req, res) => {
    const id = agentId(String(req.params.id))
    const until = await registry.rotateSecret(id, body(SecretRotation, req).overlap_seconds * 1000)
    if (until === null) throw new NotFound(`agent ${id} is not registered`)
    log.info({ agent: id, old_secret_until: until }, 'an agent gets another signing secret')
    sendJson(res, 200, stringify({ agent_id: id, old_secret_until: until }))
  })
  routes.all('/agents/:id/rotate-secret', notAllowed('POST'))

  const unregister = async (id: string, res: Response) => {
    const caller = callerOf(res)
    await own.agent(res, agentId(id))
    const was = await registry.unregister(id, caller.kind === 'agent' ? caller : undefined)
    if (was) log.info({ agent: id }, 'an agent unregistered')
    return stringify({ agent_id: id, unregistered: was })
  }
  routes.post('/agents/:id/unregister', noQuery, async (req, res) => sendJson(res, 200, await unregister(String(req.params.id), res)))
  routes.all('/agents/:id/unregister', notAllowed('POST'))
  routes.delete('/agents/:id', noQuery, async (req, res) => sendJson(res, 200, await unregister(String(req.params.id), res)))
  routes.get('/agents/:id', noQuery, async (req, res) => {
    const agent = await registry.get(agentId(String(req.params.id)))
    if (!agent) throw new NotFound(`agent ${req.params.id} is not registered`)
    sendJson(res, 200, stringify(wire(agent)))
  })
  routes.all('/agents/:id', notAllowed('GET', 'DELETE'))
  return routes
}
