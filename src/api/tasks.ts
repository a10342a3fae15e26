/** Routes of tasks: submit, read or wait, list, cancel, retry; and results that come later. */
import { Router, type Request } from 'express'
import { z } from 'zod'
import { AgentId, AgentType, Capability } from '../contracts/agent.ts'
import type { CallbackPolicy } from '../contracts/callback.ts'
import { idempotencyOf } from '../contracts/idempotency.ts'
import { AttemptResult, newTaskSchema, TaskStatus } from '../contracts/task.ts'
import { pattern } from '../contracts/members.ts'
import { rawMembers } from '../contracts/raw.ts'
import { bounded, MAX_ERROR_CHARS, MAX_RESULT_DEPTH } from '../contracts/words.ts'
import { InvalidRequest, NotFound } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { queueName } from '../redis/keys.ts'
import type { Registry } from '../registry/registry.ts'
import type { Tasks } from '../tasks/tasks.ts'
import { wire } from '../tasks/wire.ts'
import type { Own } from './caller.ts'
import { body, bodyAndQuery, Cursor, Empty, Flag, Limit, noQuery, query, readBody, taskId, type Body } from './input.ts'
import { pageText, sendJson, stringify } from './json.ts'
import { agentTypeOf, checkCallback, keepSecondsOf, keyOf, traceparentOf } from './new-task.ts'
import { notAllowed } from './problem.ts'
import { MAX_WAIT_SECONDS, type Waiter } from './wait.ts'

/** A string without escapes, as JSON has it. */
const PLAIN = /^"([\w.-]+)"$/

/** What says which queue a task goes to, of a text that may be no JSON. */
const membersOf = (text: string) => {
  try {
    return rawMembers(text, ['agent_type', 'task_type', 'agent_id'] as const)
  } catch {
    return {}
  }
}

const WAIT_FORM = `must be a number of seconds from 0 to ${MAX_WAIT_SECONDS}`

/** Longer payloads are not shown on the Board, which loads many tasks at once. */
const MAX_SHOWN_TEXT = 10_000
const shown = (text: string, path: string) => (text.length <= MAX_SHOWN_TEXT ? text : JSON.stringify(`${text.length} characters: see GET ${path}`))

/** A task as the Board shows it. */
export const describeTask = (tasks: Tasks) => async (id: string): Promise<Record<string, unknown> | null> => {
  const t = await tasks.get(id)
  if (!t) return null
  const path = `/tasks/${id}`
  return JSON.parse(stringify(wire({ ...t, parameters: shown(t.parameters, path), metadata: shown(t.metadata, path), result: shown(t.result, path) })))
}

/** What of a task's id comes behind its type. */
export const TASK_UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

export const TaskQuery = z.strictObject({
  status: TaskStatus.optional(),
  agent_type: AgentType.optional(),
  task_type: Capability.optional(),
  agent_id: AgentId.optional().describe('The agent it is pinned to, or that has or had it.'),
  limit: Limit.default(50),
  cursor: Cursor(TASK_UUID).optional(),
})
export const SubmitQuery = z.strictObject({ require_agent: Flag.default(false).describe('Refuse the task (503) when no agent that can do it is alive, instead of letting it wait.') })

export const WaitQuery = z.strictObject({
  wait: pattern(/^\d{1,2}(\.\d{1,3})?$/, WAIT_FORM)
    .transform(Number)
    .refine((seconds) => seconds <= MAX_WAIT_SECONDS, WAIT_FORM)
    .default(0)
    .meta({ type: 'number', minimum: 0, maximum: MAX_WAIT_SECONDS })
    .describe('Answer when the task ends, or after so many seconds with the task as it is then.'),
})

export const taskRoutes = ({ tasks, callbacks, whenEnded, registry, own, form, log }: { tasks: Tasks; callbacks: CallbackPolicy; whenEnded: Waiter; registry: Registry; own: Own; form: ReturnType<typeof newTaskSchema>; log: Logger }): Router => {
  const routes = Router()

  /**
   * While queues are full, what goes there is refused before it is parsed. One under a key may have been taken before: the record says.
   */
  const refuseFull = (req: Request, text: string): void => {
    if (!tasks.anyFull() || req.headers['idempotency-key'] !== undefined) return
    const { agent_type: type, task_type: task, agent_id: agent } = membersOf(text)
    const [, typeName] = PLAIN.exec(type ?? '') ?? []
    const [, taskName] = PLAIN.exec(task ?? '') ?? []
    if (agent === undefined && typeName !== undefined && taskName !== undefined) tasks.refuseFull(queueName(typeName, taskName))
  }

  routes.post('/tasks', ...readBody({ before: refuseFull }), async (req, res) => {
    const { body: task, query: asked } = bodyAndQuery(req, { body: form, query: SubmitQuery })
    delete task.parameters // kept as text
    delete task.metadata
    checkCallback(task, callbacks)
    const { text } = req.body as Body
    const raw = rawMembers(text, ['parameters', 'metadata'] as const)
    const [key, keepSeconds] = [keyOf(req), keepSecondsOf(req)]
    const { submitted, replayed } = await tasks.submitOnce(task, await agentTypeOf(task, registry.typeOf), {
      parameters: raw.parameters ?? '{}',
      metadata: raw.metadata ?? '{}',
      requireAgent: asked.require_agent,
      traceparent: traceparentOf(req),
      idempotency: key === undefined ? undefined : idempotencyOf(key, text, asked.require_agent, keepSeconds),
    })
    if (replayed) res.setHeader('Idempotent-Replayed', 'true')
    else log.info({ task: submitted.task_id, status: submitted.status }, submitted.status)
    res.setHeader('Location', submitted.status_url)
    sendJson(res, 201, JSON.stringify(submitted))
  })

  routes.get('/tasks', async (req, res) => {
    const q = query(TaskQuery, req)
    const { tasks: rows, next } = await tasks.list({
      statuses: q.status === undefined ? TaskStatus.options : [q.status],
      types: q.agent_type === undefined ? undefined : [q.agent_type],
      taskType: q.task_type,
      agentId: q.agent_id,
      limit: q.limit,
      before: q.cursor,
    })
    sendJson(res, 200, pageText('tasks', rows.map((t) => stringify(wire(t))), next))
  })
  routes.all('/tasks', notAllowed('GET', 'POST'))

  routes.post('/tasks/:id/retry', ...readBody({ optional: true }), async (req, res) => {
    body(Empty, req)
    const submitted = await tasks.retry(taskId(String(req.params.id)))
    log.info({ task: submitted.task_id, status: submitted.status, retry_of: req.params.id }, submitted.status)
    res.setHeader('Location', submitted.status_url)
    sendJson(res, 201, JSON.stringify(submitted))
  })
  routes.all('/tasks/:id/retry', notAllowed('POST'))

  // From agents that said 202; as deep as their answers may be.
  routes.post('/tasks/:id/result', ...readBody({ depth: MAX_RESULT_DEPTH }), async (req, res) => {
    const id = taskId(String(req.params.id))
    const said = body(AttemptResult, req)
    delete said.result // kept as text
    delete said.metadata
    if (said.task_id !== undefined && said.task_id !== id) throw new InvalidRequest([{ pointer: '/task_id', detail: 'is not the task of this path' }])
    await own.attempt(res, id, said.attempt_id)
    const outcome = said.status === 'completed' ? 'completed' : said.retryable === false ? 'rejected' : 'failed'
    const status = await tasks.callback(id, said.attempt_id, {
      outcome,
      result: outcome === 'completed' ? (rawMembers((req.body as Body).text, ['result'] as const).result ?? 'null') : '',
      error: outcome === 'completed' ? '' : bounded(said.error || 'the agent said that it failed, and not why', MAX_ERROR_CHARS),
      executionMs: said.execution_time_ms ?? null,
    })
    sendJson(res, 200, JSON.stringify({ task_id: id, status }))
  })
  routes.all('/tasks/:id/result', notAllowed('POST'))

  routes.get('/tasks/:id', async (req, res) => {
    const { wait } = query(WaitQuery, req)
    const id = taskId(String(req.params.id))
    const gone = new AbortController()
    res.once('close', () => gone.abort())
    const task = wait > 0 ? await whenEnded(id, wait * 1000, gone.signal) : await tasks.get(id)
    if (!task) throw new NotFound(`there is no task ${req.params.id}; ended ones are forgotten after a while`)
    sendJson(res, 200, stringify(wire(task)))
  })
  routes.delete('/tasks/:id', noQuery, async (req, res) => {
    const id = taskId(String(req.params.id))
    const { status, requested } = await tasks.cancel(id)
    log.info({ task: id, status }, requested ? 'cancel requested' : 'cancelled')
    sendJson(res, requested ? 202 : 200, JSON.stringify({ task_id: id, status, cancel_requested: true }))
  })
  routes.all('/tasks/:id', notAllowed('GET', 'DELETE'))
  return routes
}
