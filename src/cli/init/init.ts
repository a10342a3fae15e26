/** `switchyard init`: a small project that is an agent, and runs at once. */
import { lstat, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { faultsOf } from './names.ts'
import { pythonSdk, typescriptSdk } from './sdk.ts'
import { readTemplates, type Language } from './templates.ts'

export type InitOptions = {
  /** Of the project, its folder, its package and its container. */
  name: string
  lang: Language
  /** False: the agent serves tasks, and tells no router of it (true). */
  registry?: boolean | undefined
  /** Of the agent; the name unless said. */
  type?: string | undefined
  /** Its one capability, to begin with (`describe_numbers`). */
  capability?: string | undefined
  /** Where the project's folder is made; the current one unless said. */
  cwd?: string | undefined
  /** Told of what takes a moment. */
  note?: ((line: string) => void) | undefined
}

export type Project = {
  name: string
  lang: Language
  type: string
  capability: string
  registry: boolean
  path: string
  /** What was written, below `path`, sorted. */
  files: string[]
  /** The commands to type next. */
  next: string[]
}

/** Why nothing was written. `usage`: what was asked for is wrong; else the place is. */
export class InitError extends Error {
  readonly kind: 'usage' | 'place'
  constructor(kind: 'usage' | 'place', message: string, options?: ErrorOptions) {
    super(message, options)
    this.kind = kind
  }
}

const CAPABILITY = 'describe_numbers'
/** Where a container's agent listens, and where one listens that must be found without a registry. */
const PORT = 9000

/**
 * Writes the project as `cwd`/`name`, whole or not at all.
 * @throws InitError when a name cannot be had, when there is something already, or when the folder cannot be written
 */
export const init = async ({ name, lang, registry = true, type = name, capability = CAPABILITY, cwd = process.cwd(), note = () => {} }: InitOptions): Promise<Project> => {
  const faults = faultsOf({ name, type, capability })
  if (faults.length > 0) throw new InitError('usage', faults.join('; '))
  const path = join(cwd, name)
  await mustBeFree(path, name)
  const files = new Map([
    ...(await readTemplates(lang, { registry, values: { name, type, capability, port: String(PORT) } })),
    ...(lang === 'ts' ? await typescriptSdk(note) : await pythonSdk()),
  ])
  await write(path, name, files)
  return { name, lang, type, capability, registry, path, files: [...files.keys()].sort(), next: nextCommands({ name, lang, registry }) }
}

const nextCommands = ({ name, lang, registry }: { name: string; lang: Language; registry: boolean }): string[] => {
  const port = registry ? '' : `AGENT_PORT=${PORT} `
  return lang === 'ts' ? [`cd ${name}`, 'npm install', `${port}npm start`] : [`cd ${name}`, 'python3 -m unittest', `${port}python3 agent.py`]
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? ''

const mustBeFree = async (path: string, name: string): Promise<void> => {
  const there = await lstat(path).catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return null
    throw placeFault(path, error)
  })
  if (there === null) return
  if (!there.isDirectory()) throw new InitError('place', `${name} is there already, and is no folder; nothing was written`)
  const inside = await readdir(path).catch((error: unknown) => Promise.reject(placeFault(path, error)))
  if (inside.length > 0) throw new InitError('place', `the folder ${name} is there already, and is not empty; nothing was written`)
}

const WHY: Record<string, string> = {
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  ENOENT: 'the folder for it is not there',
  ENOTDIR: 'that is below a file',
  ENOTEMPTY: 'something else was written there meanwhile',
  EEXIST: 'something else was written there meanwhile',
}
const placeFault = (path: string, error: unknown): InitError => new InitError('place', `cannot write ${path}: ${WHY[codeOf(error)] ?? (error as Error).message}`, { cause: error })

/** All of it is written beside its place first, and then moved there in one step, which fails where anything has come to be meanwhile. */
const write = async (path: string, name: string, files: ReadonlyMap<string, string>): Promise<void> => {
  let beside: string | undefined
  try {
    beside = await mkdtemp(join(dirname(path), `.${name}-`))
    // Not the temporary folder itself, which only its owner may read.
    const whole = join(beside, name)
    for (const [file, text] of files) {
      const its = join(whole, file)
      await mkdir(dirname(its), { recursive: true })
      await writeFile(its, text)
    }
    await rename(whole, path)
  } catch (error) {
    throw placeFault(path, error)
  } finally {
    if (beside !== undefined) await rm(beside, { recursive: true, force: true })
  }
}
