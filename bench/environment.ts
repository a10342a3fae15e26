/** Where a run was made and with what: the machine, the versions, the settings, the command that repeats it. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import { commandOf, systemsOf, type Options } from './options.ts'
import { CLIENTS, MAX_OUTSTANDING, REDIS_SETTINGS, SLOW_MS, WARM_UP_TASKS } from './settings.ts'
import { systems } from './systems.ts'

export type Environment = Readonly<{ machine: string; versions: Readonly<Record<string, string>>; settings: Readonly<Record<string, string>>; command: string; startedAt: string }>
export type RedisServer = Readonly<{ file: string; version: string }>

/** The first of the two servers on PATH, and what it says of its version. */
export const findRedis = (): RedisServer => {
  for (const file of ['redis-server', 'valkey-server']) {
    try {
      const version = execFileSync(file, ['--version'], { encoding: 'utf8' })
      return { file, version: /v=(\S+)/.exec(version)?.[1] ?? version.trim() }
    } catch {
      // not this one
    }
  }
  throw new Error('Neither redis-server nor valkey-server is on PATH; install one of them')
}

const packageVersion = (name: string): string => {
  const { resolve } = createRequire(import.meta.url)
  const entry = resolve(name)
  const folder = entry.slice(0, entry.lastIndexOf(`node_modules/${name}/`) + `node_modules/${name}/`.length)
  return (JSON.parse(readFileSync(`${folder}package.json`, 'utf8')) as { version: string }).version
}

export const describe = (options: Options, redis: RedisServer, peerVersions: Readonly<Record<string, string>>): Environment => {
  const { rounds, tasks, rate, seconds, wait } = options
  const cpus = os.cpus()
  return {
    machine: `${cpus.length} × ${cpus[0]?.model ?? 'unknown CPU'}, ${Math.round(os.totalmem() / 2 ** 30)} GiB, ${os.type()} ${os.release()}, load average at the start ${os.loadavg()[0]!.toFixed(2)}`,
    versions: { node: process.versions.node, ...Object.fromEntries(['bullmq', 'ioredis', 'undici', 'express'].map((name) => [name, packageVersion(name)])), [redis.file]: redis.version, ...peerVersions },
    settings: {
      rounds: String(rounds),
      'tasks a round': String(tasks),
      'warm-up': String(WARM_UP_TASKS),
      clients: String(CLIENTS),
      'most outstanding': String(MAX_OUTSTANDING),
      paced: `${rate}/s for ${seconds} s`,
      ...(wait ? { waited: `the same, the agent takes ${SLOW_MS} ms` } : {}),
      redis: REDIS_SETTINGS.map((s) => s || "''").join(' '),
      ...Object.fromEntries(systemsOf(options).map((name) => [`${name}:`, systems[name].settings])),
    },
    command: commandOf(options),
    startedAt: new Date().toISOString(),
  }
}

/** Only what the parts need: a setting in the caller's shell must not change what is measured. */
export const baseEnv = (): Record<string, string> => {
  const kept = ['PATH', 'HOME', 'TMPDIR', 'LANG'].flatMap((key) => (process.env[key] ? [[key, process.env[key]] as const] : []))
  return { ...Object.fromEntries(kept), NODE_ENV: 'production' }
}
