/** Who asks, for those that answer; and what an agent's token is good for. */
import type { Response } from 'express'
import { OPEN, type Caller } from '../access/guard.ts'
import { Forbidden } from '../errors.ts'
import type { Registry } from '../registry/registry.ts'
import type { Tasks } from '../tasks/tasks.ts'

type Locals = { caller?: Caller }
export const callerOf = (res: Response): Caller => (res.locals as Locals).caller ?? OPEN
export const setCaller = (res: Response, caller: Caller): void => {
  const locals = res.locals as Locals
  locals.caller = caller
}

const OTHER_LIFE = 'this token is of an earlier registration: another process has registered under the agent’s id, or from another place; register again (POST /agents/register) to go on'

/** For those that come with an agent's token: whether it is this agent's, and of its present life. Keys may speak for any agent. */
export const createOwn = ({ registry, tasks }: { registry: Pick<Registry, 'lifeOf'>; tasks: Pick<Tasks, 'agentOf'> }) => {
  /** @throws Forbidden */
  const agent = async (res: Response, id: string): Promise<void> => {
    const caller = callerOf(res)
    if (caller.kind !== 'agent') return
    if (caller.agentId !== id) throw new Forbidden(`this is the token of agent ${caller.agentId}: it says nothing of others`)
    const life = await registry.lifeOf(id)
    // Of one that is not there the route tells.
    if (life && (life.generation !== caller.generation || life.registeredMs !== caller.registeredMs)) throw new Forbidden(OTHER_LIFE)
  }
  return {
    agent,
    /** @throws Forbidden */
    attempt: async (res: Response, taskId: string, attemptId: string): Promise<void> => {
      const caller = callerOf(res)
      if (caller.kind !== 'agent') return
      const sentTo = await tasks.agentOf(taskId, attemptId)
      if (sentTo !== null && sentTo !== caller.agentId) throw new Forbidden(`this attempt was not sent to agent ${caller.agentId}, whose token this is`)
      await agent(res, caller.agentId)
    },
  }
}
export type Own = ReturnType<typeof createOwn>
