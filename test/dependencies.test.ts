/** What others wrote and we ship: its licences, its versions, and what it may run when it is installed. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { ROOT } from './processes.ts'

const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8')
const manifest = JSON.parse(read('package.json')) as Record<'dependencies' | 'devDependencies' | 'overrides', Record<string, string>> & { allowScripts: Record<string, boolean>; scripts: Record<string, string> }
const { packages } = JSON.parse(read('package-lock.json')) as { packages: Record<string, { version: string; resolved?: string; integrity?: string; hasInstallScript?: boolean; dev?: boolean }> }
const installed = Object.entries(packages).filter(([path]) => path !== '')

/** Those that ask for no more than to be named. */
const ALLOWED = ['MIT', 'Apache-2.0', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD', 'BlueOak-1.0.0', 'Unlicense', 'CC0-1.0']

test('every package that is shipped has a licence that lets it be', () => {
  const lines = execFileSync(process.execPath, [join(ROOT, 'bin/licenses.js')], { encoding: 'utf8' }).trimEnd().split('\n').map((line) => line.split('\t'))
  expect(lines.length).toBeGreaterThan(Object.keys(manifest.dependencies).length)
  for (const name of Object.keys(manifest.dependencies)) expect(lines.some(([one]) => one === name), name).toBe(true)
  expect(lines.filter(([, , licence]) => !ALLOWED.includes(licence!))).toEqual([])
})

test('every version is an exact one, and every package the one whose digest the lockfile has', () => {
  for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies, ...manifest.overrides })) expect(version, name).toMatch(/^\d+\.\d+\.\d+$/)
  // None comes from anywhere but the registry: the lockfile says where only of those.
  expect(installed.filter(([, { integrity, resolved }]) => !integrity?.startsWith('sha512-') || !(resolved ?? 'https://registry.npmjs.org/').startsWith('https://registry.npmjs.org/')).map(([path]) => path)).toEqual([])
  expect(read('sdk/python/pyproject.toml')).toMatch(/^requires = \[\]$/m)
  expect(read('sdk/python/pyproject.toml')).not.toMatch(/^dependencies = \[\s*["']/m)
})

test('nothing runs when it is installed, but what is named', () => {
  const runs = installed.filter(([, { hasInstallScript }]) => hasInstallScript).map(([path, { version }]) => `${path.replace(/^.*node_modules\//, '')}@${version}`)
  // esbuild has its binary in a package of its own too, and is for building alone.
  expect(runs.filter((one) => !manifest.allowScripts[one]).map((one) => one.replace(/@[^@]*$/, ''))).toEqual(['esbuild'])
})

test('images are named with a version, and which Node it is can be said by its digest', () => {
  const services = (parse(read('docker-compose.yml'), { merge: true }) as { services: Record<string, { image?: string }> }).services
  const images = [...Object.values(services).map(({ image }) => image ?? ''), ...[...read('Dockerfile').matchAll(/^ARG NODE_IMAGE=(.+)$/gm)].map(([, image]) => image!)]
  for (const image of images.filter((one) => one !== 'switchyard')) expect(image).toMatch(/^[a-z/]+:\d+(?:\.\d+)*-alpine/)
  const froms = [...read('Dockerfile').matchAll(/^FROM (\S+)/gm)].map(([, image]) => image)
  expect(froms).toEqual(froms.map(() => '$NODE_IMAGE'))
})
