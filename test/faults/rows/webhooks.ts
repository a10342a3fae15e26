/** Receivers of webhooks that are down, want no more, or ask for time. */
import { SECRET, startReceiver, type Receiver } from '../../receiver.ts'
import { call, sleep, until } from '../../system.ts'
import { mono } from '../clock.ts'
import { TYPES } from '../fleet.ts'
import { startProxy } from '../../proxy.ts'
import type { Told } from '../load.ts'
import type { Row, Trial } from '../row.ts'

const TASKS = 30
/** Tries that fall into an hour: at once, after 5 s, 5 min and 30 min. */
const TRIES_IN_AN_HOUR = 4
const RETRY_AFTER_S = 6

type Webhook = { id: string; status: string; attempts: { status_code: number | null }[]; next_attempt_at: string | null }

const webhookOf = async ({ fleet }: Trial, id: string): Promise<Webhook> => (await call('GET', `${fleet.api()}/tasks/${id}`)).json.webhook as Webhook
/** Their webhooks, once each is as it should be. */
const become = (trial: Trial, ids: readonly string[], is: (w: Webhook) => boolean, what: string): Promise<Webhook[]> =>
  until(async () => { const all = await Promise.all(ids.map((id) => webhookOf(trial, id))); return all.every((w) => w && is(w)) ? all : null }, { timeoutMs: 40_000, everyMs: 200, what })
/** As if their times had come: hours pass in no time. */
const comesDue = async ({ fleet: { redis, keys } }: Trial, ids: readonly string[], origin: string): Promise<void> => {
  for (const id of ids) await redis.zadd(keys.webhookQueue(id.split('.')[0]!, origin), 'XX', 1, id)
  for (const type of new Set(ids.map((id) => id.split('.')[0]!))) await redis.zadd(keys.webhookOrigins(type), 1, origin)
}
/** Of one agent type: each finds out by itself what a receiver wants. */
const submitTo = async ({ load }: Trial, url: string, count: number): Promise<string[]> => {
  const told: Told[] = Array.from({ length: count }, () => load.one({ work: { ms: 20, how: 'answer' }, task: { agent_type: TYPES[0], callback_url: url } }))
  await until(() => told.every((t) => t.ids.size > 0), { timeoutMs: 60_000, what: 'submits taken' })
  return told.map((t) => [...t.ids][0]!)
}
/** What was delivered came: at least once, signed, always under the same id. */
const cameFor = (trial: Trial, to: Receiver, webhooks: readonly Webhook[], what: string): void => {
  const missing = webhooks.filter((w) => !to.came.some((c) => c.id === w.id && c.event !== null))
  if (missing.length > 0) trial.violate(`P16: ${missing.length} webhooks are delivered and never came ${what}: ${missing.slice(0, 3).map((w) => w.id).join(', ')}`)
}

/** Down for an hour, with a dispatcher dying on the way. */
const down = async (trial: Trial, good: Receiver): Promise<void> => {
  const { fleet, random } = trial
  const to = await startReceiver()
  const proxy = await startProxy({ port: to.port })
  const origin = `http://127.0.0.1:${proxy.port}`
  await trial.broken(async () => {
    proxy.set({ refuse: true })
    trial.injected()
    const ids = await submitTo(trial, `${origin}/down`, TASKS)
    const others = await submitTo(trial, `${good.url}/good`, TASKS)
    for (let tries = 1; tries <= TRIES_IN_AN_HOUR; tries++) {
      await become(trial, ids, (w) => w.attempts.length >= tries, `try ${tries} of all`)
      if (tries === 2) {
        const dispatcher = random.pick(fleet.dispatchers)
        await dispatcher.kill()
        await dispatcher.restart()
      }
      if (tries < TRIES_IN_AN_HOUR) await comesDue(trial, ids, origin)
    }
    if (proxy.seen.refused >= TASKS && to.came.length === 0) trial.bit()
    // Others have theirs meanwhile.
    cameFor(trial, good, await become(trial, others, (w) => w.status === 'delivered', 'delivery to others meanwhile'), 'to another receiver')
    proxy.set({})
    const since = mono()
    await comesDue(trial, ids, origin)
    cameFor(trial, to, await become(trial, ids, (w) => w.status === 'delivered', 'delivery to one that is back'), 'to one that was down')
    trial.recovered(mono() - since)
  })
  proxy.close()
  await to.close()
}

const gone = async (trial: Trial): Promise<void> => {
  const to = await startReceiver(() => 410)
  trial.injected()
  const [first] = await submitTo(trial, `${to.url}/gone`, 1)
  await become(trial, [first!], (w) => w.status === 'disabled', 'a webhook turned off')
  const ids = await submitTo(trial, `${to.url}/gone`, TASKS)
  const others = await submitTo(trial, `${to.url}/other`, 1)
  await become(trial, [...ids, ...others], (w) => w.status === 'disabled', 'all others turned off')
  if (to.came.filter((c) => c.path === '/gone').length !== 1) trial.violate(`P16: ${to.came.length} webhooks came where the first was answered 410`)
  if (to.came.some((c) => c.path === '/other')) trial.bit()
  await to.close()
}

const busy = async (trial: Trial): Promise<void> => {
  const to = await startReceiver((_, res) => void res.writeHead(429, { 'retry-after': String(RETRY_AFTER_S) }).end())
  trial.injected()
  const [first] = await submitTo(trial, `${to.url}/busy`, 1)
  await until(() => to.came.length > 0, { timeoutMs: 20_000, what: 'a webhook' })
  const since = mono()
  const before = to.came.length
  to.state.answer = () => 200
  await become(trial, [first!], (w) => w.attempts.length > 0, 'a try that is known')
  const ids = await submitTo(trial, `${to.url}/busy`, TASKS)
  await sleep(since + (RETRY_AFTER_S - 0.5) * 1000 - mono())
  if (to.came.length > before) trial.violate(`P16: ${to.came.length - before} webhooks came while its receiver had asked for time`)
  else trial.bit()
  cameFor(trial, to, await become(trial, [first!, ...ids], (w) => w.status === 'delivered', 'delivery after the rest'), 'to one that had asked for time')
  await to.close()
}

export const webhookRows: readonly Row[] = [
  {
    name: 'webhooks',
    fault: 'receivers of webhooks down for an hour (its tries, one behind the other), answering 410, answering 429',
    promises: 'P1, P16',
    load: { rate: 20 },
    fleet: { env: { WEBHOOK_CIDRS: '127.0.0.0/8', WEBHOOK_SECRET: SECRET } },
    run: async (trial) => {
      const good = await startReceiver()
      await down(trial, good)
      await Promise.all([gone(trial), busy(trial)])
      const unsigned = good.came.filter((c) => c.event === null)
      if (unsigned.length > 0) trial.violate(`P16: ${unsigned.length} webhooks were not signed`)
      await good.close()
    },
  },
]
