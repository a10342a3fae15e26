/**
 * Two rules for oxlint: who may import whom, and that only `main.ts` files act on import. docs/architecture.md tells the reasons.
 * With these arrows no folder can be part of a cycle; `import/no-cycle` finds the cycles of files within one.
 */
import { dirname, relative, resolve } from 'node:path'

const base = ['contracts', 'errors', 'config', 'logger', 'lifetime']
const core = [...base, 'redis', 'access', 'registry', 'queues', 'tasks', 'schedules']

/** What each part of `src` may import, besides itself. */
const allowed: Record<string, readonly string[]> = {
  errors: [],
  logger: [],
  lifetime: [],
  allocator: [],
  config: ['errors', 'contracts'],
  contracts: ['errors'],
  transports: ['contracts', 'errors'],
  redis: base,
  access: [...base, 'redis'],
  registry: [...base, 'redis'],
  queues: [...base, 'redis'],
  // The record decides and the queue only delivers: tasks know queues, never the reverse.
  tasks: [...base, 'redis', 'registry', 'queues'],
  // They submit tasks, when it is time.
  schedules: [...base, 'redis', 'registry', 'queues', 'tasks'],
  // What api and workers are both made of.
  core,
  // The frame of their processes.
  process: [...core, 'core'],
  // Each runs without the other.
  api: [...core, 'core', 'process', 'transports'],
  workers: [...core, 'core', 'process', 'transports'],
  // It starts processes and takes no part in their work.
  start: [...base, 'allocator', 'redis'],
  // It asks the store one thing.
  secret: [...base, 'redis'],
  // They speak HTTP only; what the command starts is started as `npm start` starts it.
  cli: ['sdk', 'allocator'],
  sdk: [],
}

type Node = { type: string; value?: unknown; source?: Node | null; argument?: Node; literal?: Node; directive?: string | null; expression?: Node; body?: Node[] }
type Context = { filename: string; cwd: string; report: (fault: { node: Node; message: string }) => void }

/** `src/api/app.ts` → `api`, `src/errors.ts` → `errors`, `sdk/…` → `sdk`; null for what has no rule. */
const partOf = (path: string): string | null => /^src\/([^/]+?)(?:\/|\.ts$)/.exec(path)?.[1] ?? (path.startsWith('sdk/') ? 'sdk' : null)

const arrows = {
  create: (context: Context) => {
    const from = relative(context.cwd, context.filename)
    const part = partOf(from)
    const check = (node: Node, source: Node | null | undefined): void => {
      const name = source?.value ?? source?.literal?.value
      if (typeof name !== 'string') return
      const message = name.startsWith('.') ? faultOf(part, relative(context.cwd, resolve(dirname(context.filename), name))) : faultOfPackage(from, part, name)
      if (message) context.report({ node, message })
    }
    return {
      ImportDeclaration: (node: Node) => check(node, node.source),
      ExportNamedDeclaration: (node: Node) => check(node, node.source),
      ExportAllDeclaration: (node: Node) => check(node, node.source),
      ImportExpression: (node: Node) => check(node, node.source),
      TSImportType: (node: Node) => check(node, node.source ?? node.argument),
    }
  },
}

const faultOf = (part: string | null, target: string): string | null => {
  if (/^src\/.*main\.ts$/.test(target)) return `${target} acts on import: start it as a process`
  const to = partOf(target)
  if (part === null || part === to) return null
  const may = allowed[part]
  if (!may) return `src/${part} is a new part: say in test/arrows.ts what it may import`
  if (to !== null && may.includes(to)) return null
  return `${part} may import ${may.join(', ') || 'nothing of ours'}; not ${to ?? target}`
}

const faultOfPackage = (from: string, part: string | null, name: string): string | null => {
  const carrier = /^(bullmq|@bull-board\/.*)(\/|$)/.test(name)
  return carrier && from.startsWith('src/') && part !== 'queues' ? `only src/queues knows ${name}` : null
}

/** A module that acts when it is imported cannot be tested, nor used twice. */
const still = {
  create: (context: Context) => {
    const path = relative(context.cwd, context.filename)
    const free = !/^(src|sdk)\//.test(path) || /(^|\/)main\.ts$/.test(path) || path.endsWith('.test.ts')
    return {
      Program: (program: Node) => {
        if (free) return
        for (const node of program.body ?? []) {
          const acts = /^(ExpressionStatement|(For|ForIn|ForOf|While|DoWhile|If|Try|Switch|Block)Statement)$/.test(node.type) && !node.directive
          if (acts) context.report({ node, message: 'only main.ts files act on import: move this into a function' })
        }
      },
    }
  },
}

export default { meta: { name: 'switchyard' }, rules: { arrows, still } }
