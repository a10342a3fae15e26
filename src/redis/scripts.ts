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

/** Each is included by many. */
const files = new Map<string, string>()
const read = (file: string): string => {
  const text = files.get(file) ?? readFileSync(file, 'utf8')
  files.set(file, text)
  return text
}

const include = (file: string, seen: Set<string>): string =>
  read(file).replace(/^--- @include "([^"]+)"$/gm, (_, path: string) => {
    const target = resolve(dirname(file), path)
    if (seen.has(target)) return ''
    seen.add(target)
    return include(target, seen)
  })

/**
 * Leaves out the functions that nothing names, and comments: Redis makes a script's functions anew at each call, and a script includes
 * more of them than it needs. A function is what stands between `local function name` and `end`, both at the margin.
 */
const onlyNamed = (lua: string): string => {
  const functions = new Map<string, string>()
  const parts = lua.replace(/^--.*\n/gm, '').split(/^(local function \w+\(.*(?: end|\n(?:[ \t].*\n|\n)*end))$/m)
  for (const part of parts) {
    const name = /^local function (\w+)/.exec(part)?.[1]
    if (name) functions.set(name, part)
  }
  const needed = new Set<string>()
  const need = (text: string) => {
    for (const word of text.match(/\w+/g) ?? []) {
      if (!functions.has(word) || needed.has(word)) continue
      needed.add(word)
      need(functions.get(word)!)
    }
  }
  for (const part of parts) if (!part.startsWith('local function')) need(part)
  return parts.filter((part) => !part.startsWith('local function') || needed.has(/^local function (\w+)/.exec(part)![1]!)).join('')
}

/** By connection: each namespace has its own parts, and all of them the same scripts. */
const loaded = new WeakMap<Redis, Map<string, Script>>()

/** @param url of the .lua file, `new URL('./begin.lua', import.meta.url)` */
export const loadScript = (redis: Redis, url: URL): Script => {
  const scripts = loaded.get(redis) ?? new Map<string, Script>()
  loaded.set(redis, scripts)
  const script = scripts.get(url.pathname) ?? load(redis, url)
  scripts.set(url.pathname, script)
  return script
}

const load = (redis: Redis, url: URL): Script => {
  const name = `sy:${url.pathname.split('/').slice(-2).join('/')}`
  const body = onlyNamed(include(url.pathname, new Set()))
  const words = new Set(body.match(/\w+/g))
  const lua = [luaBase, ...Object.entries(luaNames).flatMap(([word, line]) => (words.has(word) ? [line] : [])), body].join('\n')
  // defineCommand sends EVALSHA and falls back to EVAL, so a flushed script cache heals itself.
  redis.defineCommand(name, { numberOfKeys: 1, lua })
  const run = (redis as unknown as Record<string, (...a: (string | number)[]) => Promise<unknown>>)[name]!
  // Loaded with each connection, so that EVALSHA is never answered NOSCRIPT in the midst of a packet and repeated behind what follows it.
  const send = () => void redis.script('LOAD', lua).catch(() => {})
  redis.on('ready', send)
  if (redis.status === 'ready') send()
  return (base, ...args) => run.call(redis, base, ...args)
}

/** The fields of a hash, of HGETALL within a script. */
export const fieldsOf = (flat: readonly string[]): Record<string, string> => {
  const fields: Record<string, string> = Object.create(null)
  for (let i = 0; i < flat.length; i += 2) fields[flat[i]!] = flat[i + 1]!
  return fields
}

/** Reads a reply's cell as text; nil becomes ''. */
export const text = (cell: unknown): string => (cell === null || cell === undefined ? '' : String(cell))
