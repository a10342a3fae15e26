/** A receiver of webhooks: a real HTTP server that keeps what it was sent, and answers as it is told to. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { verifyWebhook, type WebhookEvent } from '../sdk/typescript/client.ts'

export const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

/** One webhook as it came. `event` is null when its signature is not right. */
export type Came = { path: string; id: string; headers: IncomingMessage['headers']; text: string; event: WebhookEvent | null; at: number }
export type Answering = (came: Came, res: ServerResponse) => unknown

const eventOf = (headers: IncomingMessage['headers'], text: string): WebhookEvent | null => {
  try {
    return verifyWebhook(SECRET, headers, text)
  } catch {
    return null
  }
}

/** @param answer 200 unless it answers otherwise; what it returns is the status */
export const startReceiver = async (answer: Answering = () => 200, tls?: { cert: string; key: string }) => {
  const came: Came[] = []
  const state = { answer }
  const handle = (req: IncomingMessage, res: ServerResponse) => {
    const chunks: Buffer[] = []
    req.on('data', (c: Buffer) => chunks.push(c))
    req.on('end', async () => {
      const text = Buffer.concat(chunks).toString()
      const one = { path: req.url!, id: String(req.headers['webhook-id']), headers: req.headers, text, event: eventOf(req.headers, text), at: Date.now() }
      came.push(one)
      const status = await state.answer(one, res)
      if (typeof status === 'number' && !res.headersSent) res.writeHead(status).end()
    })
  }
  const server = tls ? createSecureServer(tls, handle) : createServer(handle)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    came,
    state,
    port,
    url: `http${tls ? 's' : ''}://127.0.0.1:${port}`,
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
export type Receiver = Awaited<ReturnType<typeof startReceiver>>
