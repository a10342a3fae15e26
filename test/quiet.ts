/** What must be true of a system when all its tasks have ended: nothing is held, nothing is queued, nothing is under way. */
import { call, until, type System } from './system.ts'

/** What is left of work in Redis, a line each: leases and holds, and jobs that have not ended. */
const leftovers = async (system: System): Promise<string[]> => {
  const left: string[] = []
  for await (const found of system.redis.scanStream({ match: `${system.prefix}:*`, count: 1000 })) {
    for (const key of found as string[]) {
      if (/:leases:[^:]+$/.test(key)) {
        const [seconds] = await system.redis.time()
        for (const lease of await system.redis.zrangebyscore(key, Number(seconds) * 1000, '+inf')) left.push(`${key} ${lease}`)
      } else if (/:(active|wait)$/.test(key)) {
        for (const job of await system.redis.lrange(key, 0, -1)) left.push(`${key} ${job}`)
      } else if (/:(prioritized|delayed)$/.test(key)) {
        for (const job of await system.redis.zrange(key, '0', '-1')) left.push(`${key} ${job}`)
      } else if (/:tasks:(pending|queued|sent|running|retrying)$/.test(key)) {
        for (const id of await system.redis.zrange(key, '0', '-1')) left.push(`${key} ${id}`)
      }
    }
  }
  return left
}

/** Waits until nothing is left and every agent is idle; fails with what is left. */
export const becomesQuiet = async (system: System): Promise<void> => {
  let left: string[] = []
  await until(async () => (left = await leftovers(system)).length === 0, { timeoutMs: 8_000, everyMs: 100, what: 'quiet' }).catch(() => {
    throw new Error(`left behind:\n${left.join('\n')}`)
  })
  const { agents } = (await call('GET', `${system.url()}/agents?include_dead=true`)).json
  const busy = agents.filter((a: { in_flight: number }) => a.in_flight !== 0)
  if (busy.length > 0) throw new Error(`busy agents: ${JSON.stringify(busy)}`)
  for (const proc of [...system.api, ...system.worker]) {
    if (proc.child.exitCode !== null) throw new Error(`a process ended with ${proc.child.exitCode}:\n${proc.log.join('')}`)
    const fault = proc.log.join('').split('\n').find((line) => /unhandled|"level":"(error|fatal)"|a step failed/i.test(line))
    if (fault) throw new Error(`a process logged: ${fault}`)
  }
}
