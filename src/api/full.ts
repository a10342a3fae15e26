/** In a cluster one server may be full while others are not. Which one a task would go to is known only when it has been read: then what is new is refused there. */
import { StoreFull } from '../errors.ts'
import type { Keys } from '../redis/keys.ts'
import type { Pressure } from '../redis/pressure.ts'
import type { Tasks } from '../tasks/tasks.ts'

type Submits = Pick<Tasks, 'submitOnce' | 'submitMany'>

export const refusingFull = <T extends Submits>(tasks: T, pressure: Pressure, keys: Keys): T => {
  const isFull = (type: string): boolean => pressure.isFullAt(keys.base(type))
  const submitOnce: Tasks['submitOnce'] = async (task, type, extra) => {
    if (isFull(type)) throw new StoreFull()
    return tasks.submitOnce(task, type, extra)
  }
  const submitMany: Tasks['submitMany'] = async (many) => {
    const full = new Set([...new Set(many.map(({ type }) => type))].filter(isFull))
    if (full.size === 0) return tasks.submitMany(many)
    const taken = (await tasks.submitMany(many.filter(({ type }) => !full.has(type)))).values()
    return many.map(({ type }) => (full.has(type) ? new StoreFull() : taken.next().value!))
  }
  return { ...tasks, submitOnce, submitMany }
}
