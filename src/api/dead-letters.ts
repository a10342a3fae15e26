/** Routes of dead letters: tasks that failed or timed out, listed, summed up and retried. */
import { Router } from 'express'
import { z } from 'zod'
import { deadLetterFilter, RetryDeadLetters } from '../contracts/dead-letter.ts'
import { InvalidRequest } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { uuidOf } from '../redis/keys.ts'
import type { DeadLetterFilter } from '../tasks/dead-letters.ts'
import type { Tasks } from '../tasks/tasks.ts'
import { wire } from '../tasks/wire.ts'
import { body, Cursor, Flag, Limit, query, readBody, toCursor } from './input.ts'
import { pageText, sendJson, stringify } from './json.ts'
import { notAllowed } from './problem.ts'
import { TASK_UUID } from './tasks.ts'

const DeadLetterCursor = Cursor(TASK_UUID)
const includeRetried = Flag.default(false).describe('Also those that were retried; `retried_as` says as which task.')

export const DeadLetterSummaryQuery = z.strictObject({ ...deadLetterFilter, include_retried: includeRetried })
export const DeadLetterQuery = DeadLetterSummaryQuery.extend({ limit: Limit.default(50), cursor: DeadLetterCursor.optional() })

const filterOf = (q: { agent_type?: string | undefined; task_type?: string | undefined; error?: string | undefined; include_retried?: boolean }, before?: string): DeadLetterFilter => ({
  type: q.agent_type,
  taskType: q.task_type,
  error: q.error,
  includeRetried: q.include_retried ?? false,
  before,
})

export const deadLetterRoutes = ({ tasks, log }: { tasks: Tasks; log: Logger }): Router => {
  const routes = Router()
  routes.get('/dead-letters', async (req, res) => {
    const q = query(DeadLetterQuery, req)
    const { tasks: rows, next } = await tasks.deadLetters.list(filterOf(q, q.cursor), q.limit)
    sendJson(res, 200, pageText('tasks', rows.map((t) => stringify(wire(t))), next))
  })
  routes.all('/dead-letters', notAllowed('GET'))

  routes.get('/dead-letters/summary', async (req, res) => {
    const { groups, count, complete } = await tasks.deadLetters.summary(filterOf(query(DeadLetterSummaryQuery, req)))
    const shown = groups.map((g) => ({ agent_type: g.agentType, task_type: g.taskType, error: g.error, count: g.count, newest_task_id: g.newest }))
    sendJson(res, 200, JSON.stringify({ groups: shown, count, complete }))
  })
  routes.all('/dead-letters/summary', notAllowed('GET'))

  routes.post('/dead-letters/retry', ...readBody(), async (req, res) => {
    const asked = body(RetryDeadLetters, req)
    const cursor = DeadLetterCursor.optional().safeParse(asked.cursor)
    if (!cursor.success) throw new InvalidRequest([{ pointer: '/cursor', detail: cursor.error.issues[0]!.message }])
    const { made, skipped, stoppedBy, next, more } = await tasks.deadLetters.retry(filterOf(asked, cursor.data), asked.limit)
    for (const { task_id: task, status, retry_of } of made) log.info({ task, status, retry_of }, status)
    // Several at once: they come back in any order.
    const order = new Map(made.map((m) => [m.task_id, uuidOf(m.retry_of!)]))
    const ids = made.map((m) => m.task_id).sort((a, b) => (order.get(a)! < order.get(b)! ? -1 : 1))
    sendJson(res, 200, JSON.stringify({ retried: made.length, skipped, task_ids: ids, more, next_cursor: next && toCursor(next), error: stoppedBy }))
  })
  routes.all('/dead-letters/retry', notAllowed('POST'))
  return routes
}
