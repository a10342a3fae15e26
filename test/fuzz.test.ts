/**
 * Requests nobody thought of, for every route of the API's document, one after the other to a whole system: each is answered, by a status that
 * its route tells of and a body as it says, never by a 5xx that was not asked for; and the processes live on. `FUZZ_SEED=… FUZZ_REQUESTS=…` for
 * others and more of them; `npm run test:fuzz` sends ten thousand.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createOperations, type Operation } from '../src/api/operations.ts'
import { Problem, PROBLEMS } from '../src/api/problem.ts'
import { MAX_TIMEOUT_SECONDS } from './api-document.ts'
import { exchange, type Got } from './exact.ts'
import { KEY, isWhole, request, wireOf, type Made } from './fuzz/requests.ts'
import { accepts as answersLater, startSystem, until, type Handler, type System, type TestAgent } from './system.ts'

const SEED = Number(process.env.FUZZ_SEED ?? 20_260_101)
const REQUESTS = Number(process.env.FUZZ_REQUESTS ?? 300)

let system: System
let agent: TestAgent
let done = 0
beforeAll(async () => {
  system = await startSystem({ ownRedis: true, key: KEY })
  agent = await system.agent({ type: 'fuzz', capabilities: ['echo', 'a.b', 'analyze_cost'], maxConcurrency: 200, ttlSeconds: 3600, handle: answer })
})
afterAll(() => system[Symbol.asyncDispose]())

/** Results now and later, failures, and nonsense: so that tasks are in every state. */
const answer: Handler = (task, exchange) => {
  const turn = done++ % 4
  if (turn === 0) {
    remember('attempt', task.attempt_id)
    remember('running', task.task_id)
    return answersLater(task, exchange)
  }
  if (turn === 1) return { echo: task.parameters }
  if (turn === 2) return void exchange.res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ status: 'failed', error: 'no\u0000\r\n\u202e', retryable: false }))
  return void exchange.res.writeHead(500).end('<html>')
}

/** What the system has told, the latest first: what `@@task0@@` stands for. */
const told = new Map<string, string[]>()
const remember = (kind: string, value: unknown): void => {
  if (typeof value === 'string' && value !== '') told.set(kind, [value, ...(told.get(kind) ?? [])].slice(0, 8))
}
const fill = (text: string): string =>
  text.replace(/@@([a-z]+)(\d*)@@/g, (_, kind: string, n: string) => (kind === 'port' ? String(agent.port) : (told.get(kind)?.[Number(n) % Math.max(1, told.get(kind)!.length)] ?? `no-${kind}`)))
const learn = (json: any): void => {
  remember('task', json?.task_id)
  remember('agent', json?.agent_id)
  remember('cursor', json?.next_cursor)
}

const operations = createOperations(MAX_TIMEOUT_SECONDS)
/** Reasons for a 503 that are the request's own: it asked for an agent, or to watch, where that may be refused. */
const ASKED_FOR = ['no-agent', 'too-many-watchers']
/** Whatever the route: these concern what every request is made of. */
const ALWAYS = [400, 404, 405, 431]

const judgeProblem = (got: Got): void => {
  expect(got.headers['content-type']).toMatch(/^application\/problem\+json/)
  const problem = Problem.parse(JSON.parse(got.text))
  const type = problem.type.replace('/docs/errors#', '') as keyof typeof PROBLEMS
  expect(PROBLEMS[type]).toEqual({ status: got.status, title: problem.title })
  if (got.status >= 500) expect(ASKED_FOR).toContain(type)
}
const judgeAnswer = (got: Got, { answers }: Operation): void => {
  const schema = answers[got.status]?.schema
  if (!schema || !got.headers['content-type']?.startsWith('application/json') || got.text === '') return
  const json = JSON.parse(got.text)
  schema.parse(json)
  learn(json)
}
const judge = (made: Made, got: Got | null): void => {
  // What is no longer HTTP, or never ends, may be cut off; what is, is answered.
  if (!got && !isWhole(made)) return
  expect(got, 'an answer').not.toBeNull()
  const { status } = got!
  const known = made.route.answers.map(Number)
  const mayBe = isWhole(made) ? [...known, ...made.headers.flatMap(([name]) => ({ 'x-long': [431], 'if-none-match': [304] })[name] ?? [])] : null
  if (mayBe) expect(mayBe).toContain(status)
  else if (status >= 400) expect([...known, ...ALWAYS, 401, 413, 415, 422]).toContain(status) // a byte less, and its key is none
  if (status >= 400 && !(status === 503 && made.route.path.startsWith('/health')) && made.method !== 'HEAD' && made.blows.length === 0) judgeProblem(got!)
  else if (mayBe) judgeAnswer(got!, operations[made.route.name]!)
  if (status >= 500 && !made.route.path.startsWith('/health')) expect(status).toBe(503)
}

const alive = (): void => {
  for (const { child } of [...system.api, ...system.worker]) expect([child.exitCode, child.signalCode], 'exit of a process').toEqual([null, null])
}

let sent = 0
const send = async (made: Made): Promise<void> => {
  if (sent++ % 50 === 0) await agent.register() // somebody may have unregistered it
  const wire = wireOf(made, fill)
  const got = await exchange(system.url(), wire, { thenEnds: !isWhole(made) }).catch((error: Error) => {
    throw new Error(`${error.message}\n${JSON.stringify(wire.toString('latin1').slice(0, 2_000))}`)
  })
  try {
    judge(made, got)
    alive()
  } catch (error) {
    throw new Error(`${(error as Error).message}\nsent: ${JSON.stringify(wire.toString('latin1').slice(0, 4_000))}\ngot: ${got?.status} ${got?.text.slice(0, 2_000)}`, { cause: error })
  }
}

test(`${REQUESTS} requests made up from the document, seed ${SEED}`, { timeout: 120_000 + REQUESTS * 100 }, async () => {
  const seen = new Map<string, number>()
  const property = fc.asyncProperty(request, async (made) => {
    seen.set(made.route.name, (seen.get(made.route.name) ?? 0) + 1)
    await send(made)
  })
  const run = await fc.check(property, { seed: SEED, numRuns: REQUESTS, interruptAfterTimeLimit: 60_000 + REQUESTS * 100, markInterruptAsFailure: true })
  if (run.failed) throw new Error(`FUZZ_SEED=${SEED} FUZZ_REQUESTS=${REQUESTS}: request ${run.numRuns} failed, made as small as it fails still (${run.numShrinks} steps):\n${run.errorInstance instanceof Error ? run.errorInstance.message : String(run.errorInstance)}`)
  if (REQUESTS >= 1_000) expect([...seen.keys()].sort()).toEqual(Object.keys(operations).sort())
})

test('after all this work goes on, and the logs are lines of JSON that tell of no fault of ours', async () => {
  const id = await system.submit({ agent_type: 'fuzz', agent_id: (await system.agent({ type: 'fuzz', ttlSeconds: 3600 })).id, priority: 15 })
  expect(await system.ended(id)).toMatchObject({ status: 'completed' })
  await until(async () => (await system.get('/health')).status === 200, { what: 'readiness' })
  const lines = [...system.api, ...system.worker].flatMap(({ log }) => log.join('').split('\n')).filter((line) => line !== '')
  for (const line of lines.slice(1)) expect(['info', 'warn'], line).toContain(JSON.parse(line).level)
  expect(lines.join('')).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/)
})
