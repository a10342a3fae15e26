/** Many tasks in one request. */
import { z } from 'zod'
import { IdempotencyKey } from './idempotency.ts'
import { list } from './members.ts'
import { newTaskSchema, Submitted } from './task.ts'

export const MAX_BATCH_TASKS = 1_000

/** A task in a batch: as it is alone, with what is a header there. */
export const batchTaskSchema = (maxTimeoutSeconds: number) =>
  newTaskSchema(maxTimeoutSeconds)
    .safeExtend({ idempotency_key: IdempotencyKey.optional().describe('As the header Idempotency-Key of a task alone; the two share their keys.') })
    .meta({ id: 'BatchTask', anyOf: [{ required: ['agent_type'] }, { required: ['agent_id'] }] })
export type BatchTask = z.infer<ReturnType<typeof batchTaskSchema>>

/** POST /tasks/batch. For the document: what is sent is taken apart by items.ts, so that a bad task refuses only itself. */
export const batchSchema = (maxTimeoutSeconds: number) => z.strictObject({ tasks: list(batchTaskSchema(maxTimeoutSeconds), MAX_BATCH_TASKS, 'tasks') }).meta({ id: 'Batch' })

/** Why a task of a batch was not taken: the problem that it alone would have been answered with. */
export const Refusal = z
  .looseObject({
    type: z.string(),
    title: z.string(),
    status: z.int().describe('The HTTP status that it alone would have been answered with.'),
    detail: z.string(),
    errors: z.array(z.object({ pointer: z.string().describe('A JSON Pointer into the task.'), detail: z.string() })).optional(),
    error: z.string().describe('The same as detail.'),
  })
  .meta({ id: 'Refusal' })

const index = z.int().describe('Its place in the request, from 0.')
export const BatchAccepted = z
  .object({ index, ...Submitted.omit({ retry_of: true }).shape, replayed: z.literal(true).optional().describe('It was taken before, under the same key; this is the first answer.') })
  .meta({ id: 'BatchAccepted' })
export const BatchRefused = z.object({ index, error: Refusal }).meta({ id: 'BatchRefused' })

/** What it answers. */
export const BatchTaken = z
  .object({ accepted: z.int(), refused: z.int(), tasks: z.array(z.union([BatchAccepted, BatchRefused])).describe('An answer for each task, in the order of the request.') })
  .meta({ id: 'BatchTaken' })
