/**
 * Loads the *.lua files: one file is one atomic change. A line `--- @include "path"` (relative to the file) takes another file in;
 * every script begins with the key names of `keys.ts` that it uses. Each script has one KEYS entry, the base of an agent type, which also routes it in a cluster.
 */
import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Redis } from 'ioredis'
import { luaBase, luaNames } from './keys.ts'

/** Runs a script for the agent type whose base is given; arguments go as strings. */
export type Script = (base: string, ...args: (string | number)[]) => Promise<unknown>

const include = (file: string, seen: Set<string>): string =>
  readFileSync(file, 'utf8').replace(/^--- @include "([^"]+)"$/gm, (_, path: string) => {
    const target = resolve(dirname(file), path)
    if (seen.has(target)) return ''
    seen.add(target)
    return include(target, seen)
  })

/** @param url of the .lua file, `new URL('./begin.lua', import.meta.url)` */
export const loadScript = (redis: Redis, url: URL): Script => {
  const name = `sy:${url.pathname.split('/').slice(-2).join('/')}`
  const body = include(url.pathname, new Set())
  const words = new Set(body.match(/\w+/g))
  const lua = [luaBase, ...Object.entries(luaNames).flatMap(([word, line]) => (words.has(word) ? [line] : [])), body].join('\n')
  // defineCommand sends EVALSHA and falls back to EVAL, so a flushed script cache heals itself.
  redis.defineCommand(name, { numberOfKeys: 1, lua })
  const run = (redis as unknown as Record<string, (...a: (string | number)[]) => Promise<unknown>>)[name]!
  // Loaded with each connection, so that EVALSHA is never answered NOSCRIPT in the midst of a packet and repeated behind what follows it.
  const load = () => void redis.script('LOAD', lua).catch(() => {})
  redis.on('ready', load)
  if (redis.status === 'ready') load()
  return (base, ...args) => run.call(redis, base, ...args)
}

/** Reads a reply's cell as text; nil becomes ''. */
export const text = (cell: unknown): string => (cell === null || cell === undefined ? '' : String(cell))
