/** Where everything is, once it is up: a table for people, and the same as fields for a log. */

/**
 * @param urls of the children `api` and `worker`
 * @param redisUrl a password in it is not shown
 */
export const placesOf = (urls: ReadonlyMap<string, string>, redisUrl: string | undefined): { table: string; fields: Record<string, string> } => {
  const api = urls.get('api')
  const worker = urls.get('worker')
  const fields = {
    ...(api ? { api, queues: `${api}/queues`, docs: `${api}/docs` } : {}),
    ...(worker ? { worker: `${worker}/health` } : {}),
    ...(redisUrl ? { redis: withoutPassword(redisUrl) } : {}),
  }
  const lines = Object.entries(fields).map(([name, place]) => `  ${name.padEnd(8)}${place}`)
  return { table: `\n  Switchyard is up; Ctrl-C stops it\n\n${lines.join('\n')}\n\n`, fields }
}

const withoutPassword = (url: string): string => url.replace(/^(\w+:\/\/).*@/, '$1***@')
