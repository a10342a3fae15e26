/** A Redis that dies for good, and a replica that takes its place. */
import { Redis } from 'ioredis'
import { sleep, startRedis, until } from '../../system.ts'
import { mono } from '../clock.ts'
import { freePorts } from '../fleet.ts'
import { ENDS } from '../load.ts'
import { startProxy } from '../../proxy.ts'
import { goesOnEverywhere, refused } from '../outage.ts'
import type { Row, Trial } from '../row.ts'

/** So long before its end the master is cut off from its replica: as replication is asynchronous, it may be. */
const BEHIND_MS = 1_000

/** The master dies a while after it has lost its replica, which is made the master; ours find it at the address of the old one. */
const failover = async (trial: Trial): Promise<void> => {
  const { fleet } = trial
  const [port, nextPort] = await freePorts(2)
  const replica = await startRedis({ port: port! })
  const next = await startRedis({ port: nextPort! })
  trial.atEnd(() => Promise.all([replica.close(), next.close()]))
  const between = await startProxy({ port: fleet.redisPort })
  trial.atEnd(() => between.close())
  const [admin, nextAdmin] = [replica, next].map((server) => new Redis({ path: server.socket, maxRetriesPerRequest: null }).on('error', () => {})) as [Redis, Redis]
  trial.atEnd(() => [admin, nextAdmin].forEach((redis) => redis.disconnect()))
  await admin.replicaof('127.0.0.1', between.port)
  await until(async () => /slave0:.*state=online/.test(await fleet.redis.info('replication')), { timeoutMs: 20_000, what: 'a replica' })
  await sleep(2000)
  await trial.broken(async () => {
    const from = mono()
    trial.injected()
    between.set({ blackhole: true })
    await sleep(BEHIND_MS)
    if (between.seen.heldBytes > 0) trial.bit()
    await fleet.store.kill()
    between.close()
    await admin.replicaof('NO', 'ONE')
    await nextAdmin.replicaof('127.0.0.1', port!)
    const ours = fleet.members.flatMap((m) => m.toRedis ?? [])
    for (const link of ours) link.turn({ port: port! })
    fleet.redis.options.path = replica.socket
    fleet.redis.disconnect(true)
    for (const link of ours) link.resetAll()
    trial.note(`${between.seen.heldBytes} bytes never came to the replica; ${refused(trial, from)} calls were answered 503`)
  })
  await goesOnEverywhere(trial)
  await sleep(12_000)
}

const lostOf = ({ load, records }: Trial) => load.told.filter((t) => t.ids.size > 0 && [...t.ids].some((id) => !ENDS.includes(records.get(id)?.status ?? 'gone')))

export const failoverRows: readonly Row[] = [
  {
    name: 'failover',
    fault: 'the master killed (kill -9) 1 s after it lost its replica, which takes its place',
    promises: 'P1–P3 but for what was not replicated, P12',
    lateEnds: true,
    lost: BEHIND_MS + 500,
    fleet: { links: ['api-redis', 'dispatcher-redis'] },
    load: { rate: 40 },
    run: failover,
    check: (trial) => trial.note(`${lostOf(trial).length} acknowledged tasks are gone: they had not been replicated`),
  },
  {
    name: 'failover-acked',
    fault: 'the same with ACK=replica',
    promises: 'P1, P2, P12',
    lateEnds: true,
    lost: BEHIND_MS + 500,
    fleet: { links: ['api-redis', 'dispatcher-redis'], env: { ACK: 'replica' } },
    load: { rate: 40 },
    run: failover,
    check: (trial) => {
      const lost = lostOf(trial)
      // So were results and cancels; not what dispatchers wrote, and clients only read.
      const { fleet, load, records } = trial
      const results = fleet.ledger.read().filter((e) => e.what === 'told' && e.status === 200 && records.get(e.task)?.status !== 'cancelled' && records.get(e.task)?.result?.attempt_id !== e.attempt)
      const cancels = load.told.filter((t) => t.cancel && t.cancel.status !== 409 && records.get([...t.ids][0]!)?.status !== 'cancelled')
      if (results.length + cancels.length > 0) trial.violate(`${results.length} results and ${cancels.length} cancels were acknowledged, and are gone, with ACK=replica`)
      if (lost.length > 0) trial.violate(`${lost.length} tasks were acknowledged, and are gone, with ACK=replica: ${lost.slice(0, 5).map((t) => [...t.ids].join()).join(', ')}`)
    },
  },
]
