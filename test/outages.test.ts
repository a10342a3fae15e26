/** Connections that look open and are not, and processes that stop: nobody outside should notice for long. */
import { describe, expect, test } from 'vitest'
import { startHole } from './hole.ts'
import { accepts, call, startRedis, startSystem, until, type Answer } from './system.ts'

describe.concurrent('outages', () => {
  test('connections that lead nowhere are found, idle ones too, and made anew: no request hangs, and nobody stays deaf', async () => {
    const server = await startRedis()
    const hole = await startHole({ path: server.url.slice('unix://'.length) })
    try {
      await using system = await startSystem({ env: { REDIS_URL: hole.url, REDIS_PREFIX: 'outage' } })
      const agent = await system.agent({ beats: false })
      await system.ended(await system.submit())
      const before = hole.open()
      hole.swallow()
      const asked = Date.now()
      const answers = await Promise.all([system.get('/tasks'), system.post('/tasks', { task_type: 'echo', agent_type: 'test' }), agent.beat(), system.get('/health/ready')])
      expect(answers.map((a) => a.status)).toEqual([503, 503, 503, 503])
      expect(Date.now() - asked).toBeLessThan(6000) // 2 s; TCP finds out in a quarter of an hour
      const processes = [...system.api, ...system.worker]
      const names = ['switchyard-api', 'switchyard-api-events', 'switchyard-worker', 'switchyard-worker-wake']
      const lines = () => processes.flatMap((p) => p.log.join('').split('\n'))
      for (const name of names) {
        await until(() => lines().some((line) => line.includes(`"connection":"${name}"`) && line.includes('redis is back')), { timeoutMs: 20_000, what: `${name} being made anew` })
      }
      expect(hole.open()).toBe(2 * before) // those swallowed are not known to be broken here
      expect(hole.swallowed()).toBeGreaterThan(0)
      expect(lines().filter((line) => line.includes('redis is'))).toHaveLength(2 * names.length) // one line each way
      // What only subscribers hear of: an event for who waits, and a cancel for who has the attempt in hand.
      agent.state.handle = () => new Promise(() => {})
      const id = await system.submit()
      await agent.delivery(2)
      const waiting = system.get(`/tasks/${id}?wait=30`)
      expect((await system.call('DELETE', `/tasks/${id}`)).status).toBe(202)
      expect((await waiting).json).toMatchObject({ status: 'cancelled', attempts: [{ outcome: 'cancelled', error: null }] })
    } finally {
      hole.close()
      await server.close()
    }
  })

  test('APIs stop one by one under load: no request fails, and each says that it is not ready before it goes', async () => {
    await using system = await startSystem({ apis: 2, workers: 0, env: { LEAVE_SECONDS: '1' } })
    const first = system.api[0]!
    const seen = new Map<string, number>()
    let stop = false
    /** Goes round the APIs; where nobody listens any more it asks the next. */
    const ask = async (turn: number): Promise<Answer | null> => {
      const { url } = system.api[turn % system.api.length]!
      try {
        return await call('POST', `${url}/tasks`, { task_type: 'echo', agent_type: 'test' })
      } catch (error) {
        const { code } = (error as { cause?: { code?: string } }).cause ?? {}
        if (code === 'ECONNREFUSED') return null
        throw error
      }
    }
    const client = async (turn: number) => {
      for (; !stop; turn++) {
        const what = await ask(turn).then((answer) => String(answer?.status ?? 'refused'), String)
        seen.set(what, (seen.get(what) ?? 0) + 1)
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    }
    const clients = [0, 1, 2, 3].map(client)
    const count = () => seen.get('201') ?? 0
    await until(() => count() > 20)
    const waiting = call('GET', `${first.url}/tasks/${(await ask(1))!.json.task_id}?wait=20`)
    first.child.kill('SIGTERM')
    const leaving = await until(async () => {
      const answer = await call('GET', `${first.url}/health/ready`)
      return answer.headers.get('connection') === 'close' ? answer : null
    })
    expect(leaving).toMatchObject({ status: 503, json: { status: 'not ready', reason: 'this process is stopping' } })
    expect((await waiting).json.status).toBe('queued') // as it was then
    expect(await first.exited).toBe(0)
    const before = count()
    await until(() => count() > before + 20)
    stop = true
    await Promise.all(clients)
    seen.delete('refused')
    expect([...seen.keys()]).toEqual(['201'])
  })

  test('a worker told to stop is not ready from then on, while it waits for what it has sent', async () => {
    await using system = await startSystem()
    const answer = Promise.withResolvers<string>()
    const agent = await system.agent({ handle: () => answer.promise, beats: false })
    const id = await system.submit()
    await agent.delivery()
    const [worker] = system.worker
    const ready = () => call('GET', `${worker!.url}/health/ready`)
    expect(await ready()).toMatchObject({ status: 200, json: { dispatching: true, in_flight: 1, places: 128 } })
    worker!.child.kill('SIGTERM')
    await until(() => worker!.log.join('').includes('draining'))
    expect(await ready()).toMatchObject({ status: 503, json: { status: 'not ready', redis: true, dispatching: false, in_flight: 1, reason: 'it is stopping' } })
    answer.resolve('done')
    expect(await worker!.exited).toBe(0)
    expect(await system.ended(id)).toMatchObject({ status: 'completed', redeliveries: 0 })
    agent.state.handle = accepts
  })
})
