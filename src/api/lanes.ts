/**
 * Who is turned away first when there is too much. `submit`: what brings new work. `running`: what work that is under way, and its agents, cannot do
 * without; it is turned away last. `free`: what never asks Redis. `other`: all else, mostly people and programs that look.
 */
export type Lane = 'submit' | 'running' | 'other' | 'free'

const SUBMIT = /^\/(?:tasks(?:\/batch|\/[^/]+\/retry)?|dead-letters\/retry)\/?$/i
const SCHEDULE = /^\/schedules\/[^/]+\/?$/i
const RUNNING = /^\/(?:tasks\/[^/]+\/(?:result|progress)|agents\/(?:register|[^/]+\/(?:heartbeat|unregister)))\/?$/i
const ONE = /^\/(?:tasks|agents)\/[^/]+\/?$/i
const FREE = /^\/(?:(?:health(?:\/.*)?|metrics|docs(?:\/.*)?|openapi\.json|login)\/?)?$/i
const LOGOUT = /^\/logout\/?$/i

/** The lane of a request, by what can be known before its body. */
export const laneOf = (method: string, url: string): Lane => {
  if (method === 'POST' && url === '/tasks') return 'submit'
  const end = url.indexOf('?')
  const path = end < 0 ? url : url.slice(0, end)
  if (method === 'POST') return RUNNING.test(path) ? 'running' : SUBMIT.test(path) ? 'submit' : LOGOUT.test(path) ? 'free' : 'other'
  if (method === 'DELETE') return ONE.test(path) ? 'running' : 'other'
  if (method === 'PUT') return SCHEDULE.test(path) ? 'submit' : 'other'
  return method === 'OPTIONS' || FREE.test(path) ? 'free' : 'other'
}
