/** All that the demo starts, and ends: Switchyard itself, a Redis for it, and the agents. */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Config } from '../../src/config.ts'
import { isLoopback } from '../../src/contracts/host.ts'
import { createLogger, type Logger } from '../../src/logger.ts'
import { createRedis, whenReady } from '../../src/redis/client.ts'
import { startEmbedded } from '../../src/redis/embedded.ts'
import { mastersOf } from '../../src/redis/nodes.ts'
import { createSupervisor } from '../../src/start/supervisor.ts'

export type AgentScript = { name: string; command: string; script: string; env?: Record<string, string> }

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))
const DRAIN_SECONDS = 5
/** An agent leaves when its tasks have ended; the demo's end within seconds. */
const KILL_AGENT_MS = 12_000

export type Deps = { config: Config; log: Logger; onFailure: (error: Error) => void }

/** The demo's agents are on this machine's loopback, wherever the API listens. */
const cidrsOf = ({ agentCidrs, host }: Config): string => {
  if (agentCidrs.length > 0) return [...agentCidrs, '127.0.0.0/8'].join()
  return isLoopback(host) ? '' : '0.0.0.0/0,::/0'
}

export const createDemoSystem = ({ config, log, onFailure }: Deps) => {
  const folder = join(tmpdir(), `switchyard-demo-${randomBytes(4).toString('hex')}`)
  const guard = startGuard(folder) // before there is anything to be left behind
  mkdirSync(folder, { mode: 0o700 })
  const agents = new Map<string, ChildProcess>()
  // In a Redis of someone else's, apart from what is theirs.
  const prefix = config.redisUrl ? `demo-${randomBytes(4).toString('hex')}` : config.redisPrefix
  let stopping = false
  let supervisor: ReturnType<typeof createSupervisor> | undefined

  /** Starts Redis, the API and a worker. @returns the API's url, when all are ready */
  const start = (port: number): Promise<string> =>
    new Promise((ready, refused) => {
      supervisor = createSupervisor({
        scripts: [
          { name: 'api', path: path('../../src/api/main.ts') },
          { name: 'worker', path: path('../../src/workers/main.ts') },
        ],
        log,
        ...(config.redisUrl ? {} : { startRedis: (signal: AbortSignal) => startEmbedded({ dataDir: folder, log, signal }) }),
        env: { ...process.env, PORT: String(port), HEALTH_PORT: '0', LOG_LEVEL: process.env['LOG_LEVEL'] || 'warn', REDIS_PREFIX: prefix, AGENT_CIDRS: cidrsOf(config), DRAIN_SECONDS: String(DRAIN_SECONDS) },
        drainMs: DRAIN_SECONDS * 1000,
        onReady: (urls) => ready(urls.get('api')!),
        onChild: guard.watch,
        onFailure: refused,
      })
      if (!stopping) supervisor.start().catch(refused)
    })

  const startAgent = ({ name, command, script, env = {} }: AgentScript, switchyardUrl: string): void => {
    if (stopping) return
    const child = spawn(command, [path(`../${script}`)], {
      // Ctrl-C is for us, who end them in order; before it is ready, an agent would die of it.
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', SWITCHYARD_URL: switchyardUrl, AGENT_NAME: name, AGENT_HOST: '127.0.0.1', AGENT_PORT: '0', ...env },
    })
    let output = ''
    const keep = (chunk: Buffer): void => void (output = (output + chunk).slice(-4000))
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    agents.set(name, child)
    guard.watch(child)
    child.once('error', (error) => (output += error.message))
    child.once('close', (code, signal) => {
      agents.delete(name)
      if (!stopping) onFailure(new Error(`${name} ended (${signal ?? `code ${code}`}): \`${command} examples/${script}\` says\n${output}`))
    })
  }

  const end = async (): Promise<void> => {
    stopping = true
    // At once: after Ctrl-C the API and the worker are ending already, and the supervisor must not think that they died.
    await Promise.all([...[...agents.values()].map(endChild), supervisor?.stop()])
    if (config.redisUrl) await forget(config, prefix)
    guard.dismiss()
    rmSync(folder, { recursive: true, force: true })
  }

  let ended: Promise<void> | undefined
  return {
    start,
    startAgent,
    stop: () => (ended ??= end()),
    /** Kills what does not end by itself. */
    hasten: () => {
      for (const child of agents.values()) child.kill('SIGKILL')
      supervisor?.hasten()
    },
  }
}

const endChild = (child: ChildProcess): Promise<void> =>
  new Promise((done) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AGENT_MS)
    child.once('close', () => {
      clearTimeout(timer)
      done()
    })
    child.kill('SIGTERM')
  })

/**
 * Ends all of it when the demo is killed outright, and can do so itself no longer: a shell of its own session that waits
 * for the pipe from us to break. Everything is asked to end, and killed soon after; it is only a demo. Redis says itself in the folder
 * who it is, as we may be killed before we know.
 */
const startGuard = (folder: string) => {
  const script = `
    while read -r what pid; do
      left=
      for one in $pids; do [ "$one" = "$pid" ] || left="$left $one"; done
      pids=$left
      [ "$what" = gone ] || pids="$pids $pid"
    done
    kill $pids
    sleep 3
    for second in 1 2 3 4 5; do [ ! -e "$1/redis.log" ] || [ -s "$1/redis.pid" ] || sleep 1; done
    kill -9 $pids $(cat "$1/redis.pid")
    sleep 1
    rm -rf -- "$1"`
  const child = spawn('/bin/sh', ['-c', script, 'switchyard-demo-guard', folder], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
  child.unref()
  child.stdin.on('error', () => {}) // it was killed; so much the worse
  return {
    watch: (one: ChildProcess): void => {
      if (one.pid === undefined) return
      child.stdin.write(`started ${one.pid}\n`)
      // Its id may be another's by the time that we are killed.
      one.once('exit', () => child.stdin.write(`gone ${one.pid}\n`))
    },
    dismiss: (): void => void child.kill('SIGKILL'),
  }
}

/** Leaves a Redis as it was found. */
const forget = async ({ redisUrl: url, redisCluster: cluster, redisTls: tls }: Config, prefix: string): Promise<void> => {
  const redis = createRedis({ url: url!, cluster, tls, name: 'demo', log: createLogger('demo', 'silent') })
  try {
    await whenReady(redis, url!, 2_000) // one that has gone keeps what it has
    for (const server of mastersOf(redis)) {
      for await (const keys of server.scanStream({ match: `${prefix}:*`, count: 1000 })) await Promise.all((keys as string[]).map((key) => redis.unlink(key)))
    }
  } catch {
    // As above.
  }
  redis.disconnect()
}

/** Whether a server could listen there now. */
export const isFree = (host: string, port: number): Promise<boolean> =>
  new Promise((done) => {
    const probe = createServer()
    probe.once('error', (error: NodeJS.ErrnoException) => done(error.code !== 'EADDRINUSE'))
    probe.listen(port, host, () => probe.close(() => done(true)))
  })

/** A Python of 3.9 or newer: where it is and its version, or null. */
export const findPython = (): Promise<{ command: string; version: string } | null> =>
  new Promise((done) => {
    const script = 'import platform, sys; print(sys.executable); print(platform.python_version()); sys.exit(sys.version_info < (3, 9))'
    execFile('python3', ['-c', script], { timeout: 10_000 }, (error, stdout) => {
      const [command, version] = stdout.trim().split('\n')
      done(error || !command || !version ? null : { command, version })
    })
  })
