/** A Redis that answers, and takes nothing: no replica, no memory, no disk. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm, statfs, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { call, sleep, until } from '../../system.ts'
import { mono, wallAhead } from '../clock.ts'
import { goesOnInTime, logsLittle, refused } from '../outage.ts'
import type { Row, Trial } from '../row.ts'

const exec = promisify(execFile)

/** FAULTS: work goes on so soon once there is room again. */
const RESUMES_MS = 5_000
/** So long may the end of a task take behind its agent's answer. */
const ENDS_MS = 2_000
/** What agents are to have done while nothing could be written, at least. */
const DONE_MEANWHILE = 50

/** Work that agents had in hand ends well, whatever the store takes: what they did in that time is not done again. */
const notDoneAgain = ({ fleet, records, windows, violate }: Trial, least: number): void => {
  const done = fleet.ledger.ends().filter((e) => e.why === 'answered' && windows.some((w) => e.at >= w.from && e.at <= w.to) && records.get(e.task)?.status !== 'cancelled')
  const wasted = done.filter((e) => records.get(e.task)?.result?.attempt_id !== e.attempt)
  if (wasted.length > 0) violate(`of ${done.length} tasks done meanwhile ${wasted.length} were done again: ${wasted.slice(0, 5).map((e) => e.task).join(', ')}`)
  if (done.length < least) violate(`only ${done.length} tasks were done meanwhile: too few to say`)
}

/** What agents ended while it was full has ended then, not only when it no longer was. */
const endedMeanwhile = ({ fleet, records, windows, violate }: Trial): void => {
  const late = fleet.ledger.ends().filter((e) => {
    const record = records.get(e.task)
    const window = windows.find((w) => e.at >= w.from && e.at <= w.to - ENDS_MS)
    return e.why === 'answered' && window && record?.result?.attempt_id === e.attempt && Date.parse(record.completed_at!) - wallAhead() > window.to
  })
  if (late.length > 0) violate(`${late.length} tasks whose agents had done them ended only when there was memory again: ${late.slice(0, 5).map((e) => e.task).join(', ')}`)
}

/** Full for a while: submits are refused with a word on when to come again, nobody floods the log, and it resumes in time. */
const full = async (trial: Trial, ms: number, fill: () => Promise<unknown>, heal: () => Promise<unknown>): Promise<void> => {
  await trial.broken(async () => {
    const from = mono()
    trial.injected()
    await fill()
    await sleep(ms / 2)
    const refusal = await call('POST', `${trial.fleet.api()}/tasks`, { task_type: 'work', agent_type: 'nobody' })
    if (refusal.status !== 503 || refusal.headers.get('retry-after') === null) trial.violate(`P13: a submit was answered ${refusal.status}, Retry-After ${refusal.headers.get('retry-after')}`)
    await sleep(ms / 2)
    if (refused(trial, from) > 0) trial.bit()
    const to = mono()
    logsLittle(trial, from, to)
    const ended = trial.fleet.ledger.ends(from).length
    trial.note(`agents ended ${ended} attempts meanwhile`)
    await heal()
  })
  await goesOnInTime(trial, RESUMES_MS)
}

/** A file system of its own for Redis's folder. */
const onSmallDisk = async (dir: string): Promise<Record<string, string>> => {
  await exec('mount', ['-t', 'tmpfs', '-o', 'size=96m', 'tmpfs', dir])
  return {}
}

export const storeRows: readonly Row[] = [
  {
    name: 'store-errs',
    fault: 'Redis refuses all writes just when agents have answered, 0.3 s at a time',
    promises: 'P1, P3, P4',
    mixes: true,
    lateEnds: true,
    run: async (trial) => {
      const { fleet, random } = trial
      let done = 0
      for (let i = 0; i < trial.times(40) && (done < DONE_MEANWHILE * 1.3 || i < trial.times(10)); i++) {
        // While something is under way, so that its end falls into it.
        await until(() => fleet.ledger.open().length > 2, { timeoutMs: 15_000, what: 'work at agents' })
        await trial.broken(async () => {
          trial.injected()
          const at = mono()
          await fleet.redis.config('SET', 'min-replicas-to-write', '1')
          await until(() => fleet.ledger.ends(at).length > 0, { timeoutMs: 10_000, everyMs: 2, what: 'an end while nothing can be written' })
          trial.bit()
          await sleep(random.between(0, 300))
          done += fleet.ledger.ends(at).length
          await fleet.redis.config('SET', 'min-replicas-to-write', '0')
        })
        trial.recovered(await trial.goesOn())
        await sleep(random.between(200, 600))
      }
    },
    check: (trial) => notDoneAgain(trial, trial.times(DONE_MEANWHILE)),
  },
  {
    name: 'out-of-memory',
    fault: 'Redis at its maxmemory for 8 s, twice',
    promises: 'P1–P4, P12, P13',
    mixes: true,
    lateEnds: true,
    load: { rate: 40, slow: 0.15 },
    run: async (trial) => {
      const { redis } = trial.fleet
      for (let i = 0; i < trial.times(2); i++) {
        // Records give way then, but for those that have ended within 10 s; and so little that it stays full nevertheless.
        await trial.readEnded()
        await full(trial, 8000, () => redis.config('SET', 'maxmemory', '1000000'), () => redis.config('SET', 'maxmemory', '0'))
        await sleep(2000)
      }
    },
    check: (trial) => {
      notDoneAgain(trial, 1)
      endedMeanwhile(trial)
    },
  },
  {
    name: 'disk-full',
    fault: 'the disk under Redis’s append-only file full for 8 s, twice',
    promises: 'P1–P4, P12, P13',
    lateEnds: true,
    load: { rate: 40, slow: 0.15 },
    lacks: async () => {
      const dir = await mkdtemp(join(tmpdir(), 'sy-mount-'))
      try {
        await onSmallDisk(dir)
        await exec('umount', [dir])
        return null
      } catch (error) {
        return `no file system can be mounted here (${String((error as { stderr?: string }).stderr ?? error).trim()})`
      } finally {
        await rm(dir, { recursive: true, force: true })
      }
    },
    fleet: { redis: { env: onSmallDisk, clean: (dir) => exec('umount', ['-l', dir]) } },
    run: async (trial) => {
      const { store } = trial.fleet
      const ballast = join(store.dir, 'ballast')
      const fill = async () => {
        const { bavail, bsize } = await statfs(store.dir)
        await writeFile(ballast, Buffer.alloc(bavail * bsize), { flag: 'a' }).catch(() => {})
      }
      for (let i = 0; i < trial.times(2); i++) {
        await full(trial, 8000, fill, () => unlink(ballast))
        await sleep(2000)
      }
    },
    check: (trial) => notDoneAgain(trial, 1),
  },
]
