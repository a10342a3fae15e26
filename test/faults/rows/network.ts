/** Networks between the router and its agents: connections that are reset, names that do not resolve as they should. */
import { sleep, until } from '../../system.ts'
import { mono } from '../clock.ts'
import { startDns, withDns } from '../dns.ts'
import { startProxy, type Weather } from '../../proxy.ts'
import type { Row, Trial } from '../row.ts'
import { completed, ended, json, listenStub, startStub } from '../stub.ts'

/** Where a connection is reset, and how often the task is then performed. The request has some 450 bytes of head and 4,000 of body. */
const RESETS: Record<string, { weather: Weather; performed: number }> = {
  'before the request': { weather: { resetAfter: { bytes: 0, direction: 'up' } }, performed: 1 },
  'in the head of the request': { weather: { resetAfter: { bytes: 60, direction: 'up' } }, performed: 1 },
  'in the body of the request': { weather: { resetAfter: { bytes: 2_000, direction: 'up' } }, performed: 1 },
  'before the answer': { weather: { resetAfter: { bytes: 0, direction: 'down' } }, performed: 2 },
  'in the head of the answer': { weather: { resetAfter: { bytes: 20, direction: 'down' } }, performed: 2 },
  'in the body of the answer': { weather: { resetAfter: { bytes: 150, direction: 'down' } }, performed: 2 },
}

const resetAt = async (trial: Trial, where: string, rounds: number): Promise<void> => {
  const { weather, performed } = RESETS[where]!
  const at = await listenStub({ talk: (d) => void d.socket.write(completed(d)) })
  const proxy = await startProxy({ port: at.port })
  const type = `resets-${where.replaceAll(' ', '-')}`
  const stub = await startStub(trial, { type, slots: 1, port: proxy.port, talk: () => {} })
  for (let i = 0; i < rounds; i++) {
    proxy.resetAll() // it begins on a connection of its own
    const before = proxy.seen.resets
    proxy.set(weather)
    const id = await stub.submit({ max_retries: 3, timeout_seconds: 10, parameters: { padding: 'x'.repeat(4_000) } })
    // Once: the next attempt gets through.
    await until(() => proxy.seen.resets > before, { timeoutMs: 20_000, everyMs: 1, what: `a reset ${where}` }).finally(() => proxy.set({}))
    trial.injected()
    trial.bit()
    const [task] = await ended(trial, [id])
    const got = at.of(id)
    if (task!.status !== 'completed') trial.violate(`${where}: ${id} ended ${task!.status} (${task!.error})`)
    if (got.length !== performed) trial.violate(`${where}: ${id} was performed ${got.length} times`)
    for (const d of got) if (d.headers['idempotency-key'] !== id) trial.violate(`${where}: ${id} came under the key ${d.headers['idempotency-key']}`)
    if (task!.attempts.length > 2 || (task!.attempts.length === 2 && !/closed the connection|ECONNRESET/.test(task!.attempts[0]!.error ?? ''))) trial.violate(`${where}: the attempts at ${id}: ${task!.attempts.map((a) => `${a.outcome} ${a.error ?? ''}`).join(', ')}`)
  }
  await stub.close()
  proxy.close()
  at.end()
}

const SLOW_MS = 10_000
const SLOW_NAMES = 6
/** A look-up that waits for a slow one takes three times that. */
const UNHURT_MS = 3_000

export const networkRows: readonly Row[] = [
  {
    name: 'connections-reset',
    fault: 'connections to agents reset before, in and behind the body of the request and of the answer',
    promises: 'P1, P3: sent again, under the same key',
    mixes: true,
    run: (trial) => trial.broken(async () => void (await Promise.all(Object.keys(RESETS).map((where) => resetAt(trial, where, 6))))),
  },
  {
    name: 'dns',
    fault: `names of agents that do not exist, resolve in ${SLOW_MS / 1000} s, or first to an agent and then to what is never posted to`,
    promises: 'the attempt fails; others are not held up',
    fleet: { within: (role) => (role === 'dispatcher' ? withDns() : []) },
    run: (trial) =>
      trial.broken(async () => {
        const dns = await startDns((name, nth) => {
          if (name.startsWith('slow')) return { address: '127.0.0.1', afterMs: SLOW_MS }
          if (name === 'rebind.test') return { address: nth === 1 ? '127.0.0.1' : '169.254.169.254' }
          return { address: name === 'good.test' || name === 'store.test' ? '127.0.0.1' : null }
        })
        const talk = (d: Parameters<typeof completed>[0]) => void d.socket.end(json(200, { task_id: d.taskId, status: 'completed', result: null }, { connection: 'close' }))
        const named = (type: string, host: string, port?: number) => startStub(trial, { type, host, talk, ...(port === undefined ? {} : { port }) })
        const [good, none, store, rebind, ...slow] = await Promise.all([named('dns-good', 'good.test'), named('dns-none', 'none.test'), named('dns-store', 'store.test', trial.fleet.redisPort), named('dns-rebind', 'rebind.test'), ...Array.from({ length: SLOW_NAMES }, (_, i) => named(`dns-slow-${i}`, `slow-${i}.test`))])

        const expectEnd = async (what: string, id: Promise<string>, status: string, error: RegExp) => {
          const [task] = await ended(trial, [await id])
          if (task!.status !== status || !error.test(task!.error ?? '')) trial.violate(`${what}: ended ${task!.status} (${task!.error})`)
        }
        const waits: number[] = []
        const unhurt = async (): Promise<void> => {
          const id = await good!.submit({ timeout_seconds: 30 })
          const taken = mono()
          await until(() => good!.of(id).length > 0, { timeoutMs: 40_000, everyMs: 2, what: 'a task at an agent whose name resolves' })
          waits.push(good!.of(id)[0]!.at - taken)
        }
        const slowOnes = slow.map((s) => expectEnd(s.type, s.submit({ timeout_seconds: 3 }), 'timeout', /no connection to the agent within 3 s/))
        await sleep(300) // they are being looked up
        const others: Promise<void>[] = []
        for (let i = 0; i < 20; i++) {
          others.push(unhurt())
          await sleep(200)
        }
        await expectEnd('rebind, at first', rebind!.submit(), 'completed', /^$/)
        await sleep(2_000)
        await Promise.all([
          ...slowOnes, ...others,
          expectEnd('rebind, then', rebind!.submit(), 'failed', /not allowed: 169\.254\.169\.254/),
          expectEnd('no such name', none!.submit(), 'failed', /ENOTFOUND/),
          expectEnd("Redis's own address", store!.submit(), 'failed', /not allowed: 127\.0\.0\.1/),
        ])
        trial.injected(3 + SLOW_NAMES)
        trial.bit([...dns.asked.keys()].filter((n) => n !== 'good.test' && /^(none|store|rebind|slow-\d)\.test$/.test(n)).length)
        const worst = Math.max(...waits)
        trial.recovered(worst)
        if (worst > UNHURT_MS) trial.violate(`an agent with a good name waited ${Math.round(worst)} ms for its task`)
        if (/cmdstat_(post|host)/.test(await trial.fleet.redis.info('commandstats'))) trial.violate('Redis was posted to')
        await Promise.all([good!, none!, store!, rebind!, ...slow].map((s) => s.close()))
        dns.close()
      }),
  },
]
