/** A dispatcher that is stuck: it is not ready, begins anew, and ends when that does not help; and never for another reason. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createHostPolicy } from '../src/contracts/host.ts'
import { createLogger } from '../src/logger.ts'
import { createSubscriber } from '../src/redis/subscriber.ts'
import { createTransports } from '../src/transports/index.ts'
import { createDispatcher } from '../src/workers/dispatcher.ts'
import { createMetrics } from '../src/workers/metrics.ts'
import { createPlaces } from '../src/workers/places.ts'
import { createWatchdog, type Watchdog, type WatchdogDeps } from '../src/workers/watchdog.ts'
import { startCore } from './core.ts'
import { startSystem, until, type System } from './system.ts'

const log = createLogger('test', 'silent')
/** Four times as fast as it is: the looks come once a second all the same. */
const TICK_MS = 250

let system: System
beforeAll(async () => {
  system = await startSystem({ workers: 0 })
})
afterAll(() => system[Symbol.asyncDispose]())

/** A dispatcher in this process, whose nth call of `reserve` never comes back if so said. */
const startStuck = async (of: System, { hangs, concurrency = 4 }: { hangs: (call: number) => boolean; concurrency?: number }) => {
  const core = await startCore(of)
  const subscriber = await createSubscriber(core.redis, { url: core.redisUrl, name: 'test', log })
  const transports = createTransports({ policy: createHostPolicy({ cidrs: [] }) })
  const gaveUp: string[] = []
  let calls = 0
  const tasks: typeof core.tasks = { ...core.tasks, reserve: (...args) => (hangs(++calls) ? new Promise(() => {}) : core.tasks.reserve(...args)) }
  const dispatcher = createDispatcher({
    ...core, tasks, subscriber, transport: transports.http, deliverer: { look: () => {}, stop: async () => {} },
    places: createPlaces(concurrency), drainMs: 0, log, metrics: createMetrics(), giveUp: (why) => void gaveUp.push(why), tickMs: TICK_MS,
  })
  await dispatcher.start()
  return {
    dispatcher, gaveUp,
    [Symbol.asyncDispose]: async () => {
      await dispatcher.stop()
      await transports.http.close()
      subscriber.disconnect()
      await core[Symbol.asyncDispose]()
    },
  }
}

describe.concurrent('a dispatcher', () => {
  test('that is stuck begins anew, and goes on', async () => {
    await using own = await startSystem({ workers: 0 })
    await own.agent({ beats: false })
    await using stuck = await startStuck(own, { hangs: (call) => call === 1 })
    const id = await own.submit()
    expect((await own.ended(id, 30_000)).status).toBe('completed')
    expect(stuck.gaveUp).toEqual([])
    await until(() => stuck.dispatcher.notReady() === null)
  })

  test('that stays stuck makes the API not ready, which says what waits, and ends; where another one serves, all is well', async () => {
    await system.agent({ beats: false })
    await using stuck = await startStuck(system, { hangs: () => true })
    await until(async () => (await system.get('/health/ready')).status === 200)
    const id = await system.submit()
    const unready = await until(async () => {
      const answer = await system.get('/health/ready')
      return answer.status === 503 ? answer : null
    }, { timeoutMs: 30_000 })
    expect(unready.json).toMatchObject({
      status: 'not ready', redis: true, dispatchers: 0, waiting: [{ queue: 'test.echo', tasks: 1 }],
      reason: expect.stringMatching(/^no dispatcher makes progress: test\.echo has 1 task and a free slot, and has waited for [\d.]+ s$/),
    })
    expect(unready.json.waiting[0].seconds).toBeGreaterThan(4)
    expect(stuck.dispatcher.notReady()).toMatch(/^test\.echo has had work and a free slot for \d+ s, and nothing goes out$/)
    await until(() => stuck.gaveUp.length > 0, { timeoutMs: 30_000, what: 'giving up' })
    expect(stuck.gaveUp).toEqual([expect.stringMatching(/^Stuck, and a new beginning did not help: test\.echo has had work .* Ending, to be started again\.$/)])
    await system.addWorker()
    await system.ended(id)
    await until(async () => (await system.get('/health/ready')).status === 200)
  })

  test('whose places are all rightly taken is not stuck, whatever waits', async () => {
    await using own = await startSystem({ workers: 0 })
    const agent = await own.agent({ beats: false, maxConcurrency: 4, handle: () => new Promise(() => {}) })
    await using full = await startStuck(own, { hangs: () => false, concurrency: 1 })
    const ids = [await own.submit(), await own.submit()]
    await agent.delivery()
    const since = performance.now()
    // Longer than it takes to give up.
    await until(() => performance.now() - since > 5000 + 36 * TICK_MS, { timeoutMs: 60_000, everyMs: 200 })
    expect(full.dispatcher.notReady()).toBeNull()
    expect(full.gaveUp).toEqual([])
    expect(agent.runs).toHaveLength(1)
    expect((await own.get('/health/ready')).status).toBe(200)
    for (const id of ids) await own.call('DELETE', `/tasks/${id}`)
  })
})

/** What becomes of one whose look has not come back for a hundred ticks. */
const hundredTicks = async (more: Partial<WatchdogDeps>, each: (watchdog: Watchdog) => void = () => {}): Promise<string[]> => {
  const done: string[] = []
  let ticks = 0
  const watchdog = createWatchdog({
    hasPlace: () => true, begun: () => 0, log, tickMs: 1,
    rebuild: () => void done.push('rebuild'),
    giveUp: (why) => {
      done.push(why)
      watchdog.stop()
    },
    ...more,
    ping: () => {
      ticks++
      each(watchdog)
      return more.ping ? more.ping() : Promise.resolve('PONG')
    },
  })
  await until(() => ticks >= 100 || done.length > 1)
  watchdog.stop()
  return done
}

test('a look that never comes back is stuck; but not while Redis is away or takes nothing, nor while attempts begin', async () => {
  expect(await hundredTicks({})).toEqual(['rebuild', expect.stringMatching(/no look at the queues has come back for \d+ s/)])
  expect(await hundredTicks({ ping: () => Promise.reject(new Error('Command timed out')) })).toEqual([])
  expect(await hundredTicks({}, (w) => w.failed('test', Object.assign(new Error('OOM command not allowed'), { name: 'ReplyError' })))).toEqual([])
  expect(await hundredTicks({}, (w) => w.failed('test', new Error('WRONGTYPE')))).toEqual([]) // no new process would do better
  let begun = 0
  expect(await hundredTicks({ begun: () => begun++ })).toEqual([])
})
