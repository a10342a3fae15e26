/** Schedules: put, read, list, pause, let go on, delete. All of it may be repeated at will. */
import type { CallOptions, Http } from './http.ts'
import { createList, type List } from './list.ts'
import type { NewSchedule, Schedule, ScheduleDeleted, ScheduleFilter, SchedulePage } from './wire.ts'

export type SchedulesClient = {
  /** Makes a schedule, or changes the one of this id. Put again as it is, the time of its next run stays. */
  put(id: string, schedule: NewSchedule, options?: CallOptions): Promise<Schedule>
  get(id: string, options?: CallOptions): Promise<Schedule>
  /** By id. */
  list(filter?: ScheduleFilter, options?: CallOptions): List<Schedule, SchedulePage>
  /** No further task comes of it; those submitted go on. */
  delete(id: string, options?: CallOptions): Promise<ScheduleDeleted>
  /** What comes due meanwhile is neither made up for nor missed. */
  pause(id: string, options?: CallOptions): Promise<Schedule>
  /** As if it were put anew. */
  resume(id: string, options?: CallOptions): Promise<Schedule>
}

const path = (id: string): string => `/schedules/${encodeURIComponent(id)}`

export const createSchedules = (http: Http): SchedulesClient => ({
  put: (id, schedule, options = {}) => http.json('PUT', path(id), { ...options, body: schedule, again: 'always', holds: 'schedule_id' }),
  get: (id, options = {}) => http.json('GET', path(id), { ...options, again: 'always', holds: 'schedule_id' }),
  list: (filter = {}, options = {}) => createList((cursor) => http.json<SchedulePage>('GET', '/schedules', { ...options, query: { ...filter, cursor }, again: 'always', holds: 'schedules' }), (page) => page.schedules),
  delete: (id, options = {}) => http.json('DELETE', path(id), { ...options, again: 'always', holds: 'schedule_id' }),
  pause: (id, options = {}) => http.json('POST', `${path(id)}/pause`, { ...options, again: 'always', holds: 'schedule_id' }),
  resume: (id, options = {}) => http.json('POST', `${path(id)}/resume`, { ...options, again: 'always', holds: 'schedule_id' }),
})
