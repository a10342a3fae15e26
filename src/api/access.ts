/**
 * Who is let in, and to what. It comes before the gate: a stranger is sent away before there is a place for the request, or its body is read. What each route asks
 * for is said in operations.ts, and nowhere else.
 */
import { Router, type Express, type NextFunction, type Request, type RequestHandler, type Response } from 'express'
import type { Caller, Guard } from '../access/guard.ts'
import type { CheckVisitor } from '../access/visitor.ts'
import { Forbidden, Unauthorized } from '../errors.ts'
import { callerOf, setCaller } from './caller.ts'
import type { Access, Operation } from './operations.ts'
import { doorOf, sessionIn, setDoor, toLogin, wantsPage } from './session.ts'

const BEARER = /^Bearer +([!-~]{1,512}) *$/i
const NO_KEY = 'a key is needed here: send it as `Authorization: Bearer sy_…`; whoever runs this Switchyard makes one with `switchyard keys create`'
const WRONG_KEY = 'this key is not known here: it was revoked, has expired, or was never one; ask whoever runs this Switchyard for another'

/** @throws Unauthorized */
const shownBy = ({ headers }: Request): string => {
  const shown = BEARER.exec(headers.authorization ?? '')?.[1]
  if (shown === undefined) throw new Unauthorized('this is no key: send one as `Authorization: Bearer sy_…`')
  return shown
}

const listed = (words: readonly string[]): string => (words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`)

/** @throws Forbidden, which names the roles that may */
const check = (caller: Caller, access: Access, route: string): void => {
  if (access === 'open' || caller.kind === 'open') return
  const may = access.filter((one) => one !== 'token')
  const roles = [...new Set([...may, 'admin'])]
  if (caller.kind === 'agent') {
    if (access.includes('token')) return // and which agent's it is, the route sees
    throw new Forbidden(`an agent’s token is only for its heartbeats, its leaving and the tasks sent to it; ${route} needs a key of role ${listed(roles)}`, { roles_needed: roles })
  }
  if (caller.roles.some((role) => role === 'admin' || access.includes(role))) return
  throw new Forbidden(`this key has the role ${listed(caller.roles)}; ${route} needs one of role ${listed(roles)}`, { roles_needed: roles })
}

type Onward = { onward?: NextFunction }
const onwardOf = (res: Response): NextFunction => (res.locals as Onward).onward!
const setOnward = (res: Response, onward: NextFunction): void => {
  const locals = res.locals as Onward
  locals.onward = onward
}

/** Says for each request which operation it is, by the very rules that lead it to its route. */
const createOperationRouter = (operations: Record<string, Operation>): Router => {
  const router = Router()
  for (const [route, { access, inBrowser = false }] of Object.entries(operations)) {
    /** What a browser does not come in to by its session is answered as if it had none. */
    const meets = (req: Request, res: Response): boolean => {
      const door = doorOf(res)
      if (door !== undefined && !inBrowser) throw new Unauthorized(NO_KEY)
      if (door === 'stranger') toLogin(req, res)
      else check(callerOf(res), access, route)
      return door !== 'stranger'
    }
    const [method, path] = route.split(' ') as [string, string]
    // Out of the router at once: its own way out takes a turn of the event loop. But where it has changed the path, it puts that back.
    const pass: RequestHandler = (req, res) => {
      if (meets(req, res)) onwardOf(res)()
    }
    const passMounted: RequestHandler = (req, res, next) => {
      if (meets(req, res)) next('router')
    }
    if (path === '/queues') router.use(path, passMounted) // an app of its own
    else router[method.toLowerCase() as 'get' | 'post' | 'put' | 'delete'](path.replace(/\{(\w+)\}/g, ':$1'), pass)
  }
  return router
}

const STREAM = /\/events\/?$/i

/** Answers that go on for as long as the client likes: they end with the key. */
const createStreams = (guard: Guard) => {
  const open = new Map<Response, Caller>()
  guard.onLook(() => {
    for (const [res, caller] of open) if (!guard.isGood(caller)) res.destroy()
  })
  return {
    hold: (res: Response, caller: Caller): void => {
      open.set(res, caller)
      res.once('close', () => open.delete(res))
    },
  }
}

/** Lets in who may, as long as keys are in force. */
export const createAccess = ({ guard, operations, checkVisitor }: { guard: Guard; operations: Record<string, Operation>; checkVisitor: CheckVisitor }): RequestHandler => {
  const router = createOperationRouter(operations)
  const open = new Set(Object.entries(operations).flatMap(([route, { access }]) => (access === 'open' ? [route] : [])))
  const isOpen = ({ method, path }: Request): boolean => open.has(`${method === 'HEAD' ? 'GET' : method} ${path.toLowerCase().replace(/\/$/, '')}`)

  const streams = createStreams(guard)

  /** @throws Unauthorized, Forbidden */
  const admit = (caller: Caller | null, req: Request, res: Response, next: NextFunction): void => {
    if (!caller) throw new Unauthorized(WRONG_KEY)
    setCaller(res, caller)
    // OPTIONS asks for nothing, and what is not there is not there for everybody who has a key.
    if (req.method === 'OPTIONS') return next()
    if (STREAM.test(req.path)) streams.hold(res, caller)
    setOnward(res, next)
    router(req, res, next)
  }

  /** Who shows no key: somebody in a browser by a session, or on the way to one. */
  const admitBrowser = (req: Request, res: Response, next: NextFunction): void => {
    const session = sessionIn(req)
    const caller = session === undefined ? null : guard.whoseSession(session)
    if (caller) {
      setDoor(res, 'session')
      return admit(caller, req, res, next)
    }
    if (!wantsPage(req)) throw new Unauthorized(NO_KEY)
    setDoor(res, 'stranger')
    router(req, res, (error?: unknown) => next(error ?? new Unauthorized(NO_KEY)))
  }

  return (req, res, next) => {
    if (!guard.inForce()) {
      const refusal = checkVisitor(req)
      if (refusal && !isOpen(req)) throw refusal
      return next()
    }
    if (isOpen(req)) return next()
    if (req.headers.authorization === undefined) return admitBrowser(req, res, next)
    const shown = shownBy(req)
    const caller = guard.whoShows(shown)
    if (caller) return admit(caller, req, res, next)
    return guard.lookFor(shown).then((found) => admit(found, req, res, next))
  }
}

type Layer = { route?: { path: string | string[]; methods: Record<string, boolean> }; handle: { stack?: Layer[] } }
/** Every `METHOD /path/{id}` that an app or router answers; `all` is for what it does not. */
const routesOf = (layers: readonly Layer[]): string[] =>
  layers.flatMap(({ route, handle }) =>
    route
      ? [route.path].flat().flatMap((path) => Object.keys(route.methods).flatMap((method) => (method === '_all' ? [] : [`${method.toUpperCase()} ${path.replace(/:(\w+)/g, '{$1}')}`])))
      : routesOf(handle.stack ?? []),
  )

/**
 * What an app answers.
 * @throws Error when it has a route of which operations.ts does not say who may ask it: the process must not start
 */
export const accountFor = (app: Express, operations: Record<string, Operation>): string[] => {
  const routes = routesOf((app as unknown as { router: { stack: Layer[] } }).router.stack)
  const unsaid = routes.filter((route) => !Object.hasOwn(operations, route))
  if (unsaid.length > 0) throw new Error(`say in operations.ts who may ask ${unsaid.join(', ')}`)
  return routes
}
