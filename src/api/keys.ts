/** Routes of keys. Nothing of a key is logged but its id. */
import { Router } from 'express'
import type { Guard } from '../access/guard.ts'
import type { Keyring } from '../access/keyring.ts'
import { KeyId, NewKey, Rotation } from '../contracts/key.ts'
import { NotFound } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { callerOf } from './caller.ts'
import { body, noQuery, readBody } from './input.ts'
import { sendJson } from './json.ts'
import { notAllowed } from './problem.ts'

/** An id that cannot be ours is simply not there. */
const keyId = (id: string): string => {
  if (!KeyId.safeParse(id).success) throw new NotFound('there is no such key; its id is not of the form that ids have')
  return id
}

export const keyRoutes = ({ keyring, guard, log }: { keyring: Keyring; guard: Guard; log: Logger }): Router => {
  const routes = Router()
  /** Here it counts from the answer on; at the other processes a moment later. The change is made: should this fail, the next look finds it. */
  const know = (): Promise<void> => guard.look().catch(() => {})

  routes.post('/keys', ...readBody(), async (req, res) => {
    const made = await keyring.create(body(NewKey, req), callerOf(res).namespace, guard.hasAdminKey)
    await know()
    log.info({ key: made.key_id, name: made.name, roles: made.roles, namespace: made.namespace }, 'a key was made')
    sendJson(res, 201, JSON.stringify(made))
  })
  routes.get('/keys', noQuery, async (_req, res) => {
    const keys = await keyring.list(callerOf(res).namespace)
    sendJson(res, 200, JSON.stringify({ keys, count: keys.length, admin_key: guard.hasAdminKey }))
  })
  routes.all('/keys', notAllowed('GET', 'POST'))

  routes.delete('/keys/:id', noQuery, async (req, res) => {
    const id = keyId(String(req.params.id))
    const revoked = await keyring.revoke(id, callerOf(res).namespace)
    await know()
    if (revoked) log.info({ key: id }, 'a key was revoked')
    sendJson(res, 200, JSON.stringify({ key_id: id, revoked }))
  })
  routes.all('/keys/:id', notAllowed('DELETE'))

  routes.post('/keys/:id/rotate', ...readBody({ optional: true }), async (req, res) => {
    const id = keyId(String(req.params.id))
    const made = await keyring.rotate(id, body(Rotation, req), callerOf(res).namespace)
    await know()
    log.info({ key: made.key_id, old: id, name: made.name, roles: made.roles, namespace: made.namespace }, 'a key was rotated')
    sendJson(res, 201, JSON.stringify(made))
  })
  routes.all('/keys/:id/rotate', notAllowed('POST'))
  return routes
}
