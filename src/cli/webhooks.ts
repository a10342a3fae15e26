/** `switchyard webhooks …`: what is done on the router's own machine, with its settings. That of one task is `tasks redeliver`. */
import { become } from './start.ts'
import type { Register } from './session.ts'

const HELP = '\nIt is WEBHOOK_SECRET, or was made once and is kept in Redis: REDIS_URL and REDIS_PREFIX, or DATA_DIR, say where, as for the router.'

export const webhookCommands: Register = (program, _run, { env, end }) => {
  program
    .command('webhooks')
    .description('what webhooks are signed with')
    .command('secret')
    .description('print the secret that receivers check webhooks by')
    .option('--namespace <name>', 'of this namespace’s webhooks, not of the default one')
    .addHelpText('after', HELP)
    .action(async ({ namespace }: { namespace?: string }) => {
      end(await become('../secret/main', env, namespace === undefined ? [] : [namespace]))
    })
}
