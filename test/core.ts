/** The parts that our processes are made of, in the test's own: to stand still where a process would have to be killed at the right microsecond. */
import { randomUUID } from 'node:crypto'
import { readConfig } from '../src/config.ts'
import { createCore, type Core } from '../src/core.ts'
import { createLogger } from '../src/logger.ts'
import type { SlotTokens } from '../src/registry/registry.ts'
import { createTasks, type Tasks } from '../src/tasks/tasks.ts'
import type { System } from './system.ts'

export const startCore = async (system: Pick<System, 'redisUrl' | 'prefix'>, env: Record<string, string> = {}) => {
  const core = await createCore({ config: readConfig({ REDIS_URL: system.redisUrl, REDIS_PREFIX: system.prefix, ...env }), log: createLogger('test', 'silent'), name: 'test' })
  return { ...core, [Symbol.asyncDispose]: async () => core.redis.disconnect() }
}

/** The core's tasks, but that jobs are added so: as by a process that dies there, or whose Redis fails. */
export const tasksAdding = (core: Core, add: Core['queues']['add']): Tasks => {
  const { retention, fault, admission } = readConfig({})
  return createTasks({ ...core, queues: { ...core.queues, add }, retention, fullPercent: admission.maxRedisPercent, fault, maxAttemptMs: 300_000, maxQueued: admission.maxQueued, log: createLogger('test', 'silent') })
}

/** For so many slots to be reserved by hand. */
export const slotTokens = (count: number): SlotTokens[] => Array.from({ length: count }, () => ({ token: randomUUID(), lock: randomUUID(), askedAt: performance.now() }))
