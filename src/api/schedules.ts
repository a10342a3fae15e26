/** Routes of schedules: put, read, list, pause, let go on, delete. */
import { Router } from 'express'
import { z } from 'zod'
import { AgentType } from '../contracts/agent.ts'
import type { CallbackPolicy } from '../contracts/callback.ts'
import { rawMember } from '../contracts/raw.ts'
import { MAX_TASK_TEXT, newScheduleSchema, SCHEDULE_ID_FORM, ScheduleId } from '../contracts/schedule.ts'
import { InvalidRequest, NotFound } from '../errors.ts'
import type { Logger } from '../logger.ts'
import type { Registry } from '../registry/registry.ts'
import { showSchedule, type ScheduleRecord } from '../schedules/record.ts'
import type { Schedules } from '../schedules/schedules.ts'
import { body, Cursor, Empty, Limit, noQuery, query, readBody, type Body } from './input.ts'
import { pageText, rawJson, sendJson, stringify } from './json.ts'
import { agentTypeOf, checkCallback } from './new-task.ts'
import { notAllowed } from './problem.ts'

const wire = (s: ScheduleRecord): string => stringify({ ...showSchedule(s), task: rawJson(s.task) })

export const ScheduleQuery = z.strictObject({
  agent_type: AgentType.optional().describe('Only those whose tasks are for these agents.'),
  limit: Limit.default(50),
  cursor: Cursor(/^[A-Za-z0-9_.-]{1,128}$/).optional(),
})

/** An id that cannot be one is simply not there. */
const scheduleId = (id: string): string => {
  if (!ScheduleId.safeParse(id).success) throw new NotFound('there is no such schedule; its id is not of the form that ids have')
  return id
}

/** A schedule as the Board shows it, by the id of a job of its. */
export const describeSchedule = (schedules: Schedules) => async (id: string): Promise<Record<string, unknown> | null> => {
  const s = await schedules.get(id)
  return s && { ...showSchedule(s), task: JSON.parse(s.task) as unknown }
}

export const scheduleRoutes = ({ schedules, callbacks, registry, form, log }: { schedules: Schedules; callbacks: CallbackPolicy; registry: Registry; form: ReturnType<typeof newScheduleSchema>; log: Logger }): Router => {
  const routes = Router()

  routes.get('/schedules', async (req, res) => {
    const q = query(ScheduleQuery, req)
    const { schedules: found, next } = await schedules.list({ type: q.agent_type, limit: q.limit, after: q.cursor })
    sendJson(res, 200, pageText('schedules', found.map(wire), next))
  })
  routes.all('/schedules', notAllowed('GET'))

  routes.put('/schedules/:id', ...readBody(), async (req, res) => {
    const id = String(req.params.id)
    const put = body(form, req)
    const faults = ScheduleId.safeParse(id).success ? [] : [{ pointer: '', detail: `the id in the path ${SCHEDULE_ID_FORM}` }]
    const task = rawMember((req.body as Body).text, 'task')!
    if (task.length > MAX_TASK_TEXT) faults.push({ pointer: '/task', detail: `must be at most ${MAX_TASK_TEXT} characters of JSON` })
    if (faults.length > 0) throw new InvalidRequest(faults)
    checkCallback(put.task, callbacks)
    const { created, schedule } = await schedules.put(id, await agentTypeOf(put.task, registry.typeOf, '/task'), put, task)
    log.info({ schedule: id, agent_type: schedule.type, next: showSchedule(schedule).next_run_at }, created ? 'a schedule was made' : 'a schedule was put again')
    if (created) res.setHeader('Location', `/schedules/${id}`)
    sendJson(res, created ? 201 : 200, wire(schedule))
  })
  routes.get('/schedules/:id', noQuery, async (req, res) => {
    const s = await schedules.get(scheduleId(String(req.params.id)))
    if (!s) throw new NotFound(`there is no schedule ${req.params.id}`)
    sendJson(res, 200, wire(s))
  })
  routes.delete('/schedules/:id', noQuery, async (req, res) => {
    const id = scheduleId(String(req.params.id))
    const deleted = await schedules.delete(id)
    if (deleted) log.info({ schedule: id }, 'a schedule was deleted')
    sendJson(res, 200, JSON.stringify({ schedule_id: id, deleted }))
  })
  routes.all('/schedules/:id', notAllowed('GET', 'PUT', 'DELETE'))

  for (const [name, paused] of [['pause', true], ['resume', false]] as const) {
    routes.post(`/schedules/:id/${name}`, ...readBody({ optional: true }), async (req, res) => {
      body(Empty, req)
      const s = await schedules.pause(scheduleId(String(req.params.id)), paused)
      log.info({ schedule: s.id, next: showSchedule(s).next_run_at }, paused ? 'a schedule was paused' : 'a schedule goes on')
      sendJson(res, 200, wire(s))
    })
    routes.all(`/schedules/:id/${name}`, notAllowed('POST'))
  }
  return routes
}
