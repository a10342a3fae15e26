/** A Redis that is killed, frozen, or has no time. */
import { sleep } from '../../system.ts'
import { mono } from '../clock.ts'
import { goesOnEverywhere, goesOnInTime, outage } from '../outage.ts'
import type { Row, Trial } from '../row.ts'

/** Of one core, while there is no Redis and nothing to do. */
const IDLE_CPU = 0.05

const kill = ({ fleet }: Trial) => fleet.store.kill()
const start = ({ fleet }: Trial) => fleet.store.start()
const PROMISES = 'P1–P4, P11–P13'

export const redisRows: readonly Row[] = [
  {
    name: 'redis-killed',
    fault: 'Redis killed (kill -9) in mid-work, and started again',
    promises: PROMISES,
    mixes: true,
    lateEnds: true,
    run: async (trial) => {
      for (let i = 0; i < trial.times(3); i++) {
        await outage(trial, trial.random.between(200, 3000), kill, start)
        await goesOnInTime(trial)
        await sleep(2000)
      }
    },
  },
  {
    name: 'redis-down',
    fault: 'Redis away for 3 s, and for 20 s, under load',
    promises: PROMISES,
    mixes: true,
    lateEnds: true,
    load: { rate: 40, later: 0.3 },
    run: async (trial) => {
      for (const seconds of [3, 20]) {
        await outage(trial, seconds * 1000, kill, start)
        await goesOnEverywhere(trial)
        await sleep(2000)
      }
    },
  },
  {
    name: 'redis-down-idle',
    fault: 'Redis away for 2 minutes, with nothing to do',
    promises: PROMISES,
    lateEnds: true,
    load: { rate: 30 },
    run: async (trial) => {
      const { fleet, load } = trial
      load.setRate(0.2)
      await sleep(5000)
      const ours = fleet.members.filter((m) => m.role !== 'host')
      let before: number[] = []
      // From when they have noticed.
      const { from, to } = await outage(trial, 120_000, async (t) => {
        await kill(t)
        await sleep(5000)
        before = ours.map((m) => m.cpuMs())
      }, async (t) => {
        const cpu = ours.map((m, i) => (m.cpuMs() - before[i]!) / 120_000)
        for (const [i, m] of ours.entries()) if (cpu[i]! > IDLE_CPU) trial.violate(`${m.name} took ${(cpu[i]! * 100).toFixed(1)} % of a core while there was no Redis`)
        trial.note(`CPU while it was away: ${cpu.map((share) => `${(share * 100).toFixed(1)} %`).join(', ')}`)
        await start(t)
      })
      trial.note(`away for ${Math.round((to - from) / 1000)} s`)
      load.setRate(30)
      await goesOnEverywhere(trial)
    },
  },
  {
    name: 'redis-frozen',
    fault: 'Redis frozen (SIGSTOP) for 15 s, longer than all locks',
    promises: PROMISES,
    mixes: true,
    lateEnds: true,
    run: async (trial) => {
      await outage(trial, 15_000, ({ fleet }) => fleet.store.pause(), ({ fleet }) => fleet.store.go())
      await goesOnInTime(trial)
    },
  },
  {
    name: 'redis-paused',
    fault: 'Redis told to pause (CLIENT PAUSE): writes for 12 s, longer than all locks; everything for 5 s',
    promises: PROMISES,
    mixes: true,
    lateEnds: true,
    load: { rate: 40, later: 0.3 },
    run: async (trial) => {
      for (const [mode, ms] of [['WRITE', 12_000], ['ALL', 5_000]] as const) {
        let ends = 0
        await outage(trial, ms, async ({ fleet }) => {
          ends = mono() + ms
          await fleet.redis.call('CLIENT', 'PAUSE', ms, mode)
        }, () => sleep(ends - mono()))
        await goesOnEverywhere(trial)
        await sleep(3000)
      }
    },
  },
  {
    name: 'redis-slow-script',
    fault: 'somebody’s script keeps Redis busy for 3 s (BUSY)',
    promises: PROMISES,
    mixes: true,
    lateEnds: true,
    load: { rate: 40 },
    run: async (trial) => {
      const { redis } = trial.fleet
      await redis.config('SET', 'busy-reply-threshold', '200')
      const BUSY = "local t = redis.call('TIME') local till = t[1] * 1000 + t[2] / 1000 + ARGV[1] repeat t = redis.call('TIME') until t[1] * 1000 + t[2] / 1000 > till"
      for (let i = 0; i < trial.times(3); i++) {
        let busy: Promise<unknown> = Promise.resolve()
        await outage(trial, 2800, () => void (busy = redis.eval(BUSY, 0, 3000).catch(() => {})), () => busy)
        await goesOnInTime(trial)
        await sleep(2000)
      }
      await redis.config('SET', 'busy-reply-threshold', '5000')
    },
  },
  {
    name: 'scripts-flushed',
    fault: 'SCRIPT FLUSH at random moments under load',
    promises: 'P1–P3, P13',
    mixes: true,
    load: { rate: 60 },
    run: async (trial) => {
      const { fleet, load, random } = trial
      const missing = async (): Promise<number> => Number(/errorstat_NOSCRIPT:count=(\d+)/.exec(await fleet.redis.info('errorstats'))?.[1] ?? 0)
      const from = mono()
      for (let i = 0; i < trial.times(20); i++) {
        const before = await missing()
        trial.injected()
        await fleet.redis.script('FLUSH')
        await sleep(random.between(200, 800))
        if ((await missing()) > before) trial.bit()
      }
      const failed = load.calls.filter((c) => c.at >= from && (c.status === 0 || c.status >= 500))
      if (failed.length > 0) trial.violate(`${failed.length} calls failed, as ${failed[0]!.what} with ${failed[0]!.status}`)
    },
  },
]
