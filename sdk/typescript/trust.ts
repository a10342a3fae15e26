/**
 * Whom the agent obeys: who signs with its secret, which it was told at its registration or by whoever started it. It is the router's time that
 * counts, as its answers tell it: the clocks of two machines need not agree.
 */
import { createSecretKey, type KeyObject } from 'node:crypto'
import { refusal, type Answer } from './answer.ts'
import type { Settings } from './settings.ts'
import { readSecret, TOLERANCE_SECONDS, verify, type Headers } from './signature.ts'

/** What was signed with the secret before is on its way, or waits to be stopped. */
const OLD_SECRET_MS = TOLERANCE_SECONDS * 1000
const RETRY_SECONDS = 1

export type Trust = ReturnType<typeof createTrust>

export const createTrust = ({ verifies, secrets, register, toleranceSeconds, logger }: Settings) => {
  /** Of its registration. */
  let own: { key: KeyObject; id: string | undefined } | null = null
  let old: { key: KeyObject; until: number } | null = null
  /** No registration was answered yet, or it has to be made anew: the secret may be another one by now. */
  let waits = register
  let heard: { ms: number; at: number } | null = null

  const keys = (): (Buffer | KeyObject)[] => [...secrets, ...(own ? [own.key] : []), ...(old && old.until > performance.now() ? [old.key] : [])]
  const nowSeconds = (): number => (heard ? heard.ms + performance.now() - heard.at : Date.now()) / 1000

  const faultOf = (all: readonly (Buffer | KeyObject)[], headers: Headers, body: Buffer, isFor: (id: string) => boolean): string | null => {
    const fault = verify(all, headers, body, { nowSeconds: nowSeconds(), toleranceSeconds })
    return fault ?? (isFor(String(headers['webhook-id'])) ? null : 'webhook-id is that of another request')
  }

  return {
    /** The registration was answered, with a secret unless the router is an old one. */
    learn: (secret: unknown, id: unknown): void => {
      waits = false
      let key: KeyObject | null = null
      try {
        key = typeof secret === 'string' ? createSecretKey(readSecret(secret)) : null
      } catch {
        logger.warn('the signing secret of the registration cannot be read; requests are not checked by it')
      }
      if (own && !(key && own.key.equals(key))) old = { key: own.key, until: performance.now() + OLD_SECRET_MS }
      own = key && { key, id: typeof id === 'string' ? id : undefined }
    },
    /** The router does not know this agent any longer. */
    doubt: (): void => void (waits = true),
    /** Whether the router says by this that there is another secret. */
    isOutdated: (id: unknown): boolean => verifies && typeof id === 'string' && id !== own?.id,
    /** The router's time, as it says. */
    hear: (time: string): void => {
      const ms = Date.parse(time)
      if (!Number.isNaN(ms)) heard = { ms, at: performance.now() }
    },

    /**
     * Whether a request may be obeyed.
     * @param isFor whether it was signed for this purpose, by its `webhook-id`
     * @returns null, or what to answer
     */
    refusalOf: (headers: Headers, body: Buffer, isFor: (id: string) => boolean): Answer | null => {
      if (!verifies) return null
      const all = keys()
      if (all.length === 0) return waits ? refusal(503, 'this agent is not registered yet, and cannot tell who asks', {}, RETRY_SECONDS) : null
      const fault = faultOf(all, headers, body, isFor)
      if (fault === null) return null
      if (waits && secrets.length === 0) return refusal(503, 'this agent registers anew, and cannot tell who asks', {}, RETRY_SECONDS)
      logger.warn(`refused a request that is not signed as agreed: ${fault}`)
      return refusal(401, fault, { retryable: true }) // it is not the task's fault
    },
  }
}
