/** `switchyard webhooks secret`: prints what webhooks are signed with, one a line. It asks Redis, as the API tells it to nobody. */
import { readConfig } from '../config.ts'
import { ConfigError } from '../errors.ts'
import { createLogger } from '../logger.ts'
import { createRedis, whenReady } from '../redis/client.ts'
import { joinEmbedded } from '../redis/embedded.ts'
import { createKeys } from '../redis/keys.ts'
import { createSecrets } from '../redis/secret.ts'

const read = async (): Promise<readonly string[]> => {
  const config = readConfig()
  if (config.webhookSecrets.length > 0) return config.webhookSecrets
  const url = config.redisUrl ?? (await joinEmbedded({ dataDir: config.dataDir })).url
  const redis = createRedis({ url, tls: config.redisTls, name: 'switchyard-secret', log: createLogger('secret', 'silent') })
  try {
    await whenReady(redis, url)
    return await createSecrets({ redis, key: createKeys(config.redisPrefix).webhookSecret, configured: [] }).list()
  } finally {
    redis.disconnect()
  }
}

try {
  process.stdout.write(`${(await read()).join('\n')}\n`)
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 1
}
