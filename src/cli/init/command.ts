/** `switchyard init NAME --lang ts|python` */
import { Option, type Command } from 'commander'
import type { Project } from './init.ts'
import type { Language } from './templates.ts'

type Options = { lang: Language; registry: boolean; type?: string; capability?: string; json?: true }

const HELP = `
Examples:
  switchyard init my-agent --lang ts
  switchyard init cost-agents --lang python --type cost --capability analyze_cost
  switchyard init tool --lang ts --no-registry

Writes the folder NAME, and nothing over anything that is there.`

/** As every file of commands does. What it prints goes the way of the program's own help. */
export const initCommand = (program: Command, _run: unknown, { end }: { end: (code: number) => void }): void => {
  const command = program
    .command('init')
    .description('write a new agent: code, tests, Dockerfile and Compose file, ready to run')
    .argument('<name>', 'of the project, its folder and its container')
    .addOption(new Option('--lang <lang>', 'the language it is in').choices(['ts', 'python']).makeOptionMandatory())
    .option('--type <type>', 'its agent type; the name unless said')
    .option('--capability <capability>', 'what its one capability is called (describe_numbers)')
    .option('--no-registry', 'leave registration out: it is called directly')
    .option('--json', 'print what was written as JSON, for machines')
    .addHelpText('after', HELP)
  const { writeOut, writeErr } = command.configureOutput()
  const out = (text: string): void => writeOut?.(`${text}\n`)
  const note = (text: string): void => writeErr?.(`${text}\n`)

  command.action(async (name: string, options: Options, self: Command) => {
    const { init, InitError } = await import('./init.ts')
    try {
      const { lang, registry, type, capability } = options
      const project = await init({ name, lang, registry, type, capability, note })
      // `--json` may stand before the command as well.
      out(self.optsWithGlobals()['json'] === true ? JSON.stringify(project) : told(project))
      end(0)
    } catch (error) {
      if (!(error instanceof InitError)) throw error
      note(`switchyard: ${error.message}`)
      end(error.kind === 'usage' ? 2 : 1)
    }
  })
}

/** A tree in which what lies below vendor/ is one line: it is not for reading. */
const told = ({ name, files, next, registry, type, capability }: Project): string => {
  const lines = files.filter((file) => !file.startsWith('vendor/'))
  const carried = files.length - lines.length
  const tree = [...lines.map((file) => `  ${file}`), `  vendor/switchyard/  (the SDK, ${carried} files)`]
  const does = registry ? `an agent of type ${type}, which can ${capability}` : `an agent that can ${capability}, and registers nowhere`
  return [`${name}/: ${does}`, ...tree, '', 'Next:', ...next.map((line) => `  ${line}`)].join('\n')
}
