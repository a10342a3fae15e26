import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import { describe, expect, test } from 'vitest'
import { ALLOCATOR } from '../src/allocator.ts'
import { createLogger } from '../src/logger.ts'
import { startEmbedded } from '../src/redis/embedded.ts'
import { isAlive } from '../src/redis/process.ts'
import { placesOf } from '../src/start/table.ts'
import { clean, dead, fixture, ROOT, run, tempFolder, until, type Running } from './processes.ts'
import { atBest } from './system.ts'

type Line = { pid: number; line: string }

/** `npm start` with stand-ins, up. */
const startSystem = async (settings: Record<string, string> = {}, command: (env: NodeJS.ProcessEnv, folder: string) => Promise<Running> | Running = plain) => {
  const folder = await tempFolder()
  const dataDir = join(folder.path, 'data')
  const env = { ...clean, DATA_DIR: dataDir, LEDGER: join(folder.path, 'ledger'), ...settings }
  const supervisor = await command(env, folder.path)
  const ledger = (): Line[] => readFileSync(env.LEDGER, 'utf8').trim().split('\n').map((line) => JSON.parse(line) as Line)
  const children = (): number[] => ledger().filter((l) => l.line.startsWith('started')).map((l) => l.pid)
  const redis = (): number => Number(readFileSync(join(dataDir, 'redis.pid'), 'utf8'))
  const up = () => until(`it is up: ${supervisor.output()}`, () => supervisor.output().includes('"msg":"up"'))
  return {
    supervisor,
    ledger,
    children,
    redis,
    up,
    dataDir,
    [Symbol.asyncDispose]: async () => {
      await supervisor[Symbol.asyncDispose]()
      try {
        process.kill(redis(), 'SIGKILL')
      } catch {
        // It has ended, as it should.
      }
      await folder[Symbol.asyncDispose]()
    },
  }
}

const plain = (env: NodeJS.ProcessEnv): Running => run(process.execPath, [fixture('start.ts')], { env })

/** By a real `npm run`, from a package of its own. */
const byNpm = async (env: NodeJS.ProcessEnv, folder: string): Promise<Running> => {
  await writeFile(join(folder, 'package.json'), JSON.stringify({ name: 'x', scripts: { go: `exec "${process.execPath}" "${fixture('start.ts')}"` } }))
  return run('npm', ['run', '--silent', 'go'], { env, cwd: folder })
}

test('a role of its own is started with the memory settings that all of it is started with', () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: Record<string, string> }
  for (const [name, value] of Object.entries(ALLOCATOR)) expect(scripts['api']).toContain(`${name}=\${${name}-${value}} `)
})

test('Redis and the children run, and the children know where Redis is', async () => {
  await using system = await startSystem()
  await system.up()
  expect(system.children()).toHaveLength(2)
  expect(system.ledger()[0]?.line).toBe(`started with unix://${system.dataDir}/redis.sock`)
  expect(isAlive(system.redis())).toBe(true)
})

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s to the whole group, as Ctrl-C sends it, drains all, stops Redis last, and is a success', async (signal) => {
  await using system = await startSystem()
  await system.up()
  const pids = [...system.children(), system.redis()]
  process.kill(-system.supervisor.pid, signal)
  expect(await system.supervisor.ended).toBe(0)
  expect(pids.filter(isAlive)).toEqual([])
  expect(system.ledger().filter((l) => l.line === 'drained')).toHaveLength(2)
  expect(system.supervisor.output()).not.toContain('died')
})

test('SIGTERM to the supervisor alone ends all', async () => {
  await using system = await startSystem()
  await system.up()
  const pids = [...system.children(), system.redis()]
  system.supervisor.child.kill('SIGTERM')
  expect(await system.supervisor.ended).toBe(0)
  expect(pids.filter(isAlive)).toEqual([])
})

test('a second Ctrl-C does not wait for the drain', async () => {
  await using system = await startSystem({ DRAIN_MS: '60000' })
  await system.up()
  const pids = [...system.children(), system.redis()]
  system.supervisor.child.kill('SIGINT')
  await until('the children are stopping', () => system.ledger().filter((l) => l.line.startsWith('stopping')).length === 2)
  // One that comes sooner than a second later counts as the same Ctrl-C.
  await until('another one counts', () => (system.supervisor.child.kill('SIGINT'), system.supervisor.child.exitCode !== null))
  expect(await system.supervisor.ended).toBe(0)
  expect(pids.filter(isAlive)).toEqual([])
})

test('Ctrl-C before it is up leaves nothing running', async () => {
  await using system = await startSystem()
  const redis = await until('Redis has been started', () => system.redis() || null)
  system.supervisor.child.kill('SIGINT')
  expect(await system.supervisor.ended).toBe(0)
  expect(isAlive(redis)).toBe(false)
})

test('a child that dies is started again', async () => {
  await using system = await startSystem()
  await system.up()
  const [first = 0] = system.children()
  process.kill(first, 'SIGKILL')
  await until('a third child runs', () => system.children().length === 3)
  expect(system.supervisor.output()).toMatch(/(api|worker) died \(SIGKILL\); starting it again in 1 s/)
  expect(isAlive(system.children()[2] ?? 0)).toBe(true)
})

test('an embedded Redis that dies is started again at the same place', async () => {
  await using system = await startSystem()
  await system.up()
  const first = system.redis()
  process.kill(first, 'SIGKILL')
  await until('another Redis runs', () => system.redis() !== first && isAlive(system.redis()))
  expect(system.children().every(isAlive)).toBe(true)
  const second = system.redis()
  system.supervisor.child.kill('SIGTERM')
  expect(await system.supervisor.ended).toBe(0)
  expect(isAlive(second)).toBe(false)
})

test('a child that refuses to start ends it all with 1 and leaves nothing running', async () => {
  await using system = await startSystem({ REFUSE: '1' })
  expect(await system.supervisor.ended).toBe(1)
  await expect(async () => isAlive(system.redis())).rejects.toThrow() // its pid file is gone
})

/** A real start, of the real API and worker, that is to fail: its last line, and whatever came before. */
const failedStart = async (role: string, settings: Record<string, string>): Promise<{ last: { level: string; msg: string }; output: string }> => {
  await using folder = await tempFolder()
  const main = fileURLToPath(new URL(`../src/${role}/main.ts`, import.meta.url))
  await using start = run(process.execPath, [main], { env: { ...clean, PORT: '0', HEALTH_PORT: '0', DATA_DIR: join(folder.path, 'data'), ...settings } })
  expect(await start.ended).toBe(1)
  const output = start.output()
  return { last: JSON.parse(output.trimEnd().split('\n').at(-1)!), output }
}

describe('why it did not start is the last thing said', () => {
  test.each(['PORT', 'HEALTH_PORT'])('%s is taken', async (setting) => {
    const other = createServer()
    await new Promise<void>((listening) => other.listen(0, '127.0.0.1', listening))
    const { port } = other.address() as { port: number }
    const { last, output } = await failedStart('start', { [setting]: String(port) })
    expect(last).toMatchObject({ level: 'fatal', msg: `${setting === 'PORT' ? 'api' : 'worker'} did not start: Port ${port} is taken: set ${setting} to another one, or to 0 for a free one.` })
    expect(output).toContain('"msg":"stopped"') // which once stood last
    other.close()
  })

  test('HOST is not of this machine', async () => {
    const { last } = await failedStart('start', { HOST: '192.0.2.1', INSECURE_OPEN: '1' })
    expect(last).toMatchObject({ level: 'fatal', msg: expect.stringMatching(/did not start: HOST 192\.0\.2\.1 is no address of this machine: set HOST to one/) })
  })

  test.each(['start', 'api', 'workers'])('Redis would evict: src/%s/main.ts', async (role) => {
    await using folder = await tempFolder()
    const redis = await startEmbedded({ dataDir: folder.path, log: createLogger('test', 'silent') })
    try {
      const client = new Redis(redis.url)
      await client.config('SET', 'maxmemory-policy', 'allkeys-lru')
      client.disconnect()
      const { last, output } = await failedStart(role, { REDIS_URL: redis.url, LOG_LEVEL: 'warn' })
      expect(last).toMatchObject({ level: 'fatal', msg: expect.stringMatching(/^((api|worker) did not start: )?This Redis would evict tasks .*maxmemory-policy is allkeys-lru.*: set maxmemory-policy noeviction\.$/) })
      if (role !== 'start') expect(output.trim().split('\n')).toHaveLength(1)
    } finally {
      await redis.stop()
    }
  })
})

test('children whose supervisor was killed drain and stop, and the next start adopts Redis and stops it', async () => {
  await using system = await startSystem()
  await system.up()
  const redis = system.redis()
  system.supervisor.child.kill('SIGKILL')
  await dead(...system.children())
  expect(system.ledger().filter((l) => l.line === 'stopping: the supervisor is gone')).toHaveLength(2)
  expect(system.ledger().filter((l) => l.line === 'drained')).toHaveLength(2)
  expect(isAlive(redis)).toBe(true)

  await using next = plain({ ...process.env, DATA_DIR: system.dataDir, LEDGER: join(system.dataDir, 'ledger') })
  await until('it is up', () => next.output().includes('"msg":"up"'))
  expect(system.redis()).toBe(redis)
  next.child.kill('SIGTERM')
  expect(await next.ended).toBe(0)
  expect(isAlive(redis)).toBe(false)
})

test('all ends within 3 s when npm is killed', async () => {
  const took = await atBest(3000, async () => {
    await using system = await startSystem({}, byNpm)
    await system.up()
    const pids = [...system.children(), system.redis()]
    const began = performance.now()
    system.supervisor.child.kill('SIGKILL')
    await dead(...pids)
    expect(system.ledger().filter((l) => l.line === 'drained')).toHaveLength(2)
    return performance.now() - began
  })
  expect(took).toBeLessThan(3000)
})

test('Ctrl-C under npm, which passes the signal on once more, is a success and leaves nothing running', async () => {
  await using system = await startSystem({}, byNpm)
  await system.up()
  const pids = [...system.children(), system.redis()]
  process.kill(-system.supervisor.pid, 'SIGINT')
  expect(await system.supervisor.ended).toBe(0)
  expect(pids.filter(isAlive)).toEqual([])
})

test('people are told where everything is, and no password', () => {
  const urls = new Map([
    ['worker', 'http://127.0.0.1:8081'],
    ['api', 'http://127.0.0.1:8080'],
  ])
  const { table, fields } = placesOf(urls, 'redis://me:se/cret@example.org:6379/1')
  expect(fields).toEqual({
    api: 'http://127.0.0.1:8080',
    queues: 'http://127.0.0.1:8080/queues',
    docs: 'http://127.0.0.1:8080/docs',
    worker: 'http://127.0.0.1:8081/health',
    redis: 'redis://***@example.org:6379/1',
  })
  expect(table).toContain('Ctrl-C')
  expect(table).not.toContain('cret')
})
