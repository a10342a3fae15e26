/** `switchyard tasks batch` */
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { Option, type Command } from 'commander'
import type { BatchTask } from '../../sdk/typescript/client.ts'
import { EXIT, UsageError } from './failure.ts'
import { parseParameters } from './input.ts'
import type { Runner, Session } from './session.ts'
import { counted, plain } from './text.ts'

type BatchOptions = { requireAgent?: true; idempotencyKey?: string }

/** As many as the API takes at once; and in characters, below the bytes that it takes. */
const MOST_LINES = 1000
const MOST_TEXT = 3 * 1024 * 1024

const HELP = `
Each line is a task as POST /tasks takes it. The id of each that is taken goes to stdout, in order; the others are told on stderr, by their line.
With --json there is a line of JSON for each.

Examples:
  switchyard tasks batch tasks.ndjson
  jq -c '.[] | {agent_type: "text", task_type: "word_count", parameters: .}' texts.json | switchyard tasks batch - --idempotency-key texts-1`

export const batchCommand = (tasks: Command, run: Runner): void => {
  const command = tasks
    .command('batch')
    .description('submit many tasks, one in each line of a file')
    .argument('<file>', 'JSON lines; - reads standard input')
    .addOption(new Option('--require-agent', 'refuse those for which no agent is alive, instead of letting them wait'))
    .addOption(new Option('--idempotency-key <key>', 'makes it safe to send the file again within a day: each line is taken once under key and line'))
  command.addHelpText('after', HELP).action(run<[string, BatchOptions]>(batch))
}

type Line = { line: number; task: BatchTask }

/** What a line says. @throws UsageError */
const taskIn = (text: string, line: number, key: string | undefined): Line => {
  const task = parseParameters(text, 'it', 'a task') as unknown as BatchTask
  return { line, task: key === undefined || task.idempotency_key !== undefined ? task : { ...task, idempotency_key: `${key}/${line}` } }
}

const batch = async (session: Session, file: string, o: BatchOptions): Promise<number> => {
  const { client, terminal, signal, json } = session
  const count = { taken: 0, refused: 0 }
  const taken = (line: number, answer: { task_id: string }): void => {
    count.taken++
    terminal.out(json ? JSON.stringify({ line, ...answer }) : answer.task_id)
  }
  const refuse = (line: number, error: { detail: string }): void => {
    count.refused++
    if (json) terminal.out(JSON.stringify({ line, error }))
    else terminal.note(`line ${line}: ${plain(error.detail)}`)
  }
  const send = async (lines: readonly Line[]): Promise<void> => {
    const { tasks } = await client.tasks.submitBatch(lines.map(({ task }) => task), { signal, requireAgent: o.requireAgent })
    for (const { index, ...answer } of tasks) {
      const { line } = lines[index]!
      if ('error' in answer) refuse(line, answer.error)
      else taken(line, answer)
    }
  }
  const stopProgress = terminal.progress(() => `${count.taken} taken, ${count.refused} refused`)
  try {
    let [number, text] = [0, 0]
    let waiting: Line[] = []
    for await (const line of linesOf(file, signal)) {
      number++
      if (line.trim() === '') continue
      if (waiting.length === MOST_LINES || (waiting.length > 0 && text + line.length > MOST_TEXT)) {
        await send(waiting)
        waiting = []
        text = 0
      }
      try {
        waiting.push(taskIn(line, number, o.idempotencyKey))
        text += line.length
      } catch (error) {
        if (!(error instanceof UsageError)) throw error
        refuse(number, { detail: error.message })
      }
    }
    if (waiting.length > 0) await send(waiting)
  } finally {
    stopProgress()
    if (!json && terminal.watched) terminal.note(`${counted(count.taken, 'task')} taken, ${count.refused} refused`)
  }
  return count.refused === 0 ? EXIT.ok : EXIT.refused
}

/** @throws UsageError when it cannot be read */
async function* linesOf(file: string, signal: AbortSignal): AsyncGenerator<string> {
  const input = file === '-' ? process.stdin : createReadStream(file)
  const failed = new Promise<never>((_, reject) => {
    input.once('error', ({ code, message }: NodeJS.ErrnoException) => reject(new UsageError(code === 'ENOENT' ? `there is no file ${file}; - reads standard input` : `${file === '-' ? 'standard input' : file} cannot be read: ${message}`)))
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
  failed.catch(() => {})
  const lines = createInterface({ input, crlfDelay: Infinity })[Symbol.asyncIterator]()
  try {
    for (;;) {
      const next = await Promise.race([lines.next(), failed])
      if (next.done) break
      yield next.value
    }
    // The end of a file that cannot be read comes without its error.
    await Promise.race([failed, new Promise((resolve) => setImmediate(resolve))])
  } finally {
    input.destroy()
  }
}
