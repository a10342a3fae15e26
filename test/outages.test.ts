/** Connections that look open and are not, and processes that stop: nobody outside should notice for long. */
import { Agent, request } from 'node:http'
import { describe, expect, test } from 'vitest'
import { startProxy } from './proxy.ts'
import { call, startRedis, startSystem, until, type Proc } from './system.ts'

/** One exchange on a connection of the agent's; `closes`: the other side says that it was the last there. */
const exchange = (agent: Agent, method: string, url: string, body?: object): Promise<{ status: number | undefined; closes: boolean; text: string }> =>
  new Promise((resolve, reject) => {
    const req = request(url, { method, agent, headers: body ? { 'content-type': 'application/json' } : {} }, async (res) => {
      let text = ''
      for await (const chunk of res) text += String(chunk)
      resolve({ status: res.statusCode, closes: res.headers.connection === 'close', text })
    })
    req.on('error', reject)
    req.end(body && JSON.stringify(body))
  })

describe.concurrent('outages', () => {
  test('connections that lead nowhere are found, idle ones too, and made anew: no request hangs, and nobody stays deaf', async () => {
    const server = await startRedis()
    const way = await startProxy({ path: server.url.slice('unix://'.length) })
    try {
      await using system = await startSystem({ env: { REDIS_URL: `redis://127.0.0.1:${way.port}`, REDIS_PREFIX: 'outage' } })
      const agent = await system.agent({ beats: false })
      await system.ended(await system.submit())
      const before = way.open()
      way.lose()
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
      expect(way.open()).toBe(2 * before) // those swallowed are not known to be broken here
      expect(way.seen.heldBytes).toBeGreaterThan(0)
      expect(lines().filter((line) => line.includes('redis is'))).toHaveLength(2 * names.length) // one line each way
      // What only subscribers hear of: an event for who waits, and a cancel for who has the attempt in hand.
      agent.state.handle = () => new Promise(() => {})
      const id = await system.submit()
      await agent.delivery(2)
      const waiting = system.get(`/tasks/${id}?wait=30`)
      expect((await system.call('DELETE', `/tasks/${id}`)).status).toBe(202)
      expect((await waiting).json).toMatchObject({ status: 'cancelled', attempts: [{ outcome: 'cancelled', error: null }] })
    } finally {
      way.close()
      await server.close()
    }
  })

  test('an API stops under load: no request fails, and it says that it is not ready, and to each client that it goes, before it does', async () => {
    await using system = await startSystem({ apis: 2, workers: 0, env: { LEAVE_SECONDS: '3' } })
    const [first, second] = system.api as [Proc, Proc]
    const seen = new Map<string, number>()
    let stop = false
    /** One that keeps a connection to each API and asks them in turn, until one says that it goes. */
    const client = async () => {
      const agents = new Map([first.url, second.url].map((url) => [url, new Agent({ keepAlive: true, maxSockets: 1 })]))
      while (!stop) {
        for (const [url, agent] of agents) {
          const answer = await exchange(agent, 'POST', `${url}/tasks`, { task_type: 'echo', agent_type: 'test' }).catch((error: Error) => ({ status: String(error), closes: false }))
          seen.set(String(answer.status), (seen.get(String(answer.status)) ?? 0) + 1)
          if (answer.closes) agents.delete(url)
        }
      }
      for (const agent of agents.values()) agent.destroy()
      return agents.size
    }
    const clients = [1, 2, 3].map(client)
    const count = () => seen.get('201') ?? 0
    await until(() => count() > 20)
    const waiting = exchange(new Agent({ keepAlive: true }), 'GET', `${first.url}/tasks/${await system.submit()}?wait=30`)
    first.child.kill('SIGTERM')
    const leaving = await until(async () => {
      const answer = await exchange(new Agent(), 'GET', `${first.url}/health/ready`)
      return answer.text.includes('stopping') ? answer : null
    })
    expect(leaving.status).toBe(503)
    expect(JSON.parse(leaving.text)).toMatchObject({ status: 'not ready', reason: 'this process is stopping' })
    expect(await waiting).toMatchObject({ status: 200, closes: true }) // the task as it is then
    expect(await first.exited).toBe(0)
    const before = count()
    await until(() => count() > before + 20)
    stop = true
    expect(await Promise.all(clients)).toEqual([1, 1, 1])
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
  })
})
