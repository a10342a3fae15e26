/**
 * A Redis or Valkey of one's own, for machines without one: started on a unix socket under DATA_DIR with its AOF on,
 * so that what was promised outlives a crash of ours, of it, or of both.
 *
 * One server per DATA_DIR, whoever starts it and however often: two servers that append to one AOF destroy it.
 * A lock file lets one starter in at a time; whoever finds a server that answers adopts it.
 */
import { execFileSync, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { totalmem } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ConfigError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { makeFolder } from './folder.ts'
import { takeLock } from './lock.ts'
import { ends, isAlive, nameOf } from './process.ts'
import { chooseSocket } from './socket.ts'

const OLDEST = [6, 2] as const
/** How long a new server may take before it answers at all; loading its AOF does not count, it answers meanwhile. */
const START_MS = 15_000
/** A shutdown writes the AOF's last bytes and syncs; a disk that takes longer has failed. */
const STOP_MS = 15_000
/** The machine's memory, or the container's: half of it is the server's, as a rewrite of its AOF may take as much again. A server without a limit never counts as full; it is killed instead. */
const memoryBytes = (): number => Math.min(totalmem(), process.constrainedMemory() || Infinity)
const HOMEBREW = ['/opt/homebrew/bin', '/usr/local/bin', '/home/linuxbrew/.linuxbrew/bin']

export type Embedded = {
  /** `unix:///…/redis.sock`: letters, digits and `._-/` only, so no reader need decode it. */
  url: string
  pid: number
  /** Whether it was running already. */
  adopted: boolean
  /** Resolves when the server has ended, whyever. */
  gone: Promise<void>
  /** Shuts it down (AOF synced), by force after 15 s; resolves when the process has ended. Does nothing while another of our processes that started or adopted it first still lives: that one stops it. */
  stop(): Promise<void>
}

/** Where a `redis-server` or `valkey-server` is: on PATH, else in Homebrew's folders. The shell is asked, as it knows PATH best. */
export const findServer = (): string | null => {
  const script = `PATH="$PATH:${HOMEBREW.join(':')}"; command -v redis-server || command -v valkey-server`
  try {
    return execFileSync('/bin/sh', ['-c', script], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim() || null
  } catch {
    return null
  }
}

/**
 * Starts the server of a data folder, or adopts the one that runs there, and resolves when it has loaded its data.
 * @throws ConfigError when there is no server to start, the folder cannot be written, or the server does not come up
 */
export const startEmbedded = async ({ dataDir, log, signal }: { dataDir: string; log: Logger; signal?: AbortSignal }): Promise<Embedded> => {
  try {
    makeFolder(resolve(dataDir))
    return await startIn(realpathSync(dataDir), log, signal)
  } catch (error) {
    // Whatever the system refuses us here, it refuses in that folder; the first thing written says whether it can be.
    if (error instanceof Error && 'syscall' in error) throw new ConfigError(`DATA_DIR ${resolve(dataDir)} cannot be used (${error.message}): set DATA_DIR to a folder that can be written`)
    throw error
  }
}

const startIn = async (dir: string, log: Logger, signal?: AbortSignal): Promise<Embedded> => {
  const socket = chooseSocket(dir)
  const running = await ask(socket)
  if (running) return adopt({ dir, socket, info: running, log, signal })

  await using _lock = await takeLock(join(dir, 'redis.lock'), signal)
  const meanwhile = (await ask(socket)) ?? (await awaitPredecessor(dir, socket, log))
  if (meanwhile) return adopt({ dir, socket, info: meanwhile, log, signal })

  const server = findServer()
  if (!server) throw new ConfigError(`No Redis or Valkey server was found on PATH: ${howToInstall()}, or set REDIS_URL`)
  rmSync(socket, { force: true })
  const logFile = join(dir, 'redis.log')
  const child = asPrivate(() => {
    const out = openSync(logFile, 'a')
    try {
      // A session of its own: Ctrl-C on the terminal must reach us, and only us, or it would be gone before the last writes.
      return spawn(server, serverArguments(dir, socket, logFile), { cwd: dir, detached: true, stdio: ['ignore', out, out] })
    } finally {
      closeSync(out)
    }
  })
  child.unref()
  const state = { ended: null as string | null }
  const gone = new Promise<void>((done) => {
    const end = (why: string): void => {
      state.ended = why
      done()
    }
    child.once('exit', (code, by) => end(by ? `signal ${by}` : `code ${code}`))
    child.once('error', (error) => end(error.message))
  })
  const deadline = Date.now() + START_MS
  let info: Info | null = null
  while (!info && state.ended === null && Date.now() < deadline && !signal?.aborted) {
    await sleep(10)
    info = await ask(socket)
  }
  if (!info) {
    if (child.pid !== undefined && state.ended === null) await ends(child.pid, STOP_MS)
    signal?.throwIfAborted()
    throw new ConfigError(`${basename(server)} did not start (${state.ended ?? `no answer in ${START_MS / 1000} s`}); the end of ${logFile}:\n${lastLines(logFile)}`)
  }
  log.debug({ redisPid: info.pid, version: info.version, socket }, 'started a Redis server')
  // Not awaited here, so the lock is let go: whoever else comes now finds the server and waits for its data as well.
  writeOwner(dir)
  return ready({ dir, socket, info, log, signal }, { adopted: false, gone })
}

/** What is made there, and by what is started there, nobody else may read: the folder may be open to all, and the files hold what tasks hold. */
const asPrivate = <T>(work: () => T): T => {
  const umask = process.umask(0o077)
  try {
    return work()
  } finally {
    process.umask(umask)
  }
}

/**
 * The server that `npm start` runs in a data folder.
 * @throws ConfigError when there is none
 */
export const joinEmbedded = async ({ dataDir }: { dataDir: string }): Promise<{ url: string; pid: number }> => {
  const socket = chooseSocket(resolve(dataDir))
  const info = await ask(socket)
  if (!info) throw new ConfigError(`No Redis runs in ${resolve(dataDir)}: start \`npm start\` first, or set DATA_DIR or REDIS_URL to where one runs`)
  return { url: urlOf(socket), pid: info.pid }
}

const urlOf = (socket: string): string => `unix://${socket}`

const serverArguments = (dir: string, socket: string, logFile: string): string[] =>
  Object.entries({
    port: '0',
    unixsocket: socket,
    unixsocketperm: '700',
    appendonly: 'yes',
    appendfsync: 'everysec',
    save: '',
    // Evicting would lose tasks without a word; a full server refuses instead.
    'maxmemory-policy': 'noeviction',
    maxmemory: String(Math.floor(memoryBytes() / 2)),
    dir,
    pidfile: join(dir, 'redis.pid'),
    logfile: logFile,
    daemonize: 'no',
  }).flatMap(([name, value]) => [`--${name}`, value])

/** What INFO says, which a server answers also while it loads. */
type Info = { pid: number; version: string; loading: boolean; loadedPercent: string }

/** One INFO over a connection of its own; null when nobody answers. Redis's inline form needs no client. */
const ask = (socket: string): Promise<Info | null> =>
  new Promise((done) => {
    let text = ''
    const connection = connect(socket, () => connection.write('INFO\r\nQUIT\r\n'))
    connection.setEncoding('utf8').setTimeout(2000, () => connection.destroy())
    connection.on('data', (chunk) => (text += chunk))
    connection.on('error', () => {}) // 'close' follows and decides
    connection.on('close', () => {
      const field = (name: string): string => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(text)?.[1] ?? ''
      const pid = Number(field('process_id'))
      done(pid ? { pid, version: field('redis_version'), loading: field('loading') === '1', loadedPercent: field('loading_loaded_perc') } : null)
    })
  })

type Found = { dir: string; socket: string; info: Info; log: Logger; signal: AbortSignal | undefined }

const adopt = (found: Found): Promise<Embedded> => {
  const { pid } = found.info
  const owner = livingOwner(found.dir)
  if (owner === null) writeOwner(found.dir)
  found.log.info({ redisPid: pid, owner }, 'a Redis server already runs in this data folder; adopting it')
  const gone = (async () => {
    while (isAlive(pid)) await sleep(250, undefined, { ref: false })
  })()
  return ready(found, { adopted: true, gone })
}

// Who stops the server: the first of our processes that started or adopted it. A second `npm start` on the same folder,
// perhaps by mistake and about to fail for its port, must not take the store from under the first.
const ownerFile = (dir: string): string => join(dir, 'redis.owner')
const writeOwner = (dir: string): void => writeFileSync(ownerFile(dir), String(process.pid))
const livingOwner = (dir: string): number | null => {
  try {
    const pid = Number(readFileSync(ownerFile(dir), 'utf8'))
    return pid > 0 && pid !== process.pid && isAlive(pid) ? pid : null
  } catch {
    return null
  }
}

/** Waits until the data is loaded, saying how far it is. A big AOF takes minutes, and nothing else may be started meanwhile. */
const ready = async ({ dir, socket, info, log, signal }: Found, more: Pick<Embedded, 'adopted' | 'gone'>): Promise<Embedded> => {
  const { pid } = info
  const stop = async (): Promise<void> => {
    if (livingOwner(dir) === null) await ends(pid, STOP_MS)
  }
  const [major = 0, minor = 0] = info.version.split('.').map(Number)
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
    await stop()
    throw new ConfigError(`This Redis is ${info.version}, and ${OLDEST.join('.')} or newer is needed: upgrade it, or set REDIS_URL`)
  }
  let said = Date.now()
  for (let now: Info | null = info; now?.loading !== false; now = await ask(socket)) {
    if (signal?.aborted) {
      await stop()
      signal.throwIfAborted()
    }
    if (!isAlive(pid)) throw new ConfigError(`Redis (pid ${pid}) ended while it loaded its data; see redis.log in the data folder`)
    if (Date.now() - said > 2000) {
      log.info(`Redis is loading its data${now ? `: ${now.loadedPercent} %` : ''}`)
      said = Date.now()
    }
    await sleep(25)
  }
  return { url: urlOf(socket), pid, ...more, stop }
}

/**
 * A server that is alive but does not answer at our socket still holds the AOF: it may be ending, or frozen, or someone
 * removed its socket. It gets a moment; then it must go before another may start. Returns it if it answers after all.
 */
const awaitPredecessor = async (dir: string, socket: string, log: Logger): Promise<Info | null> => {
  let pid: number
  try {
    pid = Number(readFileSync(join(dir, 'redis.pid'), 'utf8').trim())
  } catch {
    return null
  }
  // The id may have passed to a stranger since; a server of ours carries its socket in its name.
  const isIt = (): boolean => pid > 0 && isAlive(pid) && /(redis|valkey)-server.*redis\.sock/.test(nameOf(pid))
  const deadline = Date.now() + 5000
  while (isIt() && Date.now() < deadline) {
    const info = await ask(socket)
    if (info) return info
    await sleep(50)
  }
  if (isIt()) {
    log.warn({ redisPid: pid }, 'a Redis server holds this data folder but does not answer; stopping it')
    await ends(pid, STOP_MS)
  }
  return null
}

const lastLines = (file: string): string => {
  try {
    return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-5).join('\n')
  } catch {
    return '(no log)'
  }
}

const howToInstall = (): string => {
  if (process.platform === 'darwin') return 'install one with `brew install valkey`'
  return 'run `bin/setup`, or install one with your package manager (`apt install redis-server`, `dnf install valkey`, `apk add valkey`, `pacman -S valkey`)'
}
