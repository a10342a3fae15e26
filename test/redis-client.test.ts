/** The connection to Redis, where it differs from its library's. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, inject, test } from 'vitest'
import { createLogger } from '../src/logger.ts'
import { createBatch } from '../src/redis/batch.ts'
import { createRedis, isStoreFailure, whenReady } from '../src/redis/client.ts'
import { createKeys } from '../src/redis/keys.ts'
import { loadScript } from '../src/redis/scripts.ts'
import { startRedis, until } from './system.ts'

const connected = async (url: string) => {
  const redis = createRedis({ url, name: 'test', log: createLogger('test', 'silent') })
  await whenReady(redis, url)
  return Object.assign(redis, { [Symbol.asyncDispose]: async () => redis.disconnect() })
}

test('an answer that came while this process stood still is an answer, and no timeout', async () => {
  await using redis = await connected(inject('redisUrl'))
  const asked = redis.ping()
  await new Promise((resolve) => setImmediate(resolve)) // it is sent
  for (const began = performance.now(); performance.now() - began < 2300; );
  expect(await asked).toBe('PONG')
})

test('a command that is not answered fails within 2 s', async () => {
  const server = await startRedis()
  try {
    await using redis = await connected(server.url)
    server.pause()
    const began = performance.now()
    await expect(redis.ping()).rejects.toThrow('Command timed out')
    expect(performance.now() - began).toBeGreaterThan(1790)
  } finally {
    await server.close()
  }
})

test('a Redis that takes nothing is known for that, however it says so', async () => {
  const server = await startRedis({ settings: { appendonly: 'no', save: '3600 1000000' } })
  await using redis = await connected(server.url)
  await using other = await connected(server.url)
  const base = createKeys('sy').base('cost')
  const batch = createBatch(loadScript(redis, new URL('fixtures/write.lua', import.meta.url)))
  const writes = { command: () => redis.set('k', 'v'), script: () => redis.eval("return redis.call('SET', 'k', 'v')", 0), batch: () => batch(base, ['v']) }
  const said = async (word: string, ways: Record<string, () => Promise<unknown>> = writes): Promise<void> => {
    for (const [how, write] of Object.entries(ways)) {
      const error = await write().then(() => null, (e: unknown) => e)
      expect(String(error), how).toContain(word)
      expect(isStoreFailure(error), `${how}: ${error}`).toBe(true)
    }
  }
  try {
    await batch(base, ['v'])
    await redis.config('SET', 'min-replicas-to-write', '1')
    await said('NOREPLICAS')
    await redis.config('SET', 'min-replicas-to-write', '0', 'maxmemory', '1')
    await said('OOM')
    await redis.config('SET', 'maxmemory', '0')
    await redis.replicaof('127.0.0.1', '1')
    await said('READONLY', { batch: writes.batch }) // by itself it would make the connection look for another Redis
    await redis.replicaof('NO', 'ONE')
    // No snapshot can be put in its place.
    await mkdir(join(server.dir, 'dump.rdb'))
    await redis.bgsave()
    await until(async () => (await redis.info('persistence')).includes('rdb_last_bgsave_status:err'))
    await said('MISCONF')
    await redis.config('SET', 'stop-writes-on-bgsave-error', 'no', 'busy-reply-threshold', '10')
    const busy = other.eval('while true do end', 0).catch(() => {})
    await until(() => redis.ping().then(() => false, () => true))
    await said('BUSY')
    await redis.script('KILL')
    await busy
    for (const write of Object.values(writes)) await write()
    // Nor is everything the store's fault.
    expect(isStoreFailure(await redis.lpush('k', 'no list').catch((e: unknown) => e))).toBe(false)
    expect(isStoreFailure(await redis.eval('return nothing.at_all', 0).catch((e: unknown) => e))).toBe(false)
  } finally {
    await server.close()
  }
})
