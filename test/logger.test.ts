/** A log that nobody reads must not hold up who writes it. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { inject, expect, test } from 'vitest'
import { call, until } from './system.ts'
import { clean, ROOT } from './processes.ts'

test('an API whose log nobody reads goes on, and says how much it dropped once somebody does', async () => {
  const child = spawn(process.execPath, [join(ROOT, 'src/api/main.ts')], { env: { ...clean, REDIS_URL: inject('redisUrl'), REDIS_PREFIX: 'tlogger', PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
  try {
    const url = await new Promise<string>((resolve) => child.on('message', (m: { ready?: boolean; url?: string }) => m.ready && resolve(m.url!)))
    const tasks = Array.from({ length: 1000 }, () => ({ agent_type: 'test', task_type: 'echo' }))
    // A line for each task: some megabytes, of which a pipe holds a part of one.
    for (let i = 0; i < 15; i++) expect((await call('POST', `${url}/tasks/batch`, { tasks })).json.accepted).toBe(1000)
    let text = ''
    child.stdout!.on('data', (chunk) => (text += chunk))
    const line = await until(() => text.split('\n').find((l) => l.includes('were dropped')), { what: 'the number of lines dropped' })
    const { lines } = JSON.parse(line)
    const queued = text.split('"msg":"queued"').length - 1
    expect(lines).toBeGreaterThan(1000)
    expect(queued + lines).toBe(15_000)
  } finally {
    child.kill('SIGKILL')
  }
})
