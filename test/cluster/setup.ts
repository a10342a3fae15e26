/** Three masters for a whole test run, as test/redis.ts is one server: `inject('redisUrl')`. */
import type { TestProject } from 'vitest/node'
import { startCluster } from './cluster.ts'

export default async ({ provide }: TestProject): Promise<() => Promise<void>> => {
  const cluster = await startCluster({ settings: { appendfsync: 'everysec' } }) // of anything less our processes would warn
  provide('redisUrl', cluster.url)
  return cluster.close
}
