/** What one dispatcher process measures of itself, for its own /metrics. Totals over all processes are the API's to tell, from Redis. */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'

export type Metrics = ReturnType<typeof createMetrics>

export const createMetrics = () => {
  const registers = [new Registry()]
  collectDefaultMetrics({ register: registers[0]! })
  return {
    register: registers[0]!,
    attempts: new Counter({ name: 'switchyard_worker_attempts_total', help: 'Attempts this process ended, by outcome.', labelNames: ['agent_type', 'outcome'], registers }),
    wait: new Histogram({
      name: 'switchyard_dispatch_wait_seconds',
      help: 'From when a task could go until it was sent.',
      labelNames: ['agent_type'],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600],
      registers,
    }),
    run: new Histogram({
      name: 'switchyard_attempt_run_seconds',
      help: 'From sending an attempt until its outcome.',
      labelNames: ['agent_type', 'outcome'],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
      registers,
    }),
    inFlight: new Gauge({ name: 'switchyard_worker_in_flight', help: 'Slots in hand in this process.', registers }),
  }
}
