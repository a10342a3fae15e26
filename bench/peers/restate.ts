/**
 * Restate, as its documentation sets it up on one machine: the server with its default settings (so durable: every step of a journal is synced to disk), and
 * one service of the TypeScript SDK, whose handler posts to the agent within `ctx.run`. Tasks are sent one way (`/send`), and their results attached to.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Place, System, Urls } from '../system.ts'
import { cacheOf } from './fetch.ts'

const own = (path: string) => fileURLToPath(new URL(`./restate/${path}`, import.meta.url))
const cache = cacheOf('restate')
const { dependencies } = JSON.parse(readFileSync(own('package.json'), 'utf8')) as { dependencies: Record<string, string> }
const at = (url: string) => new URL(url).host

/** As its command would start it, without the Node process in between. */
export const serverFile = `${cache}/node_modules/@restatedev/restate-server-${process.platform}-${process.arch}/bin/restate-server`
export const versions: Readonly<Record<string, string>> = { 'restate-server': dependencies['@restatedev/restate-server']!, 'restate-sdk': dependencies['@restatedev/restate-sdk']! }

const processes = ({ urls, dir }: Place) =>
  [
    {
      name: 'server',
      file: serverFile,
      args: ['--no-logo', '--base-dir', `${dir}/restate`, '--node-name', 'bench', '--listen-mode', 'tcp', '--bind-address', at(urls.node)],
      env: { RESTATE_INGRESS__BIND_ADDRESS: at(urls.api), RESTATE_ADMIN__BIND_ADDRESS: at(urls.admin), RESTATE_DISABLE_TELEMETRY: 'true', RESTATE_LOG_FILTER: 'warn' },
    },
    {
      name: 'worker',
      file: process.execPath,
      args: [own('service.ts'), `${cache}/node_modules/@restatedev/restate-sdk/dist/index.js`],
      env: { AGENT_URL: urls.agent, SERVICE_PORT: new URL(urls.service).port, DONE_PORT: new URL(urls.worker).port },
      ipc: true,
    },
  ] as const

/** Tells the server where the service is. */
const deploy = async (urls: Urls): Promise<void> => {
  const res = await fetch(`${urls.admin}/deployments`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ uri: urls.service }) })
  if (res.status !== 201) throw new Error(`deploying the service answered ${res.status}: ${await res.text()}`)
}

const attach = (id: string) => `/restate/invocation/${id}/attach`

export const restate: System = {
  redis: false,
  processes,
  ready: (urls) => [`${urls.admin}/health`, `${urls.api}/restate/health`, `${urls.worker}/done`],
  prepare: deploy,
  submit: { path: '/Bench/task/send', status: 202, id: 'invocationId' },
  // A handler that has returned is counted, which is a little before its invocation has completed; so those that are read back are attached to.
  readBack: { path: attach, isRight: (body) => body === '{"ok":true}' },
  completed: { from: 'worker', path: '/done', read: Number },
  wait: attach,
  settings: 'all defaults (one node, 24 partitions, its log synced to disk, up to 1,000 invocations at once)',
}
