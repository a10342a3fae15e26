/** JSON answers. */
import type { Response } from 'express'

export { rawJson, stringify } from '../contracts/json.ts'

/** Sends a JSON text. */
export const sendJson = (res: Response, status: number, text: string): void => {
  // Prepared writes cost a third of res.json: this is every submit's way out.
  res.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8', 'Content-Length': Buffer.byteLength(text) }).end(text)
}
