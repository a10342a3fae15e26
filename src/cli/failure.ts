/** How a command ends: its exit code, and what it says when that is not 0. */
import { AlreadyRetried, ConnectionFailed, IdempotencyKeyReused, InvalidRequest, SwitchyardError, TaskEnded, TaskNotEnded, TimedOut, UnexpectedAnswer } from '../../sdk/typescript/client.ts'
import { plain } from './text.ts'

export const EXIT = {
  ok: 0,
  /** The task ended otherwise than completed, or the router refused the request. */
  refused: 1,
  usage: 2,
  /** The router cannot be reached. */
  unreachable: 3,
  /** A wait timed out. */
  late: 4,
  interrupted: 130,
} as const

/** What was typed is wrong. */
export class UsageError extends Error {}
/** Ctrl-C. */
export class Interrupted extends Error {}
/** Nobody reads our output any more, as after `| head`. */
export class BrokenPipe extends Error {}

/** What to do next, by problem type, where the detail does not say it. */
const NEXT: Record<string, string> = {
  unauthorized: 'Set SWITCHYARD_API_KEY (or --api-key). On the router’s machine, with its settings: switchyard keys create --local --role admin',
  forbidden: 'Use another key: SWITCHYARD_API_KEY or --api-key.',
  'too-many-keys': 'See which are not used any more: switchyard keys list',
  'not-found': 'See what there is: switchyard tasks list, switchyard schedules list, switchyard agents list --include-dead',
  'no-agent': 'Start one, or leave out --require-agent: then the task waits for one.',
  'store-unavailable': 'Try again in a moment; tasks that were taken are safe.',
  'too-many-queues': 'Try again later.',
  'too-many-agents': 'See which are dead: switchyard agents list --include-dead',
  'queue-full': 'Start more agents, or try again later; see what waits: switchyard tasks list --status queued',
  'store-full': 'Try again later; give Redis more memory (maxmemory) if it stays so. Tasks that were taken are safe and go on.',
  overloaded: 'Try again in a moment, or start another API process.',
  'too-many-schedules': 'See what there is: switchyard schedules list',
  internal: 'The log of the API process says more.',
}

const next = (error: SwitchyardError): string | undefined => {
  if (error instanceof TaskEnded) return `Look at it: switchyard tasks show ${error.taskId}`
  if (error instanceof TaskNotEnded) return `Wait for its end: switchyard tasks watch ${error.taskId}`
  if (error instanceof AlreadyRetried || error instanceof IdempotencyKeyReused) return `Look at that one: switchyard tasks show ${error.taskId}`
  return NEXT[error.type]
}

/** The lines to say, and the code to end with. */
export const explain = (error: unknown, url: string): { lines: string[]; code: number } => {
  if (error instanceof BrokenPipe) return { lines: [], code: EXIT.ok }
  if (error instanceof Interrupted) return { lines: [], code: EXIT.interrupted }
  if (error instanceof UsageError) return { lines: [error.message], code: EXIT.usage }
  if (error instanceof ConnectionFailed) return { lines: [error.message.replace('no answer from', 'cannot reach a router at'), 'Start one with `switchyard start`, or say where it is with --url or SWITCHYARD_URL.'], code: EXIT.unreachable }
  if (error instanceof TimedOut) return { lines: [`${error.message}`, 'Is it the router? Its log may say more; --url or SWITCHYARD_URL says where it is.'], code: EXIT.unreachable }
  if (error instanceof UnexpectedAnswer) return { lines: [error.message, `Is ${url} the router? --url or SWITCHYARD_URL says where it is.`], code: EXIT.unreachable }
  if (error instanceof SwitchyardError) {
    const said = error instanceof InvalidRequest && error.errors.length > 0 ? error.errors.map((e) => `${e.pointer.replace(/^\//, '') || 'it'} ${e.detail}`).join('; ') : error.detail
    const after = next(error)
    return { lines: [said, ...(after === undefined ? [] : [after])], code: EXIT.refused }
  }
  return { lines: [`this should not have happened: ${error instanceof Error ? error.message : String(error)}`, 'Please report it, with the command.'], code: EXIT.refused }
}

/** The first line begins with the program's name, as every program's does. */
export const spoken = (lines: readonly string[]): string[] => lines.map((line, i) => (i === 0 ? `switchyard: ${plain(line)}` : plain(line)))
