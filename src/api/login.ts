/** /login and /logout: for browsers, which cannot send `Authorization`. Who pastes a key gets a session. */
import { Router, type Request, type Response } from 'express'
import type { Caller, Guard } from '../access/guard.ts'
import { Forbidden, SwitchyardError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { DEFAULT_NAMESPACE } from '../redis/keys.ts'
import { readBytes } from './body.ts'
import { callerOf } from './caller.ts'
import { localsOf } from './gate.ts'
import { escapeHtml, page } from './html.ts'
import { sendHtml } from './pages.ts'
import { notAllowed } from './problem.ts'
import { doorOf, giveSession, goTo, isFromElsewhere, pathIn, sessionIn, takeSession } from './session.ts'

const MAX_FORM_BYTES = 4 * 1024
/** As long as a key may be that is sent in a header. */
const MAX_KEY_CHARS = 512
/**
 * Wrong keys in a minute, of all who come to this process; beyond them another wrong one is not looked for in Redis, and the log says so. Right ones pass as ever: whoever
 * locks people out by guessing would gain what guesses do not, for nobody guesses 256 bits however often.
 */
const WRONG_A_MINUTE = 100
const MINUTE_MS = 60_000

type Key = Caller & { kind: 'key' }
const whoIs = (guard: Guard, { id, namespace, roles }: Key): string => `<strong>${escapeHtml(guard.nameOf(id))}</strong>${guard.nameOf(id) === id ? '' : ` (key ${id})`}, ${roles.length === 1 ? 'role' : 'roles'} ${roles.join(', ')}${namespace === DEFAULT_NAMESPACE ? '' : `, namespace ${namespace}`}`
const LOG_OUT = '<form method="post" action="/logout" class="inline"><button>Log out</button></form>'
/** Who is in, on a page that says so; nothing where no keys are in force. */
export const whoIsIn = (guard: Guard, res: Response): string => {
  const caller = callerOf(res)
  return caller.kind === 'key' ? `<div>You are in as ${whoIs(guard, caller)}. ${doorOf(res) === 'session' ? LOG_OUT : ''}</div>` : ''
}

type Shown = { next: string; fault?: string; note?: string }
const loginPage = ({ next, fault, note }: Shown): string =>
  page(
    fault === undefined ? 'Switchyard: log in' : 'Switchyard: log in (that failed)',
    '',
    `<h1>Log in</h1>${note === undefined ? '' : `<div>${note}</div>`}${fault === undefined ? '' : `<p role="alert" id="fault" class="fault">${fault}</p>`}
<form method="post" action="/login" class="login"><input type="hidden" name="next" value="${escapeHtml(next)}">
<label for="key">Key</label><input id="key" name="key" type="password" required autofocus autocomplete="current-password" spellcheck="false" maxlength="${MAX_KEY_CHARS}" aria-describedby="${fault === undefined ? '' : 'fault '}about"${fault === undefined ? '' : ' aria-invalid="true"'}>
<p id="about" class="soft">A key such as <code>sy_…</code>, made by <code>switchyard keys create --role view</code>, or ADMIN_KEY. It is not kept: your browser gets a session, for 12 hours at most, that can look and change nothing.</p>
<button>Log in</button></form>`,
  )
const OPEN = `<h1>Log in</h1><p>No keys are in force here: there is nothing to log in to. <a href="/">Go back</a></p>`

const isForm = ({ headers }: Request): boolean => (headers['content-type'] ?? '').split(';')[0]!.trim().toLowerCase() === 'application/x-www-form-urlencoded'
const tooLong = (): SwitchyardError => new SwitchyardError('payload-too-large', `the form is larger than ${MAX_FORM_BYTES / 1024} KiB`)

/** @throws SwitchyardError unsupported-media-type, payload-too-large, malformed-request */
const readForm = async (req: Request, res: Response): Promise<URLSearchParams> => {
  if (!isForm(req) || (req.headers['content-encoding'] ?? 'identity') !== 'identity') throw new SwitchyardError('unsupported-media-type', 'this is for the form of GET /login: application/x-www-form-urlencoded, and not compressed')
  const { part } = localsOf(res)
  const bytes = await readBytes(req, MAX_FORM_BYTES, part).catch((error: unknown) => {
    throw error instanceof SwitchyardError && error.type === 'payload-too-large' ? tooLong() : error
  })
  part?.hasCome()
  return new URLSearchParams(bytes.toString('latin1')) // percent-encoded, so ASCII: the rest is no key
}

/** How many wrong ones came within the minute. */
const createTries = (log: Logger) => {
  let since = -Infinity
  let wrong = 0
  return {
    areMany: (): boolean => wrong >= WRONG_A_MINUTE && performance.now() - since < MINUTE_MS,
    note: (): void => {
      if (performance.now() - since >= MINUTE_MS) [since, wrong] = [performance.now(), 0]
      if (++wrong === WRONG_A_MINUTE) log.warn({ tries: wrong }, 'many wrong keys are tried at /login')
    },
  }
}

export const loginRoutes = ({ guard, log }: { guard: Guard; log: Logger }): Router => {
  const tries = createTries(log)
  const send = (res: Response, status: number, html: string): void => {
    res.status(status).setHeader('Cache-Control', 'no-store')
    sendHtml(res, html)
  }
  const queryNext = ({ originalUrl }: Request): string => pathIn(new URLSearchParams(originalUrl.split('?', 2)[1] ?? '').get('next'))

  const routes = Router()
  routes.get('/login', (req, res) => {
    if (!guard.inForce()) return send(res, 200, page('Switchyard: log in', '', OPEN))
    const next = queryNext(req)
    const session = sessionIn(req)
    const caller = session === undefined ? null : guard.whoseSession(session)
    const on = `<a href="${escapeHtml(next)}">Go on</a>`
    if (caller?.kind === 'key') return send(res, 200, loginPage({ next, note: `You are in as ${whoIs(guard, caller)}. ${on}, or log in by another key. ${LOG_OUT}` }))
    send(res, 200, loginPage({ next, ...(isFromElsewhere(req) ? { note: `A link of another site has led you here, for which your browser keeps your session to itself. If you are logged in: ${on}.` } : {}) }))
  })

  const find = async (key: string): Promise<Caller | null> => guard.whoShows(key) ?? (tries.areMany() ? null : guard.lookFor(key))
  routes.post('/login', async (req, res) => {
    if (!guard.inForce()) return send(res, 200, page('Switchyard: log in', '', OPEN))
    if (isFromElsewhere(req)) throw new Forbidden('this form was sent by a page of another site: log in at GET /login')
    const form = await readForm(req, res)
    const key = (form.get('key') ?? '').trim()
    const next = pathIn(form.get('next'))
    const caller = key.length > MAX_KEY_CHARS ? null : await find(key)
    const given = caller?.kind === 'key' ? guard.sessionFor(caller) : null
    if (given) {
      giveSession(req, res, given)
      return goTo(res, next)
    }
    tries.note()
    if (tries.areMany()) {
      res.setHeader('Retry-After', '60')
      return send(res, 429, loginPage({ next, fault: 'This key is not known here, and many wrong ones have been tried: wait a minute if yours has just been made.' }))
    }
    const fault = caller ? 'This is an agent’s token, which is good for that agent alone: a key is needed here.' : 'This key is not known here: it was revoked, has expired, or was never one.'
    res.setHeader('WWW-Authenticate', 'Bearer realm="switchyard"')
    send(res, 401, loginPage({ next, fault }))
  })
  routes.all('/login', notAllowed('GET', 'POST'))

  routes.post('/logout', (req, res) => {
    if (isFromElsewhere(req)) throw new Forbidden('this was asked by a page of another site: log out at /')
    takeSession(res)
    goTo(res, guard.inForce() ? '/login' : '/')
  })
  routes.all('/logout', notAllowed('POST'))
  return routes
}
