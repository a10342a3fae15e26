/**
 * Keys as texts: made, read and compared. What is kept of one is its SHA-256. A slow hash (bcrypt, argon2) makes guessing dear where people choose what
 * is hashed; a key is 256 random bits, which nobody guesses however quick the hash is, and each request would pay for the slowness.
 */
import { hash, randomInt, timingSafeEqual } from 'node:crypto'

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const ID_CHARS = 12
/** 62^43 is a little more than 2^256. */
const SECRET_CHARS = 43
const random = (chars: number): string => Array.from({ length: chars }, () => ALPHABET[randomInt(ALPHABET.length)]).join('')

const FORM = new RegExp(`^sy_([0-9A-Za-z]{${ID_CHARS}})_[0-9A-Za-z]{${SECRET_CHARS}}$`)

export const newKeyId = (): string => random(ID_CHARS)
export const newKey = (id: string): string => `sy_${id}_${random(SECRET_CHARS)}`
/** The id in a text of a key's form. */
export const idIn = (presented: string): string | undefined => FORM.exec(presented)?.[1]

export const digestOf = (presented: string): Buffer => hash('sha256', presented, 'buffer')
/** In a time that says nothing of where they differ. Both are digests, and so of one length. */
export const isSame = (a: Buffer, b: Buffer): boolean => timingSafeEqual(a, b)
