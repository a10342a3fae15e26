/**
 * An agent of the TypeScript SDK for tests, told by the environment only: what the SDK reads itself (SWITCHYARD_URL, AGENT_NAME, AGENT_PORT, …), and
 * AGENT_TYPE, AGENT_MAX_CONCURRENCY, AGENT_TTL_SECONDS, AGENT_DRAIN_SECONDS, AGENT_LATER_AFTER_SECONDS, AGENT_REGISTER=false.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { createAgent, NonRetryableError } from '../../sdk/typescript/agent.ts'

const { env } = process
const number = (text: string | undefined): number | undefined => (text ? Number(text) : undefined)

await createAgent({
  type: env['AGENT_TYPE'] || 'test',
  maxConcurrency: number(env['AGENT_MAX_CONCURRENCY']),
  ttlSeconds: number(env['AGENT_TTL_SECONDS']),
  drainSeconds: number(env['AGENT_DRAIN_SECONDS']),
  laterAfterSeconds: number(env['AGENT_LATER_AFTER_SECONDS']),
  register: env['AGENT_REGISTER'] !== 'false',
  capabilities: {
    echo: (parameters) => parameters,
    sleep: ({ seconds }: { seconds: number }, { signal }) => wait(seconds * 1000, { slept: seconds }, { signal }),
    later: async ({ seconds }: { seconds: number }, { signal, later, progress }) => {
      later()
      for (let done = 0; done < 4; done++) {
        await progress({ percent: 25 * done, message: `${done} of 4` })
        await wait(seconds * 250, undefined, { signal })
      }
      return { slept: seconds }
    },
    fail: ({ message = 'failed, as it was asked to', retryable = true }: { message?: string; retryable?: boolean }) => {
      throw retryable ? new Error(message) : new NonRetryableError(message)
    },
  },
}).start()
