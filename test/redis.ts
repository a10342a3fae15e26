/** One Redis server for a whole test run. Tests share it, each under a key prefix of its own: `inject('redisUrl')`. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { createLogger } from '../src/logger.ts'
import { startEmbedded } from '../src/redis/embedded.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** `unix:///…/redis.sock` */
    redisUrl: string
  }
}

export default async ({ provide }: TestProject): Promise<() => Promise<void>> => {
  const dataDir = await mkdtemp(join(tmpdir(), 'sy-test-'))
  const redis = await startEmbedded({ dataDir, log: createLogger('test', 'warn') })
  provide('redisUrl', redis.url)
  return async () => {
    await redis.stop()
    await rm(dataDir, { recursive: true, force: true })
  }
}
