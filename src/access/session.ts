/**
 * What a browser holds instead of a key: a text that says whose key it was made by and until when it is good, under a MAC. It is not the key, and nothing is kept
 * of it: it is good as long as that key is. The MAC is also over the key's digest, so that another key under the same name (a changed ADMIN_KEY) ends it.
 */
import { createHmac, createSecretKey, type KeyObject } from 'node:crypto'
import { isSame } from './secret.ts'

export const SESSION_MS = 12 * 3600 * 1000
/** Whose it is that has no id of its own. */
export const ADMIN_ID = 'ADMIN_KEY'

const FORM = new RegExp(`^sys_([0-9A-Za-z]{12}|${ADMIN_ID})~(\\d{1,15})~([\\w-]{43})$`)

export type Session = { keyId: string; endMs: number }

/** @param secret base64url, 32 random bytes: the same that agents' tokens are made with, under another label */
export const createSessions = (secret: string, namespace: string) => {
  const key: KeyObject = createSecretKey(secret, 'base64url')
  const macOf = (said: string, digest: Buffer): Buffer => createHmac('sha256', key).update(`session\n${namespace}\n${said}\n`).update(digest).digest()
  return {
    make: ({ keyId, endMs }: Session, digest: Buffer): string => {
      const said = `${keyId}~${endMs}`
      return `sys_${said}~${macOf(said, digest).toString('base64url')}`
    },
    /**
     * What it says; null when we did not make it. Whether it is over, who knows the time sees.
     * @param digestOf of the key that is known under an id now
     */
    read: (presented: string, digestOf: (keyId: string) => Buffer | null | undefined): Session | null => {
      const [, keyId, end, mac] = FORM.exec(presented) ?? []
      if (mac === undefined) return null
      const digest = digestOf(keyId!)
      if (!digest || !isSame(macOf(`${keyId}~${end}`, digest), Buffer.from(mac, 'base64url'))) return null
      return { keyId: keyId!, endMs: Number(end) }
    },
  }
}
