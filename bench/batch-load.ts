/**
 * The load of `--batches`: a process of its own, which submits as many tasks as it is told, one by one or a thousand in a request, in a closed
 * loop. Nobody performs them: what is measured is how fast they are taken.
 */
import { Client } from 'undici'
import { clock } from './clock.ts'
import { BATCH_CLIENTS, CLIENTS, PARAMETERS_BYTES, TASKS_A_BATCH } from './settings.ts'

export type Way = 'single' | 'batch'
export type SubmitPhase = Readonly<{ way: Way; tasks: number }>
export type SubmitOutcome = { ok: { seconds: number } } | { error: string }

const api = process.argv[2]!
const padding = 'x'.repeat(PARAMETERS_BYTES - '{"key":"k00000000","text":""}'.length)
let made = 0
const task = () => `{"task_type":"echo","agent_type":"bench","parameters":{"key":"k${String(made++ % 1e8).padStart(8, '0')}","text":"${padding}"}}`
const ways = {
  single: { path: '/tasks', clients: CLIENTS, tasks: 1, body: task, status: 201, begins: '{"task_id":' },
  batch: { path: '/tasks/batch', clients: BATCH_CLIENTS, tasks: TASKS_A_BATCH, body: () => `{"tasks":[${Array.from({ length: TASKS_A_BATCH }, task).join(',')}]}`, status: 200, begins: `{"accepted":${TASKS_A_BATCH},"refused":0,` },
}
const connections = Array.from({ length: Math.max(CLIENTS, BATCH_CLIENTS) }, () => new Client(api, { pipelining: 1 }))

const submit = ({ way, tasks }: SubmitPhase): Promise<void> =>
  new Promise((resolve, reject) => {
    const { path, clients, body, status, begins, tasks: each } = ways[way]
    const requests = Math.ceil(tasks / each)
    let sent = 0
    let answered = 0
    const next = (client: Client): void => {
      if (sent++ >= requests) return
      let code = 0
      let answer = ''
      client.dispatch(
        { path, method: 'POST', headers: ['content-type', 'application/json'], body: body() },
        {
          onRequestStart() {},
          onResponseStart(_controller, statusCode) {
            code = statusCode
          },
          onResponseData(_controller, chunk) {
            answer ||= chunk.toString('latin1')
          },
          onResponseEnd: () => {
            if (code !== status || !answer.startsWith(begins)) return reject(new Error(`POST ${path} answered ${code}: ${answer.slice(0, 500)}`))
            if (++answered === requests) resolve()
            else next(client)
          },
          onResponseError: (_controller, error) => reject(error),
        },
      )
    }
    connections.slice(0, clients).forEach(next)
  })

process.on('message', (phase: SubmitPhase) => {
  const start = clock()
  submit(phase).then(
    () => process.send?.({ ok: { seconds: (clock() - start) / 1000 } } satisfies SubmitOutcome),
    (error: Error) => process.send?.({ error: error.message } satisfies SubmitOutcome),
  )
})
process.on('disconnect', () => process.exit(0))
