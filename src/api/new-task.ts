/** What a submit says beside its body, and where its task goes: the same for one task and for many. */
import type { Request } from 'express'
import type { CallbackPolicy } from '../contracts/callback.ts'
import { KEEP_SECONDS, KEY_SENTENCE, keyInHeader } from '../contracts/idempotency.ts'
import { TRACEPARENT, type NewTask } from '../contracts/task.ts'
import { InvalidRequest, NotFound, SwitchyardError } from '../errors.ts'

/**
 * Refuses a task whose end would be told where we tell nothing. A task that was taken once is retried with its URL all the same: when a
 * webhook is sent, the policy of that day decides.
 * @throws HostNotAllowed
 */
export const checkCallback = (t: NewTask, callbacks: CallbackPolicy): void => {
  if (t.callback_url !== undefined) callbacks.check(t.callback_url)
}

/**
 * The type a task goes to: named, or its pinned agent's.
 * @param at where in the body the task is, a JSON Pointer
 */
export const agentTypeOf = async (t: NewTask, typeOf: (agentId: string) => Promise<string | null>, at = ''): Promise<string> => {
  if (t.agent_id === undefined) return t.agent_type!
  const type = await typeOf(t.agent_id)
  if (type === null) throw new NotFound(`agent ${t.agent_id} is not registered; a task can be pinned to a registered agent only`)
  if (t.agent_type !== undefined && t.agent_type !== type) throw new InvalidRequest([{ pointer: `${at}/agent_type`, detail: `is ${t.agent_type}, but agent ${t.agent_id} is of type ${type}` }])
  return type
}

/** The trace that the task belongs to, if it is told in a form that we know. */
export const traceparentOf = (req: Request): string | undefined => {
  const traceparent = req.get('traceparent')
  return traceparent !== undefined && TRACEPARENT.test(traceparent) ? traceparent : undefined
}

const badHeader = (name: string, sentence: string): SwitchyardError => new SwitchyardError('malformed-request', `the header ${name} ${sentence}`)

/** @throws malformed-request when it is none; twice the header is none either */
export const keyOf = (req: Request): string | undefined => {
  const header = req.get('idempotency-key')
  if (header === undefined) return undefined
  const key = keyInHeader(header)
  if (key === null) throw badHeader('Idempotency-Key', `${KEY_SENTENCE}, plain or as a quoted string`)
  return key
}

/** For how long keys are to be kept. @throws malformed-request */
export const keepSecondsOf = (req: Request): number => {
  const header = req.get('idempotency-key-seconds')
  if (header === undefined) return KEEP_SECONDS
  if (!/^\d{1,5}$/.test(header) || Number(header) < 1 || Number(header) > KEEP_SECONDS) throw badHeader('Idempotency-Key-Seconds', `must be a whole number from 1 to ${KEEP_SECONDS}`)
  return Number(header)
}
