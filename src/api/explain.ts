/** GET /tasks/{id}/explain: why a task waits, and which agents it may go to. */
import { Router } from 'express'
import { NotFound } from '../errors.ts'
import type { createExplain } from '../tasks/explain.ts'
import type { Tasks } from '../tasks/tasks.ts'
import { noQuery, taskId } from './input.ts'
import { sendJson } from './json.ts'
import { notAllowed } from './problem.ts'

export const explainRoutes = ({ explain, tasks }: { explain: ReturnType<typeof createExplain>; tasks: Pick<Tasks, 'get'> }): Router => {
  const routes = Router()
  routes.get('/tasks/:id/explain', noQuery, async (req, res) => {
    const id = taskId(String(req.params.id))
    let explanation = await explain(id)
    // Seen to have expired by nobody before us: reading it ends it.
    if (explanation?.agents_considered && explanation.at >= explanation.expires_at && (await tasks.get(id))) explanation = await explain(id)
    if (!explanation) throw new NotFound(`there is no task ${id}; ended ones are forgotten after a while`)
    sendJson(res, 200, JSON.stringify(explanation))
  })
  routes.all('/tasks/:id/explain', notAllowed('GET'))
  return routes
}
