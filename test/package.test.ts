/** What is published: packed, installed outside the repository, and used from there, where Node runs no TypeScript. */
import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { ROOT, run, tempFolder, until } from './processes.ts'

const NODE_MODULES = join(ROOT, 'node_modules')
const exec = promisify(execFile)

let folder: Awaited<ReturnType<typeof tempFolder>>
/** A project that has the package installed. */
let project: string
let installed: string
beforeAll(async () => {
  folder = await tempFolder()
  project = join(folder.path, 'project')
  installed = join(project, 'node_modules/switchyard')
  await mkdir(installed, { recursive: true })
  await exec('npm', ['pack', '--silent', '--pack-destination', folder.path], { cwd: ROOT, env: { ...process.env, SWITCHYARD_SKIP_SETUP: '1' } })
  const tarball = (await readdir(folder.path)).find((name) => name.endsWith('.tgz'))!
  await exec('tar', ['-xzf', join(folder.path, tarball), '-C', installed, '--strip-components', '1'])
  // What npm would do next: the dependencies, here those of the repository, and the command.
  const { dependencies } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8')) as { dependencies: Record<string, string> }
  for (const name of Object.keys(dependencies)) {
    await mkdir(join(project, 'node_modules', name, '..'), { recursive: true })
    await symlink(join(NODE_MODULES, name), join(project, 'node_modules', name))
  }
  await mkdir(join(project, 'node_modules/.bin'))
  await symlink('../switchyard/bin/switchyard.js', join(project, 'node_modules/.bin/switchyard'))
  await writeFile(join(project, 'package.json'), '{"type":"module"}')
}, 60_000)
afterAll(() => folder?.[Symbol.asyncDispose]())

const node = (args: string[]) => exec(process.execPath, args, { cwd: project })

test('switchyard/client can be imported, and its types be read', async () => {
  await writeFile(join(project, 'use.mjs'), "import { createClient, NotFound, isEnd } from 'switchyard/client'\nconst client = createClient({ url: 'http://127.0.0.1:2' })\nconsole.log(isEnd('failed'), NotFound.name, await client.live().catch((e) => e.name))\n")
  expect((await node(['use.mjs'])).stdout).toBe('true NotFound ConnectionFailed\n')
  await writeFile(join(project, 'use.ts'), "import { createClient, type Task } from 'switchyard/client'\nconst task: Task = await createClient().tasks.submit({ task_type: 'a', agent_type: 'b' }).wait()\n// @ts-expect-error there is no such member\ntask.nothing\n")
  await writeFile(join(project, 'tsconfig.json'), '{"compilerOptions":{"module":"nodenext","target":"es2022","lib":["es2022","dom","dom.asynciterable"],"types":[],"strict":true,"noEmit":true},"files":["use.ts"]}')
  await node([join(NODE_MODULES, '.bin/tsc'), '-p', '.'])
})

test('the command runs', async () => {
  const bin = join(project, 'node_modules/.bin/switchyard')
  expect((await node([bin, '--help'])).stdout).toContain('Exit codes:')
  expect((await node([bin, '--version'])).stdout).toBe(`${JSON.parse(await readFile(join(installed, 'package.json'), 'utf8')).version}\n`)
})

test('it starts the whole router, whose pages and scripts are there', async () => {
  const env = { ...process.env, npm_lifecycle_event: '', REDIS_URL: inject('redisUrl'), REDIS_PREFIX: `t${Date.now()}`, PORT: '0', HEALTH_PORT: '0', HOST: '127.0.0.1' }
  await using router = run(process.execPath, [join(project, 'node_modules/.bin/switchyard'), 'start'], { cwd: project, env })
  const up = await until(`it is up: ${router.output()}`, () => router.output().split('\n').find((line) => line.includes('"Switchyard is up"')))
  const { api } = JSON.parse(up) as { api: string }
  expect(await (await fetch(`${api}/docs/errors`)).text()).toContain('task-ended')
  const { stdout } = await node([join(project, 'node_modules/.bin/switchyard'), 'tasks', 'submit', 'a', 'b', '--url', api])
  expect((await (await fetch(`${api}/tasks/${stdout.trim()}`)).json()) as object).toMatchObject({ status: 'queued' })
  process.kill(-router.pid, 'SIGINT')
  expect(await router.ended).toBe(0)
})

test('holds what is needed, and no sources or tests', async () => {
  const files = (await readdir(installed, { recursive: true, withFileTypes: true })).filter((f) => f.isFile()).map((f) => join(f.parentPath, f.name).slice(installed.length + 1))
  expect(files).toEqual(expect.arrayContaining(['bin/switchyard.js', 'dist/docs/errors.md', 'dist/package.json', 'dist/sdk/typescript/client.d.ts', 'dist/src/cli/main.js', 'dist/src/tasks/begin.lua', 'LICENSE', 'package.json', 'README.md']))
  // What `init` writes is sources.
  const ours = files.filter((f) => !f.startsWith('dist/src/cli/init/templates/'))
  expect(ours.filter((f) => (/\.ts$/.test(f) && !/^dist\/sdk\/.*\.d\.ts$/.test(f)) || /(^|[./])test([./]|$)/.test(f))).toEqual([])
})
