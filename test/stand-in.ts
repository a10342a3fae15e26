/** A stand-in for the router, where one must misbehave on demand. */
import { createServer, type IncomingMessage } from 'node:http'

/** A router that does as it is told: `answer` gives a status, or a body, which may have a `code` and `headers`, or `text`, or be `cut`; or nothing, which breaks the connection. */
export const standIn = async (answer: (path: string, body: any, req: IncomingMessage) => unknown, port = 0) => {
  const seen: { path: string; body: any; at: number; headers: IncomingMessage['headers'] }[] = []
  const server = createServer(async (req, res) => {
    let text = ''
    for await (const chunk of req) text += String(chunk)
    const body = text === '' ? undefined : JSON.parse(text)
    seen.push({ path: req.url!, body, at: performance.now(), headers: req.headers })
    const said = answer(req.url!, body, req)
    if (said === undefined) return void req.socket.destroy()
    const { code = 200, headers = {}, cut = false, ...json } = typeof said === 'number' ? { code: said } : (said as any)
    if (cut) return void res.writeHead(200, { 'content-length': 100 }).write('{"task_id": "lo', () => req.socket.destroy())
    res.writeHead(code, { 'content-type': 'application/json', ...headers }).end(typeof json.text === 'string' ? json.text : JSON.stringify(json))
  })
  await new Promise<void>((done) => server.listen(port, '127.0.0.1', done))
  return {
    seen,
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    port: (server.address() as { port: number }).port,
    beats: () => seen.filter((s) => s.path.endsWith('/heartbeat')),
    registrations: () => seen.filter((s) => s.path === '/agents/register'),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      if (server.listening) await new Promise((done) => server.close(done))
    },
  }
}

/** What an agent is answered to its registration, and to a beat, where that is soon to be followed by others. */
export const REGISTERED = { agent_id: 'a1', heartbeat_interval_seconds: 0.05, host: '127.0.0.1', port: 1 }
export const BEAT = { received: true, next_interval_seconds: 0.05, cancel: [] as string[], lost: [] as string[], drain: false }
