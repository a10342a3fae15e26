/** What is around the system: an agent of each kind, and the receiver of webhooks, in one server of the bench's own process. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

const read = (req: IncomingMessage): Promise<string> =>
  new Promise((resolve) => {
    let text = ''
    req.setEncoding('utf8').on('data', (chunk: string) => (text += chunk)).on('end', () => resolve(text))
  })
const answer = (res: ServerResponse, status: number, body: unknown): void => {
  res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

/** @param tell posts a result that comes later */
export const createWorld = async (tell: (taskId: string, body: object) => Promise<unknown>) => {
  const seen = { tasks: 0, webhooks: 0 }
  const perform = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const { task_id, attempt_id, parameters } = JSON.parse(await read(req)) as { task_id: string; attempt_id: string; parameters: { fails?: boolean; later?: boolean; result: number } }
    seen.tasks++
    if (parameters.fails) return answer(res, 500, { task_id, status: 'failed', error: 'on purpose' })
    const result = { text: 'r'.repeat(parameters.result) }
    if (!parameters.later) return answer(res, 200, { task_id, status: 'completed', result })
    answer(res, 202, {})
    setTimeout(() => void tell(task_id, { attempt_id, status: 'completed', result }).catch(() => {}), 500)
  }
  const server = createServer((req, res) => {
    if (req.url === '/task') return void perform(req, res).catch(() => res.destroy())
    if (req.url === '/hook') seen.webhooks++
    void read(req).then(() => answer(res, 200, {}))
  })
  server.keepAliveTimeout = 0
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    seen,
    port,
    end: (): void => {
      server.closeAllConnections()
      server.close()
    },
  }
}
