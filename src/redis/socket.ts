/** Where the embedded server of a data folder listens. */
import { createHash } from 'node:crypto'
import { lstatSync, readlinkSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { ConfigError } from '../errors.ts'
import { makeFolder } from './folder.ts'

/** sockaddr_un holds 108 bytes on Linux and 104 on macOS, the closing zero included. */
const LONGEST_SOCKET_PATH = 100

/**
 * The socket of a data folder: in it, or, where that path is too long or too odd for an address, in a folder of ours under
 * the temporary one. A link in the data folder then says where, as TMPDIR may differ from one process to the next.
 */
export const chooseSocket = (dataDir: string): string => {
  let dir = dataDir
  try {
    dir = realpathSync(dataDir)
  } catch {
    // Not there yet, so nothing runs in it.
  }
  const inside = join(dir, 'redis.sock')
  if (Buffer.byteLength(inside) <= LONGEST_SOCKET_PATH && /^[\w./-]+$/.test(inside)) return inside
  const linked = readLink(inside)
  if (linked && isOurs(dirname(linked))) return linked
  const folder = join(tmpdir(), `switchyard-${createHash('sha256').update(dir).digest('hex').slice(0, 16)}`)
  const socket = join(folder, 'redis.sock')
  try {
    makeFolder(folder)
  } catch (error) {
    throw new ConfigError(`The path of DATA_DIR is too long or too odd for a socket, and the temporary folder cannot be used instead (${(error as Error).message}): set DATA_DIR to a shorter path, or TMPDIR to a folder that can be written`)
  }
  // Anyone may make folders in /tmp: one that another user put there could lead us to a server of theirs.
  if (!isOurs(folder)) throw new ConfigError(`${folder} belongs to another user: set DATA_DIR to a shorter path, or remove that folder`)
  try {
    rmSync(inside, { force: true })
    symlinkSync(socket, inside)
  } catch {
    // A data folder that is not there, or another process that made the link first.
  }
  return socket
}

const readLink = (path: string): string | null => {
  try {
    return readlinkSync(path)
  } catch {
    return null
  }
}

const isOurs = (folder: string): boolean => {
  try {
    const found = lstatSync(folder)
    return found.isDirectory() && found.uid === process.getuid?.()
  } catch {
    return false
  }
}
