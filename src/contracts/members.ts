/** Kinds of members of a request, each with one plain sentence that tells what it may be, whichever of its rules is broken. */
import { z } from 'zod'

/** The sentence, for what is there. */
const said = (sentence: string) => ({ error: ({ input }: { input?: unknown }) => (input === undefined ? 'is required' : sentence) })

// z.int() would end the check of the whole body at its first fault; `type` is for the API's document.
export const integer = (min: number, max: number, sentence = `must be a whole number from ${min} to ${max}`) =>
  z.number(said(sentence)).min(min, sentence).max(max, sentence).refine(Number.isInteger, sentence).meta({ type: 'integer' })

export const number = (min: number, max: number) => {
  const sentence = `must be a number from ${min} to ${max}`
  return z.number(said(sentence)).min(min, sentence).max(max, sentence)
}

/** @param sentence what it may be, if that is more than a text of so many characters */
export const text = (max: number, sentence = `must be text of 1 to ${max} characters`) => z.string(said(sentence)).min(1, sentence).max(max, sentence)

/** What a cursor may be, for people: where each is read, its form is known. */
export const CURSOR_FORM = 'must be a next_cursor that this server gave'

export const pattern = (form: RegExp, sentence: string) => z.string(said(sentence)).regex(form, sentence)

export const oneOf = <const V extends readonly [string, ...string[]]>(...values: V) => z.enum(values, said(`must be ${values.slice(0, -1).join(', ')} or ${values.at(-1)}`))

/** @param what its items, in the plural */
export const list = <I extends z.ZodType>(item: I, max: number, what: string) => {
  const sentence = `must be a list of at most ${max} ${what}`
  return z.array(item, said(sentence)).max(max, sentence)
}

/** Any JSON object. Handlers keep its bytes as sent; this only says that it is an object. */
export const jsonObject = () => z.custom<Record<string, unknown>>(isObject, { error: said('must be an object').error, abort: false })
export const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

/** For an object with members of its own, as the last argument: what it may be. Of what is wrong within it, its members say. */
export const anObject = { error: (issue: { code?: string; input?: unknown }) => (issue.code === 'invalid_type' ? said('must be an object').error(issue) : undefined) }

/**
 * For rules that concern several members: they are looked at also when one of them, or another, is wrong, so that all faults are told at
 * once. (They are not when a member has aborted the check: none of these kinds does.)
 */
export const always = { when: ({ value }: { value: unknown }) => isObject(value) }
