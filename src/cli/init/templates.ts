/** The templates: real files, with `{{placeholders}}` and sections in them. */
import { readdir, readFile } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

export type Language = 'ts' | 'python'
export type Choice = { registry: boolean; values: Readonly<Record<string, string>> }

const folder = fileURLToPath(new URL('templates', import.meta.url))

/** Under their own names these would work here, and npm leaves them out of what it publishes. */
const DOTTED: ReadonlySet<string> = new Set(['gitignore', 'dockerignore', 'npmrc'])

/**
 * Fills a template in. A line `{{registry}}` or `{{no-registry}}` begins what is there only then, and `{{end}}` ends it.
 * @throws Error when a placeholder has no value
 */
export const render = (text: string, { registry, values }: Choice): string => {
  const lines: string[] = []
  let kept = true
  for (const line of text.split('\n')) {
    const marker = /^\{\{(registry|no-registry|end)\}\}$/.exec(line)?.[1]
    if (marker) kept = marker === 'end' || (marker === 'registry') === registry
    else if (kept) lines.push(line)
  }
  return lines.join('\n').replace(/\{\{([\w-]+)\}\}/g, (_, name: string) => {
    const value = values[name]
    if (value === undefined) throw new Error(`a template has {{${name}}}, which has no value`)
    return value
  })
}

/** The project's own files by their paths in it. One of which nothing is left is left out. */
export const readTemplates = async (lang: Language, choice: Choice): Promise<Map<string, string>> => {
  const files = new Map<string, string>()
  for (const part of ['both', lang]) {
    const root = join(folder, part)
    for (const entry of await readdir(root, { withFileTypes: true, recursive: true })) {
      const at = join(entry.parentPath, entry.name)
      // What editors and Python leave behind.
      if (!entry.isFile() || /(^|[/\\])(\.|__pycache__)/.test(relative(root, at))) continue
      const text = render(await readFile(at, 'utf8'), choice)
      const path = relative(root, at).split(sep).join('/')
      if (text.trim() !== '') files.set(DOTTED.has(path) ? `.${path}` : path, text)
    }
  }
  return files
}
