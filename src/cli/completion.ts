/** `switchyard completion SHELL`: what a shell needs to complete commands and options at Tab. */
import tab from '@bomb.sh/tab/commander'
import type { Register } from './session.ts'

/** The last to be registered: it completes what is there by then. */
export const completionCommand: Register = (program) => {
  tab(program, { completionCommandName: 'completion' })
  program.commands.find((c) => c.name() === 'completion')?.description('print what a shell needs to complete this at Tab: source <(switchyard completion bash)')
}
