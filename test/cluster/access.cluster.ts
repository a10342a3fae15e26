/** A cluster by TLS, as the user that docs/operations.md makes; and what is no cluster, or one that was not said to be. */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { expect, inject, test } from 'vitest'
import { startCore } from '../core.ts'
import { startRedis, startSystem } from '../system.ts'
import { freePorts, startCluster } from './cluster.ts'

const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url))
const CERT = fixture('receiver.crt') // of localhost and 127.0.0.1, signed by itself
const KEY = fixture('receiver.key')

test('by TLS and as a user of its own a system works, and is denied nothing', async () => {
  const text = await readFile(new URL('../../docs/operations.md', import.meta.url), 'utf8')
  const rules = [...text.matchAll(/^redis-cli ACL SETUSER switchyard ((?:.*\\\n)*.*)$/gm)].map((found) => found[1]!.replaceAll("'", '').split(/[\s\\]+/).filter(Boolean))
  expect(rules).toHaveLength(2)
  const tlsPorts = await freePorts(3)
  const of = await startCluster({ settings: (i) => ({ 'tls-port': String(tlsPorts[i]), 'tls-cert-file': CERT, 'tls-key-file': KEY, 'tls-ca-cert-file': CERT, 'tls-auth-clients': 'no', 'tls-cluster': 'yes' }) })
  try {
    for (const { redis } of of.nodes) for (const some of rules) await redis.call('ACL', 'SETUSER', 'switchyard', ...some)
    await using system = await startSystem({ store: of.url, env: { REDIS_URL: `rediss://switchyard:PASSWORD@localhost:${tlsPorts[0]}`, REDIS_CLUSTER: '1', REDIS_TLS_CA: CERT, REDIS_PREFIX: 'sy' } })
    for (const type of ['a', 'b', 'c', 'd', 'e', 'f']) {
      await system.agent({ type })
      const id = await system.submit({ agent_type: type })
      expect((await system.get(`/tasks/${id}?wait=10`)).json.status).toBe('completed')
    }
    expect((await system.call('PUT', '/schedules/each', { every_seconds: 1, task: { task_type: 'echo', agent_type: 'a' } })).status).toBe(201)
    expect((await system.post('/tasks/batch', { tasks: ['a', 'b', 'c'].map((agent_type) => ({ task_type: 'echo', agent_type })) })).json.accepted).toBe(3)
    expect((await system.get('/tasks')).status).toBe(200)
    expect((await system.get('/metrics')).text).toContain('switchyard_store_up 1')
    // Nobody is posted to any of its nodes, be it by another name.
    for (const { port } of of.nodes) {
      const answer = await system.post('/agents/register', { name: 'a', host: '127.0.0.1', port: tlsPorts[of.nodes.findIndex((node) => node.port === port)] })
      expect(answer.json).toMatchObject({ status: 403, detail: expect.stringMatching(/its store listens/) })
    }
    for (const { redis } of of.nodes) {
      expect(await redis.call('ACL', 'LOG')).toEqual([])
      expect((await redis.call('CLIENT', 'LIST')) as string).toMatch(/name=switchyard-worker .*user=switchyard/)
    }
  } finally {
    await of.close()
  }
})

test('a node of a cluster that was not said to be one is refused, and so is what is none, each with what to do', async () => {
  const [node] = inject('redisUrl').split(',')
  await expect(startCore({ redisUrl: node!, prefix: 'no' })).rejects.toThrow(/a node of a cluster: set REDIS_CLUSTER=1/)
  const [port] = await freePorts(1)
  const single = await startRedis({ port: port! })
  try {
    await expect(startCore({ redisUrl: single.url, prefix: 'no' }, { REDIS_CLUSTER: '1' })).rejects.toThrow(/is no node of a cluster: set REDIS_CLUSTER=0/)
  } finally {
    await single.close()
  }
})

test('a cluster that does not know its own address is refused, with what to do', async () => {
  const alone = await startCluster({ masters: 1 })
  try {
    await expect(startCore({ redisUrl: alone.url, prefix: 'no' }, { REDIS_CLUSTER: '1' })).rejects.toThrow(/let them announce some \(cluster-announce-ip\)/)
  } finally {
    await alone.close()
  }
})
