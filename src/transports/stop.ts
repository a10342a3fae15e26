/** Tells an agent to stop an attempt: `DELETE http://host:port/task/{task_id}`. What it answers is read, so that the connection may be used on, and not obeyed. */
import { signedHeaders, stopId } from '../contracts/signature.ts'
import type { Connections, Link } from './connections.ts'
import type { StopRequest } from './transport.ts'

const STOP_MS = 2_000

/** @param deps.maxBodyBytes an answer over this ends its connection */
export const createStop =
  ({ connections, maxBodyBytes }: { connections: Connections; maxBodyBytes: number }) =>
  ({ target, taskId, attemptId, timeMs }: StopRequest): Promise<number | null> => {
    const { promise, resolve } = Promise.withResolvers<number | null>()
    let link: Link
    try {
      link = connections.take(target.host, target.port)
    } catch {
      return Promise.resolve(null) // a host that may not be spoken to
    }
    let statusCode: number | null = null
    let length = 0
    let ended = false
    const end = (letGo: (link: Link) => void): void => {
      if (ended) return
      ended = true
      clearTimeout(timer)
      letGo(link)
      resolve(statusCode)
    }
    const timer = setTimeout(() => end(connections.drop), STOP_MS)
    const signed = target.keys.length > 0 ? signedHeaders(target.keys, { id: stopId(attemptId), timestamp: Math.floor(timeMs / 1000), body: '' }) : {}
    link.client.dispatch(
      { path: `/task/${encodeURIComponent(taskId)}`, method: 'DELETE', headers: ['accept-encoding', 'identity', 'switchyard-attempt', attemptId, ...Object.entries(signed).flat()] },
      {
        onRequestStart() {},
        onResponseStart(_controller, status) {
          if (status >= 200) statusCode = status
        },
        onResponseData(_controller, chunk) {
          length += chunk.length
          if (length > maxBodyBytes) end(connections.drop)
        },
        onResponseEnd: () => end(connections.give),
        onResponseError: () => end(connections.drop),
      },
    )
    return promise
  }
