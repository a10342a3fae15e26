/**
 * The thinnest dispatcher on the same parts: a stock BullMQ worker that posts each job to the one agent it knows. No slots, no
 * fencing, no cancel. A process of its own, started by bench/main.ts; env: REDIS_URL, AGENT_URL, HEALTH_PORT, WORKER_CONCURRENCY.
 * GET /done on HEALTH_PORT tells how many jobs it has completed.
 */
import { createServer } from 'node:http'
import { Worker, type Job } from 'bullmq'
import { Redis } from 'ioredis'
import { Pool } from 'undici'

const concurrency = Number(process.env['WORKER_CONCURRENCY'])
const agent = new Pool(process.env['AGENT_URL']!, { connections: concurrency, pipelining: 1, headersTimeout: 30_000, bodyTimeout: 30_000 })
const headers = { 'content-type': 'application/json' }

const deliver = async (job: Job): Promise<unknown> => {
  const { task_type, parameters } = job.data
  const body = JSON.stringify({ task_id: job.id, task_type, parameters, attempt: job.attemptsMade + 1 })
  const answer = await agent.request({ method: 'POST', path: '/task', headers, body })
  if (answer.statusCode !== 200) throw new Error(`the agent answered ${answer.statusCode}`)
  const { result } = (await answer.body.json()) as { result: unknown }
  return result
}

let done = 0
const worker = new Worker('bench', deliver, { connection: new Redis(process.env['REDIS_URL']!, { maxRetriesPerRequest: null }), concurrency })
worker.on('completed', () => done++)
worker.on('failed', (_job, error) => console.error(error.message))
worker.on('error', (error) => console.error(error.message))
await worker.waitUntilReady()

createServer((_req, res) => res.end(String(done))).listen(Number(process.env['HEALTH_PORT']), '127.0.0.1')
process.on('disconnect', () => process.exit(0))
