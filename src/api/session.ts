/**
 * Sessions of browsers: a cookie that says which key was pasted at /login, and is good for reading what people look at, and for nothing else. It writes nothing, so no
 * other site can have a browser do so (CSRF).
 */
import type { IncomingMessage } from 'node:http'
import type { Request, Response } from 'express'
import type { Guard } from '../access/guard.ts'

const NAME = 'switchyard_session'
/** Of one that came by https: the browser takes it from no other host, and sends it by https alone. */
const SECURE_NAME = `__Host-${NAME}`
const MAX_NEXT = 2_000

/** Whether another site has brought the browser here, or asks by it. Browsers say so to addresses that they trust: https and localhost. */
export const isFromElsewhere = ({ headers }: IncomingMessage): boolean => {
  const site = headers['sec-fetch-site']
  return site !== undefined && site !== 'same-origin' && site !== 'none'
}

/** What a form of ours was sent by: a browser's own word, which needs nothing of a proxy between. */
const isByHttps = ({ headers }: IncomingMessage): boolean => headers.origin?.startsWith('https://') === true

const valueOf = (cookies: string, name: string): string | undefined => {
  for (const one of cookies.split(';')) {
    const at = one.indexOf('=')
    if (at > 0 && one.slice(0, at).trim() === name) return one.slice(at + 1).trim()
  }
  return undefined
}

/**
 * What a browser shows by itself. Not where another site asks: a cookie is sent to every port of its host, and from pages there, which are others' (SameSite knows
 * no ports).
 */
export const sessionIn = (req: IncomingMessage): string | undefined => {
  const { cookie } = req.headers
  if (cookie === undefined || (req.method !== 'GET' && req.method !== 'HEAD') || isFromElsewhere(req)) return undefined
  return valueOf(cookie, SECURE_NAME) ?? valueOf(cookie, NAME)
}

/**
 * Strict: a link from elsewhere comes without it, and /login leads on. Lax would save that one step, and send it with whatever another site opens in a tab.
 * Max-Age=0 takes it away.
 */
const cookie = (name: string, value: string, seconds: number): string => `${name}=${value}; Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Strict${name === SECURE_NAME ? '; Secure' : ''}`

export const giveSession = (req: Request, res: Response, { session, seconds }: NonNullable<ReturnType<Guard['sessionFor']>>): void => {
  // The other one goes: it would be of another key, and outlive this.
  const [name, other] = isByHttps(req) ? [SECURE_NAME, NAME] : [NAME, SECURE_NAME]
  res.setHeader('Set-Cookie', [cookie(name, session, seconds), cookie(other, '', 0)])
}
export const takeSession = (res: Response): void => void res.setHeader('Set-Cookie', [cookie(NAME, '', 0), cookie(SECURE_NAME, '', 0)])

/** Where to go on: a path of ours, or /. What a browser would read otherwise (`//host`, `/\host`, line breaks and tabs, which it drops) is none. */
export const pathIn = (next: string | null | undefined): string => (next && next.length <= MAX_NEXT && /^\/(?!\/)[!-[\]-~]*$/.test(next) && !/^\/log(?:in|out)\b/i.test(next) ? next : '/')

export const goTo = (res: Response, path: string): void => {
  res.writeHead(303, { Location: path, 'Cache-Control': 'no-store', 'Content-Length': 0 }).end()
}

/** Whether it is a person who is to see a page. Of what a page itself asks for that is not said. */
export const wantsPage = ({ method, headers }: Request): boolean => method === 'GET' && headers.accept?.includes('text/html') === true
export const toLogin = (req: Request, res: Response): void => {
  const next = pathIn(req.originalUrl)
  goTo(res, next === '/' ? '/login' : `/login?next=${encodeURIComponent(next)}`)
}

type Locals = { door?: 'session' | 'stranger' }
/** By what somebody stands at the door: a session, or nothing at all in a browser; else by a key. */
export const doorOf = (res: Response): Locals['door'] => (res.locals as Locals).door
export const setDoor = (res: Response, door: NonNullable<Locals['door']>): void => {
  const locals = res.locals as Locals
  locals.door = door
}
