/** Keys: made, listed, rotated and revoked, by one of role `admin`. */
import type { CallOptions, Http } from './http.ts'
import type { KeyList, KeyMade, KeyRevoked, NewKey, Rotation } from './wire.ts'

export type KeysClient = {
  /** The answer holds the key, which is never told again. Should the answer be lost there is a key that nobody has: revoke it. */
  create(key: NewKey, options?: CallOptions): Promise<KeyMade>
  /** All of them, the oldest first; with a key of a namespace those of that one. */
  list(options?: CallOptions): Promise<KeyList>
  /** A key of the same name, roles and namespace; the old one goes on beside it for a while. */
  rotate(id: string, rotation?: Rotation, options?: CallOptions): Promise<KeyMade>
  /** May be repeated. */
  revoke(id: string, options?: CallOptions): Promise<KeyRevoked>
}

const path = (id: string): string => `/keys/${encodeURIComponent(id)}`

export const createKeys = (http: Http): KeysClient => ({
  create: (key, options = {}) => http.json('POST', '/keys', { ...options, body: key, again: 'untaken', holds: 'key' }),
  list: (options = {}) => http.json('GET', '/keys', { ...options, again: 'always', holds: 'keys' }),
  rotate: (id, rotation = {}, options = {}) => http.json('POST', `${path(id)}/rotate`, { ...options, body: rotation, again: 'untaken', holds: 'key' }),
  revoke: (id, options = {}) => http.json('DELETE', path(id), { ...options, again: 'always', holds: 'key_id' }),
})
