import { randomUUID } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { findServer } from '../src/redis/embedded.ts'
import { clean, ROOT, run, tempFolder, until } from './processes.ts'

/** The processes that were started with a mark in their environment, whoever started them and wherever they hang; or whose title has it, as Redis writes its own over both. */
const marked = (mark: string): number[] => {
  const has = (pid: string, file: string): boolean => readFileSync(`/proc/${pid}/${file}`, 'utf8').includes(mark)
  try {
    return readdirSync('/proc').flatMap((pid) => {
      try {
        return /^\d+$/.test(pid) && (has(pid, 'environ') || has(pid, 'cmdline')) ? [Number(pid)] : []
      } catch {
        return [] // it has ended, or belongs to someone else
      }
    })
  } catch {
    const lines = execFileSync('ps', ['axeww', '-o', 'pid=,command='], { encoding: 'utf8', maxBuffer: 1e8 }).split('\n')
    return lines.filter((line) => line.includes(mark)).map((line) => Number.parseInt(line, 10))
  }
}

const startDemo = async (settings: Record<string, string> = {}) => {
  const mark = randomUUID().slice(0, 18)
  const folder = await tempFolder(`sy-${mark}-`)
  const demo = run(process.execPath, ['examples/demo.ts', '--once'], { cwd: ROOT, env: { ...clean, PORT: '0', TMPDIR: folder.path, DEMO_MARK: mark, ...settings } })
  const left = () => ({ processes: marked(mark), files: readdirSync(folder.path) })
  return {
    demo,
    folder: folder.path,
    left,
    says: (what: RegExp) => until(`it says ${what}: ${demo.output()}`, () => what.test(demo.output())),
    [Symbol.asyncDispose]: async () => {
      await demo[Symbol.asyncDispose]()
      for (const pid of marked(mark)) {
        try {
          process.kill(pid, 'SIGKILL')
        } catch {
          // It has just ended.
        }
      }
      await folder[Symbol.asyncDispose]()
    },
  }
}

const NOTHING = { processes: [], files: [] }

type Row = { task: string; capability: string; priority: number; status: string; attempts: number; agent: string; ms: number; result: string }

/** The rows of the table at the end. */
const tableOf = (output: string): Row[] => {
  const lines = output.split('\n')
  const head = lines.findIndex((line) => /^task +capability +prio +status +attempts +agent +ms +result$/.test(line))
  return lines.slice(head + 1, lines.indexOf('', head)).map((line) => {
    const [task = '', capability = '', priority, status = '', attempts, agent = '', ms, ...result] = line.split(/ +/)
    return { task, capability, priority: Number(priority), status, attempts: Number(attempts), agent, ms: Number(ms), result: result.join(' ') }
  })
}

const statuses = (rows: Row[]): Record<string, number> => Object.fromEntries([...Map.groupBy(rows, (row) => row.status)].map(([status, those]) => [status, those.length]))

test('the demo takes twenty tasks of mixed priority to their ends, on three agents of two types, and leaves nothing', async () => {
  await using it = await startDemo()
  const began = performance.now()
  expect(await it.demo.ended, it.demo.output()).toBe(0)
  expect(performance.now() - began).toBeLessThan(40_000) // about 7 s
  const rows = tableOf(it.demo.output())
  expect(new Set(rows.map((row) => row.task)).size).toBe(20)
  expect(statuses(rows)).toEqual({ completed: 18, timeout: 1, cancelled: 1 })
  expect(new Set(rows.map((row) => row.priority)).size).toBeGreaterThanOrEqual(4)
  const agents = new Set(rows.map((row) => row.agent).filter((name) => name !== '-'))
  expect([...agents].sort()).toEqual(['cost-1', 'text-1', 'text-2'])

  const one = (capability: string, status: string) => rows.find((row) => row.capability === capability && row.status === status)
  expect(rows.filter((row) => row.attempts === 2)).toEqual([one('fail_first_attempt', 'completed')])
  expect(one('never_answer', 'timeout')).toMatchObject({ attempts: 1 })
  expect(one('word_count', 'cancelled')).toMatchObject({ attempts: 0, agent: '-', result: 'cancelled before it was sent' })
  expect(rows.find((row) => row.capability === 'forecast_cost')?.result).toBe('$1,089.20 in the next 7 days, +$1.19 a day')

  // Each task's way, a line a change.
  const way = (row: Row | undefined) => it.demo.output().split('\n').filter((line) => /^\d\d:\d\d:/.test(line) && line.includes(row!.task)).map((line) => line.split(/ +/)[4])
  expect(way(one('fail_first_attempt', 'completed'))).toEqual(['queued', 'sent', 'retrying', 'sent', 'completed'])
  expect(way(one('never_answer', 'timeout'))).toEqual(['queued', 'sent', 'timeout'])
  expect(way(one('word_count', 'cancelled'))).toEqual(['pending', 'cancelled'])
  expect(it.demo.output()).toMatch(/http:\/\/127\.0\.0\.1:\d+\/queues.*http:\/\/127\.0\.0\.1:\d+\/docs/)
  // oxlint-disable-next-line no-control-regex
  expect(it.demo.output()).not.toMatch(/\x1b/)
  expect(it.left()).toEqual(NOTHING)
})

test('Ctrl-C in the midst of it is a success and leaves nothing; a port that is taken is no hindrance', async () => {
  await using server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await using it = await startDemo({ PORT: String(port) })
  await it.says(/never_answer +5 +sent/)
  expect(it.demo.output()).toContain(`port ${port} is taken, so the demo takes a free one; set PORT`)
  process.kill(-it.demo.pid, 'SIGINT')
  expect(await it.demo.ended, it.demo.output()).toBe(0)
  expect(it.demo.output()).not.toContain('died')
  expect(it.left()).toEqual(NOTHING)
})

test('what a killed demo leaves ends by itself, though it knew not yet of its Redis', { timeout: 120_000 }, async () => {
  // A Redis that takes a second to come up: the demo is killed meanwhile.
  await using bin = await tempFolder()
  writeFileSync(join(bin.path, 'redis-server'), `#!/bin/sh\nsleep 1\nexec ${findServer()!} "$@"\n`, { mode: 0o755 })
  await using early = await startDemo({ PATH: `${bin.path}:${process.env['PATH']}` })
  await using late = await startDemo()
  const hasRedis = ({ folder }: typeof early): boolean => readdirSync(folder, { recursive: true }).some((file) => String(file).endsWith('redis.log'))
  await Promise.all([until('Redis has been started', () => hasRedis(early)).then(() => process.kill(early.demo.pid, 'SIGKILL')), late.says(/text-2 +type text/)])
  process.kill(late.demo.pid, 'SIGKILL')
  // Asked to, and 3 s later by force.
  await until('all has ended', () => [early, late].every((it) => it.left().processes.length === 0 && it.left().files.length === 0), 30_000)
})

test('without Python there are still two types of agents, and it says what is missing', async () => {
  await using bin = await tempFolder()
  symlinkSync(findServer()!, join(bin.path, 'redis-server'))
  await using it = await startDemo({ PATH: bin.path })
  expect(await it.demo.ended, it.demo.output()).toBe(0)
  expect(it.demo.output()).toContain('there is no python3')
  const rows = tableOf(it.demo.output())
  expect(statuses(rows)).toEqual({ completed: 18, timeout: 1, cancelled: 1 })
  expect(rows.find((row) => row.capability === 'forecast_cost')).toMatchObject({ agent: 'cost-1', result: '$1,089.20 in the next 7 days, +$1.19 a day' })
  expect(it.left()).toEqual(NOTHING)
})
