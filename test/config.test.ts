/** Settings: what is wrong with them is told all at once, before anything is started. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { readConfig } from '../src/config.ts'
import { nodesIn } from '../src/contracts/store-url.ts'
import { ConfigError } from '../src/errors.ts'
import { fixture, run, tempFolder } from './processes.ts'

const faultsOf = (env: Record<string, string>): string[] => {
  try {
    readConfig(env)
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.message.split('\n').slice(1).map((line) => line.trim())
  }
}

test('all faults are told together, one line each, and no secret among them', () => {
  const faults = faultsOf({ PORT: '99999', HEALTH_PORT: 'x', HOST: 'http://x', REDIS_URL: 'redis://:sec/ret@h:6379', AGENT_CIDRS: '10.0.0.0/33, fd00::/8, localhost', LOG_LEVEL: 'loud', WEBHOOK_CIDRS: 'here', WEBHOOK_SECRET: 'whsec_c2VjcmV0', ADMIN_KEY: 'too-short', INSECURE_OPEN: 'yes', DRAIN_SECONDS: '-1' })
  expect(faults.map((fault) => fault.split(/[=:]/)[0])).toEqual(['HOST', 'PORT', 'HEALTH_PORT', 'REDIS_URL', 'LOG_LEVEL', 'AGENT_CIDRS', 'AGENT_CIDRS', 'WEBHOOK_CIDRS', 'WEBHOOK_SECRET', 'ADMIN_KEY', 'INSECURE_OPEN', 'DRAIN_SECONDS'])
  expect(faults.filter((fault) => fault.startsWith('AGENT_CIDRS')).join()).toMatch(/10\.0\.0\.0\/33 is not a range.*localhost is not a range/)
  for (const secret of ['sec/ret', 'c2VjcmV0', 'too-short']) expect(faults.join('\n')).not.toContain(secret)
})

describe('each is told by itself', () => {
  test.each([
    ['HOST', ['http://x', '127.0.0.1:80', '[::1]', 'a b', '/', 'x/']],
    ['REDIS_URL', ['localhost:6379', 'http://x', 'redis://h:99999', 'redis://[', 'redis://:a/b@h', 'unix://relative', 'unix:///%', 'redis:/h', 'redis://a:1,', 'redis://a:1,b:99999', 'redis://a:1,rediss://b:1']],
    ['REDIS_CLUSTER', ['yes', '1']], // it needs a REDIS_URL
    ['WEBHOOK_SECRET', ['whsec_', 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', ' ', `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw whsec_short`]],
    ['ALLOWED_HOSTS', ['http://a', 'a:80', '*.example', 'a b', 'a/', 'ä.example']],
    ['AGENT_CIDRS', ['10.0.0.0/33', 'x/8', '10.0.0.0/8,10.0.0/8', '10.0.0.0/8 192.168.0.0/16', '::/129', '*']],
  ])('%s', (name, values) => {
    for (const value of values) expect(faultsOf({ [name]: value }), value).toEqual([expect.stringContaining(name)])
  })

  test('files for TLS that are none, or go with nothing', () => {
    const [cert, key] = [fixture('receiver.crt'), fixture('receiver.key')]
    const REDIS_URL = 'rediss://h'
    expect(faultsOf({ REDIS_URL, REDIS_TLS_CA: '/nowhere.pem' })).toEqual([expect.stringMatching(/^REDIS_TLS_CA=\/nowhere\.pem: cannot be read \(ENOENT\)/)])
    expect(faultsOf({ REDIS_URL, REDIS_TLS_CA: fixture('write.lua') })).toEqual([expect.stringMatching(/holds no PEM/)])
    expect(faultsOf({ REDIS_URL, REDIS_TLS_CERT: cert })).toEqual([expect.stringMatching(/^REDIS_TLS_CERT=.*goes with the other/)])
    expect(faultsOf({ REDIS_URL: 'redis://h', REDIS_TLS_CA: cert })).toEqual([expect.stringMatching(/^REDIS_TLS_CA=.*rediss:\/\//)])
    expect(faultsOf({ REDIS_URL, REDIS_TLS_CA: cert, REDIS_TLS_CERT: cert, REDIS_TLS_KEY: key })).toEqual([])
    expect(readConfig({ REDIS_URL, REDIS_TLS_CERT: cert, REDIS_TLS_KEY: key }).redisTls).toEqual({ ca: undefined, cert: expect.stringContaining('BEGIN CERTIFICATE'), key: expect.stringContaining('PRIVATE KEY') })
  })

  test('and what is right is taken', () => {
    const { host, agentCidrs, redisUrl } = readConfig({ HOST: '::', AGENT_CIDRS: ' 10.0.0.0/8,,fd00::/8 , 192.168.1.1', REDIS_URL: 'unix:///a%20b/redis.sock' })
    expect([host, agentCidrs, redisUrl]).toEqual(['::', ['10.0.0.0/8', 'fd00::/8', '192.168.1.1'], 'unix:///a%20b/redis.sock'])
    for (const url of ['redis://h', 'redis://me:se%2Fcret@h:6379/1', 'rediss://[::1]:6379']) expect(faultsOf({ REDIS_URL: url })).toEqual([])
    const clusterOf = (url: string, more = {}) => readConfig({ REDIS_URL: url, ...more }).redisCluster
    expect([clusterOf('redis://:p,w@h'), clusterOf('redis://h', { REDIS_CLUSTER: '1' }), clusterOf('redis://me:p@a:7000,b:7001,redis://c')]).toEqual([false, true, true])
    expect(nodesIn('redis://me:p@a:7000, b:7001,redis://c')).toEqual(['redis://me:p@a:7000', 'redis://me:p@b:7001', 'redis://me:p@c'])
    for (const name of ['localhost', '0.0.0.0', 'my-host.example', '::1']) expect(faultsOf({ HOST: name })).toEqual([])
  })
})

test.each(['start', 'api', 'workers'])('src/%s/main.ts tells them before it starts anything', async (role) => {
  await using folder = await tempFolder()
  const dataDir = join(folder.path, 'data')
  await using process_ = run(process.execPath, [fileURLToPath(new URL(`../src/${role}/main.ts`, import.meta.url))], { env: { ...process.env, DATA_DIR: dataDir, AGENT_CIDRS: '10.0.0.0/33', PORT: 'x' } })
  expect(await process_.ended).toBe(1)
  expect(process_.output()).toMatch(/^The environment has faulty settings; mend and start again:\n {2}PORT=x: .*\n {2}AGENT_CIDRS=.*\n$/)
  expect(existsSync(dataDir)).toBe(false)
})
