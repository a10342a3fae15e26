/** A request's body, read: bounded, inflated where it is compressed, and counted as it comes. */
import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { brotliDecompress, gunzip, inflate as inflateZlib, zstdDecompress } from 'node:zlib'
import { SwitchyardError } from '../errors.ts'
import { createPlaces } from './places.ts'
import type { Part } from './room.ts'

const MIB = 1024 * 1024
/** What one that is to be inflated may take beside what it comes to. */
const INFLATING_BYTES = MIB / 4
/** Of a body whose length is not told so much is counted at a time. */
const STEP_BYTES = 64 * 1024

const INFLATERS: Record<string, (sent: Buffer, o: { maxOutputLength: number }) => Promise<Buffer>> = { gzip: promisify(gunzip), deflate: promisify(inflateZlib), br: promisify(brotliDecompress), zstd: promisify(zstdDecompress) }
export const tooLarge = (limit: number): SwitchyardError => new SwitchyardError('payload-too-large', `the body is larger than ${limit / MIB} MiB`)
const unreadable = (): SwitchyardError => new SwitchyardError('malformed-request', 'the request could not be read: its path, its encoding or its length is malformed')

/** One at a time: it may need many megabytes for a moment, whatever it comes to. */
const inflateOne = createPlaces(1).bound(async (inflate: (typeof INFLATERS)[string], sent: Buffer, limit: number): Promise<Buffer> => {
  try {
    return await inflate(sent, { maxOutputLength: limit })
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE' ? tooLarge(limit) : unreadable()
  }
})

const announced = (req: IncomingMessage): number => Number(req.headers['content-length'] ?? 0)
export const hasBody = (req: IncomingMessage): boolean => req.headers['transfer-encoding'] !== undefined || announced(req) > 0

const collect = (from: Readable, size: number, limit: number, part: Part | undefined): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    // Where its length is told there is one copy of it, which costs nothing before it has come.
    const whole = size > 0 ? Buffer.allocUnsafeSlow(size) : null
    const chunks: Buffer[] = []
    let length = 0
    let counted = size
    const done = (error?: unknown): void => {
      from.off('data', data).off('end', done).off('error', done).off('close', gone)
      if (error === undefined) resolve(whole ?? Buffer.concat(chunks, length))
      else reject(error)
    }
    const gone = (): void => done(unreadable())
    const data = (chunk: Buffer): void => {
      length += chunk.length
      if (length > limit) return done(tooLarge(limit))
      try {
        for (; length > counted; counted += STEP_BYTES) part?.take(STEP_BYTES)
      } catch (error) {
        return done(error)
      }
      if (whole) chunk.copy(whole, length - chunk.length)
      else chunks.push(chunk)
    }
    from.on('data', data).on('end', () => done()).on('error', () => done(unreadable())).on('close', gone)
  })

/**
 * @param limit of bytes, as they are sent and inflated
 * @param part of the room, in which they are counted: all at once where their number is told
 * @throws SwitchyardError payload-too-large, unsupported-media-type, malformed-request; Overloaded
 */
export const readBytes = async (req: IncomingMessage, limit: number, part: Part | undefined): Promise<Buffer> => {
  if (announced(req) > limit) throw tooLarge(limit)
  const encoding = (req.headers['content-encoding'] ?? 'identity').toLowerCase()
  const inflate = Object.hasOwn(INFLATERS, encoding) ? INFLATERS[encoding]! : undefined
  if (encoding !== 'identity' && !inflate) throw new SwitchyardError('unsupported-media-type', 'send application/json in UTF-8, plain, gzip, deflate, br or zstd')
  part?.take(announced(req))
  const sent = await collect(req, announced(req), limit, part)
  if (!inflate) return sent
  part?.take(INFLATING_BYTES)
  const bytes = await inflateOne(inflate, sent, limit)
  part?.take(bytes.length)
  return bytes
}
