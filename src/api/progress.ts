/** The route by which agents tell how far an attempt is. */
import { Router } from 'express'
import { MAX_DATA_BYTES, MAX_MESSAGE_CHARS, ProgressReport } from '../contracts/progress.ts'
import { rawMembers } from '../contracts/raw.ts'
import { iso } from '../contracts/time.ts'
import { bounded } from '../contracts/words.ts'
import { InvalidRequest } from '../errors.ts'
import type { Tasks } from '../tasks/tasks.ts'
import type { Own } from './caller.ts'
import { body, readBody, taskId, type Body } from './input.ts'
import { sendJson } from './json.ts'
import { notAllowed } from './problem.ts'

export const progressRoutes = ({ tasks, own }: { tasks: Tasks; own: Own }): Router => {
  const routes = Router()
  routes.post('/tasks/:id/progress', ...readBody(), async (req, res) => {
    const id = taskId(String(req.params.id))
    const told = body(ProgressReport, req)
    await own.attempt(res, id, told.attempt_id)
    const { data } = rawMembers((req.body as Body).text, ['data'] as const)
    if (data !== undefined && Buffer.byteLength(data) > MAX_DATA_BYTES) throw new InvalidRequest([{ pointer: '/data', detail: `must be at most ${MAX_DATA_BYTES} bytes of JSON` }])
    const report =
      told.percent === undefined && told.message === undefined && data === undefined
        ? null
        : { percent: told.percent ?? null, message: told.message === undefined ? null : bounded(told.message, MAX_MESSAGE_CHARS), data: data ?? null }
    const { deadlineMs, cancelRequested } = await tasks.progress(id, told.attempt_id, report, told.extend_seconds === undefined ? null : Math.ceil(told.extend_seconds * 1000))
    sendJson(res, 200, JSON.stringify({ task_id: id, status: 'running', deadline_at: iso(deadlineMs), cancel_requested: cancelRequested }))
  })
  routes.all('/tasks/:id/progress', notAllowed('POST'))
  return routes
}
