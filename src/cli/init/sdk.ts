/** The SDK that a new project carries in `vendor/switchyard`: it is in no public registry yet. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const VENDOR = 'vendor/switchyard'
const ENTRIES = ['agent', 'client'] as const
/** The repository, or what was built of it: the paths below both are the same. */
const root = fileURLToPath(new URL('../../..', import.meta.url))
const isSource = import.meta.url.endsWith('.ts')

/** A package with `switchyard/agent` and `switchyard/client`: JavaScript and its types, without dependencies. */
export const typescriptSdk = async (note: (line: string) => void): Promise<Map<string, string>> => {
  const files = new Map<string, string>()
  await using compiled = await findCompiled(note)
  for (const entry of ENTRIES) {
    await collect(compiled.folder, `${entry}.js`, files)
    await collect(compiled.folder, `${entry}.d.ts`, files)
  }
  return new Map([await manifest(), await licence(), ...[...files].map(([name, text]) => [`${VENDOR}/${name}`, text] as const)])
}

const manifest = async (): Promise<[string, string]> => {
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
  const written = {
    name: 'switchyard',
    version,
    description: 'Switchyard’s SDK',
    license: 'MIT',
    type: 'module',
    exports: { ...Object.fromEntries(ENTRIES.map((entry) => [`./${entry}`, { types: `./${entry}.d.ts`, default: `./${entry}.js` }])), './package.json': './package.json' },
    engines: { node: '>=22' },
  }
  return [`${VENDOR}/package.json`, `${JSON.stringify(written, null, 2)}\n`]
}

/** Copies of the SDK must carry its licence. What is published has it beside what was built. */
const licence = async (): Promise<[string, string]> => [`${VENDOR}/LICENSE`, await readFile(join(root, isSource ? '.' : '..', 'LICENSE'), 'utf8')]

/** A file and all that it imports. */
const collect = async (folder: string, name: string, files: Map<string, string>): Promise<void> => {
  if (files.has(name)) return
  const text = await readFile(join(folder, name), 'utf8')
  files.set(name, text)
  for (const [, imported] of text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*['"]\.\/([\w-]+)\.[jt]s['"]/g)) await collect(folder, `${imported}${name.endsWith('.d.ts') ? '.d.ts' : '.js'}`, files)
}

type Compiled = AsyncDisposable & { folder: string }

const findCompiled = async (note: (line: string) => void): Promise<Compiled> => {
  const sources = join(root, 'sdk/typescript')
  if (!isSource) return { folder: sources, [Symbol.asyncDispose]: async () => {} }
  const built = join(root, 'dist/sdk/typescript')
  if (await isNewer(join(built, `${ENTRIES[0]}.js`), sources)) return { folder: built, [Symbol.asyncDispose]: async () => {} }
  return compile(sources, note)
}

/** Whether a file is there, and none of a folder's has changed since. */
const isNewer = async (file: string, folder: string): Promise<boolean> => {
  if (!existsSync(file)) return false
  const { mtimeMs } = await stat(file)
  const changes = await Promise.all((await readdir(folder)).map(async (name) => (await stat(join(folder, name))).mtimeMs))
  return changes.every((changed) => changed <= mtimeMs)
}

/** In a clone that was not built: what the entry needs, by the repository's own compiler. */
const compile = async (sources: string, note: (line: string) => void): Promise<Compiled> => {
  note('building the SDK, which takes a second or two …')
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-init-'))
  const dispose = () => rm(folder, { recursive: true, force: true })
  try {
    const modules = join(root, 'node_modules')
    const compilerOptions = { noEmit: false, outDir: folder, rootDir: sources, rewriteRelativeImportExtensions: true, declaration: true, typeRoots: [join(modules, '@types')] }
    const config = join(folder, 'tsconfig.json')
    await writeFile(config, JSON.stringify({ extends: join(root, 'tsconfig.json'), compilerOptions, include: [], files: ENTRIES.map((entry) => join(sources, `${entry}.ts`)) }))
    await promisify(execFile)(process.execPath, [join(modules, 'typescript/bin/tsc'), '-p', config]).catch((error: { stdout?: string } & Error) => {
      throw new Error(`the SDK could not be built: ${error.stdout?.trim() || error.message}`, { cause: error })
    })
    return { folder, [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}

/** The package's folder as it is: Python needs no more. */
export const pythonSdk = async (): Promise<Map<string, string>> => {
  const folder = join(root, 'sdk/python/switchyard')
  const names = (await readdir(folder)).filter((name) => name.endsWith('.py') || name === 'py.typed')
  return new Map([await licence(), ...(await Promise.all(names.map(async (name) => [`${VENDOR}/${name}`, await readFile(join(folder, name), 'utf8')] as const)))])
}
