/**
 * The thinnest API on the same parts: Express in front of a BullMQ queue. No record, no validation, no idempotency.
 * A process of its own, started by bench/main.ts; env: PORT, REDIS_URL.
 */
import { Queue } from 'bullmq'
import express from 'express'
import { Redis } from 'ioredis'

const queue = new Queue('bench', {
  connection: new Redis(process.env['REDIS_URL']!, { maxRetriesPerRequest: null }),
  defaultJobOptions: { priority: 11, attempts: 4, backoff: { type: 'exponential', delay: 5000 }, removeOnComplete: { count: 1000 }, removeOnFail: { count: 1000 } },
})
await queue.waitUntilReady()

const app = express().disable('x-powered-by').disable('etag')
app.use(express.json())
app.post('/tasks', async (req, res) => {
  const job = await queue.add(req.body.task_type, req.body)
  res.status(201).location(`/tasks/${job.id}`).json({ task_id: job.id, status: 'queued', status_url: `/tasks/${job.id}` })
})
app.get('/tasks/:id', async (req, res) => {
  const job = await queue.getJob(req.params.id)
  if (!job) return void res.status(404).json({ error: 'no such task' })
  res.json({ task_id: job.id, status: await job.getState(), parameters: job.data.parameters, result: job.returnvalue })
})
app.get('/health/ready', (_req, res) => {
  res.json({ status: 'ok' })
})
app.listen(Number(process.env['PORT']), '127.0.0.1')
process.on('disconnect', () => process.exit(0))
