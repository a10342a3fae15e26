/** JSON out, with members that are JSON texts already: a task's payload and result leave as they came. */
import type { Response } from 'express'

/** A JSON text that is sent as it is. */
export type RawJson = { readonly rawJson: string }
export const rawJson = (text: string): RawJson => ({ rawJson: text })

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

/** Sends a JSON text. */
export const sendJson = (res: Response, status: number, text: string): void => {
  // Prepared writes cost a third of res.json: this is every submit's way out.
  res.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8', 'Content-Length': Buffer.byteLength(text) }).end(text)
}
