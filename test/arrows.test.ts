import { execFile } from 'node:child_process'
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { tempFolder } from './processes.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** What the project's linter says of some sources: `rule: message` each, by file. */
const lint = async (files: Record<string, string>): Promise<{ file: string; fault: string }[]> => {
  await using folder = await tempFolder()
  await symlink(join(root, 'node_modules'), join(folder.path, 'node_modules'))
  for (const name of ['.oxlintrc.json', 'test/arrows.ts']) await cp(join(root, name), join(folder.path, name))
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder.path, name)), { recursive: true })
    await writeFile(join(folder.path, name), text)
  }
  const output = await new Promise<string>((done) =>
    execFile(process.execPath, [join(root, 'node_modules/.bin/oxlint'), '--format', 'json', 'src'], { cwd: folder.path }, (_, stdout) => done(stdout)),
  )
  return (JSON.parse(output) as { diagnostics: { code: string; message: string; filename: string }[] }).diagnostics.map((d) => ({ file: d.filename, fault: `${d.code}: ${d.message}` }))
}

test('imports along the arrows pass, also from one part into another of its kind', async () => {
  const found = await lint({
    'src/errors.ts': 'export class Wrong extends Error {}\n',
    'src/config.ts': "import { Wrong } from './errors.ts'\nexport const read = () => process.env['A'] ?? new Wrong()\n",
    'src/queues/queues.ts': "import { Queue } from 'bullmq'\nexport const q = () => new Queue('a')\n",
    'src/tasks/tasks.ts': "import { q } from '../queues/queues.ts'\nexport const t = async () => { await using _ = await q() as never }\n",
    'src/workers/main.ts': "import { t } from '../tasks/tasks.ts'\nawait t()\n",
  })
  expect(found).toEqual([])
})

/** Each in a file of its own, all looked at in one run. */
const WRONG: [string, string, string, RegExp][] = [
  ['api may not import workers', 'src/api/a.ts', "import { b } from '../workers/b.ts'\nexport const a = b\n", /arrows.*api may import/],
  ['workers may not import api, not even a type', 'src/workers/a.ts', "import type { B } from '../api/b.ts'\nexport type A = B\n", /arrows.*workers may import/],
  ['nor one in a type query', 'src/workers/a.ts', "export type A = import('../api/b.ts').B\n", /arrows.*workers may import/],
  ['nor late', 'src/workers/a.ts', "export const a = () => import('../api/b.ts')\n", /arrows.*workers may import/],
  ['nor by passing it on', 'src/workers/a.ts', "export * from '../api/b.ts'\n", /arrows.*workers may import/],
  ['a transport may not import the store', 'src/transports/a.ts', "import { b } from '../redis/keys.ts'\nexport const a = b\n", /arrows.*transports may import contracts, errors; not redis/],
  ['queues may not import tasks', 'src/queues/a.ts', "import { b } from '../tasks/b.ts'\nexport const a = b\n", /arrows.*queues may import/],
  ['a new part needs a rule', 'src/utils/a.ts', "import { b } from '../errors.ts'\nexport const a = b\n", /arrows.*new part/],
  ['only queues may import BullMQ', 'src/workers/a.ts', "import { Queue } from 'bullmq'\nexport const a = Queue\n", /arrows.*only src\/queues/],
  ['nobody may import a main.ts', 'src/api/a.ts', "import { b } from './main.ts'\nexport const a = b\n", /arrows.*acts on import/],
  ['only main.ts files may act on import', 'src/api/a.ts', 'export const a = 1\nconsole.log(a)\n', /still.*only main\.ts/],
  ['only config.ts may read the environment', 'src/api/a.ts', "export const a = () => process.env['A']\n", /no-process-env/],
]
const fileOf = (row: number): string => WRONG[row]![1].replace('/a.ts', `/a${row}.ts`)
let found: Promise<{ file: string; fault: string }[]> | undefined

test.each(WRONG.map(([name], row) => [name, row] as const))('%s', async (_, row) => {
  found ??= lint(Object.fromEntries(WRONG.map(([, , text], i) => [fileOf(i), text])))
  expect((await found).filter(({ file }) => file === fileOf(row)).map(({ fault }) => fault)).toEqual([expect.stringMatching(WRONG[row]![3])])
})

test('a cycle is found, also one of types', async () => {
  const found = await lint({
    'src/tasks/a.ts': "import { b } from './b.ts'\nexport const a = () => b\n",
    'src/tasks/b.ts': "import { c } from './c.ts'\nexport const b = () => c\n",
    'src/tasks/c.ts': "import type { a } from './a.ts'\nexport const c = null as unknown as typeof a\n",
  })
  expect(found.length).toBeGreaterThan(0)
  for (const { fault } of found) expect(fault).toMatch(/no-cycle/)
})

test('the sources of this project follow all of it', async () => {
  const output = await new Promise<string>((done) => execFile(process.execPath, [join(root, 'node_modules/.bin/oxlint')], { cwd: root }, (error, stdout) => done(error ? stdout : '')))
  expect(output).toBe('')
})
