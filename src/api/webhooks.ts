/** Routes of webhooks. That a task has one, and what came of it, its own routes tell. */
import { Router } from 'express'
import type { Logger } from '../logger.ts'
import type { Webhooks } from '../tasks/webhooks/webhooks.ts'
import { body, Empty, readBody, taskId } from './input.ts'
import { sendJson } from './json.ts'
import { notAllowed } from './problem.ts'

export const webhookRoutes = ({ webhooks, log }: { webhooks: Webhooks; log: Logger }): Router => {
  const routes = Router()
  routes.post('/tasks/:id/webhooks/redeliver', ...readBody({ optional: true }), async (req, res) => {
    body(Empty, req)
    const task_id = taskId(String(req.params.id))
    const webhook = await webhooks.redeliver(task_id)
    log.info({ task: task_id, webhook: webhook.id }, 'webhook asked for again')
    sendJson(res, 202, JSON.stringify({ task_id, webhook }))
  })
  routes.all('/tasks/:id/webhooks/redeliver', notAllowed('POST'))
  return routes
}
