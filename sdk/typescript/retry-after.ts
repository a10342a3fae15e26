/** When the router asks to be left alone for a while. */

/** `Retry-After` in seconds, also when it is a date; undefined when there is none that can be read. */
export const retryAfterSeconds = (headers: Headers): number | undefined => {
  const text = headers.get('retry-after')
  if (text === null) return undefined
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds)
}
