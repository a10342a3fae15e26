/** What an agent may say of a task, whichever way it comes: bounds, and texts made harmless for terminals and logs. */

export const MAX_ERROR_CHARS = 4_000
export const MAX_RESULT_DEPTH = 512

/** Terminal escapes, NULs and text-direction overrides become U+FFFD; line ends stay, so that tracebacks can be read. */
const harmless = (text: string): string => text.replace(/\r\n?/g, '\n').replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, '\ufffd')

/** At most so many characters, harmless and well-formed. */
export const bounded = (text: string, max: number): string => {
  const kept = text.length > max ? `${text.slice(0, max - 1)}…` : text
  return harmless(kept).toWellFormed()
}

/** The same, on one line. */
export const oneLine = (text: string, max: number): string => bounded(text.slice(0, 4 * max).replace(/\s+/g, ' ').trim(), max)
