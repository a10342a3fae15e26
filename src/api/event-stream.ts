/** Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): a response that stays open and tells. */
import type { Request, Response } from 'express'

/**
 * What all clients of a process together may leave unread; each has an equal part of it, within these bounds. Whoever reads so much slower
 * than things happen is cut off, and comes back with its Last-Event-ID.
 */
const UNREAD_BYTES = { all: 32 * 1024 * 1024, least: 8 * 1024, most: 1024 * 1024 }
/** Shorter than what proxies take for silence. */
export const KEEP_ALIVE_MS = 15_000
/** How soon a client that was cut off comes back. */
const RETRY_MS = 1000

export type EventStream = {
  /** @param id where to resume behind it; undefined: not a place to resume at */
  send: (name: string, data: string, id?: string) => void
  /** No more comes: the client is told so by the end of the response. */
  end: () => void
  /** Resolves when the client has read enough to be sent more, or has gone. */
  readable: () => Promise<void>
  readonly open: boolean
}

/** The streams of a process, which share what may be left unread. */
export const createEventStreams = () => {
  let open = 0
  const mayBeUnread = () => Math.min(UNREAD_BYTES.most, Math.max(UNREAD_BYTES.least, UNREAD_BYTES.all / open))

  return (req: Request, res: Response): EventStream => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8', 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' })
    req.socket.setNoDelay(true)
    open++
    const write = (text: string): void => {
      if (res.destroyed || res.writableEnded) return
      res.write(text)
      if (res.writableLength > mayBeUnread()) res.destroy()
    }
    const keepAlive = setInterval(() => write(': still here\n\n'), KEEP_ALIVE_MS)
    res.once('close', () => {
      open--
      clearInterval(keepAlive)
    })
    write(`retry: ${RETRY_MS}\n\n`)
    if (req.method === 'HEAD') res.end()
    return {
      send: (name, data, id) => write(`${id === undefined ? '' : `id: ${id}\n`}event: ${name}\ndata: ${data}\n\n`),
      end: () => void res.end(),
      readable: () =>
        new Promise((resolve) => {
          if (!res.writableNeedDrain || res.destroyed || res.writableEnded) return resolve()
          const done = () => {
            res.off('drain', done).off('close', done)
            resolve()
          }
          res.on('drain', done).on('close', done)
        }),
      get open() {
        return !res.destroyed && !res.writableEnded
      },
    }
  }
}
export type OpenEventStream = ReturnType<typeof createEventStreams>
