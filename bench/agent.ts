/**
 * The cheapest HTTP agent that still tells what it saw: a process of its own, started by bench/main.ts.
 * It answers every task at once with the same result, and keeps a ledger of when it received each.
 *
 * POST /task    performs a task; one whose parameters hold `"hold":1` it answers 202 and keeps, one with `"slow":1` takes SLOW_MS
 * GET /held     `[[task_id, attempt_id], …]`, what it keeps; it is forgotten then
 * GET /count    `<distinct keys received>`, cheap enough to ask 40 times a second
 * GET /ledger   `{received: {key: at}, answered: {key: at}, repeated, peak}`; `at` is ms since the epoch, with fractions; `answered` of slow tasks alone
 * GET /clock    this process's clock, in the ledger's unit
 * POST /reset   empties the ledger
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { clock } from './clock.ts'
import { SLOW_MS } from './settings.ts'

const held: [taskId: string, attemptId: string][] = []
let received = new Map<string, number>()
let answered = new Map<string, number>()
let repeated = 0
let open = 0
let peak = 0

/** The string behind `"name":`. Parsing the whole body would be most of what this process does; ids and keys hold nothing that JSON escapes. */
const field = (body: string, name: string): string => {
  const mark = `"${name}":`
  const start = body.indexOf('"', body.indexOf(mark) + mark.length) + 1 // some put a space between
  return body.slice(start, body.indexOf('"', start))
}

const SLOW = /"slow": ?1/

const answer = (res: ServerResponse, body: string, status = 200): void => {
  res.sendDate = false
  res.writeHead(status, ['Content-Type', 'application/json', 'Content-Length', String(Buffer.byteLength(body))])
  res.end(body)
}

const perform = (req: IncomingMessage, res: ServerResponse): void => {
  // The time is taken when the head is read, so what the body takes to arrive is nobody's latency.
  const at = clock()
  if (++open > peak) peak = open
  let body = ''
  req.setEncoding('latin1')
  req.on('data', (chunk: string) => {
    body += chunk
  })
  req.on('end', () => {
    if (body.includes('"hold":1')) {
      held.push([field(body, 'task_id'), field(body, 'attempt_id')])
      open--
      return answer(res, '{}', 202)
    }
    const key = field(body, 'key')
    if (received.has(key)) repeated++
    else received.set(key, at)
    const complete = () => {
      answer(res, `{"task_id":"${field(body, 'task_id')}","status":"completed","result":{"ok":true}}`)
      open--
    }
    if (!SLOW.test(body)) return complete()
    setTimeout(() => {
      answered.set(key, clock())
      complete()
    }, SLOW_MS)
  })
}

const control: Record<string, () => string> = {
  '/count': () => String(received.size),
  '/ledger': () => JSON.stringify({ received: Object.fromEntries(received), answered: Object.fromEntries(answered), repeated, peak }),
  '/clock': () => String(clock()),
  '/held': () => JSON.stringify(held.splice(0)),
  '/reset': () => {
    received = new Map()
    answered = new Map()
    repeated = 0
    peak = 0
    return 'ok'
  },
}

const server = createServer((req, res) => {
  if (req.url === '/task') return perform(req, res)
  req.resume()
  answer(res, control[req.url ?? '']?.() ?? 'ok')
})
server.keepAliveTimeout = 0 // a connection idle between two phases stays open, so none is reset under a request
server.listen(Number(process.env['PORT']), '127.0.0.1')
process.on('disconnect', () => process.exit(0))
