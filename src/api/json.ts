/** JSON answers. */
import type { Response } from 'express'
import { rawList, stringify } from '../contracts/json.ts'
import { localsOf } from './gate.ts'
import { toCursor } from './input.ts'

export { rawJson, stringify } from '../contracts/json.ts'

/**
 * A page of a list.
 * @param items JSON texts
 * @param next where to go on; null at the end
 */
export const pageText = (name: string, items: readonly string[], next: string | null): string => stringify({ [name]: rawList(items), count: items.length, next_cursor: next === null ? null : toCursor(next) })

/** Larger ones are counted until they are read; smaller ones the system takes off our hands. */
const LARGE_BYTES = 64 * 1024
/** A client that reads nothing for so long is gone. */
const STALLED_MS = 10_000

/** @throws Overloaded when too much is unread already */
const countUnread = (res: Response, bytes: number): void => {
  const { socket } = res
  const { room } = localsOf(res)
  const read = room?.answer(bytes, () => res.destroy())
  room?.tidy(() => {})
  socket?.setTimeout(STALLED_MS) // on which Node destroys it
  res.once('close', () => {
    read?.()
    if (socket?.timeout === STALLED_MS) socket.setTimeout(0)
  })
}

/**
 * Sends a JSON text.
 * @throws Overloaded
 */
export const sendJson = (res: Response, status: number, text: string): void => {
  const bytes = Buffer.byteLength(text)
  if (bytes > LARGE_BYTES) countUnread(res, bytes)
  // Prepared writes cost a third of res.json: this is every submit's way out.
  res.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8', 'Content-Length': bytes }).end(text)
}
