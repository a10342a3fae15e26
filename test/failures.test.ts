/** Whose fault a failed request is: the store's (503, come again) or our own (500). */
import { readFile, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import express from 'express'
import { ReplyError } from 'ioredis'
import { expect, inject, test } from 'vitest'
import { createDocument } from '../src/api/openapi.ts'
import { pageRoutes } from '../src/api/pages.ts'
import { problemHandler } from '../src/api/problem.ts'
import { createLogger } from '../src/logger.ts'
import { createRedis, isStoreFailure, whenReady } from '../src/redis/client.ts'
import { startEmbedded } from '../src/redis/embedded.ts'
import { tempFolder } from './processes.ts'
import { call } from './system.ts'

const log = createLogger('test', 'silent')
const errorOf = (promise: Promise<unknown>): Promise<unknown> => promise.then(() => expect.fail('it did not fail'), (error: unknown) => error)

test('what a Redis that is away, hangs, or takes nothing makes of a command is the store’s failure', async () => {
  await using folder = await tempFolder()
  const store = await startEmbedded({ dataDir: folder.path, log })
  const redis = createRedis({ url: store.url, name: 'test', log })
  try {
    await whenReady(redis, store.url)
    await redis.config('SET', 'maxmemory', '1')
    expect(isStoreFailure(await errorOf(redis.set('a', '1')))).toBe(true)
    expect(isStoreFailure(await errorOf(redis.eval("return redis.call('SET', KEYS[1], 1)", 1, 'a')))).toBe(true)
    await redis.config('SET', 'maxmemory', '0')
    process.kill(store.pid, 'SIGSTOP')
    expect(isStoreFailure(await errorOf(redis.get('a')))).toBe(true)
    const cut = errorOf(redis.get('a'))
    process.kill(store.pid, 'SIGKILL')
    expect(isStoreFailure(await cut)).toBe(true)
    expect(isStoreFailure(await errorOf(redis.get('a')))).toBe(true)
  } finally {
    redis.disconnect()
    await store.stop()
  }
  for (const message of ['ERR Error running script (call to f_6a): @user_script:1: @user_script: 1: -OOM command not allowed', 'LOADING Redis is loading the dataset in memory', 'READONLY You can’t write against a read only replica.']) {
    expect(isStoreFailure(new ReplyError(message)), message).toBe(true)
  }
  expect(isStoreFailure(await errorOf(new Promise((_, reject) => connect('/nowhere/redis.sock').once('error', reject))))).toBe(true)
})

test('a missing file, a fault in a script and whatever only sounds like Redis are our own', async () => {
  const redis = createRedis({ url: inject('redisUrl'), name: 'test', log })
  await whenReady(redis, inject('redisUrl'))
  const ours = [
    await errorOf(readFile('/nowhere/docs.md')),
    await errorOf(readFile('/')),
    await errorOf(redis.call('NONSENSE')),
    await errorOf(redis.eval('return nothing.here', 0)),
    new Error('OOM of the heap'),
    new Error('READONLY property'),
    new DOMException('aborted', 'AbortError'),
    'Connection is closed.',
  ]
  redis.disconnect()
  for (const error of ours) expect(isStoreFailure(error), String(error)).toBe(false)
})

test('a page whose file cannot be read is our own failure, and is there as soon as the file is', async () => {
  await using folder = await tempFolder()
  const file = join(folder.path, 'errors.md')
  const app = express()
  app.use(pageRoutes(() => createDocument({ version: '1', maxTimeoutSeconds: 300 }), () => '', pathToFileURL(file)))
  app.use(problemHandler(log))
  const server = app.listen(0, '127.0.0.1')
  await new Promise((listening) => server.once('listening', listening))
  try {
    const url = `http://127.0.0.1:${(server.address() as { port: number }).port}/docs/errors`
    expect((await call('GET', url)).json).toMatchObject({ status: 500, type: '/docs/errors#internal' })
    await writeFile(file, '## task-ended\n')
    expect(await call('GET', url)).toMatchObject({ status: 200, text: expect.stringContaining('id="task-ended"') })
  } finally {
    server.close()
  }
})
