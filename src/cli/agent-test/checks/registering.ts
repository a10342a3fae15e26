/** How an agent that the kit starts makes itself known. */
import { ID, MAX_CAPABILITIES, TYPE } from '../../../../sdk/typescript/names.ts'
import { experiment, type Judge } from '../check.ts'
import type { AgentProcess } from '../launch.ts'
import type { Router, Said } from '../router.ts'
import { seconds, shown } from '../shown.ts'
import { awaited, pause } from '../waiting.ts'

const IN_TIME_MS = 5000
/** How long the router of the first start is away. */
const LATE_MS = 800
const PATIENCE_MS = 9000
/** With the router there from the beginning. */
const SECOND_PATIENCE_MS = 6000

/** What the router would refuse; null when it would take it. */
export const faultOf = ({ body, bad }: Said): string | null => {
  if (bad !== null) return bad
  const { host, port, capabilities = [], max_concurrency: most = 1, ttl_seconds: ttl = 60, type = 'default', instance_id: instance = 'x' } = body
  const name = body['name'] ?? body['agent_name']
  if (typeof name !== 'string' || name === '' || name.length > 256) return `name: ${JSON.stringify(name)}`
  if (typeof host !== 'string' || host === '') return `host: ${JSON.stringify(host)}`
  const inHost = /:(\d+)$/.exec(host)?.[1]
  const at = port ?? (inHost === undefined ? undefined : Number(inHost))
  if (!Number.isInteger(at) || (at as number) < 1 || (at as number) > 65_535) return `port: ${JSON.stringify(at)}`
  if (typeof type !== 'string' || !TYPE.test(type)) return `type: ${JSON.stringify(type)}`
  if (!Array.isArray(capabilities) || capabilities.length > MAX_CAPABILITIES || !capabilities.every((one) => typeof one === 'string' && ID.test(one))) return `capabilities: ${shown(JSON.stringify(capabilities))}`
  if (!Number.isInteger(most) || (most as number) < 1 || (most as number) > 1000) return `max_concurrency: ${JSON.stringify(most)}`
  if (typeof ttl !== 'number' || ttl < 5 || ttl > 3600) return `ttl_seconds: ${JSON.stringify(ttl)}`
  return typeof instance === 'string' && instance !== '' && instance.length <= 128 ? null : `instance_id: ${JSON.stringify(instance)}`
}

/** Where a registration says that the agent is; null when it does not. */
export const urlOf = ({ body: { host, port } }: Said): string | null => {
  if (typeof host !== 'string') return null
  const split = /^(\[[^\]]+\]|[^:]+):(\d+)$/.exec(host)
  const name = split && port === undefined ? split[1]! : host
  const at = Number(port ?? split?.[2])
  if (!/^[A-Za-z0-9_.:[\]-]+$/.test(name) || !Number.isInteger(at) || at < 1 || at > 65_535) return null
  const url = `http://${name.includes(':') && !name.startsWith('[') ? `[${name}]` : name}:${at}`
  return URL.canParse(url) ? url : null
}

/** The registration that was taken; null when none came. */
export const taken = (router: Router, process: AgentProcess, ms: number): Promise<Said | null> =>
  awaited(() => router.registrations.find((said) => said.status < 300), ms, () => process.exit() !== null)

export const registering = {
  checks: {
    'register-fields': { level: 'MUST', rule: 'R1', title: 'registers with name, host and port, and nothing that is refused', needs: ['command'] },
    'register-offers': { level: 'SHOULD', rule: 'R1', title: 'says its type, capabilities and max_concurrency', needs: ['command'] },
    'register-retries': { level: 'SHOULD', rule: 'R2', title: 'registers again when the router comes late or answers 503', needs: ['command'] },
  },
} as const

/**
 * Starts an agent before its router, which then answers 503 once. It is started again where it does not bear that.
 * @returns the process, and the registration that was taken; null when none came from either
 */
export const startLate = async (start: () => Promise<AgentProcess>, router: Router, judge: Judge<keyof typeof registering.checks>): Promise<{ process: AgentProcess; said: Said | null }> => {
  router.registration = (_, index) => (index === 0 ? 503 : 201)
  let process = await start()
  await pause(LATE_MS)
  await router.open()
  let said = await taken(router, process, PATIENCE_MS)
  if (said) judge.passed('register-retries')
  else {
    const how = process.exit() === null ? `no registration that could be taken within ${seconds(PATIENCE_MS)}` : `it ended with ${process.exit()}: ${process.output()}`
    router.registration = () => 201
    await process.kill()
    process = await start()
    said = await taken(router, process, SECOND_PATIENCE_MS)
    const sent = `a router that listens ${seconds(LATE_MS)} after the agent's start, and answers the first registration 503`
    if (said) judge.broken('register-retries', { sent, came: how, todo: 'when a registration fails in any way but a 4xx, wait a little (0.25 s, then longer) and try again' })
  }
  if (!said) return { process, said }
  const fault = faultOf(said)
  if (fault === null) judge.passed('register-fields')
  else judge.broken('register-fields', { sent: 'a router that takes any registration', came: fault, todo: 'a router answers 422 to this: /docs of one tells what each member may be' })
  const missing = ['type', 'capabilities', 'max_concurrency'].filter((name) => said.body[name] === undefined)
  if (missing.length === 0) judge.passed('register-offers')
  else judge.broken('register-offers', { sent: 'a router that takes any registration', came: `none of ${missing.join(', ')}`, todo: 'say them: without capabilities it gets only tasks that name it' })
  router.registration = () => 201
  return { process, said }
}

export const starting = experiment({
  checks: {
    'register-in-time': { level: 'SHOULD', rule: 'R2', title: 'is registered within 5 s of its start', needs: ['command'] },
    'instance-id': { level: 'SHOULD', rule: 'R4', title: 'gives an instance_id made anew at each start', needs: ['command'] },
  },
  limitMs: 20_000,
  taskless: true,
  run: async (agent, judge) => {
    const { router, process, otherStart } = agent
    if (!router || !process) return
    const said = router.registrations.find((one) => one.status < 300)
    const tookMs = said ? said.at - process.startedAt : Infinity
    if (tookMs <= IN_TIME_MS) judge.passed('register-in-time')
    else judge.broken('register-in-time', { sent: 'a start with the router there', came: said ? `registered after ${seconds(tookMs)}` : 'no registration', todo: 'listen and register first, and prepare what takes long afterwards or before the port is open' })
    if (!said || !otherStart) return
    const [first, second] = [otherStart.body['instance_id'], said.body['instance_id']]
    const todo = 'send instance_id: a UUID made once when the process starts'
    if (second === undefined) judge.broken('instance-id', { sent: 'two starts', came: 'no instance_id', todo })
    else if (first === second) judge.broken('instance-id', { sent: 'two starts', came: `twice the instance_id ${shown(JSON.stringify(second))}`, todo })
    else judge.passed('instance-id')
  },
})
