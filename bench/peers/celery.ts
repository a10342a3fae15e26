/**
 * Celery on Redis: a prefork worker whose task posts to the agent by `requests`, acknowledged late, results in Redis; and in front of it the small HTTP API that
 * its users put there. Celery is not installed by the bench: it takes what it finds.
 */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { CONCURRENCY } from '../settings.ts'
import type { Place, System } from '../system.ts'

const folder = fileURLToPath(new URL('./celery', import.meta.url))
const MODULES = ['celery', 'redis', 'requests', 'flask', 'gunicorn']
/** Debian's python3 is there under its own path where another stands first on PATH. */
const PYTHONS = ['python3', '/usr/bin/python3']

type Python = Readonly<{ file: string; versions: Readonly<Record<string, string>> }>

const ask = (file: string): Python | null => {
  const script = `import importlib,json,platform\nfrom importlib.metadata import version\nfor m in ${JSON.stringify(MODULES)}: importlib.import_module(m)\nprint(json.dumps({'python':platform.python_version()}|{('redis-py' if m == 'redis' else m):version(m) for m in ${JSON.stringify(MODULES)}}))`
  try {
    return { file, versions: JSON.parse(execFileSync(file, ['-c', script], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })) as Record<string, string> }
  } catch {
    return null // not this one
  }
}

let found: Python | null = null
export const findCelery = (): Python => {
  for (const file of PYTHONS) found ??= ask(file)
  if (found) return found
  throw new Error(`No python3 here has ${MODULES.join(', ')}. On Debian and Ubuntu: apt-get install celery python3-redis python3-requests python3-flask gunicorn. Elsewhere: pip install 'celery[redis]' requests flask gunicorn, in a virtual environment that is active.`)
}

const processes = ({ urls }: Place) => {
  const { file } = findCelery()
  const env = { REDIS_URL: urls.redis, AGENT_URL: urls.agent, PYTHONPATH: folder, PYTHONDONTWRITEBYTECODE: '1' }
  return [
    { name: 'api', file, args: ['-m', 'gunicorn', '--bind', new URL(urls.api).host, '--worker-class', 'gthread', '--threads', '64', '--keep-alive', '75', '--log-level', 'warning', 'api:app'], env },
    { name: 'worker', file, args: ['-m', 'celery', '--app', 'tasks', 'worker', '--concurrency', String(CONCURRENCY), '--loglevel', 'WARNING'], env },
  ] as const
}

export const celery: System = {
  redis: true,
  processes,
  ready: (urls) => [`${urls.api}/done`],
  prepare: async () => {},
  submit: { path: '/tasks', status: 201, id: 'task_id' },
  readBack: { path: (id) => `/tasks/${id}`, isRight: (body) => JSON.stringify(JSON.parse(body)) === '{"status":"SUCCESS","result":{"ok":true}}' },
  completed: { from: 'api', path: '/done', read: Number },
  wait: null,
  settings: `prefork worker of ${CONCURRENCY} processes, acks_late, results in Redis, API by Flask on gunicorn with 64 threads`,
}
