import { chmod, lstat, mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { Redis } from 'ioredis'
import { expect, test } from 'vitest'
import { ConfigError } from '../src/errors.ts'
import { createLogger } from '../src/logger.ts'
import { findServer, joinEmbedded, startEmbedded, type Embedded } from '../src/redis/embedded.ts'
import { isAlive } from '../src/redis/process.ts'
import { dead, fixture, run, tempFolder, until, type Running } from './processes.ts'

const log = createLogger('test', 'silent')

const started = async (dataDir: string): Promise<Embedded & AsyncDisposable> => {
  const redis = await startEmbedded({ dataDir, log })
  return { ...redis, [Symbol.asyncDispose]: () => redis.stop() }
}

const connected = (url: string): Redis & AsyncDisposable => {
  const redis = new Redis(url)
  return Object.assign(redis, { [Symbol.asyncDispose]: async () => redis.disconnect() })
}

const other = (dataDir: string): Running => run(process.execPath, [fixture('embedded.ts')], { env: { ...process.env, DATA_DIR: dataDir } })
const said = (process: Running) => until('it says where Redis is', () => JSON.parse(process.output()) as { pid: number; url: string; adopted: boolean })

test('a server is found', () => {
  expect(findServer()).toMatch(/^\/.*(redis|valkey)-server$/)
})

test('nobody else can read or reach it, though its folder be open to all', async () => {
  await using folder = await tempFolder()
  const open = join(folder.path, 'open')
  await mkdir(open)
  await chmod(open, 0o755)
  await using redis = await started(open)
  await using client = connected(redis.url)
  await client.set('kept', 'secret')
  const modes = async (at: string): Promise<[string, string][]> => Promise.all((await readdir(at, { recursive: true })).map(async (name) => [name, ((await lstat(join(at, name))).mode & 0o777).toString(8)] as [string, string]))
  const all = Object.fromEntries(await modes(open))
  expect(all).toMatchObject({ 'redis.sock': '700', 'redis.log': '600', appendonlydir: '700' })
  // Of who has started it the number of its process is told, to whoever asks.
  expect(Object.entries(all).filter(([name, mode]) => !mode.endsWith('00') && !/^redis\.(owner|lock|pid)$/.test(name))).toEqual([])
  await using made = await started(join(folder.path, 'made'))
  expect((await lstat(join(folder.path, 'made'))).mode & 0o777).toBe(0o700)
  await made.stop()
})

test('it keeps what it is told, evicts nothing, and has ended when stop returns', async () => {
  await using folder = await tempFolder()
  {
    await using redis = await started(folder.path)
    expect(redis).toMatchObject({ url: `unix://${folder.path}/redis.sock`, adopted: false })
    await using client = connected(redis.url)
    await client.set('kept', 'yes')
    const settings = await client.config('GET', 'maxmemory-policy', 'appendonly', 'appendfsync', 'port', 'save')
    expect(Object.fromEntries(pairs(settings as string[]))).toEqual({ 'maxmemory-policy': 'noeviction', appendonly: 'yes', appendfsync: 'everysec', port: '0', save: '' })
    // Full, it refuses before the machine has none left.
    const [[, most]] = pairs((await client.config('GET', 'maxmemory')) as string[]) as [[string, string]]
    expect(Number(most) / totalmem()).toSatisfy((part: number) => part > 0 && part <= 0.5)
    await redis.stop()
    expect(isAlive(redis.pid)).toBe(false)
    await redis.gone
  }
  expect(existsSync(join(folder.path, 'redis.sock'))).toBe(false)
  await using again = await started(folder.path)
  await using client = connected(again.url)
  expect(await client.get('kept')).toBe('yes')
})

test('a server left by a crash is adopted, with all that it knows, and stopped by who adopted it', async () => {
  await using folder = await tempFolder()
  await using starter = other(folder.path)
  const first = await said(starter)
  starter.child.kill('SIGKILL')
  await starter.ended
  expect(isAlive(first.pid)).toBe(true)
  const redis = await startEmbedded({ dataDir: folder.path, log })
  expect(redis).toMatchObject({ url: first.url, pid: first.pid, adopted: true })
  await redis.stop()
  expect(isAlive(first.pid)).toBe(false)
  await redis.gone
})

test('a server whose starter lives is left to it', async () => {
  await using folder = await tempFolder()
  await using starter = other(folder.path)
  const first = await said(starter)
  const redis = await startEmbedded({ dataDir: folder.path, log })
  await redis.stop()
  expect(isAlive(first.pid)).toBe(true)
  starter.child.kill('SIGKILL')
  await starter.ended
  await redis.stop()
  expect(isAlive(first.pid)).toBe(false)
})

test('many starts at once on one data folder end with one server', async () => {
  await using folder = await tempFolder()
  await using a = other(folder.path)
  await using b = other(folder.path)
  await using c = other(folder.path)
  const here = await Promise.all([startEmbedded({ dataDir: folder.path, log }), startEmbedded({ dataDir: folder.path, log })])
  const all = [...here, ...(await Promise.all([a, b, c].map(said)))]
  expect(new Set(all.map((r) => r.pid)).size).toBe(1)
  expect(all.filter((r) => !r.adopted)).toHaveLength(1)
  for (const p of [a, b, c]) p.child.kill('SIGKILL')
  await Promise.all([a.ended, b.ended, c.ended])
  await here[0].stop()
  expect(isAlive(here[0].pid)).toBe(false)
})

test('a socket and a lock that a crash left behind hinder nobody', async () => {
  await using folder = await tempFolder()
  {
    await using redis = await started(folder.path)
    process.kill(redis.pid, 'SIGKILL')
    await dead(redis.pid)
  }
  expect(existsSync(join(folder.path, 'redis.sock'))).toBe(true)
  await using gone = run('true', [])
  await gone.ended
  await writeFile(join(folder.path, 'redis.lock'), `${gone.pid} someone`)
  await using redis = await started(folder.path)
  expect(redis.adopted).toBe(false)
})

test('a server that cannot be reached any more makes way, as two on one AOF would destroy it', async () => {
  await using folder = await tempFolder()
  await using first = await started(folder.path)
  {
    await using client = connected(first.url)
    await client.set('kept', 'yes')
  }
  await symlink('/nowhere', join(folder.path, 'x'))
  await rename(join(folder.path, 'x'), join(folder.path, 'redis.sock'))
  await using second = await started(folder.path)
  expect(second.pid).not.toBe(first.pid)
  expect(isAlive(first.pid)).toBe(false)
  await using client = connected(second.url)
  expect(await client.get('kept')).toBe('yes')
})

test.each([
  ['too long', 'd'.repeat(120)],
  ['no plain address', 'Ünï codé'],
])('a path that is %s for a socket gets one in the temporary folder', async (_, name) => {
  await using folder = await tempFolder()
  const dataDir = join(folder.path, name)
  await using redis = await started(dataDir)
  expect(redis.url).toMatch(/^unix:\/\/[\w./-]+\/switchyard-[0-9a-f]{16}\/redis\.sock$/)
  expect(existsSync(join(dataDir, 'appendonlydir')) || existsSync(join(dataDir, 'appendonly.aof'))).toBe(true)
  await using client = connected(redis.url)
  expect(await client.ping()).toBe('PONG')
  expect(await joinEmbedded({ dataDir })).toMatchObject({ url: redis.url, pid: redis.pid })
  await redis.stop()
  await rm(dirname(redis.url.slice('unix://'.length)), { recursive: true })
})

test('to join, a server must run; the message says what to do', async () => {
  await using folder = await tempFolder()
  await expect(joinEmbedded({ dataDir: folder.path })).rejects.toThrow(ConfigError)
  await expect(joinEmbedded({ dataDir: join(folder.path, 'none') })).rejects.toThrow(/npm start.*REDIS_URL/)
  await using redis = await started(folder.path)
  expect(await joinEmbedded({ dataDir: folder.path })).toMatchObject({ url: redis.url })
})

test('a server that cannot start says why, from its own log', async () => {
  await using folder = await tempFolder()
  await writeFile(join(folder.path, 'appendonlydir'), 'not a folder') // where 7 and newer keep the AOF
  await mkdir(join(folder.path, 'appendonly.aof')) // and where 6 does
  await expect(startEmbedded({ dataDir: folder.path, log })).rejects.toThrow(/did not start \(code 1\)[^]*append/i)
})

test('a data folder that cannot be used is a fault of the settings', async () => {
  await using folder = await tempFolder()
  await writeFile(join(folder.path, 'file'), '')
  await expect(startEmbedded({ dataDir: join(folder.path, 'file'), log })).rejects.toThrow(/DATA_DIR/)
})

/** What root may not write either. */
const unwritable = async (folder: string): Promise<string> => {
  if (process.getuid?.() === 0) return '/sys'
  await mkdir(join(folder, 'locked'), { mode: 0o500 })
  return join(folder, 'locked')
}

test.skipIf(process.platform !== 'linux').each([
  ['where no folder can be made', async () => '/proc/x'],
  ['far below such a place', async () => '/proc/x/y/z'],
  ['that is a file', async (folder: string) => join(folder, 'file')],
  ['below a file', async (folder: string) => join(folder, 'file', 'x')],
  ['that cannot be written', unwritable],
])('a start with a data folder %s ends at once, and says in one line what to do', async (_, place) => {
  await using folder = await tempFolder()
  await writeFile(join(folder.path, 'file'), '')
  const dataDir = await place(folder.path)
  await using start = run(process.execPath, [fixture('embedded.ts')], { env: { ...process.env, DATA_DIR: dataDir } })
  const late = setTimeout(() => start.child.kill('SIGKILL'), 5000)
  expect(await start.ended).toBe(1)
  clearTimeout(late)
  expect(start.output().split('\n').filter((line) => line.includes(`DATA_DIR ${dataDir} cannot be used`) && line.includes('set DATA_DIR to a folder that can be written'))).toHaveLength(1)
})

test.skipIf(process.platform !== 'linux')('a temporary folder that cannot be used for the socket of a long path is told of, too', async () => {
  await using folder = await tempFolder()
  await using start = run(process.execPath, [fixture('embedded.ts')], { env: { ...process.env, TMPDIR: '/proc/x', DATA_DIR: join(folder.path, 'd'.repeat(120)) } })
  const late = setTimeout(() => start.child.kill('SIGKILL'), 5000)
  expect(await start.ended).toBe(1)
  clearTimeout(late)
  expect(start.output()).toMatch(/set DATA_DIR to a shorter path, or TMPDIR to a folder that can be written/)
})

const pairs = (flat: string[]): [string, string][] => flat.flatMap((name, i) => (i % 2 ? [] : [[name, flat[i + 1] ?? ''] as [string, string]]))
