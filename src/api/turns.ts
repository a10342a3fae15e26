/** What one connection may ask of the process: one thing after the other, and its answers read. */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** Requests that wait behind another of their connection; who sends more ahead of the answers is cut off. */
const MAX_AHEAD = 32
/** So long a client may go on sending a body that was answered before it had come. Its answer would be lost if the connection ended at once. */
const LINGER_MS = 2_000

/** Drops the rest of a body, for a while: then the connection. */
const linger = (req: IncomingMessage): void => {
  const timer = setTimeout(() => req.socket.destroy(), LINGER_MS)
  req.once('close', () => clearTimeout(timer))
  req.resume()
}

/**
 * Serves the requests of a connection one by one, however many are sent ahead (HTTP pipelining): Node would begin all that it has read, and a
 * few kilobytes of requests can ask for gigabytes of answers.
 */
export const createTurns = () => {
  const waiting = new WeakMap<Socket, (() => void)[]>()
  return (serve: RequestListener): RequestListener =>
    (req: IncomingMessage, res: ServerResponse) => {
      const { socket } = req
      const begin = (): void => {
        res.once('close', () => {
          if (!req.complete && !socket.destroyed) linger(req)
          const next = waiting.get(socket)?.shift()
          if (next === undefined) waiting.delete(socket)
          else if (!socket.destroyed) next()
        })
        serve(req, res as never)
      }
      const line = waiting.get(socket)
      if (line === undefined) {
        waiting.set(socket, [])
        begin()
      } else if (line.length < MAX_AHEAD) line.push(begin)
      else socket.destroy()
    }
}
