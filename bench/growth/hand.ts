/** Tasks by hand: submitted, reserved and finished by the project's own code, with no HTTP, no agent and no dispatcher about; so what is measured is the store, and a driver for it. */
import { randomUUID } from 'node:crypto'
import { readConfig } from '../../src/config.ts'
import { newTaskSchema } from '../../src/contracts/task.ts'
import { createCore, type Core } from '../../src/core.ts'
import { createLogger } from '../../src/logger.ts'
import type { Slot } from '../../src/registry/registry.ts'
import { PARAMETERS_BYTES } from '../settings.ts'
import type { System } from './system.ts'

/** As many as a dispatcher reserves in one call. */
const AT_ONCE = 8
const DISPATCHER = 'bench'
const parameters = JSON.stringify({ text: 'x'.repeat(PARAMETERS_BYTES - '{"text":""}'.length) })
const schema = newTaskSchema(300)

export const coreOf = async (system: System): Promise<Core> => {
  const core = await createCore({ config: readConfig({ ...system.store }), log: createLogger('bench', 'silent'), name: 'bench' })
  system.onEnd(core.end)
  return core
}

const finish = async ({ tasks }: Core, slot: Slot): Promise<void> => {
  const begun = await tasks.begin(slot.job!, slot, DISPATCHER)
  if (begun.verdict !== 'go') throw new Error(`an attempt did not begin: ${begun.verdict}`)
  const end = { taskId: slot.job!, attemptId: begun.attemptId, agentId: slot.agentId, outcome: 'completed', statusCode: 200, error: '', result: '{"ok":true}', executionMs: 1, retryInMs: 0, restMs: 0, maxRetries: begun.maxRetries } as const
  const { verdict } = await tasks.finish(slot.type, end, { queue: slot.queue, lock: slot.lock, keep: false, dispatcher: DISPATCHER, next: null })
  if (verdict !== 'ok') throw new Error(`an attempt did not end: ${verdict}`)
}

/** So many tasks of a type, some at a time. */
const perform = async (core: Core, type: string, count: number): Promise<void> => {
  const task = schema.parse({ agent_type: type, task_type: 'echo' })
  for (let left = count; left > 0; ) {
    const some = Math.min(AT_ONCE, left)
    await Promise.all(Array.from({ length: some }, () => core.tasks.submitOnce(task, type, { parameters, metadata: '{}' })))
    const tokens = Array.from({ length: some }, () => ({ token: randomUUID(), lock: randomUUID(), askedAt: performance.now() }))
    const slots = await core.tasks.reserve(type, `${type}.echo`, DISPATCHER, 0, tokens)
    if (slots.length < some) throw new Error(`a reserve found ${slots.length} of ${some} slots`)
    await Promise.all(slots.map((slot) => finish(core, slot)))
    left -= some
  }
}

/** So many tasks of each type, of all of them at once. */
export const performByHand = (core: Core, types: readonly string[], each: number): Promise<unknown> => Promise.all(types.map((type) => perform(core, type, each)))
