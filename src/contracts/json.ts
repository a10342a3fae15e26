/** JSON out, with members that are JSON texts already: a task's payload and result leave as they came. */

/** A JSON text that is sent as it is. */
export type RawJson = { readonly rawJson: string }
export const rawJson = (text: string): RawJson => ({ rawJson: text })
/** A list of such. */
export const rawList = (texts: readonly string[]): RawJson => rawJson(`[${texts.join(',')}]`)

/** Writes an object whose values (not deeper ones) may be RawJson. */
export const stringify = (object: Record<string, unknown>): string => {
  let text = ''
  for (const [key, value] of Object.entries(object)) {
    if (value === undefined) continue
    const member = value !== null && typeof value === 'object' && 'rawJson' in value ? (value as RawJson).rawJson : JSON.stringify(value)
    text += `${text === '' ? '' : ','}${JSON.stringify(key)}:${member}`
  }
  return `{${text}}`
}
