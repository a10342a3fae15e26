/**
 * A webhook on its way: one POST, under one deadline that nothing the receiver sends can move. The status is all that is wanted of the
 * answer: it is not shown to anybody, as a URL that a client chose may be one that the client cannot read.
 */
import { readReceiver, type CallbackPolicy } from '../contracts/callback.ts'
import { retryAfterMs } from './answer.ts'
import { AddressesNotAllowed, createConnections, type Link, type Resolve } from './connections.ts'
import { createClientResolve } from './resolve.ts'

/** An answer's body is read so far, and so long, that its connection may be used again; beyond that the connection is closed. */
const MAX_BODY_BYTES = 8 * 1024
const BODY_MS = 1_000

/** What came of it. `retryAfterMs`: the receiver asked for so much time. */
export type Posted = { statusCode: number | null; error: string; retryAfterMs: number | undefined }
export type Posting = { outcome: Promise<Posted>; abort: () => void }
export type WebhookSender = ReturnType<typeof createWebhookSender>

/** Statuses of a receiver that has too much to do. */
const THROTTLES = new Set([429, 502, 503, 504])

const wordsOf = (status: number): string => {
  if (status >= 200 && status < 300) return ''
  return status >= 300 && status < 400 ? `the receiver answered ${status}: redirects are never followed` : `the receiver answered ${status}`
}

/** By its code, where it has one: the words around that tell addresses inside. */
const reasonOf = (error: Error): string => {
  const all = error instanceof AggregateError && error.errors.length > 0 ? (error.errors as NodeJS.ErrnoException[]) : [error as NodeJS.ErrnoException]
  return [...new Set(all.map((one) => one.code ?? one.message))].join(', ')
}

const broken = (link: Link, began: boolean, error: Error): string => {
  // Which addresses a name has inside is nothing for who chose the name.
  if (link.connectError instanceof AddressesNotAllowed) return 'its host has no address that webhooks may go to'
  if (link.connectError !== null) return `no connection to the receiver: ${reasonOf(link.connectError)}`
  return began ? `the receiver closed the connection without an answer (${reasonOf(error)})` : `no connection to the receiver: ${reasonOf(error)}`
}

/**
 * @param deps.policy which hosts and addresses may be connected to
 * @param deps.system whether names may be resolved by the system, beside DNS
 */
export const createWebhookSender = (deps: { policy: CallbackPolicy; system: boolean; resolve?: Resolve }) => {
  const { policy, resolve = createClientResolve({ system: deps.system }) } = deps
  const secured = createConnections({ policy: policy.https, resolve, secure: true })
  const plain = createConnections({ policy: policy.http, resolve })

  const post = (connections: typeof plain, link: Link, path: string, headers: Record<string, string>, body: Buffer, timeoutMs: number): Posting => {
    const { promise, resolve: done } = Promise.withResolvers<Posted>()
    let sent = false
    let answered = false
    let over = false // with the connection as well
    let length = 0
    const release = (how: (link: Link) => void): void => {
      if (over) return
      over = true
      clearTimeout(timer)
      how(link)
    }
    const fail = (error: string): void => {
      if (!answered) done({ statusCode: null, error, retryAfterMs: undefined })
      release(connections.drop)
    }
    let timer = setTimeout(() => fail(`no answer from the receiver within ${timeoutMs / 1000} s`), timeoutMs)
    link.client.dispatch(
      { path, method: 'POST', headers, body },
      {
        onRequestStart() {
          sent = true
        },
        onResponseStart(_controller, statusCode, head) {
          if (over || statusCode < 200) return
          answered = true
          done({ statusCode, error: wordsOf(statusCode), retryAfterMs: THROTTLES.has(statusCode) ? retryAfterMs(head) : undefined })
          clearTimeout(timer)
          timer = setTimeout(() => release(connections.drop), BODY_MS)
        },
        onResponseData(_controller, chunk) {
          length += chunk.length
          if (length > MAX_BODY_BYTES) release(connections.drop)
        },
        onResponseEnd() {
          release(connections.give)
        },
        onResponseError(_controller, error) {
          fail(broken(link, sent, error))
        },
      },
    )
    return { outcome: promise, abort: () => fail('stopped') }
  }

  return {
    /** Never throws: whatever the other side does is what came of it. */
    send: (url: string, headers: Record<string, string>, body: Buffer, timeoutMs: number): Posting => {
      try {
        const { secure, host, port, path } = readReceiver(url)
        const connections = secure ? secured : plain
        return post(connections, connections.take(host, port), path, headers, body, timeoutMs)
      } catch (error) {
        return { outcome: Promise.resolve({ statusCode: null, error: (error as Error).message, retryAfterMs: undefined }), abort: () => {} }
      }
    },
    close: () => {
      secured.close()
      plain.close()
    },
  }
}
