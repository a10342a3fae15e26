/** How things may be called; the router refuses other names. */

/** Of an agent type. */
export const TYPE = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/
export const TYPE_IN_WORDS = '1–64 of A–Z a–z 0–9 _ -, beginning with a letter or digit'
/** Of a capability, and of an agent's id. */
export const ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/
export const ID_IN_WORDS = '1–64 of A–Z a–z 0–9 _ - ., beginning with a letter or digit'
export const MAX_CAPABILITIES = 64
