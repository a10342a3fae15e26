/** Tells agents to stop what nobody wants any more. At best: their heartbeats tell them too, so what is not said in time is not said here. */
import type { Logger } from '../logger.ts'
import type { StopRequest, Transport } from '../transports/transport.ts'

/** At once: agents that do not answer must not take all of a dispatcher's connections. */
const MAX_UNDER_WAY = 32
const MAX_WAITING = 1_000

export type Stops = ReturnType<typeof createStops>

export const createStops = ({ transport, log }: { transport: Transport; log: Logger }) => {
  const waiting: StopRequest[] = []
  let underWay = 0
  const next = (): void => {
    const request = underWay < MAX_UNDER_WAY ? waiting.shift() : undefined
    if (request === undefined) return
    underWay++
    void transport.stop(request).then((statusCode) => {
      underWay--
      log.debug({ task: request.taskId, agent: request.target.agentId, status_code: statusCode }, 'told an agent to stop')
      next()
    })
  }
  return {
    tell: (request: StopRequest): void => {
      if (waiting.length >= MAX_WAITING) return
      waiting.push(request)
      next()
    },
  }
}
