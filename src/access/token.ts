/**
 * What an agent may show instead of a key: a text that says which agent it is, under a MAC. Nothing is kept of it. It is bound to the agent's generation, and
 * to when the agent was first registered: one that has unregistered, and whoever takes its id afterwards, begins at generation 1 again.
 */
import { createHmac, createSecretKey, type KeyObject } from 'node:crypto'
import { DEFAULT_NAMESPACE } from '../redis/keys.ts'
import { isSame } from './secret.ts'

/** An agent of a namespace, in one life of it. */
export type AgentLife = { namespace: string; agentId: string; generation: number; registeredMs: number }

/** The namespace stands in front, but for the default one. */
const FORM = /^sya_(?:([a-z0-9][a-z0-9-]{0,31})~)?([A-Za-z0-9][A-Za-z0-9_.-]{0,63})~(\d{1,15})~(\d{1,15})~([\w-]{43})$/

/** @param secret base64url, 32 random bytes */
export const createTokens = (secret: string) => {
  const key: KeyObject = createSecretKey(secret, 'base64url')
  const macOf = (namespace: string, said: string): Buffer => createHmac('sha256', key).update(`agent\n${namespace}\n${said}`).digest()
  return {
    make: ({ namespace, agentId, generation, registeredMs }: AgentLife): string => {
      const said = `${agentId}~${generation}~${registeredMs}`
      return `sya_${namespace === DEFAULT_NAMESPACE ? '' : `${namespace}~`}${said}~${macOf(namespace, said).toString('base64url')}`
    },
    /** Whose it is; null when we did not make it. */
    read: (presented: string): AgentLife | null => {
      const [, namespace = DEFAULT_NAMESPACE, agentId, generation, registered, mac] = FORM.exec(presented) ?? []
      if (mac === undefined) return null
      if (!isSame(macOf(namespace, `${agentId}~${generation}~${registered}`), Buffer.from(mac, 'base64url'))) return null
      return { namespace, agentId: agentId!, generation: Number(generation), registeredMs: Number(registered) }
    },
  }
}
export type Tokens = ReturnType<typeof createTokens>
