/** Agents that lie, hang and flood: TCP servers in the trial itself, each under an agent type of its own, that do with a delivery whatever a row wants. */
import { randomUUID } from 'node:crypto'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { call, until } from '../system.ts'
import type { TaskRecord } from './checker.ts'
import { mono } from './clock.ts'
import { ENDS } from './load.ts'
import type { Trial } from './row.ts'

/** What came, and what became of its connection. */
export type Delivery = {
  at: number
  taskId: string
  attemptId: string
  attempt: number
  headers: Record<string, string>
  body: any
  /** Which of its connection's requests it is, from 1. */
  nth: number
  socket: Socket
  /** When the router closed the connection; null while it has not. */
  closedAt: number | null
  /** What was sent on the connection until then. */
  sentBytes: number
}

export type StubOptions = {
  type: string
  /** Answers it, or does not. */
  talk: (delivery: Delivery) => void
  /** Called for each chunk before it is looked at; true: nobody looks at it. */
  meddle?: (socket: Socket, chunk: Buffer, requests: number) => boolean
  id?: string
  slots?: number
  ttlSeconds?: number
  /** Where the router is to look for it, if not at its own address. */
  host?: string
  port?: number
}

export const json = (status: number, body: unknown, headers: Record<string, string> = {}): string => {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const head = Object.entries({ 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)), ...headers })
  return `HTTP/1.1 ${status} X\r\n${head.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${text}`
}
export const completed = (d: Delivery, result: unknown = { attempt_id: d.attemptId }): string => json(200, { task_id: d.taskId, status: 'completed', result })

/** Its address, and its deliveries; not yet registered. */
export const listenStub = async ({ talk, meddle }: Pick<StubOptions, 'talk' | 'meddle'>) => {
  const deliveries: Delivery[] = []
  const sockets = new Set<Socket>()
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket)
    let text = ''
    let requests = 0
    socket.on('error', () => {})
    socket.on('close', () => {
      sockets.delete(socket)
      for (const d of deliveries) if (d.socket === socket) Object.assign(d, { closedAt: mono(), sentBytes: socket.bytesWritten })
    })
    socket.on('data', (chunk) => {
      if (meddle?.(socket, chunk, requests)) return
      text += chunk.toString('latin1')
      const head = text.indexOf('\r\n\r\n')
      if (head < 0) return
      const [line = '', ...lines] = text.slice(0, head).split('\r\n')
      const headers = Object.fromEntries(lines.map((l) => [l.slice(0, l.indexOf(':')).toLowerCase(), l.slice(l.indexOf(':') + 1).trim()]))
      const length = Number(headers['content-length'] ?? 0)
      if (text.length < head + 4 + length) return
      const body = text.slice(head + 4, head + 4 + length)
      text = ''
      if (!line.startsWith('POST')) return void socket.write(json(404, {})) // told to stop an attempt: it knows none
      const said = JSON.parse(body)
      const delivery = { at: mono(), taskId: said.task_id, attemptId: said.attempt_id, attempt: said.attempt, headers, body: said, nth: ++requests, socket, closedAt: null, sentBytes: 0 }
      deliveries.push(delivery)
      talk(delivery)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    deliveries,
    of: (taskId: string) => deliveries.filter((d) => d.taskId === taskId),
    end: () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

export const startStub = async ({ fleet, violate }: Trial, o: StubOptions) => {
  const at = await listenStub(o)
  const ttlSeconds = o.ttlSeconds ?? 60
  const registration = { ...(o.id ? { agent_id: o.id } : {}), name: o.type, type: o.type, host: o.host ?? '127.0.0.1', port: o.port ?? at.port, capabilities: ['work'], max_concurrency: o.slots ?? 4, ttl_seconds: ttlSeconds }
  const answer = await call('POST', `${fleet.api()}/agents/register`, registration)
  if (answer.status !== 201) throw new Error(`the stub ${o.type} could not register: ${answer.status} ${answer.text}`)
  const id: string = answer.json.agent_id
  const beat = () => call('POST', `${fleet.api()}/agents/${id}/heartbeat`, {}).catch(() => {})
  const beating = setInterval(() => void beat(), (ttlSeconds * 1000) / 3)
  const slots = async (): Promise<number> => (await call('GET', `${fleet.api()}/agents/${id}`).catch(() => null))?.json?.in_flight ?? NaN
  return {
    id, type: o.type, ...at, beat, slots,
    /** A task for it, by a client that does not give up. */
    submit: async (task: Record<string, unknown> = {}): Promise<string> => {
      const key = randomUUID()
      const body = { task_type: 'work', agent_type: o.type, timeout_seconds: 2, max_retries: 0, retry_delay_seconds: 0.1, ...task }
      const taken = await until(async () => {
        const answer = await call('POST', `${fleet.api()}/tasks`, body, { 'idempotency-key': key }).catch(() => null)
        return answer === null || answer.status === 503 || answer.status === 429 ? null : answer
      }, { timeoutMs: 60_000, everyMs: 200, what: `an answer to a task for ${o.type}` })
      if (taken.status !== 201) throw new Error(`the stub ${o.type} got no task: ${taken.status} ${taken.text}`)
      return taken.json.task_id
    },
    /** Takes it away again; by then it holds no slot. */
    close: async () => {
      await until(async () => (await slots()) === 0, { timeoutMs: 5_000, everyMs: 100 }).catch(async () => violate(`P6: ${await slots()} slots held at ${o.type} with nothing under way`))
      clearInterval(beating)
      at.end()
      await call('DELETE', `${fleet.api()}/agents/${id}`).catch(() => {})
    },
  }
}
export type Stub = Awaited<ReturnType<typeof startStub>>

/** Waits until tasks have ended. */
export const ended = ({ fleet }: Trial, ids: readonly string[], timeoutMs = 30_000): Promise<TaskRecord[]> =>
  Promise.all(ids.map((id) => until(async () => {
    const task = (await call('GET', `${fleet.api()}/tasks/${id}?wait=2`).catch(() => null))?.json
    return ENDS.includes(task?.status) ? (task as TaskRecord) : null
  }, { timeoutMs, everyMs: 50, what: `the end of ${id}` })))
