/**
 * Loads the *.lua files: one file is one atomic change. A line `--- @include "path"` (relative to the file) takes another file in;
 * every script begins with the key names of `keys.ts` that it uses. Each script has one KEYS entry, the base of an agent type, which also routes it in a cluster.
 */
import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Redis } from 'ioredis'
import { inCluster, luaAtBase, luaBase, luaNames } from './keys.ts'
import { isCluster } from './nodes.ts'

/** Runs a script for the agent type whose base is given; arguments go as strings. */
export type Script = (base: string, ...args: (string | number)[]) => Promise<unknown>

/** Of a file: what stands between `local function name` and `end`, both at the margin, or between two of those; or a file that it takes in. */
type Part = { text: string; /** Of a function. */ name: string | undefined; words: Set<string>; file?: undefined } | { file: string }

const partOf = (text: string): Part => ({ text, name: /^local function (\w+)/.exec(text)?.[1], words: new Set(text.match(/\w+/g)) })

const FUNCTION = /^(local function \w+\(.*(?: end|\n(?:[ \t].*\n|\n)*end))$/m

/** Each is included by many, and taken apart once: every start of a process waits for it. */
const files = new Map<string, Part[]>()
const read = (file: string): Part[] => {
  let parts = files.get(file)
  if (parts === undefined) {
    const pieces = readFileSync(file, 'utf8').split(/^--- @include "([^"]+)"$/gm)
    parts = pieces.flatMap((piece, i): Part[] => (i % 2 === 1 ? [{ file: resolve(dirname(file), piece) }] : piece.replace(/^--.*\n/gm, '').split(FUNCTION).map(partOf)))
    files.set(file, parts)
  }
  return parts
}

const include = (file: string, seen: Set<string>): Exclude<Part, { file: string }>[] =>
  read(file).flatMap((part) => {
    if (part.file === undefined) return [part]
    if (seen.has(part.file)) return []
    seen.add(part.file)
    return include(part.file, seen)
  })

/** Leaves out the functions that nothing names, and comments: Redis makes a script's functions anew at each call, and a script includes more of them than it needs. */
const onlyNamed = (parts: ReturnType<typeof include>): typeof parts => {
  const functions = new Map(parts.flatMap((part) => (part.name === undefined ? [] : [[part.name, part] as const])))
  const needed = new Set<string>()
  const need = ({ words }: { words: Set<string> }) => {
    for (const word of words) {
      if (needed.has(word) || !functions.has(word)) continue
      needed.add(word)
      need(functions.get(word)!)
    }
  }
  for (const part of parts) if (part.name === undefined) need(part)
  return parts.filter(({ name }) => name === undefined || needed.has(name))
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
  const parts = onlyNamed(include(url.pathname, new Set()))
  const isNamed = (word: string): boolean => parts.some(({ words }) => words.has(word))
  const names = Object.entries(luaNames).flatMap(([word, line]) => (isNamed(word) ? [isCluster(redis) ? inCluster(line) : line] : []))
  const lua = [luaBase, ...names, ...(isNamed('at_base') ? [luaAtBase(names)] : []), parts.map(({ text }) => text).join('')].join('\n')
  // defineCommand sends EVALSHA and falls back to EVAL, so a flushed script cache heals itself.
  redis.defineCommand(name, { numberOfKeys: 1, lua })
  const run = (redis as unknown as Record<string, (...a: (string | number)[]) => Promise<unknown>>)[name]!
  // Loaded with each connection, so that EVALSHA is never answered NOSCRIPT in the midst of a packet and repeated behind what follows it.
  const send = () => void redis.script('LOAD', lua).catch(() => {})
  // (The library sends a script whole at its first use on a connection: a cluster's masters, which come and go, get it so.)
  if (!isCluster(redis)) {
    redis.on('ready', send)
    if (redis.status === 'ready') send()
  }
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
