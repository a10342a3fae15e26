import { cp, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { Command } from 'commander'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import { initCommand } from '../src/cli/init/command.ts'
import { init, InitError, type InitOptions } from '../src/cli/init/init.ts'
import { ROOT, run, tempFolder, until } from './processes.ts'
import { noPython } from './python.ts'
import { call, startSystem, type System } from './system.ts'

const read = (...path: string[]): Promise<string> => readFile(join(...path), 'utf8')

/** What a person has in a shell: nothing of this project's, nor of the tests'. */
const { PATH, HOME, TMPDIR } = process.env
const shell = { PATH: `${dirname(process.execPath)}:${PATH}`, ...(HOME ? { HOME } : {}), ...(TMPDIR ? { TMPDIR } : {}) }

/** Runs a command line to its end, which must be a good one. @returns what it said */
const must = async (line: string[], cwd: string): Promise<string> => {
  await using job = run(line[0]!, line.slice(1), { cwd, env: shell })
  const code = await job.ended
  expect(code, `${line.join(' ')}:\n${job.output()}`).toBe(0)
  return job.output()
}

/** The command as the program has it. */
const switchyard = async (args: string[]): Promise<{ code: number; out: string; err: string }> => {
  const said = { code: -1, out: '', err: '' }
  const program = new Command('switchyard').exitOverride().configureOutput({ writeOut: (text) => void (said.out += text), writeErr: (text) => void (said.err += text) })
  initCommand(program, undefined, { end: (code) => (said.code = code) })
  await program.parseAsync(args, { from: 'user' }).catch((error: { code?: string }) => {
    if (!error.code?.startsWith('commander.')) throw error
  })
  return said
}

/** Below a folder: whatever is in it, by its path. */
const below = async (folder: string): Promise<string[]> =>
  (await readdir(folder, { withFileTypes: true, recursive: true })).filter((e) => e.isFile()).map((e) => join(e.parentPath, e.name).slice(folder.length + 1)).sort()

/** Longer than anything takes on a machine with other things to do. */
const HANGS_MS = 60_000
/** What the capability makes of the numbers in the README. */
const DESCRIBED = { count: 6, sum: 108, mean: 18, median: 15.5, least: 4, most: 42 }

/** What the project's README posts to try it. */
const tried = async (path: string): Promise<Record<string, unknown>> => JSON.parse(/ -d '(.*)'$/m.exec(await read(path, 'README.md'))![1]!)

/** Starts the agent against a real router, sees the task of its README through and another one fail, and ends it by SIGTERM. */
const works = async (system: System, line: string[], cwd: string, task: Record<string, unknown>): Promise<void> => {
  const type = 'first-agent'
  await using agent = run(line[0]!, line.slice(1), { cwd, env: { ...shell, SWITCHYARD_URL: system.url() } })
  const list = async () => (await system.get(`/agents?type=${type}`)).json.agents as object[]
  await until('it is registered', async () => (await list()).length === 1, HANGS_MS).catch(() => Promise.reject(new Error(agent.output())))
  expect(await list()).toMatchObject([{ name: type, status: 'healthy', capabilities: ['describe_numbers'] }])
  expect(await system.ended(await system.submit(task), HANGS_MS)).toMatchObject({ status: 'completed', result: DESCRIBED })
  expect(await system.ended(await system.submit({ ...task, parameters: { numbers: 'none' } }), HANGS_MS)).toMatchObject({ status: 'failed', error: 'numbers must be a list of numbers that is not empty', retry_count: 0 })
  agent.child.kill('SIGTERM')
  expect(await agent.ended, agent.output()).toBe(0)
  expect(await list()).toEqual([])
}

let system: System
beforeAll(async () => {
  system = await startSystem()
})
afterAll(() => system[Symbol.asyncDispose]())

test('a TypeScript project installs, passes its own tests, and does a task, from its sources and as one file', { timeout: 5 * HANGS_MS }, async () => {
  await using folder = await tempFolder('sy-init-')
  const { path } = await init({ name: 'first-agent', lang: 'ts', cwd: folder.path })
  await must(['npm', 'install', '--prefer-offline', '--no-audit', '--no-fund'], path)
  expect(await must(['npm', 'test'], path)).toMatch(/pass 2\n.*fail 0\n/)
  await must(['npm', 'run', 'check'], path)
  await must(['npm', 'run', 'build'], path)
  await works(system, ['node', 'agent.ts'], path, await tried(path))

  // As in the image: that file and nothing else.
  const alone = join(folder.path, 'alone')
  await mkdir(alone)
  await cp(join(path, 'dist/agent.mjs'), join(alone, 'agent.mjs'))
  expect((await stat(join(alone, 'agent.mjs'))).size).toBeLessThan(128 * 1024)
  await works(system, ['node', 'agent.mjs'], alone, await tried(path))

  // The types are the SDK's own: what it does not take is found.
  await writeFile(join(path, 'agent.ts'), (await read(path, 'agent.ts')).replace('capabilities', "maxConcurrency: 'many', capabilities"))
  await using check = run('npm', ['run', 'check'], { cwd: path, env: shell })
  expect(await check.ended).toBe(1)
  expect(check.output()).toMatch(/agent\.ts.*'string' is not assignable to type 'number/)
})

test.skipIf(noPython)('a Python project passes its own tests, and does a task, with nothing installed', { timeout: 5 * HANGS_MS }, async () => {
  await using folder = await tempFolder('sy-init-')
  const { path } = await init({ name: 'first-agent', lang: 'python', cwd: folder.path })
  expect(await must(['python3', '-m', 'unittest'], path)).toMatch(/Ran 3 tests[^]*\nOK/)
  await works(system, ['python3', 'agent.py'], path, await tried(path))
})

test.each(['ts', 'python'] as const)('without a registry a project answers who asks, and asks nobody (%s)', async (lang) => {
  if (lang === 'python' && noPython) return
  await using folder = await tempFolder('sy-init-')
  const { path, next } = await init({ name: 'lonely', lang, registry: false, cwd: folder.path })
  expect(next.at(-1)).toMatch(/^AGENT_PORT=9000 /)
  if (lang === 'ts') {
    await mkdir(join(path, 'node_modules'))
    await symlink('../vendor/switchyard', join(path, 'node_modules/switchyard'))
    // The client comes along.
    await using client = run(process.execPath, ['-e', `import('switchyard/client').then((sdk) => console.log(typeof sdk.createClient))`], { cwd: path, env: shell })
    expect(await client.ended, client.output()).toBe(0)
    expect(client.output()).toBe('function\n')
  }
  let asked = 0
  const router = createServer((_, res) => void (asked++, res.writeHead(500).end())).listen(0, '127.0.0.1')
  try {
    await until('a router to leave alone', () => router.listening)
    const env = { ...shell, SWITCHYARD_URL: `http://127.0.0.1:${(router.address() as AddressInfo).port}`, AGENT_PORT: '0', PYTHONDONTWRITEBYTECODE: '1' }
    await using agent = run(lang === 'ts' ? 'node' : 'python3', [lang === 'ts' ? 'agent.ts' : 'agent.py'], { cwd: path, env })
    const port = await until('it listens', () => /listening.* port (\d+)/.exec(agent.output())?.[1], HANGS_MS).catch(() => Promise.reject(new Error(agent.output())))
    const answer = await call('POST', `http://127.0.0.1:${port}/task`, await tried(path))
    expect(answer).toMatchObject({ status: 200, json: { status: 'completed', result: DESCRIBED } })
    expect((await call('GET', `http://127.0.0.1:${port}/health/ready`)).status).toBe(200)
    agent.child.kill('SIGTERM')
    expect(await agent.ended, agent.output()).toBe(0)
    expect(asked).toBe(0)
  } finally {
    router.close()
  }
  for (const file of ['README.md', 'compose.yml', lang === 'ts' ? 'agent.ts' : 'agent.py']) expect(await read(path, file), file).not.toMatch(/SWITCHYARD_|compose\.host/)
})

test('nothing is written over: an empty folder is taken, any other is refused in one plain line', async () => {
  await using folder = await tempFolder('sy-init-')
  const before = process.cwd()
  process.chdir(folder.path)
  try {
    await mkdir('mine')
    await writeFile('mine/notes', 'mine')
    await writeFile('a-file', 'mine')
    await symlink('mine', 'a-link')
    expect(await switchyard(['init', 'mine', '--lang', 'python'])).toEqual({ code: 1, out: '', err: 'switchyard: the folder mine is there already, and is not empty; nothing was written\n' })
    expect(await switchyard(['init', 'a-file', '--lang', 'python'])).toEqual({ code: 1, out: '', err: 'switchyard: a-file is there already, and is no folder; nothing was written\n' })
    expect(await switchyard(['init', 'a-link', '--lang', 'python'])).toMatchObject({ code: 1, out: '' })
    expect(await below(folder.path)).toEqual(['a-file', 'mine/notes'])
    await mkdir('empty')
    expect(await switchyard(['init', 'empty', '--lang', 'python'])).toMatchObject({ code: 0, err: '' })
    expect(await read('empty', 'agent.py')).toContain('type="empty"')
  } finally {
    process.chdir(before)
  }
})

test('of two that are made in one place at once, one is, whole, and nothing is left of the other', async () => {
  await using folder = await tempFolder('sy-init-')
  const ends = await Promise.allSettled([1, 2, 3].map(() => init({ name: 'twin', lang: 'python', cwd: folder.path })))
  const made = ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []))
  expect(made).toHaveLength(1)
  for (const end of ends) if (end.status === 'rejected') expect(end.reason).toMatchObject({ kind: 'place', message: expect.stringMatching(/not empty|written there meanwhile/) })
  expect(await readdir(folder.path)).toEqual(['twin'])
  expect(await below(join(folder.path, 'twin'))).toEqual(made[0]!.files)
})

test('where nothing can be written nothing is, and it is said why', async () => {
  await using folder = await tempFolder('sy-init-')
  await writeFile(join(folder.path, 'file'), '')
  const at = (cwd: string) => init({ name: 'lost', lang: 'python', cwd }).catch((error: unknown) => error)
  expect(await at(join(folder.path, 'nowhere'))).toMatchObject({ kind: 'place', message: expect.stringMatching(/^cannot write .*: the folder for it is not there$/) })
  expect(await at(join(folder.path, 'file'))).toMatchObject({ kind: 'place', message: expect.stringMatching(/^cannot write .*: that is below a file$/) })
  expect(await readdir(folder.path)).toEqual(['file'])
})

test('a name that YAML has a meaning for is a name in the Compose files', async () => {
  await using folder = await tempFolder('sy-init-')
  for (const name of ['true', 'null']) {
    const { path } = await init({ name, lang: 'python', cwd: folder.path })
    for (const file of ['compose.yml', 'compose.host.yml']) {
      const compose = parse(await read(path, file))
      expect([compose.name, Object.keys(compose.services), compose.services[name].image]).toEqual([name, [name], name])
    }
  }
})

test('bad names are told what is allowed, all at once, and leave nothing', async () => {
  await using folder = await tempFolder('sy-init-')
  const fault = async (options: Partial<InitOptions>): Promise<string> => {
    const error = await init({ name: 'good', lang: 'python', cwd: folder.path, ...options }).then(() => null, (e: unknown) => e as InitError)
    expect(error, JSON.stringify(options)).toBeInstanceOf(InitError)
    expect(error!.kind).toBe('usage')
    return error!.message
  }
  for (const name of ['', '.', '..', '../up', 'a/b', 'A', 'a_b', 'a.b', '1a', '-a', 'a-', 'a--b', 'a b', 'ä', '$(x)', 'a'.repeat(64)]) expect(await fault({ name })).toMatch(/must be 1 to 63 of a–z, 0–9 and single hyphens/)
  expect(await fault({ name: 'switchyard' })).toMatch(/the package/)
  for (const name of ['http', 'stream']) expect(await fault({ name })).toMatch(/a module of Node/)
  expect(await fault({ name: 'nul' })).toMatch(/Windows/)
  // In the network of the router's own Compose file its services must stay who they are.
  for (const name of Object.keys(parse(await read(ROOT, 'docker-compose.yml'), { merge: true }).services)) expect(await fault({ name })).toMatch(/another service/)
  expect(await fault({ name: 'Bad', type: 'a.b', capability: "x'y" })).toMatch(/the name "Bad" .*; the type "a\.b" .*; the capability "x'y" /)
  expect(await readdir(folder.path)).toEqual([])

  expect(await switchyard(['init', 'Bad', '--lang', 'ts'])).toMatchObject({ code: 2, out: '', err: expect.stringMatching(/^switchyard: the name "Bad" must be .*\n$/) })
  expect((await switchyard(['init', 'good'])).err).toMatch(/--lang/)
  expect((await switchyard(['init', 'good', '--lang', 'cobol'])).err).toMatch(/ts, python/)
})

test('it says what it wrote and what to type next, for people and for machines', async () => {
  await using folder = await tempFolder('sy-init-')
  const before = process.cwd()
  process.chdir(folder.path)
  try {
    const people = await switchyard(['init', 'told', '--lang', 'python', '--type', 'cost', '--capability', 'cost.sum'])
    expect(people).toMatchObject({ code: 0, err: '' })
    expect(people.out).toMatch(/^told\/: an agent of type cost, which can cost\.sum\n[^]*\n {2}agent\.py\n[^]*\n {2}vendor\/switchyard\/.*\n\nNext:\n {2}cd told\n {2}python3 -m unittest\n {2}python3 agent\.py\n$/)
    expect(await read('told', 'agent.py')).toMatch(/Agent\(name="told", type="cost"\)\nagent\.task\("cost\.sum"\)/)
    const machines = JSON.parse((await switchyard(['init', 'counted', '--lang', 'python', '--no-registry', '--json'])).out)
    expect(machines).toEqual({ name: 'counted', lang: 'python', type: 'counted', capability: 'describe_numbers', registry: false, path: join(process.cwd(), 'counted'), files: await below('counted'), next: ['cd counted', 'python3 -m unittest', 'AGENT_PORT=9000 python3 agent.py'] })
  } finally {
    process.chdir(before)
  }
})

/** One of each kind, and what docs/init.md says of its files. */
const kinds = [
  { lang: 'ts', registry: true, marks: ['TypeScript', 'both', 'registry'] },
  { lang: 'ts', registry: false, marks: ['TypeScript', 'both'] },
  { lang: 'python', registry: true, marks: ['Python', 'both', 'registry'] },
  { lang: 'python', registry: false, marks: ['Python', 'both'] },
] as const

test.each(kinds)('its files are those that docs/init.md tells of, and fit together ($lang, registry: $registry)', async ({ lang, registry, marks }) => {
  await using folder = await tempFolder('sy-init-')
  const { path, files } = await init({ name: 'sample', lang, registry, type: 'Sample_1', capability: 'do.it', cwd: folder.path })
  expect(await below(path)).toEqual(files)
  const rows = [...(await read(ROOT, 'docs/init.md')).matchAll(/^\| `([^`|]+)` \| (TypeScript|Python|both|registry) \|/gm)]
  const documented = rows.filter(([, , mark]) => (marks as readonly string[]).includes(mark!)).map(([, file]) => file!)
  expect([...new Set(files.map((file) => file.replace(/^(vendor\/switchyard)\/.*/, '$1')))].sort()).toEqual(documented.sort())

  for (const file of files.filter((name) => !name.startsWith('vendor/'))) {
    const text = await read(path, file)
    // A marker that is left, blank lines where a section was, a path of this machine.
    expect(text, file).not.toMatch(file.endsWith('.py') ? /\{\{|^\n|\n{4}/ : /\{\{|^\n|\n{3}/)
    expect(text, file).not.toContain(ROOT)
    expect(text.endsWith('\n'), file).toBe(true)
  }
  const code = await read(path, lang === 'ts' ? 'agent.ts' : 'agent.py')
  expect(code).toContain('Sample_1')
  expect(code).toContain('do.it')

  // The container: built and tested in one stage, run in another by a user who is not root.
  const dockerfile = (await read(path, 'Dockerfile')).replace(/\\\n/g, ' ').split('\n')
  const the = (word: string): string[] => dockerfile.filter((line) => line.startsWith(`${word} `))
  expect(the('FROM')).toHaveLength(2)
  expect(the('FROM')[1]).toMatch(/^FROM alpine:\d+\.\d+$/)
  expect(dockerfile.join('\n')).toMatch(lang === 'ts' ? /npm test/ : /unittest/)
  const last = dockerfile.slice(dockerfile.lastIndexOf(the('FROM')[1]!))
  expect(last.filter((line) => line.startsWith('COPY ')).every((line) => line.startsWith('COPY --from=build '))).toBe(true)
  const user = the('USER').at(-1)!
  expect(user).toMatch(/^USER [1-9]\d*$/)
  expect(last.indexOf(user)).toBeGreaterThan(last.findLastIndex((line) => line.startsWith('RUN ')))
  expect(the('HEALTHCHECK').join()).toMatch(/CMD wget .*\/health\/live/)
  expect(the('STOPSIGNAL')).toEqual(['STOPSIGNAL SIGTERM'])
  expect(JSON.parse(the('CMD').at(-1)!.slice('CMD '.length))).toEqual(lang === 'ts' ? ['node', 'agent.mjs'] : ['python3', 'agent.py'])
  const ignored = (await read(path, '.dockerignore')).split('\n')
  for (const what of ['.git', '.env*', lang === 'ts' ? 'node_modules' : '**/__pycache__']) expect(ignored).toContain(what)

  // Compose: its own port, or the network that our own file makes.
  const port = /AGENT_PORT=(\d+)/.exec(the('ENV').join())?.[1]
  const compose = parse(await read(path, 'compose.yml'))
  const { sample } = compose.services
  expect(sample.stop_grace_period).toBe('40s')
  if (registry) {
    const ours = parse(await read(ROOT, 'docker-compose.yml'), { merge: true })
    expect(compose.networks.router).toEqual({ name: `\${SWITCHYARD_NETWORK:-${ours.name}_default}`, external: true })
    expect(ours.services.api.ports[0]).toMatch(/:8080$/)
    expect(sample.environment.SWITCHYARD_URL).toBe('http://api:8080')
    const host = parse(await read(path, 'compose.host.yml')).services.sample
    expect(host).toMatchObject({ ports: [`127.0.0.1:${port}:${port}`], environment: { AGENT_HOST: '127.0.0.1' }, extra_hosts: ['host.docker.internal:host-gateway'] })
  } else {
    expect(sample.ports).toEqual([`127.0.0.1:${port}:${port}`])
    expect(compose.networks).toBeUndefined()
  }
})

test('the tools of a TypeScript project are those that this one is tested with', async () => {
  const ours = JSON.parse(await read(ROOT, 'package.json'))
  const { devDependencies, allowScripts } = JSON.parse(await read(ROOT, 'src/cli/init/templates/ts/package.json'))
  for (const [name, version] of Object.entries(devDependencies)) expect(ours.devDependencies[name], name).toBe(version)
  for (const name of Object.keys(allowScripts)) expect(name).toBe(`esbuild@${devDependencies.esbuild}`)
})

test('the sizes in docs/init.md add up, to less than 100 MB each', async () => {
  const tables = (await read(ROOT, 'docs/init.md')).split(/\n(?=\| (?:TypeScript|Python): )/).slice(1)
  expect(tables).toHaveLength(2)
  for (const table of tables) {
    const sizes = [...table.matchAll(/^\| [^*].*? \| (\d+\.\d+) \|/gm)].map(([, size]) => Number(size))
    const [, mib, mb] = /^\| \*\*sum\*\* \| \*\*([\d.]+)\*\* \| ([\d.]+) MB \|/m.exec(table)!
    expect(sizes.length).toBeGreaterThan(10)
    expect(Math.abs(sizes.reduce((sum, size) => sum + size, 0) - Number(mib))).toBeLessThan(0.05)
    expect(Math.abs(Number(mib) * 1.048576 - Number(mb))).toBeLessThan(0.06)
    expect(Number(mb)).toBeLessThan(100)
  }
})
