/** Agents whose answers never end, are huge, are none, or send the router elsewhere. */
import { randomBytes } from 'node:crypto'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { gzipSync } from 'node:zlib'
import { sleep } from '../../system.ts'
import type { Row, Trial } from '../row.ts'
import { ended, json, startStub, type Delivery } from '../stub.ts'

const SLACK_MS = 1_500
/** For each stub. With one more it would be found sick, and tried with one task every few seconds. */
const TASKS = 4
/** P8. */
const LATE_MS = 1_000

/** Writes again and again, as fast as the other side reads. */
const flood = (socket: Socket, chunk: Buffer | string): void => {
  const more = (): void => {
    while (!socket.destroyed) if (!socket.write(chunk)) return void socket.once('drain', more)
  }
  more()
}
const everyMs = (socket: Socket, ms: number, text: string): void => {
  const timer = setInterval(() => socket.write(text), ms)
  socket.once('close', () => clearInterval(timer))
}
const HINT = 'HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n'

const ENDLESS: Record<string, (socket: Socket) => void> = {
  silent: () => {},
  'headers-only': (s) => void s.write('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n'),
  'dribbled-head': (s) => (s.write('HTTP/1.1 200 OK\r\n'), everyMs(s, 1000, 'x')),
  'dribbled-body': (s) => (s.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n'), everyMs(s, 1000, '1\r\n{\r\n')),
  hints: (s) => everyMs(s, 20, HINT),
  'hints-flood': (s) => flood(s, HINT.repeat(100)),
}

/** Each attempt ends by its timeout and a second, in the record and on the wire. */
const endsInTime = (trial: Trial, kind: string, timeoutMs: number, deliveries: readonly Delivery[]): void => {
  for (const d of deliveries) {
    const took = (d.closedAt ?? Infinity) - d.at
    if (took > timeoutMs + LATE_MS + SLACK_MS) trial.violate(`P8: ${kind}: the connection of ${d.taskId} was open for ${Math.round(took)} ms, of ${timeoutMs}`)
    else trial.bit()
  }
}

const HEAD = 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n'
const MIB = 1024 * 1024
const MAX_RISE_MIB = 20
/** What kernels keep of a connection that nobody reads, both sides together. */
const IN_KERNELS = 16 * MIB

const HUGE: Record<string, { talk: (socket: Socket) => void; error: RegExp }> = {
  'endless-body': { talk: (s) => (s.write(`${HEAD}transfer-encoding: chunked\r\n\r\n`), flood(s, `10000\r\n${'x'.repeat(65536)}\r\n`)), error: /larger than 1048576 bytes/ },
  '5-gb': { talk: (s) => (s.write(`${HEAD}content-length: 5368709120\r\n\r\n`), flood(s, Buffer.alloc(65536, 'x'))), error: /larger than 1048576 bytes/ },
  'gzip-bomb': { talk: (s) => s.write(Buffer.concat([Buffer.from(`${HEAD}content-encoding: gzip\r\ncontent-length: ${bomb().length}\r\n\r\n`), bomb()])), error: /compressed/ },
  'endless-head': { talk: (s) => (s.write('HTTP/1.1 200 OK\r\n'), flood(s, `x-${'y'.repeat(60)}: ${'z'.repeat(1000)}\r\n`)), error: /too large headers/ },
}
/** Small, and 128 MiB once inflated. */
let made: Buffer | undefined
const bomb = (): Buffer => (made ??= gzipSync(Buffer.alloc(128 * MIB), { level: 1 }))

/** The most that any dispatcher has of memory, over all the times it is asked. */
const watchMemory = ({ fleet }: Trial) => {
  const most = fleet.dispatchers.map(() => 0)
  const look = (): void => fleet.dispatchers.forEach((d, i) => (most[i] = Math.max(most[i]!, d.residentMiB())))
  const timer = setInterval(look, 100)
  return { take: () => { look(); return most.splice(0, most.length, ...most.map(() => 0)) }, [Symbol.dispose]: () => clearInterval(timer) }
}

type Wrong = { answer: (d: Delivery) => string | Buffer; ends?: boolean; error: RegExp }
const WRONG: Record<string, Wrong> = {
  'bad JSON': { answer: () => json(200, '{"status":"completed",'), error: /not JSON/ },
  'another task': { answer: () => json(200, { task_id: 'x.0199b1c0-0000-7000-8000-000000000001', status: 'completed', result: 1 }), error: /for another task/ },
  'HTML': { answer: () => json(200, '<html><body>It works!</body></html>', { 'content-type': 'text/html' }), error: /not JSON: <html>/ },
  '204': { answer: () => 'HTTP/1.1 204 No Content\r\n\r\n', error: /204, but it has no body/ },
  'nothing': { answer: () => json(200, ''), error: /no body/ },
  'a 20 KB header': { answer: () => json(200, '{}', { 'x-big': 'x'.repeat(20_480) }), error: /too large headers/ },
  'no HTTP': { answer: () => 'SSH-2.0-OpenSSH_9.6\r\n', ends: true, error: /not HTTP/ },
  'a list': { answer: () => json(200, '[1]'), error: /JSON but no object/ },
  'no UTF-8': { answer: () => Buffer.concat([Buffer.from(`${HEAD}content-length: 4\r\n\r\n`), Buffer.from([0x7b, 0xff, 0xfe, 0x7d])]), error: /not UTF-8/ },
  'an unknown status': { answer: (d) => json(200, { task_id: d.taskId, status: 'done' }), error: /neither completed nor failed/ },
  'half of it': { answer: () => `${HEAD}content-length: 500\r\n\r\n{"status":`, ends: true, error: /closed the connection in its answer/ },
  'two lengths': { answer: () => `${HEAD}content-length: 2\r\ncontent-length: 3\r\n\r\n{} `, error: /not HTTP|closed the connection/ },
  'noise': { answer: () => randomBytes(2000), ends: true, error: /not HTTP|closed the connection/ },
}

const REDIRECTS = [301, 302, 303, 307, 308]

export const hostileRows: readonly Row[] = [
  {
    name: 'answers-endless',
    fault: 'agents that never answer, hang after headers, dribble for ever, or send 103s without end',
    promises: 'P8',
    mixes: true,
    run: (trial) =>
      trial.broken(async () => {
        const stubs = await Promise.all(Object.entries(ENDLESS).map(([kind, talk]) => startStub(trial, { type: `endless-${kind}`, talk: (d) => talk(d.socket) })))
        await Promise.all(stubs.map(async (stub) => {
          const ids = await Promise.all(Array.from({ length: TASKS }, () => stub.submit({ max_retries: 1 })))
          for (const task of await ended(trial, ids)) {
            if (task.status !== 'timeout' || !/within 2 s/.test(task.error ?? '')) trial.violate(`${stub.type}: ${task.task_id} ended ${task.status} (${task.error})`)
            for (const a of task.attempts) {
              const took = Date.parse(a.ended_at!) - Date.parse(a.sent_at)
              if (took > 2000 + LATE_MS + SLACK_MS) trial.violate(`P8: ${stub.type}: attempt ${a.attempt} of ${task.task_id} took ${took} ms`)
            }
          }
          await sleep(200)
          trial.injected(2 * TASKS)
          endsInTime(trial, stub.type, 2000, stub.deliveries)
          await stub.close()
        }))
      }),
  },
  {
    name: 'answers-huge',
    fault: 'agents that answer with endless bodies and headers, 5 GB, a gzip bomb',
    promises: 'P8, memory',
    run: async (trial) => {
      using memory = watchMemory(trial)
      await sleep(8_000) // their heaps have grown to what the load takes
      const calm = memory.take()
      await trial.broken(async () => {
        const stubs = await Promise.all(Object.entries(HUGE).map(([kind, { talk }]) => startStub(trial, { type: `huge-${kind}`, slots: 1, talk: (d) => talk(d.socket) })))
        await Promise.all(stubs.map(async (stub) => {
          const { error } = HUGE[stub.type.replace('huge-', '')]!
          for (let i = 0; i < TASKS; i++) {
            const [task] = await ended(trial, [await stub.submit({ timeout_seconds: 10 })])
            if (task!.status !== 'failed' || !error.test(task!.error ?? '')) trial.violate(`${stub.type}: ${task!.task_id} ended ${task!.status} (${task!.error})`)
          }
          await sleep(200)
          trial.injected(TASKS)
          for (const d of stub.deliveries) {
            if (d.closedAt === null && stub.type !== 'huge-gzip-bomb') trial.violate(`${stub.type}: nobody closed the connection`)
            else if (d.sentBytes > IN_KERNELS) trial.violate(`${stub.type}: ${Math.round(d.sentBytes / MIB)} MiB were taken`)
            else trial.bit()
          }
          await stub.close()
        }))
      })
      const peak = memory.take()
      const rises = peak.map((p, i) => p - calm[i]!)
      trial.note(`dispatchers' memory, MiB: calm ${calm.map(Math.round).join(', ')}; most ${peak.map(Math.round).join(', ')}`)
      if (Math.max(...rises) > MAX_RISE_MIB) trial.violate(`a dispatcher's memory rose by ${Math.round(Math.max(...rises))} MiB`)
    },
  },
  {
    name: 'answers-wrong',
    fault: 'agents that answer bad JSON, for another task, HTML, nothing, a 20 KB header, no HTTP …',
    promises: 'each is a failed attempt that says why',
    mixes: true,
    run: (trial) =>
      trial.broken(async () => {
        await Promise.all(Object.entries(WRONG).map(async ([kind, { answer, ends, error }]) => {
          const stub = await startStub(trial, { type: `wrong-${kind.replaceAll(' ', '-')}`, talk: (d) => void (ends ? d.socket.end(answer(d)) : d.socket.write(answer(d))) })
          for (const task of await ended(trial, await Promise.all(Array.from({ length: TASKS }, () => stub.submit())))) {
            trial.injected()
            if (stub.of(task.task_id).length > 0) trial.bit()
            if (task.status !== 'failed' || task.attempts[0]?.outcome !== 'failed' || !error.test(task.error ?? '')) trial.violate(`${kind}: ${task.task_id} ended ${task.status}, ${task.attempts[0]?.outcome} (${task.error})`)
          }
          await stub.close()
        }))
      }),
  },
  {
    name: 'answers-redirect',
    fault: `agents that answer ${REDIRECTS.join(', ')} with another host`,
    promises: 'nothing is sent there',
    mixes: true,
    run: (trial) =>
      trial.broken(async () => {
        const seen = { connections: 0, bytes: 0 }
        const elsewhere = createServer((socket) => {
          seen.connections++
          socket.on('error', () => {}).on('data', (chunk) => (seen.bytes += chunk.length))
        })
        await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve))
        const { port } = elsewhere.address() as AddressInfo
        await Promise.all(REDIRECTS.map(async (status) => {
          const stub = await startStub(trial, { type: `redirects-${status}`, talk: (d) => void d.socket.write(json(status, '{}', { location: d.body.parameters.location })) })
          const locations = [`http://127.0.0.1:${port}/task`, `//127.0.0.1:${port}/task`, 'http://169.254.169.254/latest/meta-data/', '/task']
          for (const task of await ended(trial, await Promise.all(locations.map((location) => stub.submit({ parameters: { location } }))))) {
            const came = stub.of(task.task_id).length
            trial.injected()
            if (came > 0) trial.bit()
            if (task.status !== 'failed' || !/redirects are never followed/.test(task.error ?? '')) trial.violate(`${status}: ${task.task_id} ended ${task.status} (${task.error})`)
            if (came > 1) trial.violate(`${status}: ${task.task_id} came ${came} times`)
          }
          await stub.close()
        }))
        if (seen.connections > 0) trial.violate(`${seen.connections} connections and ${seen.bytes} bytes at the other host`)
        elsewhere.close()
      }),
  },
]
