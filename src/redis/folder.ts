/** Folders made by us. */
import { mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'

/**
 * Makes a folder, for us alone, and those above it that are missing.
 * One at a time: Node's own recursive mkdir never returns where the system answers "no such file" below a folder that is there, as /proc does.
 */
export const makeFolder = (path: string): void => {
  if (isFolder(path)) return
  const above = dirname(path)
  if (above !== path) makeFolder(above)
  try {
    mkdirSync(path, { mode: 0o700 })
  } catch (error) {
    if (!isFolder(path)) throw error // else another process was faster
  }
}

/** @throws what the system says of a path that cannot even be looked at, its name being too long for one */
const isFolder = (path: string): boolean => {
  const found = statSync(path, { throwIfNoEntry: false })
  return found?.isDirectory() ?? false
}
