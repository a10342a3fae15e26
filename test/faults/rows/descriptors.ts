/** No more connections: Redis takes none, or one of our processes has no descriptor left. */
import { execFile } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { promisify } from 'node:util'
import { sleep } from '../../system.ts'
import { mono } from '../clock.ts'
import type { Member } from '../fleet.ts'
import { goesOnEverywhere, logsLittle, refused } from '../outage.ts'
import type { Row, Trial } from '../row.ts'

const exec = promisify(execFile)
const limit = (m: Member, most: number) => exec('prlimit', ['--pid', String(m.proc.child.pid), `--nofile=${most}:`])
const ENOUGH = 20_000
const lacks = async (): Promise<string | null> => exec('prlimit', ['--version']).then(() => null, () => 'there is no prlimit here, which sets the limits of a process that runs')

const breakConnections = async ({ fleet }: Trial): Promise<void> => {
  for (const type of ['NORMAL', 'PUBSUB']) await fleet.redis.call('CLIENT', 'KILL', 'TYPE', type, 'SKIPME', 'yes')
}

/** A process without a descriptor more than it has, for 6 s, in which it is made to want some. */
const without = async (trial: Trial, m: Member, want: () => unknown, bites: (from: number) => boolean): Promise<void> => {
  await trial.broken(async () => {
    const from = mono()
    trial.injected()
    await limit(m, (await readdir(`/proc/${m.proc.child.pid}/fd`)).length)
    await want()
    await sleep(6000)
    if (bites(from)) trial.bit()
    logsLittle(trial, from, mono())
    await limit(m, ENOUGH)
  })
  await goesOnEverywhere(trial)
  await sleep(2000)
}

export const descriptorRows: readonly Row[] = [
  {
    name: 'redis-full-house',
    fault: 'Redis out of connections (maxclients) when all have to reconnect, for 6 s',
    promises: 'P1–P4, P12, P13',
    mixes: true,
    lateEnds: true,
    load: { rate: 40, later: 0.3 },
    run: async (trial) => {
      const { redis } = trial.fleet
      const rejected = async () => Number(/rejected_connections:(\d+)/.exec(await redis.info('stats'))![1])
      for (let i = 0; i < trial.times(2); i++) {
        await trial.broken(async () => {
          const from = mono()
          const before = await rejected()
          trial.injected()
          await redis.config('SET', 'maxclients', '3')
          await breakConnections(trial)
          await sleep(6000)
          if ((await rejected()) > before && refused(trial, from) > 0) trial.bit()
          logsLittle(trial, from, mono())
          await redis.config('SET', 'maxclients', '10000')
        })
        await goesOnEverywhere(trial)
        await sleep(2000)
      }
    },
  },
  {
    name: 'no-descriptors',
    fault: 'an API, and a dispatcher, out of file descriptors for 6 s each',
    promises: 'P1–P4, P12, P13',
    lateEnds: true,
    lacks,
    load: { rate: 40, later: 0.3 },
    run: async (trial) => {
      const { fleet, load } = trial
      const [api, dispatcher] = [fleet.apis[0]!, fleet.dispatchers[0]!]
      // More clients than it can take: they are turned away. It has to reconnect to Redis as well.
      let turnedAway = 0
      const clients: Socket[] = []
      trial.atEnd(() => clients.forEach((c) => c.destroy()))
      await without(trial, api, async () => {
        for (let i = 0; i < 50; i++) clients.push(connect(Number(new URL(api.url).port), '127.0.0.1').on('error', () => {}).on('close', () => turnedAway++))
        await breakConnections(trial)
      }, (from) => turnedAway > 0 || load.calls.some((c) => c.at >= from && c.api === 0 && c.status === 503))
      for (const c of clients) c.destroy()
      // More deliveries at once than it has connections for.
      await without(trial, dispatcher, () => {
        for (let i = 0; i < 80; i++) load.one()
      }, (from) => dispatcher.logged(from).some((line) => JSON.stringify(line).includes('EMFILE')))
    },
  },
]
