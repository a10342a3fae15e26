/**
 * A process that sends what nobody should send, as raw bytes: each kind goes on, with new connections, until `stop` comes; then it says what came of it.
 * `process.argv[2]` is a `FloodSettings` as JSON.
 */
import { connect, type Socket } from 'node:net'

/** The APIs, and an agent of theirs that has a task in hand. */
export type FloodSettings = { ports: number[]; agentId: string; taskId: string; attemptId: string }
/** What came of one kind: bytes that went out, connections made, and closed by the other side, answers by status. */
export type Seen = { name: string; bytes: number; connections: number; closed: number; answers: Record<string, number> }

const KIB = 1024
const MIB = KIB * KIB
/** Between two of what one connection sends: it is room that is to run out here, and not this machine's time. */
const PAUSE_MS = 100
const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
const forever = () => new Promise<never>(() => {})

type Sender = { seen: Seen; stop: () => void }

type Work = (socket: Socket, write: (what: string | Buffer) => Promise<void>) => Promise<void>

/**
 * @param at once so many connections
 * @param work what each does; it is done again, on a new connection, when it ends or is closed
 */
const startSender = (name: string, port: number, at: number, work: Work): Sender => {
  const seen: Seen = { name, bytes: 0, connections: 0, closed: 0, answers: {} }
  const sockets = new Set<Socket>()
  let stopped = false
  const one = async (): Promise<void> => {
    while (!stopped) {
      const socket = connect({ port, host: '127.0.0.1' })
      sockets.add(socket)
      const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
      socket.on('error', () => {})
      socket.once('connect', () => seen.connections++)
      socket.on('data', (chunk: Buffer) => {
        for (const [, status] of chunk.toString('latin1').matchAll(/HTTP\/1\.1 (\d{3})/g)) seen.answers[status!] = (seen.answers[status!] ?? 0) + 1
      })
      const write = async (what: string | Buffer): Promise<void> => {
        if (socket.destroyed || socket.writableEnded) throw new Error('closed')
        seen.bytes += what.length
        if (!socket.write(what)) await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), closed])
      }
      await Promise.race([work(socket, write).catch(() => {}), closed])
      if (!stopped && socket.destroyed) seen.closed++
      socket.destroy()
      sockets.delete(socket)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
  for (let i = 0; i < at; i++) void one()
  return {
    seen,
    stop: () => {
      stopped = true
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** The head of a POST with a body of JSON. */
const headOf = (path: string, length: number | 'chunked'): string =>
  `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${length === 'chunked' ? 'Transfer-Encoding: chunked' : `Content-Length: ${length}`}\r\n\r\n`

/** Each kind of sender, against one API. `taskId` is one that an agent has in hand. */
const senders = (port: number, agentId: string, taskId: string, attemptId: string): Sender[] => {
  const start = (name: string, at: number, work: Parameters<typeof startSender>[3]) => startSender(name, port, at, work)
  const again = (name: string, at: number, path: string, body: string) =>
    start(name, at, async (socket, write) => {
      for (;;) {
        const answered = new Promise((resolve) => socket.once('data', resolve))
        await write(headOf(path, Buffer.byteLength(body)) + body)
        await answered
        await pause()
      }
    })
  const metadata = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`m${i}`, 'x'.repeat(240)]))
  const beat = JSON.stringify({ running: Array.from({ length: 2000 }, (_, i) => `${i}.${'r'.repeat(100)}`), metadata })
  const registration = JSON.stringify({ name: 'n'.repeat(256), type: 'hostile', host: '127.0.0.1', port: 9, agent_id: 'hostile', capabilities: Array.from({ length: 64 }, (_, i) => `c${i}-${'c'.repeat(50)}`), metadata })
  const stale = JSON.stringify({ attempt_id: 'nobody', status: 'completed', result: 'r'.repeat(MIB - 200) })
  const progress = JSON.stringify({ attempt_id: attemptId, percent: 1, message: 'p'.repeat(1000), data: { d: 'd'.repeat(9000) } })
  const deep = '{"status":"healthy","metadata":{"a":' + '['.repeat(400_000)
  const chunk = Buffer.alloc(64 * KIB, 0x61)
  const chunked = Buffer.concat([Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n')])
  return [
    again('heartbeats at their cap', 8, `/agents/${agentId}/heartbeat`, beat),
    again('registrations at their cap', 4, '/agents/register', registration),
    again('results at their cap', 16, `/tasks/${taskId}/result`, stale),
    again('progress at its cap', 8, `/tasks/${taskId}/progress`, progress),
    again('bodies that are no JSON', 4, `/agents/${agentId}/heartbeat`, deep),
    start('bodies without end', 20, async (_, write) => {
      await write(headOf(`/tasks/${taskId}/result`, 'chunked'))
      for (;; await pause()) await write(chunked)
    }),
    start('5 GB announced', 20, async (_, write) => {
      await write(headOf(`/agents/${agentId}/heartbeat`, 5e9))
      for (;; await pause()) await write(chunk)
    }),
    // All but the last of what is allowed, and then nothing: each holds what it has sent.
    start('bodies that do not end', 500, async (_, write) => {
      await write(`${headOf(`/tasks/${taskId}/result`, MIB - 100)}{"attempt_id":"a","status":"completed","result":"`)
      for (let i = 0; i < 15; i++) await write(chunk)
      await forever()
    }),
    start('heads that do not end', 200, async (_, write) => {
      await write(`POST /agents/register HTTP/1.1\r\nHost: localhost\r\nX-Long: ${'h'.repeat(8 * KIB)}`)
      await forever()
    }),
    start('connections that say nothing', 1500, forever),
  ]
}

const { ports, ...of } = JSON.parse(process.argv[2]!) as FloodSettings
const all = ports.flatMap((port) => senders(port, of.agentId, of.taskId, of.attemptId))
process.on('message', () => {
  for (const s of all) s.stop()
  process.send?.({ seen: all.map((s) => s.seen) })
})
process.on('disconnect', () => process.exit()) // the trial has gone
process.send?.({ ready: true, url: '' })
