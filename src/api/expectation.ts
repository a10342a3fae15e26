/** Clients that ask before they send a body (`Expect: 100-continue`). */
import type { RequestHandler } from 'express'
import { announcesTooMuch } from './input.ts'

/**
 * Tells them to go on, once they have been let in and there is room, unless it would be too much. Who is not told gets an answer instead, and Node ends the connection
 * behind that: nobody knows whether the body comes all the same.
 */
export const goOn: RequestHandler = (req, res, next) => {
  const { expect } = req.headers
  if (expect !== undefined && req.httpVersion === '1.1' && /(?:^|\W)100-continue(?:$|\W)/i.test(expect) && !announcesTooMuch(req)) res.writeContinue()
  next()
}
