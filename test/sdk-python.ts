/** The Python SDK under test: run by the machine's python3. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect } from 'vitest'
import { ROOT, clean, run, until, type Running } from './processes.ts'
import { call, type Answer } from './system.ts'

export const SDK = join(ROOT, 'sdk/python')
export const environment = { ...clean, PYTHONDONTWRITEBYTECODE: '1', PYTHONUNBUFFERED: '1' }
export const version = spawnSync('python3', ['-c', 'import sys; print(*sys.version_info[:2]); sys.exit(sys.version_info < (3, 9))'], { encoding: 'utf8' })
if (version.status !== 0) process.stderr.write(`the Python SDK is not tested: it needs a python3 of 3.9 or newer, and this machine's is ${version.stdout?.trim().replace(' ', '.') || 'missing'}\n`)

/** Has ended when all of its output is there, too. */
export const start = (args: string[], options: { cwd: string; env: NodeJS.ProcessEnv }): Running => {
  const program = run('python3', args, options)
  const closed = new Promise<void>((done) => program.child.once('close', () => done()))
  return { ...program, ended: closed.then(() => program.ended) }
}
export const python = (code: string, env: Record<string, string> = {}): Running => start(['-c', code], { cwd: ROOT, env: { ...environment, PYTHONPATH: SDK, ...env } })
/** Runs a program to its end; what it prints last is JSON. */
export const asked = async (code: string, env: Record<string, string> = {}): Promise<any> => {
  await using program = python(code, env)
  expect(await program.ended, program.output()).toBe(0)
  return JSON.parse(program.output().trim().split('\n').at(-1)!)
}

/** The agent that does odd things, listening. */
export const startAgent = async (env: Record<string, string> = {}, script = 'python_odd.py') => {
  const agent = start([join(ROOT, 'test/agents', script)], { cwd: ROOT, env: { ...environment, AGENT_REGISTER: '0', ...env } })
  const port = await until(`it listens: ${agent.output()}`, () => /listening on port (\d+)/.exec(agent.output())?.[1])
  const url = `http://127.0.0.1:${port}`
  return {
    ...agent,
    port: Number(port),
    url,
    send: (task_type: string, parameters: object = {}, more: object = {}): Promise<Answer> => call('POST', `${url}/task`, { task_id: 't', task_type, parameters, ...more }),
    says: (what: string) => until(`it says ${what}: ${agent.output()}`, () => agent.output().includes(what)),
    health: async () => (await call('GET', `${url}/health`)).json,
  }
}
