/**
 * Several ways in to one server. libuv takes one connection in a turn of the event loop, and a busy process has few turns: thousands of connections at once (a
 * fleet that comes back, a flood) would keep those behind them waiting for minutes. Each further listening socket of the same port is one more in each turn.
 */
import type { Server } from 'node:http'
import { Server as NetServer } from 'node:net'
import { BACKLOG } from '../process.ts'

/** With 50 turns a second, 800 connections. Only Linux gives each of several sockets (SO_REUSEPORT) its share of what comes. */
const DOORS = process.platform === 'linux' ? 16 : 1
/** Of a process. Some 10 KB each, idle or not. */
const MAX_CONNECTIONS = 10_000

export type Doors = ReturnType<typeof createDoors>

export const createDoors = (server: Server) => {
  // As http.Server makes its own.
  const more = Array.from({ length: DOORS - 1 }, () => new NetServer({ allowHalfOpen: true, noDelay: true }, (socket) => server.emit('connection', socket)))
  const all: readonly NetServer[] = [server, ...more]
  for (const door of all) {
    // Beyond so many connections those that are idle make room; when none is, further ones are closed at once. Linux spreads them evenly, by chance.
    door.maxConnections = Math.ceil(MAX_CONNECTIONS / DOORS)
    door.on('drop', () => server.closeIdleConnections())
  }
  return {
    /** Whether the server's own socket has to let others listen beside it. */
    shared: DOORS > 1,
    /** Opens the others, when the server listens. */
    open: async (host: string): Promise<void> => {
      const { port } = server.address() as { port: number }
      await Promise.all(more.map((door) => new Promise<void>((resolve, reject) => door.once('error', reject).listen({ host, port, backlog: BACKLOG, reusePort: true }, resolve))))
    },
    /** Takes nothing more, and resolves when the last connection has ended. Idle ones are not ended by it, as they are by `http.Server.close`. */
    close: async (): Promise<void> => {
      await Promise.all(all.map((door) => new Promise<void>((resolve) => NetServer.prototype.close.call(door, () => resolve()))))
    },
  }
}
