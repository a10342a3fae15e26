/** `npm run bench -- --day`: whether memory, keys and file stay level over a day, made short. See plan.ts for what is real and what is scaled. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import os, { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Processes } from '../processes.ts'
import { intoPage, type Environment } from '../growth/report.ts'
import { createStart } from '../growth/system.ts'
import { createLoad } from './load.ts'
import { KINDS, planOf } from './plan.ts'
import { drawDay, formatDay, judgeDay, SPANS } from './report.ts'
import { createSampler } from './samples.ts'
import { createWorld } from './world.ts'

export type DayOptions = Readonly<{ minutes: number; rate: number; /** Folder of `scale.md` and `growth/`; null: nothing is written. */ out: string | null }>

const ENDED_WITHIN_MS = 60_000
/** What has ended last has been measured then: dispatchers trim every two seconds, or a little later. */
const MEASURED_WITHIN_MS = 3500
const SLOTS = 500
/** The file is rewritten when it has doubled, from so many bytes on; Redis's own 64 MB would be reached late in a short day. */
const REWRITTEN_FROM = 8 * 1024 * 1024

const measureDay = async ({ minutes, rate }: DayOptions, redisFile: string, processes: Processes, dir: string, say: (line: string) => void) => {
  const plan = planOf(minutes)
  const start = createStart(redisFile, processes, dir)
  const system = await start({ env: plan.env })
  const { redis } = system
  await redis.config('SET', 'auto-aof-rewrite-percentage', '100', 'auto-aof-rewrite-min-size', String(REWRITTEN_FROM))
  const sampler = createSampler(system)
  const world = await createWorld((id, body) => load.ask('POST', `/tasks/${id}/result`, body))
  const load = createLoad({ url: system.url, rate, keySeconds: plan.keySeconds, hookUrl: `http://127.0.0.1:${world.port}/hook` })
  for (const { type } of KINDS) await system.call('POST', '/agents/register', { name: type, type, host: '127.0.0.1', port: world.port, capabilities: ['work'], max_concurrency: SLOTS, ttl_seconds: 3600 })
  await sampler.fillLogs()
  load.start()
  sampler.start()
  for (let h = 1; h <= 24; h++) {
    await sleep(plan.hour * 1000)
    const last = sampler.samples.at(-1)
    if (h % 3 === 0) say(`  hour ${h}: ${load.told.taken} tasks taken, Redis ${last?.used.toFixed(1)} MiB, ${last?.all} keys, API ${last?.api.toFixed(0)} MiB, dispatcher ${last?.dispatcher.toFixed(0)} MiB`)
  }
  sampler.stop()
  await load.stop()
  const ended = async (): Promise<Record<string, number>> => {
    const found: Record<string, number> = {}
    for (const [, status, n] of (await system.send('GET', '/metrics')).matchAll(/^switchyard_tasks_ended_total\{[^}]*status="(\w+)"[^}]*\} (\d+)/gm)) found[status!] = (found[status!] ?? 0) + Number(n)
    return found
  }
  let ends = await ended()
  const all = () => Object.values(ends).reduce((a, b) => a + b, 0)
  for (const until = performance.now() + ENDED_WITHIN_MS; all() < load.told.taken && performance.now() < until; ends = await ended()) await sleep(500)
  await sleep(MEASURED_WITHIN_MS)
  const weights = await sampler.weights()
  world.end()
  await load.end()
  await start.end()
  return { plan, told: load.told, ends, lost: load.told.taken - all(), seen: judgeDay(sampler.samples, plan.hour), weights, webhooks: world.seen.webhooks }
}

export const runDay = async (o: DayOptions, redis: string, { machine, versions }: Pick<Environment, 'machine' | 'versions'>, processes: Processes, say: (line: string) => void): Promise<{ text: string; flat: boolean }> => {
  const dir = await mkdtemp(join(tmpdir(), 'switchyard-bench-'))
  const startedAt = new Date().toISOString()
  say(`a day in ${o.minutes} minutes, ${o.rate} tasks/s`)
  try {
    const day = await Promise.race([measureDay(o, redis, processes, dir, say), processes.failed])
    const { plan, told, ends, seen, lost, weights, webhooks } = day
    const n = (count: number) => count.toLocaleString('en')
    const grew = seen.filter((s) => !s.flat).map((s) => s.words)
    const flat = grew.length === 0 && lost === 0 && told.failed === 0
    const text = [
      formatDay(seen),
      '',
      `- **${grew.length === 0 ? 'flat' : `not flat: ${grew.join(', ')}`}**: no measure of hours ${SPANS.last.join('–')} is more than 10 % (or, of what is small or a process's, a little) above what it was once all had filled up (hours ${SPANS.first.join('–')}; of our processes ${SPANS.warm.join('–')}, as V8 takes minutes to size its heaps).`,
      `- ${n(told.taken)} tasks taken (${n(told.refused)} refused, ${n(told.failed)} without an answer, ${n(told.leftOut)} not sent as this machine was too slow): ${Object.entries(ends).map(([status, count]) => `${n(count)} ${status}`).join(', ')}; ${n(lost)} without an end. ${n(webhooks)} webhooks, ${n(told.events)} lines of events read by one watcher.`,
      `- Ended records once the last tasks have ended: ${n(weights.reckoned)} bytes as the trim reckons them, ${n(weights.said)} by MEMORY USAGE of each record and list (${(weights.reckoned / weights.said).toFixed(2)}).`,
      '',
      `A day in ${o.minutes} minutes: ages, numbers and bytes kept are divided by ${n(Math.round(plan.factor))}. \`npm run bench -- --day --minutes ${o.minutes} --rate ${o.rate}\`, ${startedAt.slice(0, 10)}; ${machine}, ${os.loadavg()[0]!.toFixed(1)} at the end; ${Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(', ')}.`,
    ].join('\n')
    if (o.out !== null) {
      await mkdir(join(o.out, 'growth'), { recursive: true })
      await writeFile(join(o.out, 'growth', 'day.json'), `${JSON.stringify({ startedAt, machine, versions, options: { minutes: o.minutes, rate: o.rate }, ...day }, null, 1)}\n`)
      for (const [file, svg] of drawDay(seen, o.rate)) await writeFile(join(o.out, 'growth', file), svg)
      await intoPage(join(o.out, 'scale.md'), 'day', text)
    }
    return { text, flat }
  } finally {
    await processes.stop()
    await rm(dir, { recursive: true, force: true })
  }
}
