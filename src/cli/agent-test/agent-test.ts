/** The conformance kit: holds an agent, in any language, to the rules of docs/protocol.md. */
import { randomBytes } from 'node:crypto'
import { readSecret } from '../../../sdk/typescript/signature.ts'
import { UsageError } from '../failure.ts'
import { HINTS, linkOf, type Check, type Experiment, type Need, type Verdict } from './check.ts'
import { beating, control } from './checks/beating.ts'
import { malformed, oversized, slowRequests } from './checks/input.ts'
import { deletes, disconnect } from './checks/interrupted.ts'
import { later } from './checks/later.ts'
import { leaving } from './checks/leaving.ts'
import { limit } from './checks/limit.ts'
import { registering, starting } from './checks/registering.ts'
import { duplicate, redelivery } from './checks/repeats.ts'
import { health, keepAlive } from './checks/serving.ts'
import { signatures } from './checks/signing.ts'
import { answering, unknownType } from './checks/tasks.ts'
import { discover, UnreachableError, type Discovered, type Told } from './discover.ts'
import { wordsOf } from './launch.ts'
import { reportOf, type Report, type Result } from './report.ts'
import { attach, start, type Session } from './session.ts'
import { shown } from './shown.ts'
import { createSubject, QUICK_MS, type Known, type Subject } from './subject.ts'
import { createVerdicts } from './verdicts.ts'
import { DEFAULT_TIMEOUT_MS } from './waiting.ts'

/** What is done over HTTP alone, the gentle first: after the later ones an agent may be hurt. */
const SERVING: readonly Experiment[] = [answering, health, unknownType, redelivery, keepAlive, slowRequests, signatures, limit, duplicate, malformed, oversized, deletes, disconnect]
/** What is done to an agent that knows the kit's router. */
const LIVING: readonly Experiment[] = [starting, beating, control, later, leaving]

/** Every check, in the order of the report. */
export const CHECKS: Readonly<Record<string, Check>> = Object.assign({}, registering.checks, ...[starting, ...SERVING, beating, control, later, leaving].map((one) => one.checks))

export type AgentTestOptions = Told & {
  /** Of an agent that runs; or `command`, which starts one. */
  url?: string | undefined
  command?: string | undefined
  /** Of the agent at `url`: it is sent SIGTERM in the end. */
  pid?: number | undefined
  /** Only the checks of these names, and those that come with them. */
  only?: readonly string[] | undefined
  /** Ends the run; the agent that it started ends as well. */
  signal?: AbortSignal | undefined
  onProgress?: ((done: { name: string; count: number; of: number }) => void) | undefined
}

/** After this nothing more is begun, and a little later all is over. */
const WHOLE_MS = 54_000
const SLACK_MS = 4000

/**
 * Tests an agent.
 * @throws UsageError when it cannot be known what to send; UnreachableError when there is no agent
 */
export const agentTest = async (options: AgentTestOptions): Promise<Report> => {
  const { only, onProgress = () => {} } = options
  const target = readTarget(options)
  // An agent that is started is told one by the kit's router, if it was not given one.
  const secret = options.secret ?? ('words' in target ? `whsec_${randomBytes(32).toString('base64')}` : undefined)
  const key = secret === undefined ? null : readSecret(secret)
  const startedAt = performance.now()
  // A longer --timeout makes the whole longer.
  const endsAt = startedAt + WHOLE_MS + 4 * Math.max(0, (options.timeoutMs ?? 0) - DEFAULT_TIMEOUT_MS)
  const { judge, of, isDecided, isBroken } = createVerdicts((name, count) => onProgress({ name, count, of: Object.keys(CHECKS).length }))

  const perform = async (experiment: Experiment, session: Session, known: Known): Promise<void> => {
    const names = Object.keys(experiment.checks)
    const at = session.at()
    for (const name of names) {
      const missing = missingOf(CHECKS[name]!.needs ?? [], known, at)
      if (missing) judge.skipped(name, missing)
    }
    if (names.every(isDecided)) return
    const limitMs = Math.min(experiment.limitMs + Math.max(0, known.timeoutMs - DEFAULT_TIMEOUT_MS), endsAt - performance.now())
    if (limitMs <= 0) return names.forEach((name) => judge.skipped(name, 'there was no time left'))
    const over = new AbortController()
    const timer = setTimeout(() => over.abort(), limitMs)
    const signal = AbortSignal.any([over.signal, ...(options.signal ? [options.signal] : [])])
    const stopped = new Promise<'stopped'>((resolve) => signal.addEventListener('abort', () => resolve('stopped'), { once: true }))
    try {
      const how = await Promise.race([experiment.run(createSubject(known, { ...at, signal }), judge), stopped])
      options.signal?.throwIfAborted()
      const first = names.find((name) => !isDecided(name))
      if (how === 'stopped' && first) judge.broken(first, { sent: CHECKS[first]!.title, came: `it was not over within ${Math.round(limitMs / 1000)} s`, todo: 'answer each request in time' })
    } finally {
      clearTimeout(timer)
      over.abort()
    }
    const broken = names.find(isBroken)
    for (const name of names) judge.skipped(name, broken ? `see ${broken}` : 'it could not be told')
  }

  const series = async (experiments: readonly Experiment[], session: Session, known: Known): Promise<void> => {
    let gone: string | null = null
    for (const experiment of experiments) {
      const names = Object.keys(experiment.checks)
      if (only && experiment !== answering && !names.some((name) => only.includes(name))) continue
      if (gone) names.forEach((name) => judge.skipped(name, `the agent does not answer any more since ${gone}`))
      else if (isBroken('answers-a-task') && !experiment.taskless) names.forEach((name) => judge.skipped(name, 'it does no task: see answers-a-task'))
      else {
        await perform(experiment, session, known)
        const broken = names.find(isBroken)
        if (broken && experiment !== experiments.at(-1) && !((await session.mend()) && (await answers(session, known)))) gone = broken
      }
    }
  }

  /** Whatever it answers: it is there, and does not hang. */
  const answers = async (session: Session, known: Known): Promise<boolean> => {
    const x = await createSubject(known, { ...session.at(), signal: finding }).deliver({ timeoutMs: Math.min(known.timeoutMs, QUICK_MS) })
    return x.status !== null
  }

  const sessions: Session[] = []
  const keep = <S extends Session>(session: S): S => {
    sessions.push(session)
    return session
  }
  const whole = new AbortController()
  const finding = AbortSignal.any([whole.signal, ...(options.signal ? [options.signal] : [])])
  const starting = { signal: finding, secret: options.secret, told: secret }
  const bound = setTimeout(() => whole.abort(new UnreachableError('the agent could not be tested in the time there is')), endsAt + SLACK_MS - startedAt)
  let found: Discovered | null = null
  let url = ''
  try {
    if ('url' in target) {
      ({ url } = target)
      found = await discover(url, options, finding, key)
      await series([...SERVING, leaving], keep(attach(url, options.pid ?? null)), found.known)
    } else {
      const first = keep(await start(target.words, { ...starting, judge }))
      const at = first.said ? first.at().url : ''
      if (at === '') {
        const todo = 'POST to $SWITCHYARD_URL/agents/register when the agent listens, with where it does'
        judge.broken('register-fields', { sent: 'a router at SWITCHYARD_URL', came: first.said ? `a registration that does not say where: ${JSON.stringify(first.said.body).slice(0, 200)}` : 'no registration', todo })
      } else {
        url = at
        found = await discover(url, options, finding, key, first.said!.body, first.at().router)
        const { known } = found
        const serve = (): Promise<void> => series(SERVING, first, known)
        const live = async (): Promise<void> => series(LIVING, keep(await start(target.words, { ...starting, otherStart: first.said })), known)
        // Two beside each other where the agent takes the port it is given; else one after the other.
        if (first.obedient) await settled([serve(), live()])
        else await serve().then(() => first.close()).then(live)
      }
    }
    options.signal?.throwIfAborted()
  } finally {
    clearTimeout(bound)
    whole.abort()
    await Promise.all(sessions.map((session) => session.close()))
  }
  const results = Object.entries(CHECKS).map(([name, check]): Result => resultOf(name, check, of(name)))
  return reportOf({ url, capabilities: found?.capabilities?.map((one) => shown(one)) ?? null, max_concurrency: found?.known.limit ?? null }, results, performance.now() - startedAt)
}

/** All of them, whatever becomes of each; then the first that failed. */
const settled = async (all: Promise<void>[]): Promise<void> => {
  for (const one of await Promise.allSettled(all)) if (one.status === 'rejected') throw one.reason
}

const readTarget = ({ url, command, secret, only, pid }: AgentTestOptions): { url: string } | { words: string[] } => {
  if ((url === undefined) === (command === undefined)) throw new UsageError("give either the agent's URL or --command, which starts it")
  try {
    if (secret !== undefined) readSecret(secret)
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
  const unknown = only?.find((name) => !Object.hasOwn(CHECKS, name))
  if (unknown !== undefined) throw new UsageError(`there is no check ${unknown}; there are ${Object.keys(CHECKS).join(', ')}`)
  if (command !== undefined) {
    const words = wordsOf(command)
    if (!words || words.length === 0) throw new UsageError('the command is empty, or has a quote that does not end')
    if (pid !== undefined) throw new UsageError('--pid is for an agent at a URL; the one that --command starts is known')
    return { words }
  }
  const at = URL.canParse(url!) ? new URL(url!) : null
  if (at?.protocol !== 'http:' || at.pathname !== '/' || at.search !== '' || at.username !== '') throw new UsageError(`the agent's URL is http://host:port, and nothing behind it; not ${url}`)
  return { url: at.origin }
}

/** What would have to be given so that a check can be done; null when nothing is missing. */
const missingOf = (needs: readonly Need[], known: Known, at: Partial<Subject>): string | null => {
  const has: Record<Need, boolean> = { command: !!at.router, process: !!at.process || (at.pid ?? null) !== null, slow: known.slow !== null, limit: known.limit !== null, secret: known.key !== null }
  const missing = needs.find((need) => !has[need])
  if (!missing) return null
  return missing === 'slow' && known.slowMissing ? known.slowMissing : HINTS[missing]
}

const resultOf = (name: string, { level, rule, title, needs = [] }: Check, verdict: Verdict | undefined): Result => {
  const facts = { name, level, rule, link: linkOf(rule), title }
  if (verdict?.status === 'passed') return { ...facts, status: 'passed' }
  if (verdict?.status !== 'broken') return { ...facts, status: 'skipped', because: verdict?.because ?? (needs.includes('command') ? HINTS.command : 'it was not asked for') }
  const { sent, came, todo } = verdict
  return { ...facts, status: level === 'MUST' ? 'failed' : 'warning', sent, came, todo }
}
