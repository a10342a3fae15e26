/** What one dispatcher process measures of itself, for its own /metrics. Totals over all processes are the API's to tell, from Redis. */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'

export type Metrics = ReturnType<typeof createMetrics>

const MAX_KNOWN = 10_000
/** Finding an instrument by its labels costs more than counting with it: once is enough. */
const byLabels = <T>(find: (agentType: string, outcome: string) => T): ((agentType: string, outcome?: string) => T) => {
  const known = new Map<string, T>()
  return (agentType, outcome = '') => {
    const key = `${agentType} ${outcome}`
    const found = known.get(key) ?? find(agentType, outcome)
    if (known.size > MAX_KNOWN) known.clear()
    known.set(key, found)
    return found
  }
}

export const createMetrics = () => {
  const register = new Registry()
  const registers = [register]
  collectDefaultMetrics({ register })
  const attempts = new Counter({ name: 'switchyard_worker_attempts_total', help: 'Attempts this process ended, by outcome.', labelNames: ['agent_type', 'outcome'], registers })
  const wait = new Histogram({
    name: 'switchyard_dispatch_wait_seconds',
    help: 'From when a task could go until it was sent.',
    labelNames: ['agent_type'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600],
    registers,
  })
  const run = new Histogram({
    name: 'switchyard_attempt_run_seconds',
    help: 'From sending an attempt until its outcome.',
    labelNames: ['agent_type', 'outcome'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
    registers,
  })
  return {
    register,
    attempts: byLabels((agent_type, outcome) => attempts.labels({ agent_type, outcome })),
    wait: byLabels((agent_type) => wait.labels({ agent_type })),
    run: byLabels((agent_type, outcome) => run.labels({ agent_type, outcome })),
    inFlight: new Gauge({ name: 'switchyard_worker_in_flight', help: 'Slots in hand in this process.', registers }),
  }
}
