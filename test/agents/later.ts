/**
 * An agent of the TypeScript SDK whose results come later, for tests; later.py is its twin. It prints what happens to its tasks. Handlers wait at a gate, which the
 * task `open` opens. Told by what the SDK reads itself, AGENT_DRAIN_SECONDS, AGENT_LATER_AFTER_SECONDS and AGENT_REGISTER=0.
 */
import { once } from 'node:events'
import { createAgent, NonRetryableError, type Handler, type Progress, type TaskContext } from '../../sdk/typescript/agent.ts'

const { env } = process
const number = (text: string | undefined): number | undefined => (text ? Number(text) : undefined)
const say = (...words: unknown[]): void => void process.stdout.write(`${words.join(' ')}\n`)

const gates = new Map<string, PromiseWithResolvers<void>>()
const gate = (name: string): PromiseWithResolvers<void> => {
  const its = gates.get(name) ?? Promise.withResolvers<void>()
  gates.set(name, its)
  return its
}
/** Until it is open, or the task is to stop; `ignores` waits on. */
const pass = async ({ taskId, signal }: TaskContext, { ignores = false }: { ignores?: boolean }): Promise<void> => {
  say('began', taskId)
  const stopped = signal.aborted ? [null] : [once(signal, 'abort')]
  await Promise.race([gate(taskId).promise, ...(ignores ? [] : stopped)])
  say('ended', taskId, signal.aborted ? signal.reason.why : 'by itself')
}
const RESULTS: Record<string, () => unknown> = {
  value: () => ({ a: ['ä', 1.5, null] }),
  fails: () => { throw new Error('on purpose') }, // prettier-ignore
  final: () => { throw new NonRetryableError('no such account') }, // prettier-ignore
  large: () => 'x'.repeat(1024 * 1024),
  largest: () => 'x'.repeat(1024 * 1024 - 1026),
  no_json: () => ({ n: NaN }),
}
type Wanted = { ends?: string; ignores?: boolean; reports?: Progress[] }

const work: Handler = async ({ ends = 'value', ...wanted }: Wanted, ctx) => {
  await pass(ctx, wanted)
  return RESULTS[ends]!()
}
const later: Handler = (parameters, ctx) => {
  ctx.later()
  ctx.later()
  return work(parameters, ctx)
}
/** Reports, and tells what became of each; then waits. */
const report: Handler = async ({ reports = [], ...wanted }: Wanted, ctx) => {
  const taken: boolean[] = []
  const leftMs = (): number => ctx.deadline.getTime() - Date.now()
  for (const one of reports) {
    taken.push(await ctx.progress(one))
    say('left', ctx.taskId, Math.round(leftMs() / 1000))
  }
  say('reported', ctx.taskId, taken.join())
  await pass(ctx, wanted)
  return taken
}
const open: Handler = ({ name }: { name: string }) => gate(name).resolve()

const agent = createAgent({ type: env['AGENT_TYPE'] || 'test', drainSeconds: number(env['AGENT_DRAIN_SECONDS']), laterAfterSeconds: number(env['AGENT_LATER_AFTER_SECONDS']), register: env['AGENT_REGISTER'] !== '0', capabilities: { work, later, report, open } })
await agent.start()
say('listening on port', agent.port)
