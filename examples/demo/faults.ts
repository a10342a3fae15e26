/** Capabilities that go wrong on purpose, to show what Switchyard makes of it. */
import { once } from 'node:events'
import type { Handler } from '../../sdk/typescript/agent.ts'

/** Fails the first time it is sent, as an agent does whose database was just away. */
const failFirstAttempt: Handler = (_parameters, { attempt }) => {
  if (attempt === 1) throw new Error('failed on purpose, being the first attempt')
  return { completed_at_attempt: attempt }
}

/** Hangs until Switchyard hangs up. */
const neverAnswer: Handler = async (_parameters, { signal }) => {
  if (!signal.aborted) await once(signal, 'abort')
  throw new Error('stopped, as nobody waits any longer')
}

export const faults: Readonly<Record<string, Handler>> = { fail_first_attempt: failFirstAttempt, never_answer: neverAnswer }
