/** Power cuts: Redis is killed, and of its append-only file is left what had been synced. */
import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { sleep } from '../../system.ts'
import type { Fleet } from '../fleet.ts'
import { goesOnInTime, refused } from '../outage.ts'
import type { Row, Trial } from '../row.ts'
import { mono } from '../clock.ts'

const exec = promisify(execFile)
const SOURCE = fileURLToPath(new URL('../power.c', import.meta.url))

/** Has Redis note how much of its files is on the disk. */
const noting = async (dir: string): Promise<Record<string, string>> => {
  const library = join(dir, 'power.so')
  const synced = join(dir, 'synced')
  await mkdir(synced)
  await exec('cc', ['-O1', '-shared', '-fPIC', '-o', library, SOURCE, '-ldl'])
  return { LD_PRELOAD: library, SYNCED_DIR: synced }
}

/** Kills Redis and cuts its files to what was synced. Its base file and manifest were, when they were made. */
const cut = async ({ store }: Fleet): Promise<{ synced: number; gone: number }> => {
  await store.kill()
  const files = join(store.dir, 'appendonlydir')
  let synced = 0
  let gone = 0
  for (const name of (await readdir(files)).filter((n) => n.endsWith('.incr.aof'))) {
    const path = join(files, name)
    const durable = Number(await readFile(join(store.dir, 'synced', name), 'latin1').catch(() => '0'))
    const { size } = await stat(path)
    await truncate(path, Math.min(size, durable))
    synced += durable
    gone += size - durable
  }
  return { synced, gone }
}

const lacks = async (): Promise<string | null> => exec('cc', ['--version']).then(() => null, () => 'there is no C compiler (cc) here, and what a power cut leaves is found out by a small library')

const powerCuts = (bites: (left: { synced: number; gone: number }) => boolean) => async (trial: Trial): Promise<void> => {
  for (let i = 0; i < trial.times(3); i++) {
    await sleep(trial.random.between(1500, 4000))
    await trial.broken(async () => {
      const from = mono()
      trial.injected()
      const left = await cut(trial.fleet)
      trial.note(`${left.synced} bytes were synced, ${left.gone} are gone`)
      await sleep(500)
      if (bites(left) && refused(trial, from) > 0) trial.bit()
      await trial.fleet.store.start()
    })
    await goesOnInTime(trial)
  }
  // What was in hand comes round.
  await sleep(12_000)
}

const settings = { 'aof-load-truncated': 'yes', 'appendonly': 'yes' }

export const powerRows: readonly Row[] = [
  {
    name: 'power-cut-always',
    fault: 'the power cut under Redis, with appendfsync always',
    promises: 'P1–P3, P12',
    lateEnds: true,
    lacks,
    fleet: { redis: { settings: { ...settings, appendfsync: 'always' }, env: noting } },
    load: { rate: 40 },
    // Nothing that was answered is gone, so it bites if all of it was synced: no more than the commands that it died in was not.
    run: powerCuts(({ synced }) => synced > 0),
  },
  {
    name: 'power-cut-everysec',
    fault: 'the power cut under Redis, with appendfsync everysec: up to 2 s are gone',
    promises: 'P1–P3 but for those 2 s, P12',
    lateEnds: true,
    lost: 2000,
    lacks,
    fleet: { redis: { settings: { ...settings, appendfsync: 'everysec' }, env: noting } },
    load: { rate: 40 },
    run: powerCuts(({ gone }) => gone > 0),
  },
]
