/** `switchyard webhooks secret`: prints what the webhooks of a namespace, its argument, are signed with, one a line. It asks Redis, as the API tells it to nobody. */
import { readConfig } from '../config.ts'
import { ConfigError } from '../errors.ts'
import { createLogger } from '../logger.ts'
import { createRedis, whenReady } from '../redis/client.ts'
import { joinEmbedded } from '../redis/embedded.ts'
import { createKeys } from '../redis/keys.ts'
import { createWebhookSecrets, webhookSecretsOf } from '../redis/secret.ts'

const read = async (namespace: string | undefined): Promise<readonly string[]> => {
  const config = readConfig()
  const keys = createKeys(config.redisPrefix, namespace)
  const configured = webhookSecretsOf(keys.namespace, config.webhookSecrets)
  if (configured.length > 0) return configured
  const url = config.redisUrl ?? (await joinEmbedded({ dataDir: config.dataDir })).url
  const redis = createRedis({ url, cluster: config.redisCluster, tls: config.redisTls, name: 'switchyard-secret', log: createLogger('secret', 'silent') })
  try {
    await whenReady(redis, url)
    return await createWebhookSecrets({ redis, keys, configured: [] }).list()
  } finally {
    redis.disconnect()
  }
}

try {
  process.stdout.write(`${(await read(process.argv[2])).join('\n')}\n`)
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 1
}
