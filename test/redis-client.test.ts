/** The connection to Redis, where it differs from its library's. */
import { expect, inject, test } from 'vitest'
import { createLogger } from '../src/logger.ts'
import { createRedis, whenReady } from '../src/redis/client.ts'
import { startRedis } from './system.ts'

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
