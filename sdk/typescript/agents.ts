/** Agents: how they register, beat and leave, and who is there. */
import type { CallOptions, Http } from './http.ts'
import { createList, type List } from './list.ts'
import type { Agent, AgentFilter, AgentPage, CleanedUp, Heartbeat, HeartbeatAnswer, Registered, Registration, SecretRotated, Unregistered } from './wire.ts'

export type AgentsClient = {
  /** With an `agent_id` it may be repeated at will, and is sent again when the connection broke. */
  register(agent: Registration, options?: CallOptions): Promise<Registered>
  heartbeat(id: string, beat?: Heartbeat, options?: CallOptions): Promise<HeartbeatAnswer>
  /**
   * Gives it another signing secret; the agent hears of it with its next heartbeat, and fetches it.
   * @param overlapSeconds for so long what it is sent is signed with its present one as well (a day); 0 when that is in wrong hands
   */
  rotateSecret(id: string, overlapSeconds?: number, options?: CallOptions): Promise<SecretRotated>
  /** It gets no new task; what it is running may still end. */
  unregister(id: string, options?: CallOptions): Promise<Unregistered>
  get(id: string, options?: CallOptions): Promise<Agent>
  /** By type and id; the dead only with `include_dead`. */
  list(filter?: AgentFilter, options?: CallOptions): List<Agent, AgentPage>
  /** The agents of one type, by id. */
  listType(type: string, filter?: Omit<AgentFilter, 'type'>, options?: CallOptions): List<Agent, AgentPage>
  /** Removes the dead now, rather than a day after their last heartbeat. */
  cleanup(options?: CallOptions): Promise<CleanedUp>
}

const path = (id: string): string => `/agents/${encodeURIComponent(id)}`

export const createAgents = (http: Http): AgentsClient => {
  const list = (at: string, filter: AgentFilter, options: CallOptions): List<Agent, AgentPage> =>
    createList((cursor) => http.json<AgentPage>('GET', at, { ...options, query: { ...filter, cursor }, again: 'always', holds: 'agents' }), (page) => page.agents)
  return {
    register: (agent, options = {}) => http.json('POST', '/agents/register', { ...options, body: agent, again: agent.agent_id === undefined ? 'untaken' : 'always', holds: 'agent_id' }),
    heartbeat: (id, beat = {}, options = {}) => http.json('POST', `${path(id)}/heartbeat`, { ...options, body: beat, again: 'always', holds: 'received' }),
    rotateSecret: (id, overlapSeconds, options = {}) => http.json('POST', `${path(id)}/rotate-secret`, { ...options, body: { overlap_seconds: overlapSeconds }, again: 'always', holds: 'agent_id' }),
    unregister: (id, options = {}) => http.json('DELETE', path(id), { ...options, again: 'always', holds: 'agent_id' }),
    get: (id, options = {}) => http.json('GET', path(id), { ...options, again: 'always', holds: 'agent_id' }),
    list: (filter = {}, options = {}) => list('/agents', filter, options),
    listType: (type, filter = {}, options = {}) => list(`/agents/type/${encodeURIComponent(type)}`, filter, options),
    cleanup: (options = {}) => http.json('POST', '/agents/cleanup', { ...options, again: 'always', holds: 'removed' }),
  }
}
