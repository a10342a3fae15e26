/**
 * `npm run demo`: a whole Switchyard with three agents of two types, and twenty tasks that go all the ways a task can go.
 * On a terminal it stays up until Ctrl-C; elsewhere, and with --once, it ends when the tasks have.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { readConfig, type Config } from '../src/config.ts'
import { ConfigError } from '../src/errors.ts'
import { onStop } from '../src/lifetime.ts'
import { createLogger } from '../src/logger.ts'
import { createClient, isOver, type Followed } from './demo/follow.ts'
import { bold, changeHead, changeLine, counts, shortId, table } from './demo/show.ts'
import { createDemoSystem, findPython, isFree, type AgentScript } from './demo/system.ts'
import { planTasks } from './demo/tasks.ts'

/** The tasks take about four seconds; a machine that needs as long as this has other worries. */
const LONGEST_MS = 60_000
const AGENTS_MS = 20_000

const say = (text = ''): void => void process.stdout.write(`${text}\n`)

const run = async (config: Config): Promise<void> => {
  const staying = process.stdout.isTTY === true && !process.argv.includes('--once')
  const stopping = new AbortController()
  const system = createDemoSystem({ config, log: createLogger('demo', process.env['LOG_LEVEL'] ? config.logLevel : 'warn'), onFailure: (error) => void fail(error) })
  const stop = onStop(
    async (reason) => {
      stopping.abort()
      if (reason !== 'the tasks have ended') say(`\nstopping (${reason})`)
      await system.stop()
      say('stopped; nothing is left running')
    },
    { hasten: system.hasten },
  )
  const fail = async (error: unknown): Promise<void> => {
    // Ctrl-C reaches the API as well, which may be gone before we hear of it; that is no failure.
    await sleep(300)
    if (stopping.signal.aborted) return
    process.stderr.write(`\nThe demo cannot go on. ${error instanceof Error ? error.message : String(error)}\n`)
    stop('it failed', 1)
  }
  // Whoever reads us may have had enough: npm run demo | head
  process.stdout.on('error', () => stop('nobody listens'))

  try {
    say(`\n${bold('Switchyard demo')}: starting Redis, an API and a worker`)
    const [agents, port] = await Promise.all([chooseAgents(), choosePort(config)])
    const url = await system.start(port)
    const client = createClient(url)
    say(`  api        ${url}\n  queues     ${url}/queues\n  reference  ${url}/docs\n`)

    for (const agent of agents) system.startAgent(agent, url)
    await showAgents(client, agents.length, stopping.signal)

    const followed = await runTasks(client, stopping.signal)
    if (stopping.signal.aborted) return
    say(`\n${table(followed)}\n`)
    const astray = followed.filter(({ task, plan }) => task?.status !== plan.ends)
    say(`${followed.length} tasks: ${counts(followed)}. ${followed.filter(({ task }) => (task?.retry_count ?? 0) > 0).length} of them failed once and was retried.`)
    if (astray.length > 0) return fail(new Error(`This was to end otherwise: ${astray.map(({ id, plan }) => `${shortId(id)} (${plan.ends})`).join(', ')}`))
    say(`While it is up, ${url}/queues shows the queues, and ${url}/docs the reference of the API.`)
    if (!staying) return stop('the tasks have ended')
    say(`\nIt stays up, so try it yourself; Ctrl-C ends it.\n\n${tryIt(url)}\n`)
  } catch (error) {
    await fail(error)
  }
}

const choosePort = async ({ host, port }: Config): Promise<number> => {
  if (port === 0 || (await isFree(host, port))) return port
  say(`  port ${port} is taken, so the demo takes a free one; set PORT to choose another`)
  return 0
}

const chooseAgents = async (): Promise<AgentScript[]> => {
  const python = await findPython()
  if (!python) say('  there is no python3 of 3.9 or newer, so a stand-in in TypeScript does the work of the Python agent; install Python to see that one')
  return [
    { name: 'text-1', command: process.execPath, script: 'text-agent.ts', env: { AGENT_FAULTS: '1' } },
    { name: 'text-2', command: process.execPath, script: 'text-agent.ts', env: { AGENT_FAULTS: '1' } },
    { name: 'cost-1', ...(python ? { command: python.command, script: 'cost_agent.py' } : { command: process.execPath, script: 'demo/cost-agent.ts' }) },
  ]
}

type Client = ReturnType<typeof createClient>
type Agents = { agents: { name: string; type: string; capabilities: string[]; max_concurrency: number; host: string; port: number }[] }

/** Waits until the agents have registered, and says which they are. */
const showAgents = async (client: Client, count: number, signal: AbortSignal): Promise<void> => {
  const deadline = Date.now() + AGENTS_MS
  for (;;) {
    const { agents } = await client.ask<Agents>('GET', '/agents')
    if (signal.aborted) return
    if (agents.length >= count) {
      for (const a of agents.toSorted((x, y) => (x.name < y.name ? -1 : 1))) say(`  ${a.name}  type ${a.type}, at ${a.host}:${a.port}, ${a.max_concurrency} tasks at once: ${a.capabilities.join(', ')}`)
      return
    }
    if (Date.now() > deadline) throw new Error(`Only ${agents.length} of ${count} agents registered within ${AGENTS_MS / 1000} s. Is a firewall between processes of this machine?`)
    await sleep(50)
  }
}

const runTasks = async (client: Client, signal: AbortSignal): Promise<Followed[]> => {
  const plans = planTasks()
  say(`\n${plans.length} tasks\n\n${changeHead()}`)
  const followed: Followed[] = []
  const submitting = (async () => {
    for (const plan of plans) {
      if (signal.aborted) return
      const task = await client.submit(plan)
      followed.push(task)
      if (plan.cancelAfterMs !== undefined) setTimeout(() => void client.cancel(task).catch(() => {}), plan.cancelAfterMs)
    }
  })()
  await submitting
  await client.follow(followed, (task, change) => say(changeLine(task, change)), { signal, withinMs: LONGEST_MS })
  if (!followed.every(isOver) && !signal.aborted) say(`\nNot all tasks ended within ${LONGEST_MS / 1000} s.`)
  return followed
}

const tryIt = (url: string): string =>
  `  curl -s ${url}/tasks -H 'content-type: application/json' \\
    -d '{"agent_type": "text", "task_type": "word_count", "parameters": {"text": "a rose is a rose"}, "priority": "high"}'
  curl -s '${url}/tasks?limit=5'`

try {
  await run(readConfig())
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 1
}
