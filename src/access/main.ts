/**
 * `switchyard keys create --local`: makes a key in Redis itself, where no API would let anyone in yet. It takes the router's settings, on its machine; what is
 * asked for is its argument, as JSON.
 */
import { readConfig } from '../config.ts'
import { NewKey } from '../contracts/key.ts'
import { ConfigError, SwitchyardError } from '../errors.ts'
import { createLogger } from '../logger.ts'
import { createRedis, whenReady } from '../redis/client.ts'
import { joinEmbedded } from '../redis/embedded.ts'
import { createKeys, DEFAULT_NAMESPACE } from '../redis/keys.ts'
import { createKeyring } from './keyring.ts'

const create = async (asked: string): Promise<string> => {
  const { json, ...body } = JSON.parse(asked) as { json?: boolean }
  const read = NewKey.safeParse(body)
  if (!read.success) throw new ConfigError(read.error.issues.map(({ path, message }) => `${path.join('.')} ${message}`).join('; '))
  const config = readConfig()
  const url = config.redisUrl ?? (await joinEmbedded({ dataDir: config.dataDir })).url
  const redis = createRedis({ url, cluster: config.redisCluster, tls: config.redisTls, name: 'switchyard-keys', log: createLogger('keys', 'silent') })
  try {
    await whenReady(redis, url)
    const made = await createKeyring({ redis, keys: createKeys(config.redisPrefix) }).create(read.data, DEFAULT_NAMESPACE, config.adminKey !== undefined)
    return json ? JSON.stringify(made) : made.key
  } finally {
    redis.disconnect()
  }
}

try {
  process.stdout.write(`${await create(process.argv[2] ?? '{}')}\n`)
} catch (error) {
  if (!(error instanceof ConfigError || error instanceof SwitchyardError)) throw error
  process.stderr.write(`switchyard: ${error.message}\n`)
  process.exitCode = 1
}
