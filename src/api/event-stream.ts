/** Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): a response that stays open and tells. */
import type { Request, Response } from 'express'

/** A client that reads so much slower than things happen is cut off; it comes back with its Last-Event-ID. */
const MAX_UNREAD_BYTES = 1024 * 1024
/** Shorter than what proxies take for silence. */
export const KEEP_ALIVE_MS = 15_000
/** How soon a client that was cut off comes back. */
const RETRY_MS = 1000

export type EventStream = {
  /** @param id where to resume behind it; undefined: not a place to resume at */
  send: (name: string, data: string, id?: string) => void
  /** No more comes: the client is told so by the end of the response. */
  end: () => void
  /** Called once, when the client has gone, was cut off, or the stream has ended. */
  onClose: (closed: () => void) => void
  readonly open: boolean
}

export const openEventStream = (req: Request, res: Response): EventStream => {
  res.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8', 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' })
  req.socket.setNoDelay(true)
  let open = true
  const listeners: (() => void)[] = []
  const write = (text: string): void => {
    if (!open || res.writableEnded) return
    res.write(text)
    if (res.writableLength > MAX_UNREAD_BYTES) res.destroy()
  }
  const keepAlive = setInterval(() => write(': still here\n\n'), KEEP_ALIVE_MS)
  res.once('close', () => {
    open = false
    clearInterval(keepAlive)
    for (const closed of listeners) closed()
  })
  if (req.method === 'HEAD') res.end()
  write(`retry: ${RETRY_MS}\n\n`)
  return {
    send: (name, data, id) => write(`${id === undefined ? '' : `id: ${id}\n`}event: ${name}\ndata: ${data}\n\n`),
    end: () => {
      open = false
      res.end()
    },
    onClose: (closed) => void listeners.push(closed),
    get open() {
      return open
    },
  }
}
