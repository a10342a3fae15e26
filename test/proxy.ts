/** A TCP proxy that does to connections what networks do. What is changed holds at once, also for connections that are there. */
import { connect, createServer, type AddressInfo, type NetConnectOpts, type Socket } from 'node:net'

export type Weather = {
  /** Everything takes so much longer. */
  delayMs?: number
  /** Bytes are held, and neither side hears of it: a cut cable. In one direction, or both. */
  blackhole?: boolean | Direction
  /** New connections are reset. */
  refuse?: boolean
  /** A connection is reset when it has carried so many bytes in that direction. */
  resetAfter?: { bytes: number; direction: Direction }
}
/** `up` is from those who connect. */
export type Direction = 'up' | 'down'

const HELD_POLL_MS = 20

type Pair = { near: Socket; far: Socket; /** It leads nowhere any more, and neither side hears of it. */ lost: boolean }

export const startProxy = async (target: NetConnectOpts, listen = 0) => {
  let to = target
  let weather: Weather = {}
  const pairs = new Set<Pair>()
  /** What the weather did: the proof that it bit. */
  const seen = { connections: 0, refused: 0, resets: 0, heldBytes: 0, carriedBytes: 0 }

  const carry = (pair: Pair, from: Socket, into: Socket, direction: Direction) => {
    let carried = 0
    const pass = async (chunk: Buffer) => {
      const held = () => pair.lost || weather.blackhole === true || weather.blackhole === direction
      if (held()) seen.heldBytes += chunk.length
      while (held() && !from.destroyed) await new Promise((resolve) => setTimeout(resolve, HELD_POLL_MS))
      if (weather.delayMs) await new Promise((resolve) => setTimeout(resolve, weather.delayMs))
      const limit = weather.resetAfter
      if (limit && limit.direction === direction && carried + chunk.length >= limit.bytes) {
        const last = chunk.subarray(0, Math.max(0, limit.bytes - carried))
        seen.resets++
        // What it may carry arrives before the reset does.
        return void into.write(last, () => { from.resetAndDestroy(); into.resetAndDestroy() })
      }
      carried += chunk.length
      seen.carriedBytes += chunk.length
      if (!into.destroyed && !into.write(chunk)) await new Promise((resolve) => into.once('drain', resolve).once('close', resolve))
    }
    from.on('data', (chunk: Buffer) => {
      from.pause()
      void pass(chunk).then(() => from.resume())
    })
    from.on('end', () => pair.lost || into.end())
    from.on('error', () => {})
    from.on('close', () => pair.lost || into.destroy())
  }

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    near.on('error', () => {})
    if (weather.refuse) {
      seen.refused++
      return void near.resetAndDestroy()
    }
    seen.connections++
    const far = connect({ host: '127.0.0.1', noDelay: true, allowHalfOpen: true, ...to } as NetConnectOpts)
    const pair: Pair = { near, far, lost: false }
    pairs.add(pair)
    near.once('close', () => pair.lost || pairs.delete(pair))
    far.on('error', () => pair.lost || near.resetAndDestroy())
    far.once('close', () => pairs.delete(pair))
    carry(pair, near, far, 'up')
    carry(pair, far, near, 'down')
  })
  await new Promise<void>((resolve) => server.listen(listen, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const resetAll = () => {
    for (const { near, far } of pairs) {
      seen.resets++
      near.resetAndDestroy()
      far.resetAndDestroy()
    }
  }
  return {
    port,
    seen,
    /** New connections go there. */
    turn: (next: NetConnectOpts) => void (to = next),
    set: (next: Weather) => void (weather = next),
    /** The connections that there are lead nowhere from now on, as when a router between forgets them; new ones are well. */
    lose: () => {
      for (const pair of pairs) pair.lost = true
    },
    resetAll,
    /** Nobody listens there any more: connections are refused by the machine, those that are there are reset. */
    shut: () => {
      server.close()
      resetAll()
    },
    listenAgain: () => new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve)),
    open: () => pairs.size,
    close: () => {
      weather = {}
      for (const { near, far } of pairs) {
        near.destroy()
        far.destroy()
      }
      server.close()
    },
  }
}
export type Proxy = Awaited<ReturnType<typeof startProxy>>
