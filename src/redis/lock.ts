/**
 * One holder at a time per lock file, among processes of one machine. Node has no flock, so the file names its holder: a dead
 * holder's file is taken over, and never a living one's.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { ConfigError } from '../errors.ts'
import { isAlive } from './process.ts'

const WAIT_MS = 60_000
/** Tells this process from a dead one that had the same id: in a container every run may be pid 7. */
const self = `${process.pid} ${randomUUID()}`

/**
 * Waits for the lock.
 * @throws ConfigError after a minute
 */
export const takeLock = async (file: string, signal?: AbortSignal): Promise<AsyncDisposable> => {
  const draft = `${file}.${randomUUID()}`
  const deadline = Date.now() + WAIT_MS
  writeFileSync(draft, self)
  try {
    // A link appears whole or not at all, so nobody ever reads a lock that does not name its holder yet.
    while (!link(draft, file)) {
      signal?.throwIfAborted()
      const holder = read(file)
      if (holder !== null && isDead(holder)) takeOver(file, holder)
      else if (Date.now() > deadline) throw new ConfigError(`Another process (pid ${holder?.split(' ')[0]}) has held ${file} for a minute: stop it, or remove that file`)
      else await sleep(20)
    }
  } finally {
    rmSync(draft, { force: true })
  }
  return {
    [Symbol.asyncDispose]: async () => {
      if (read(file) === self) rmSync(file, { force: true })
    },
  }
}

const isDead = (holder: string): boolean => {
  const pid = Number(holder.split(' ')[0])
  return pid === process.pid ? holder !== self : !isAlive(pid)
}

/** Moves a dead holder's lock away. Between the read and the move someone may have taken it; then theirs is put back. */
const takeOver = (file: string, holder: string): void => {
  const aside = `${file}.${randomUUID()}.dead`
  try {
    renameSync(file, aside)
  } catch {
    return // another was faster
  }
  if (read(aside) !== holder) link(aside, file)
  rmSync(aside, { force: true })
}

const link = (from: string, to: string): boolean => {
  try {
    linkSync(from, to)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

const read = (file: string): string | null => {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return null
  }
}
