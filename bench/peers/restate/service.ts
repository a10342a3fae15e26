/**
 * The service that performs the bench's tasks: one durable step, which posts to the agent. A process of its own, started by bench/main.ts;
 * argument: the SDK's entry; env: AGENT_URL, SERVICE_PORT, DONE_PORT. GET /done on DONE_PORT tells how many handlers have returned.
 */
import { createServer } from 'node:http'
import { pathToFileURL } from 'node:url'

/** What is used of @restatedev/restate-sdk, which is no dependency of this project: it is there only once the bench has fetched it. */
type Context = { run: <T>(name: string, step: () => Promise<T>) => Promise<T>; request: () => { id: string } }
type Task = { task_type: string; parameters: unknown }
type Sdk = { service: (of: { name: string; handlers: Record<string, (ctx: Context, task: Task) => Promise<unknown>> }) => object; serve: (options: { services: object[]; port: number }) => Promise<number> }

const { service, serve } = (await import(pathToFileURL(process.argv[2]!).href)) as Sdk
const url = `${process.env['AGENT_URL']}/task`
const headers = { 'content-type': 'application/json' }

const post = async (id: string, { task_type, parameters }: Task): Promise<unknown> => {
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ task_id: id, task_type, parameters }) })
  if (answer.status !== 200) throw new Error(`the agent answered ${answer.status}`)
  return ((await answer.json()) as { result: unknown }).result
}

let done = 0
const task = async (ctx: Context, body: Task): Promise<unknown> => {
  const { id } = ctx.request()
  const result = await ctx.run('agent', () => post(id, body))
  done++
  return result
}
await serve({ services: [service({ name: 'Bench', handlers: { task } })], port: Number(process.env['SERVICE_PORT']) })

createServer((_req, res) => res.end(String(done))).listen(Number(process.env['DONE_PORT']), '127.0.0.1')
process.on('disconnect', () => process.exit(0))
