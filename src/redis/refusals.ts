/** Why a Redis that is there does not let us in, where trying again would not help: in words that say what to do. */

const UNTRUSTED = new Set(['DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'UNABLE_TO_GET_ISSUER_CERT', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'CERT_SIGNATURE_FAILURE', 'CERT_UNTRUSTED', 'INVALID_CA'])
const OUT_OF_DATE = new Set(['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID'])
/** What a server says that takes no connection without a certificate, or not with this one. */
const WANTS_OURS = /^ERR_SSL_(?:TLSV1[23]?|SSLV3)_ALERT_(?:CERTIFICATE_REQUIRED|UNKNOWN_CA|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_EXPIRED|CERTIFICATE_UNKNOWN|HANDSHAKE_FAILURE)$/

/** A URL as it may be shown. */
export const shown = (url: string): string => url.replace(/\/\/[^@/]*@/g, '//…@')

/** @returns null for what may pass by itself */
export const refusalOf = (error: Error, url: string): string | null => {
  const code = (error as NodeJS.ErrnoException).code ?? ''
  const at = `Redis at ${shown(url)}`
  if (UNTRUSTED.has(code)) return `The certificate of ${at} is not trusted (${error.message}): set REDIS_TLS_CA to the file of the authority that signed it.`
  if (OUT_OF_DATE.has(code)) return `The certificate of ${at} is out of date (${error.message}): give that Redis another one.`
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return `The certificate of ${at} is for another name (${error.message}): let REDIS_URL name it as its certificate does.`
  if (WANTS_OURS.test(code)) return `${at} does not accept our certificate, or the lack of one (${error.message.split(':').at(-2) ?? code}): set REDIS_TLS_CERT and REDIS_TLS_KEY to files of one that it trusts.`
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG') return `${at} does not speak TLS: let REDIS_URL begin with redis://, or name its port for TLS.`
  if (error.name !== 'ReplyError') return null
  if (/cluster support disabled/.test(error.message)) return `${at} is no node of a cluster: set REDIS_CLUSTER=0, and let REDIS_URL name it alone.`
  if (/^(?:WRONGPASS|NOAUTH)\b|invalid password/.test(error.message)) return `${at} does not accept the user and password of REDIS_URL (${error.message}).`
  if (error.message.startsWith('NOPERM')) return `${at} does not let us do what is needed (${error.message}): give the user of REDIS_URL the rights that docs/operations.md lists.`
  return null
}
