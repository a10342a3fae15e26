/** POST /tasks/batch: many tasks in one request, each taken or refused by itself. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Router } from 'express'
import { z } from 'zod'
import { batchTaskSchema, MAX_BATCH_TASKS } from '../contracts/batch.ts'
import type { CallbackPolicy } from '../contracts/callback.ts'
import { idempotencyOf } from '../contracts/idempotency.ts'
import { itemsOf } from '../contracts/items.ts'
import { isObject, list } from '../contracts/members.ts'
import { maxDepth, rawMembers } from '../contracts/raw.ts'
import { InvalidJson, InvalidRequest, SwitchyardError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import type { Registry } from '../registry/registry.ts'
import type { Taken } from '../tasks/admission.ts'
import { SUBMIT_AT_ONCE, type NewSubmit } from '../tasks/submit-many.ts'
import type { Tasks } from '../tasks/tasks.ts'
import { tooLarge } from './body.ts'
import { LARGE_TEXT, MAX_BODY_BYTES, MAX_DEPTH, notAnObject, parse, query, read, readText, type TextBody } from './input.ts'
import { sendJson } from './json.ts'
import { localsOf } from './gate.ts'
import type { CountShed } from './metrics.ts'
import { agentTypeOf, checkCallback, keepSecondsOf, keyOf, traceparentOf } from './new-task.ts'
import { notAllowed, problemOf, toldOf } from './problem.ts'
import type { Room } from './room.ts'
import { SubmitQuery } from './tasks.ts'

/** Others are served after so long. */
const TURN_MS = 4
/** Parts of a batch that are with Redis at once: while it works on one, we prepare the next. */
const PARTS_AT_ONCE = 3

/** Lets other requests go: `if (turn.isOver()) await turn.next()`, often. */
const createTurn = () => {
  let end = performance.now() + TURN_MS
  return {
    isOver: (): boolean => performance.now() > end,
    next: async (): Promise<void> => {
      await nextTurn()
      end = performance.now() + TURN_MS
    },
  }
}
type Turn = ReturnType<typeof createTurn>

/** A task as it was sent, JSON; null: too large to be looked into. Its value is made anew where it is looked at: a batch's all at once take thirty times the room. */
type Item = string | null

const Form = z.strictObject({ tasks: list(z.unknown(), MAX_BATCH_TASKS, 'tasks') })

const tooMany = () => new InvalidRequest([{ pointer: '/tasks', detail: `must be a list of at most ${MAX_BATCH_TASKS} tasks` }])

/** What is wrong with a body that is not of the one form that is taken apart; or that form of it. A large one is not parsed: others would wait. */
const otherForm = (text: string): string => {
  if (text.length > MAX_BODY_BYTES) throw new InvalidJson('the body must be {"tasks": [...]}, and is not, or it is not JSON')
  const value = parse(text)
  if (!isObject(value)) throw notAnObject()
  if (Array.isArray(value['tasks']) && value['tasks'].length > MAX_BATCH_TASKS) throw tooMany()
  const result = read(Form, value)
  if ('faults' in result) throw new InvalidRequest(result.faults)
  // It says the same in another way: an escape in the name, or the name twice.
  return `{"tasks":${rawMembers(text, ['tasks'] as const).tasks}}`
}

/**
 * The tasks of a body, each parsed by itself, before any is taken: a body that is no JSON changes nothing.
 * @throws InvalidJson, InvalidRequest
 */
const itemsIn = async (text: string, turn: Turn, tidy: Room['tidy']): Promise<Item[]> => {
  const items: Item[] = []
  const found = itemsOf(text, 'tasks')
  for (;;) {
    const { done, value } = found.next()
    if (done && value) return items
    if (done) return itemsIn(otherForm(text), turn, tidy)
    if (items.length === MAX_BATCH_TASKS) throw tooMany()
    const isTooLarge = Buffer.byteLength(value) > MAX_BODY_BYTES
    const where = `in /tasks/${items.length}: `
    if (!isTooLarge && value.length > LARGE_TEXT) tidy(() => parse(value, where))
    else if (!isTooLarge) parse(value, where)
    items.push(isTooLarge ? null : value)
    if (turn.isOver()) await turn.next()
  }
}

/** What each task of a batch is taken by. */
type Asked = { requireAgent: boolean; tidy: Room['tidy']; keepSeconds: number; traceparent: string | undefined; typeOf: (agentId: string) => Promise<string | null> }

export const batchRoutes = ({ tasks, registry, callbacks, form, shed, log }: { tasks: Tasks; callbacks: CallbackPolicy; registry: Registry; form: ReturnType<typeof batchTaskSchema>; shed: CountShed; log: Logger }): Router => {
  const routes = Router()

  /** @throws what a task alone would be refused with */
  const check = (item: Item, asked: Asked): NewSubmit | Promise<NewSubmit> => {
    if (item === null) throw tooLarge(MAX_BODY_BYTES)
    const value = item.length > LARGE_TEXT ? asked.tidy(() => parse(item)) : parse(item)
    if (!isObject(value)) throw new InvalidRequest([{ pointer: '', detail: 'must be an object' }])
    if (maxDepth(item) > MAX_DEPTH) throw new InvalidRequest([{ pointer: '', detail: `the task is nested deeper than ${MAX_DEPTH} levels` }])
    const result = read(form, value)
    if ('faults' in result) throw new InvalidRequest(result.faults)
    const { idempotency_key: key, ...task } = result.data
    delete task.parameters // kept as text
    delete task.metadata
    checkCallback(task, callbacks)
    const raw = rawMembers(item, ['parameters', 'metadata'] as const)
    const extra = {
      parameters: raw.parameters ?? '{}',
      metadata: raw.metadata ?? '{}',
      requireAgent: asked.requireAgent,
      traceparent: asked.traceparent,
      idempotency: key === undefined ? undefined : idempotencyOf(key, item, asked.requireAgent, asked.keepSeconds),
    }
    if (task.agent_id === undefined) return { task, type: task.agent_type!, extra }
    return agentTypeOf(task, asked.typeOf).then((type) => ({ task, type, extra }))
  }

  const checkAll = async (items: readonly Item[], asked: Asked, turn: Turn): Promise<(NewSubmit | Error)[]> => {
    const checked: (NewSubmit | Error | Promise<NewSubmit | Error>)[] = []
    for (const item of items) {
      try {
        const one = check(item, asked)
        checked.push(one instanceof Promise ? one.catch((error: Error) => error) : one)
      } catch (error) {
        checked.push(error as Error)
      }
      if (turn.isOver()) await turn.next()
    }
    return Promise.all(checked)
  }

  /** Those that pass the check, taken; the others stay refused. */
  const takePart = async (checked: readonly (NewSubmit | Error)[]): Promise<(Taken | Error)[]> => {
    const taken = (await tasks.submitMany(checked.filter((one): one is NewSubmit => !(one instanceof Error)))).values()
    return checked.map((one) => (one instanceof Error ? one : taken.next().value!))
  }

  /** Part by part, so that the tasks stand in line as they stand in the request. */
  const takeAll = async (items: readonly Item[], asked: Asked, turn: Turn): Promise<(Taken | Error)[]> => {
    const parts: Promise<(Taken | Error)[]>[] = []
    for (let from = 0; from < items.length; from += SUBMIT_AT_ONCE) {
      const checked = await checkAll(items.slice(from, from + SUBMIT_AT_ONCE), asked, turn)
      await parts[parts.length - PARTS_AT_ONCE]
      parts.push(takePart(checked))
    }
    return (await Promise.all(parts)).flat()
  }

  /** One task's part of the answer, and its line in the log. */
  const tell = (answer: Taken | SwitchyardError, index: number): string => {
    if (answer instanceof SwitchyardError) return JSON.stringify({ index, error: problemOf(answer) })
    const { submitted, replayed } = answer
    if (!replayed) log.info({ task: submitted.task_id, status: submitted.status }, submitted.status)
    return `{"index":${index},${JSON.stringify(submitted).slice(1, -1)}${replayed ? ',"replayed":true' : ''}}`
  }

  routes.post('/tasks/batch', ...readText(), async (req, res) => {
    const { require_agent: requireAgent } = query(SubmitQuery, req)
    if (keyOf(req) !== undefined) throw new SwitchyardError('malformed-request', 'a batch takes no Idempotency-Key: give each of its tasks a member idempotency_key')
    const keepSeconds = keepSecondsOf(req)
    const turn = createTurn()
    const tidy: Room['tidy'] = localsOf(res).room?.tidy ?? ((work) => work())
    const items = await itemsIn((req.body as TextBody).text, turn, tidy)
    const types = new Map<string, Promise<string | null>>()
    const typeOf = (id: string) => types.get(id) ?? types.set(id, registry.typeOf(id)).get(id)!
    const outcomes = await takeAll(items, { requireAgent, tidy, keepSeconds, traceparent: traceparentOf(req), typeOf }, turn)
    const answers = outcomes.map((one) => (one instanceof Error ? toldOf(one, req, log) : one))
    const refusals = answers.filter((answer) => answer instanceof SwitchyardError)
    // Where the store is away, the whole request is to be sent again.
    const away = refusals.length === answers.length && refusals.find(({ type }) => type === 'store-unavailable')
    if (away) throw away
    for (const { type } of refusals) shed(type)
    const told: string[] = []
    for (const [index, answer] of answers.entries()) {
      told.push(tell(answer, index))
      if (turn.isOver()) await turn.next()
    }
    sendJson(res, 200, `{"accepted":${answers.length - refusals.length},"refused":${refusals.length},"tasks":[${told.join(',')}]}`)
  })
  routes.all('/tasks/batch', notAllowed('POST'))
  return routes
}
