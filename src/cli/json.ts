/** JSON read and written without loss: numbers that JavaScript cannot hold keep their digits, so that what is shown is what was sent. */

type Reviver = (key: string, value: unknown, context: { source?: string }) => unknown
/** Of ECMAScript 2026; every Node this runs on has them. */
const json = JSON as unknown as { parse(text: string, reviver: Reviver): unknown; rawJSON(text: string): unknown }

/** @throws SyntaxError */
export const parseJson = (text: string): unknown => json.parse(text, (_, value, { source }) => (typeof value === 'number' && source !== undefined && String(value) !== source ? json.rawJSON(source) : value))
