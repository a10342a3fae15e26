/** An HTTP client that mends nothing: it sends the bytes it is given, and reads what comes. */
import { connect } from 'node:net'

export type Exact = { method: string; path: string; headers?: readonly (readonly [name: string, value: string])[]; body?: string | Buffer | undefined }
export type Got = { status: number; headers: Record<string, string>; text: string }

/** A request as it goes over the wire; whatever its headers say of it. */
export const bytesOf = ({ method, path, headers = [], body = '' }: Exact): Buffer =>
  Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`, 'latin1'), Buffer.from(body)])

const headOf = (text: string): Omit<Got, 'text'> => {
  const [line = '', ...lines] = text.split('\r\n')
  return { status: Number(line.split(' ')[1]), headers: Object.fromEntries(lines.map((l) => [l.slice(0, l.indexOf(':')).toLowerCase(), l.slice(l.indexOf(':') + 1).trim()])) }
}

/** The body of a chunked answer, or null while there is more to come. */
const joined = (bytes: Buffer): Buffer | null => {
  const parts: Buffer[] = []
  for (let at = 0; ; ) {
    const line = bytes.indexOf('\r\n', at)
    const size = parseInt(bytes.toString('latin1', at, line), 16)
    if (line < 0 || line + 2 + size + 2 > bytes.length) return null
    if (size === 0) return Buffer.concat(parts)
    parts.push(bytes.subarray(line + 2, line + 2 + size))
    at = line + 2 + size + 2
  }
}

/** The answer in what has come, or null while it is not whole. Of a stream the head is enough. */
const answerIn = (bytes: Buffer, method: string): Got | null => {
  const end = bytes.indexOf('\r\n\r\n')
  if (end < 0) return null
  const head = headOf(bytes.toString('latin1', 0, end))
  const rest = bytes.subarray(end + 4)
  if (head.status < 200) return answerIn(rest, method)
  if (method === 'HEAD' || head.status === 204 || head.status === 304 || head.headers['content-type']?.startsWith('text/event-stream')) return { ...head, text: '' }
  const length = Number(head.headers['content-length'])
  const body = head.headers['transfer-encoding'] === 'chunked' ? joined(rest) : rest.length >= length ? rest.subarray(0, length) : null
  return body && { ...head, text: body.toString() }
}

/**
 * Sends a request, or any bytes, on a connection of its own, which it drops behind the answer. `thenEnds`: it says that no more bytes come.
 * @returns null when the other side ends it without an answer
 * @throws when nothing comes of it in time
 */
export const exchange = (url: string, sent: Exact | string | Buffer, { timeoutMs = 10_000, thenEnds = false } = {}): Promise<Got | null> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url)
    const bytes = typeof sent === 'string' ? Buffer.from(sent, 'latin1') : Buffer.isBuffer(sent) ? sent : bytesOf(sent)
    const [method = ''] = bytes.toString('latin1', 0, 20).split(' ', 1)
    const chunks: Buffer[] = []
    const socket = connect(Number(port), hostname, () => (thenEnds ? socket.end(bytes) : socket.write(bytes)))
    const timer = setTimeout(() => end(() => reject(new Error(`no answer within ${timeoutMs} ms, but ${Buffer.concat(chunks).toString().slice(0, 500)}`))), timeoutMs)
    const end = (tell: () => void) => {
      clearTimeout(timer)
      socket.destroy()
      tell()
    }
    socket.setNoDelay(true)
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      const answer = answerIn(Buffer.concat(chunks), method)
      if (answer) end(() => resolve(answer))
    })
    socket.on('error', () => {})
    socket.on('close', () => end(() => resolve(null)))
  })
