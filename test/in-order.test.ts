/** What stands before every route refuses whatever it does: no way leads past it but its own `next()`. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import express, { type ErrorRequestHandler, type RequestHandler } from 'express'
import { expect, test } from 'vitest'
import { inOrder } from '../src/api/in-order.ts'

const answered: ErrorRequestHandler = (_error, _req, res, _next) => void res.status(500).send('refused')
const ask = async (...handlers: RequestHandler[]): Promise<string> => {
  const app = express()
  app.use(inOrder(...handlers))
  app.get('/', (_req, res) => void res.send('the route'))
  app.use(answered)
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    return await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`).then((res) => res.text())
  } finally {
    server.close()
  }
}

test('handlers pass a request on, at once or later, and the route is last', async () => {
  const seen: number[] = []
  const passes = (n: number): RequestHandler => (_req, _res, next) => (seen.push(n), next())
  const later: RequestHandler = (_req, _res, next) => void setImmediate(() => (seen.push(3), next(null)))
  expect(await ask(passes(1), passes(2), later, passes(4))).toBe('the route')
  expect(seen).toEqual([1, 2, 3, 4])
})

test('none that fails lets a request past those behind it', async () => {
  const failing: Record<string, RequestHandler> = {
    'throws': () => { throw new Error('no') },
    'throws nothing': () => { throw undefined },
    'rejects': () => Promise.reject(new Error('no')),
    'rejects with nothing': () => Promise.reject(),
    'passes an error on': (_req, _res, next) => next(new Error('no')),
    'asks for another route': (_req, _res, next) => next('route'),
    'asks for another router': (_req, _res, next) => next('router'),
  }
  for (const [how, handler] of Object.entries(failing)) {
    expect(await ask((_req, _res, next) => next(), handler, () => { throw new Error('the next one was asked') }), how).toBe('refused')
  }
})
