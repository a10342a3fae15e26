/** An agent for as long as checks are done on it: one that runs already, or one that the kit starts, and starts again when it has to. */
import { connect } from 'node:net'
import { startLate, taken, urlOf, type registering } from './checks/registering.ts'
import type { Judge } from './check.ts'
import { UnreachableError } from './discover.ts'
import { launch, type AgentProcess } from './launch.ts'
import { createRouter, freePort, type Said } from './router.ts'
import type { At } from './subject.ts'

const PATIENCE_MS = 10_000
const MAX_STARTS = 8

export type Session = {
  at: () => At
  /** After a broken check: makes sure that there is an agent, a fresh one where that can be. False when there is none any more. */
  mend: () => Promise<boolean>
  close: () => Promise<void>
}

const accepts = (url: string): Promise<boolean> =>
  new Promise((resolve) => {
    const { hostname, port } = new URL(url)
    const socket = connect({ host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80), timeout: 2000 })
    const end = (free: boolean) => () => {
      socket.destroy()
      resolve(free)
    }
    socket.once('connect', end(true)).once('error', end(false)).once('timeout', end(false))
  })

export const attach = (url: string, pid: number | null): Session => ({ at: () => ({ url, pid }), mend: () => accepts(url), close: async () => {} })

export type Started = Session & { said: Said | null; /** It listens where it was told to, so that two can run beside each other. */ obedient: boolean }

/**
 * Starts an agent with a router of its own.
 * @param options.secret what it is to verify by, given to it when it is started; `told`: by the router
 * @param judge where given the router comes late, and it is judged how the agent takes that
 */
export const start = async (words: readonly string[], options: { judge?: Judge<keyof typeof registering.checks>; otherStart?: Said | null; signal?: AbortSignal; secret?: string | undefined; told?: string | undefined } = {}): Promise<Started> => {
  const router = await createRouter(options.told)
  let process: AgentProcess | null = null
  let port = 0
  let starts = 0
  const { signal, secret } = options
  const begin = async (): Promise<AgentProcess> => {
    signal?.throwIfAborted()
    starts++
    port = await freePort()
    process = launch(words, { SWITCHYARD_URL: router.url, AGENT_HOST: '127.0.0.1', AGENT_PORT: String(port), PYTHONUNBUFFERED: '1', ...(secret ? { AGENT_SECRET: secret } : {}) })
    return process
  }
  const close = async (): Promise<void> => {
    await process?.kill()
    await router.close()
  }
  // Whoever waits for it sees it ended then.
  signal?.addEventListener('abort', () => void process?.kill(), { once: true })
  try {
    let said: Said | null
    if (options.judge) said = (await startLate(begin, router, options.judge)).said
    else {
      await router.open()
      said = await taken(router, await begin(), PATIENCE_MS)
    }
    signal?.throwIfAborted()
    const running = process! as AgentProcess
    if (!said && running.exit() !== null) throw new UnreachableError(`the agent ended with ${running.exit()} before it registered: ${running.output() || 'it said nothing'}`)
    let url = said ? urlOf(said) : null
    return {
      said,
      obedient: url !== null && new URL(url).port === String(port),
      at: () => ({ url: url ?? '', process: process!, router, otherStart: options.otherStart ?? null }),
      mend: async () => {
        if (starts >= MAX_STARTS) return url !== null && accepts(url)
        await process!.kill()
        router.forget()
        const again = await taken(router, await begin(), PATIENCE_MS)
        url = again ? urlOf(again) : null
        return url !== null
      },
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}
