/** Idempotency keys: how they are written, and what is kept of one. */
import { hash } from 'node:crypto'
import { canonicalJson } from './canonical.ts'
import { pattern } from './members.ts'

const KEY_FORM = /^[!-~]{1,255}$/
export const KEY_SENTENCE = 'must be 1 to 255 visible ASCII characters'
/** As a member of a task in a batch. */
export const IdempotencyKey = pattern(KEY_FORM, KEY_SENTENCE)

/** How long one is kept, unless its sender wants it shorter. */
export const KEEP_SECONDS = 86_400

/** The key in a header, written plainly or, as the IETF's draft has it, as a quoted string; null when it is none. */
export const keyInHeader = (header: string): string | null => {
  const quoted = /^"((?:[^"\\]|\\["\\])*)"$/.exec(header)?.[1]
  if (quoted === undefined && header.startsWith('"')) return null
  const key = quoted === undefined ? header : quoted.replace(/\\(.)/g, '$1')
  return KEY_FORM.test(key) ? key : null
}

const digest = (text: string): string => hash('sha256', text, 'base64url')

/** A key as it is stored, what it stands for, and for how long. */
export type Idempotency = { key: string; request: string; keepMs: number }

/**
 * @param body of a task, as JSON, not nested deep; the key may be a member of it
 * @param requireAgent whether the submit asked for that: with it, it is another request
 */
export const idempotencyOf = (key: string, body: string, requireAgent: boolean, keepSeconds: number): Idempotency => ({
  key: digest(key),
  request: digest(`${requireAgent ? 'require_agent' : ''}\n${canonicalJson(body, 'idempotency_key')}`),
  keepMs: keepSeconds * 1000,
})
