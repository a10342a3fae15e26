/** To whom we post, from the name to the socket: DNS that says what suits it, what is really connected to, and this machine itself. */
import dns from 'node:dns/promises'
import { createServer } from 'node:http'
import { createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { createHostPolicy, type HostPolicy } from '../src/contracts/host.ts'
import { createConnections, type Resolve } from '../src/transports/connections.ts'
import { createHttpTransport } from '../src/transports/http.ts'
import type { Outcome } from '../src/transports/transport.ts'
import { startDns, type Zone } from './faults/dns.ts'
import { call, startSystem, until } from './system.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

/** An agent that answers everything, on a connection of its own each, and what came there. */
const agent = async (server?: Server) => {
  const seen = { connections: 0, bytes: 0 }
  const at = server ?? createServer((req, res) => req.resume().once('end', () => res.setHeader('connection', 'close').end('{"status":"completed","result":1}')))
  at.on('connection', (socket: Socket) => {
    seen.connections += 1
    socket.on('data', (chunk) => void (seen.bytes += chunk.length)).on('error', () => {})
  })
  await new Promise<void>((resolve) => at.listen(0, '127.0.0.1', resolve))
  closing.push(() => new Promise((resolve) => at.close(resolve)))
  return { port: (at.address() as AddressInfo).port, seen }
}

/** Names as a DNS server of ours tells them. */
const resolving = async (zone: Zone): Promise<Resolve> => {
  const server = await startDns(zone, { address: '127.0.0.1', port: 0 })
  const resolver = new dns.Resolver({ timeout: 5_000, tries: 1 })
  resolver.setServers([`127.0.0.1:${server.port}`])
  closing.push(() => (resolver.cancel(), server.close()))
  return async (name) => {
    const [v4, v6] = await Promise.all([resolver.resolve4(name).catch(() => []), resolver.resolve6(name).catch(() => [])])
    return [...v6.map((address) => ({ address, family: 6 })), ...v4.map((address) => ({ address, family: 4 }))]
  }
}

const posting = (deps: { policy?: HostPolicy; resolve?: Resolve }) => {
  const transport = createHttpTransport({ policy: createHostPolicy({ cidrs: [] }), ...deps })
  closing.push(() => transport.close())
  return (host: string, port: number): Promise<Outcome> =>
    transport.send({ target: { agentId: 'a', name: 'A', host, port, keys: [] }, taskId: 'cost.1', taskType: 't', attempt: 1, attemptId: 'x', timeMs: Date.now(), parameters: '{}', metadata: '{}', priority: 5, timeoutMs: 10_000 }).outcome
}

describe('a name', () => {
  test('that comes to mean a forbidden address is looked at anew at each connection', async () => {
    const { port, seen } = await agent()
    const post = posting({ resolve: await resolving((_name, nth) => ({ address: nth === 2 ? '169.254.169.254' : '127.0.0.1' })) })
    expect(await post('rebind.test', port)).toMatchObject({ kind: 'completed' })
    expect(await post('rebind.test', port)).toEqual({ kind: 'unreachable', error: expect.stringMatching(/not allowed: 169\.254\.169\.254; .*metadata/) })
    expect(await post('rebind.test', port)).toMatchObject({ kind: 'completed' })
    expect(seen.connections).toBe(2)
  })

  test.each([
    '169.254.169.254', '0.0.0.0', '224.0.0.1', '100.100.100.200', '::', 'fe80::1', 'ff02::1', 'fd00:ec2::254', 'fd20:ce::254',
    '::ffff:169.254.169.254', '::169.254.169.254', '64:ff9b::a9fe:a9fe', '2002:a9fe:a9fe::1', '2001:0:1:2:3:4:5601:5601', 'fd12::5efe:a9fe:a9fe',
  ])('that means %s is connected to nowhere, and where it means an agent too, to that one', async (address) => {
    const { port, seen } = await agent()
    const post = posting({ resolve: await resolving((name) => ({ address: name === 'both.test' ? [address, '127.0.0.1'] : address })) })
    expect(await post('one.test', port)).toMatchObject({ kind: 'unreachable', error: expect.stringContaining('not allowed') })
    expect(seen.connections).toBe(0)
    expect(await post('both.test', port)).toMatchObject({ kind: 'completed' })
  })

  test('that means this machine is refused where others reach this Switchyard, and its error says what to set', async () => {
    const { port, seen } = await agent()
    const resolve = await resolving((name) => ({ address: name === 'six.test' ? ['::1', '::ffff:127.0.0.1'] : '127.0.0.1' }))
    const refused = posting({ resolve, policy: createHostPolicy({ cidrs: [], loopback: false }) })
    for (const name of ['four.test', 'six.test', '127.0.0.1', 'localhost']) expect(await refused(name, port), name).toEqual({ kind: 'unreachable', error: expect.stringMatching(/AGENT_CIDRS.*127\.0\.0\.0\/8/) })
    expect(seen.connections).toBe(0)
    const chosen = posting({ resolve, policy: createHostPolicy({ cidrs: ['127.0.0.0/8'], loopback: false }) })
    expect(await chosen('four.test', port)).toMatchObject({ kind: 'completed' })
  })
})

describe('what is really connected to', () => {
  /** Takes a name's address for good when it is resolved, and not any more when it is connected to. */
  const changing = (): HostPolicy => {
    let asked = 0
    return { checkLiteral() {}, objection: () => (asked++ === 0 ? null : 'is forbidden by now') }
  }
  const resolve: Resolve = async () => [{ address: '127.0.0.1', family: 4 }]

  test('is held against the policy before a byte is sent', async () => {
    const { port, seen } = await agent()
    expect(await posting({ policy: changing(), resolve })('name.test', port)).toEqual({ kind: 'unreachable', error: 'name.test led to 127.0.0.1, which is forbidden by now' })
    await until(() => seen.connections === 1)
    expect(seen.bytes).toBe(0)
  })

  test('so it is by TLS, which is not even begun', async () => {
    const { port, seen } = await agent(createTcpServer())
    const connections = createConnections({ policy: changing(), resolve, secure: true })
    const link = connections.take('name.test', port)
    const error = await new Promise<Error>((done) => link.client.dispatch({ path: '/', method: 'POST', body: 'x' }, { onRequestStart() {}, onResponseStart() {}, onResponseData() {}, onResponseEnd() {}, onResponseError: (_c, e) => done(e) }))
    connections.drop(link)
    expect(error.message).toBe('name.test led to 127.0.0.1, which is forbidden by now')
    await until(() => seen.connections === 1)
    expect(seen.bytes).toBe(0)
  })

  test('so is a literal', async () => {
    const { port, seen } = await agent()
    const policy: HostPolicy = { checkLiteral() {}, objection: () => 'is forbidden' }
    expect(await posting({ policy })('127.0.0.1', port)).toEqual({ kind: 'unreachable', error: '127.0.0.1 led to 127.0.0.1, which is forbidden' })
    expect(seen.bytes).toBe(0)
  })
})

test('a Switchyard that others reach posts to nothing on its own machine, neither by its API nor by its worker', async () => {
  const { port, seen } = await agent()
  const ADMIN_KEY = 'only-for-this-test-0123456789-abcdef'
  await using system = await startSystem({ workers: 0, env: { ADMIN_KEY } })
  const [reached] = await Promise.all([system.addApi({ HOST: '0.0.0.0' }), system.addWorker({ HOST: '0.0.0.0' })])
  const [alone] = system.api
  const post = (url: string, path: string, body: unknown) => call('POST', url + path, body, { authorization: `Bearer ${ADMIN_KEY}` })
  const registering = { name: 'a', type: 'test', port, capabilities: ['echo'] }
  for (const host of ['127.0.0.1', '[::1]', 'localhost']) {
    const answer = await post(reached.url.replace('0.0.0.0', '127.0.0.1'), '/agents/register', { ...registering, host })
    expect(answer.json, host).toMatchObject({ status: 403, type: expect.stringContaining('host-not-allowed'), detail: expect.stringMatching(/HOST.*AGENT_CIDRS/) })
  }
  // One that was registered before.
  const agentId = (await post(alone!.url, '/agents/register', { ...registering, host: '127.0.0.1' })).json.agent_id
  const { task_id } = (await post(alone!.url, '/tasks', { task_type: 'echo', agent_id: agentId, max_retries: 0 })).json
  const task = await until(async () => {
    const { json } = await call('GET', `${alone!.url}/tasks/${task_id}`, undefined, { authorization: `Bearer ${ADMIN_KEY}` })
    return json.status === 'failed' ? json : null
  })
  expect(task.error).toMatch(/^127\.0\.0\.1:\d+ is of this machine alone.*AGENT_CIDRS/)
  expect(seen.connections).toBe(0)
})
