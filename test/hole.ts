/** A way to a server (TCP) that can swallow what goes over it: nothing comes, and nothing says so. */
import { connect, createServer, type NetConnectOpts, type Socket } from 'node:net'

export type Hole = Awaited<ReturnType<typeof startHole>>

export const startHole = async (to: NetConnectOpts) => {
  let target = to
  const pairs = new Set<{ sockets: [Socket, Socket]; swallows: boolean }>()
  let swallowed = 0
  const server = createServer((here) => {
    const there = connect(target)
    const pair = { sockets: [here, there] as [Socket, Socket], swallows: false }
    pairs.add(pair)
    for (const [from, into] of [[here, there], [there, here]] as const) {
      from.on('data', (chunk) => {
        if (pair.swallows) swallowed += chunk.length
        else into.write(chunk)
      })
      from.on('error', () => {})
      from.on('close', () => {
        if (pair.swallows) return
        into.destroy()
        pairs.delete(pair)
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const breakAll = () => {
    for (const { sockets } of pairs) for (const socket of sockets) socket.destroy()
    pairs.clear()
  }
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    /** From now on the connections that there are lead nowhere; new ones are well. */
    swallow: () => {
      for (const pair of pairs) pair.swallows = true
    },
    swallowed: () => swallowed,
    open: () => pairs.size,
    /** To another server; the connections that there are break. */
    leadTo: (other: NetConnectOpts) => {
      target = other
      breakAll()
    },
    close: () => {
      breakAll()
      server.close()
    },
  }
}
