/**
 * `npm run bench -- --model`: what it takes to do so many tasks a second for so many agents, reckoned from the curves that were measured (docs/growth/*.json). No part of it has been run at these
 * sizes: each figure is multiplied as if it stayed what it was. What it prints takes its place in docs/scale.md.
 */
import { join } from 'node:path'
import { intoPage, load, type Measured } from './report.ts'

/** Of a core, or of a master's thread: what is planned with, so that a burst, or the loss of some, is borne. */
const BUSY = 0.6
const MICROS = BUSY * 1e6
/** Of an agent type: so small a part of a master that types can be placed evenly. */
const TASKS_OF_A_TYPE = 500
const AGENTS_OF_A_TYPE = 10_000
const [LEAST_TYPES, MOST_TYPES] = [10, 1000] // registry/types.ts
const AGENT_SECONDS = 0.5
const WORKER_CONCURRENCY = 2000
const BEAT_SECONDS = 20
/** An API looks again then: registry/agent-index.ts */
const REMEMBERED_SECONDS = 300
/** api/doors.ts */
const CONNECTIONS_OF_AN_API = 10_000
const KEPT_SECONDS = 3600
const KEPT_OF_A_TYPE = 100_000 // RETENTION_COMPLETED_COUNT
const EVENTS_OF_A_TYPE = 50_000 // tasks/record.lua

const CURVES = ['types', 'idle-types', 'looks', 'masters', 'masters-alone', 'heartbeats', 'agents', 'followers', 'payload', 'records', 'queues'] as const
type Name = (typeof CURVES)[number]
export type Curves = Readonly<Record<Name, Measured>>

/** What was measured, as it is reckoned with; in µs, bytes, or as said. */
export const figuresOf = (curves: Curves) => {
  const points = (name: Name) => curves[name].points
  const at = (name: Name, x: number, key: string): number => {
    const value = points(name).find((p) => p.x === x)?.median[key]
    if (value == null) throw new Error(`the curve ${name} has no ${key} at ${x}: measure it again`)
    return value
  }
  const last = (name: Name): number => points(name).at(-1)!.x
  const least = (name: Name): number => points(name)[0]!.x

  const roles = ['api', 'worker', 'redis'] as const
  /** % of a core that a further idle type takes, as µs a second: of one Redis many are looked at by one script, in a cluster each by itself. */
  const lookIn = (name: 'idle-types' | 'looks', role: (typeof roles)[number]): number => Math.max(0, ((at(name, last(name), role) - at(name, least(name), role)) * 1e4) / (last(name) - least(name)))
  const look = (role: (typeof roles)[number], cluster: boolean): number => lookIn(cluster ? 'looks' : 'idle-types', role)
  /** What a task takes in a cluster, against one Redis. Of Redis by hand: over REST each master had so little to do here that it seldom found several commands at once. */
  const inCluster = (role: (typeof roles)[number]): number => {
    const name = role === 'redis' ? 'masters-alone' : 'masters'
    return Math.max(1, at(name, last(name), role) / at(name, 0, role))
  }
  /** Of a task with so many types in use, without the looks at them, which are reckoned by themselves: between what was measured below and above, by the logarithm. */
  const task = (types: number, role: (typeof roles)[number]): number => {
    const measured = points('types').map(({ x }) => [x, at('types', x, role) - (look(role, false) * x) / at('types', x, 'rate')] as const)
    const above = measured.find(([x]) => x >= types) ?? measured.at(-1)!
    const below = measured.findLast(([x]) => x <= types) ?? measured[0]!
    if (above[0] === below[0]) return above[1]
    return below[1] + ((above[1] - below[1]) * Math.log(types / below[0])) / Math.log(above[0] / below[0])
  }
  const beats = last('heartbeats') / BEAT_SECONDS
  const beat = (role: (typeof roles)[number]): number => (at('heartbeats', last('heartbeats'), role) * 1e4) / beats
  const heard = last('followers')
  return {
    task, inCluster, look, beat,
    mastersMeasured: last('masters'),
    agentsBeating: last('heartbeats'),
    /** As long as an agent's beats come to one API. */
    lookups: Math.max(at('agents', last('agents'), 'lookups'), BEAT_SECONDS / REMEMBERED_SECONDS),
    lookup: at('agents', last('agents'), 'lookup'),
    agentBytes: at('agents', last('agents'), 'bytes'),
    recordBytes: at('records', last('records'), 'bytes'),
    eventBytes: Math.max(0, at('payload', 0.2, 'kept') * 1000 - at('records', last('records'), 'bytes')) / 3, // a task has three: queued, sent, completed
    messages: at('followers', heard, 'messages'),
    message: Math.max(0, at('followers', heard, 'thread') - at('followers', 0, 'thread')) / (heard * at('followers', heard, 'messages')),
    toOne: at('masters', last('masters'), 'toOne'),
    apiMiB: at('queues', last('queues'), 'apiMiB'),
    workerMiB: at('queues', last('queues'), 'workerMiB'),
  }
}
export type Figures = ReturnType<typeof figuresOf>

export type Load = Readonly<{ tasks: number; agents: number }>

/** What a load takes. Everything is spread evenly: over types, and types over masters. */
export const plan = (f: Figures, { tasks, agents }: Load) => {
  const types = Math.min(MOST_TYPES, Math.max(LEAST_TYPES, Math.ceil(tasks / TASKS_OF_A_TYPE), Math.ceil(agents / AGENTS_OF_A_TYPE)))
  const beats = agents / BEAT_SECONDS
  const needsCluster = tasks * f.task(types, 'redis') + beats * f.beat('redis') > MICROS
  const look = (role: 'worker' | 'redis') => f.look(role, needsCluster)
  const cost = (role: 'api' | 'worker' | 'redis') => f.task(types, role) * (needsCluster ? f.inCluster(role) : 1)

  const apiMicros = tasks * cost('api') + beats * f.beat('api')
  const apiByCpu = Math.ceil(apiMicros / MICROS)
  const apis = Math.max(2, apiByCpu, Math.ceil(agents / CONNECTIONS_OF_AN_API))
  const dispatchersByCpu = Math.ceil((tasks * cost('worker')) / (MICROS - types * look('worker')))
  const dispatchers = Math.max(2, dispatchersByCpu, Math.ceil((tasks * AGENT_SECONDS) / WORKER_CONCURRENCY))

  const redis = { tasks: tasks * cost('redis'), beats: beats * f.beat('redis'), looks: dispatchers * types * look('redis') }
  const redisMicros = redis.tasks + redis.beats + redis.looks
  const masters = redisMicros <= MICROS ? 1 : Math.max(3, Math.ceil(redisMicros / MICROS))
  const processes = apis + dispatchers
  const records = Math.min(tasks * KEPT_SECONDS, types * KEPT_OF_A_TYPE)
  const bytes = { agents: agents * f.agentBytes, records: records * f.recordBytes, events: Math.min(3 * records, types * EVENTS_OF_A_TYPE) * f.eventBytes }
  return {
    tasks, agents, types, beats, apis, apiByCpu, dispatchers, masters, redis,
    busyCores: (apiMicros + tasks * cost('worker') + dispatchers * types * look('worker') + redisMicros) / 1e6,
    /** Each process and each master one. */
    cores: processes + masters,
    /** Of a master's thread; more than 1 is more than there is. */
    index: (beats * f.lookups * f.lookup) / 1e6,
    ofAType: ((tasks / types) * cost('redis') + (beats / types) * f.beat('redis')) / 1e6,
    records,
    redisGiB: (bytes.agents + bytes.records + bytes.events) / 2 ** 30,
    processGiB: (apis * f.apiMiB + dispatchers * f.workerMiB) / 1024,
    ofAProcess: f.toOne * masters,
    atAMaster: processes * f.toOne,
    connections: processes * f.toOne * masters,
    /** Each dispatcher looks at each type every second, and has a channel of each. */
    looks: dispatchers * types,
    /** Should in each API somebody wait for a task of each type. */
    heard: tasks * f.messages * apis,
    heardMasters: (tasks * f.messages * apis * f.message) / MICROS,
  }
}
export type Plan = ReturnType<typeof plan>

const written = (n: number, digits = 0): string => n.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })
const short = (n: number): string => (n >= 1e6 ? `${written(n / 1e6, n < 1e7 && n % 1e6 !== 0 ? 1 : 0)} M` : written(n))
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string => [head, head.map((_, i) => (i === 0 ? '---' : '---:')), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')

const figureTable = (f: Figures): string => {
  const types = [1, 10, 100, 500]
  const per = (role: 'api' | 'worker' | 'redis') => types.map((n) => written(f.task(n, role))).join(' · ')
  return table(['measured', 'figure', 'curve'], [
    [`a task with ${types.join(' · ')} types in use: Redis, CPU µs`, per('redis'), 'types, less the looks'],
    ['the same: dispatcher', per('worker'), 'types, less the looks'],
    ['the same: API', per('api'), 'types, less the looks'],
    ['in a cluster times: Redis · dispatcher · API', (['redis', 'worker', 'api'] as const).map((role) => written(f.inCluster(role), 2)).join(' · '), `masters-alone, masters; ${f.mastersMeasured} against none`],
    ['a dispatcher’s look at a type, each second: Redis · dispatcher, CPU µs', `${written(f.look('redis', false))} · ${written(f.look('worker', false))}`, 'idle-types'],
    ['the same in a cluster, each by itself', `${written(f.look('redis', true))} · ${written(f.look('worker', true))}`, 'looks'],
    ['a heartbeat: Redis · API, CPU µs', `${written(f.beat('redis'))} · ${written(f.beat('api'))}`, `heartbeats, at ${written(f.agentsBeating)} agents`],
    ['looks at the agents’ index a beat (once in 300 s at least) · µs each of its master', `${written(f.lookups, 2)} · ${written(f.lookup)}`, 'agents'],
    ['an agent · a record of a task, bytes in Redis', `${written(f.agentBytes)} · ${written(f.recordBytes)}`, 'agents, records'],
    ['what happened to a task, told to a process that hears of its type: messages · µs of Redis each', `${written(f.messages, 2)} · ${written(f.message, 1)}`, 'followers'],
    ['connections of a process to each master', written(f.toOne), 'masters'],
    ['an API · a dispatcher, resident MiB', `${written(f.apiMiB)} · ${written(f.workerMiB)}`, 'queues'],
  ])
}

/** The same in parts that know nothing of each other. */
const CELLS = 10
const cells = (f: Figures, { tasks, agents }: Load): string => {
  const p = plan(f, { tasks: tasks / CELLS, agents: agents / CELLS })
  const all = (n: number) => `${CELLS} × ${written(n)} = ${written(CELLS * n)}`
  return `As ${CELLS} Switchyards of ${written(p.tasks)} tasks/s and ${written(p.agents)} agents each, it is ${all(p.masters)} masters, ${all(p.dispatchers)} dispatchers, ${all(p.apis)} APIs: ${written(CELLS * p.cores)} cores, of them ${written(CELLS * p.busyCores)} busy. A process has ${written(p.ofAProcess)} connections then, a master ${written(p.atAMaster)}; the index of agents takes ${written(p.index * 100)} % of one master of each; and should somebody in each API wait for a task of each type, that is ${written(CELLS * p.heardMasters, 1)} masters more in all.`
}

const LOADS: readonly Load[] = [1000, 10_000, 100_000].flatMap((tasks) => [10_000, 100_000, 1_000_000].map((agents) => ({ tasks, agents })))

const nameOf = (p: Plan): string => `${short(p.tasks)}, ${short(p.agents)}`
const partsTable = (plans: readonly Plan[]): string =>
  table(
    ['tasks/s, agents', 'types', 'Redis: tasks + beats + looks, cores', 'masters', 'dispatchers', 'APIs (by CPU alone)', 'cores (of them busy)'],
    plans.map((p) => [
      nameOf(p), written(p.types), [p.redis.tasks, p.redis.beats, p.redis.looks].map((n) => written(n / 1e6, 1)).join(' + '),
      written(p.masters), written(p.dispatchers), `${written(p.apis)} (${written(p.apiByCpu)})`, `${written(p.cores)} (${written(p.busyCores)})`,
    ]),
  )
const boundsTable = (plans: readonly Plan[]): string =>
  table(
    ['tasks/s, agents', 'records kept', 'Redis, GiB', 'APIs and dispatchers, GiB', 'connections of a process · at a master · in all', 'looks/s, and channels of wakes', 'the index of agents, % of its master', 'one type, % of its master'],
    plans.map((p) => [
      nameOf(p), short(p.records), written(p.redisGiB, 1), written(p.processGiB, 1), [p.ofAProcess, p.atAMaster, p.connections].map((n) => written(n)).join(' · '), written(p.looks), written(p.index * 100, p.index < 0.1 ? 1 : 0), written(p.ofAType * 100),
    ]),
  )

/** One row with all its steps, so that the others can be followed. */
const arithmetic = (f: Figures, p: Plan): string => {
  const redisOf = (n: number) => written(n / 1e6, 2)
  const [api, worker, redis] = (['api', 'worker', 'redis'] as const).map((role) => f.task(p.types, role) * f.inCluster(role)) as [number, number, number]
  return [
    `For ${written(p.tasks)} tasks/s and ${written(p.agents)} agents, with ${p.types} types and ${written(p.beats)} beats/s, µs a second over ${written(MICROS)} of each core:`,
    `- dispatchers: ${written(p.tasks)} × ${written(worker)} = ${written(p.tasks * worker)}, over ${written(MICROS)} − ${p.types} × ${written(f.look('worker', true))}; or ${written(p.tasks)} × ${AGENT_SECONDS} s in hand over ${written(WORKER_CONCURRENCY)} each: the larger, ${p.dispatchers};`,
    `- APIs: ${written(p.tasks)} × ${written(api)} + ${written(p.beats)} × ${written(f.beat('api'))}, so ${p.apiByCpu} by CPU; or ${written(p.agents)} kept connections over ${written(CONNECTIONS_OF_AN_API)} each: the larger, ${p.apis};`,
    `- masters: ${written(p.tasks)} × ${written(redis)} = ${redisOf(p.redis.tasks)} cores of tasks, ${written(p.beats)} × ${written(f.beat('redis'))} = ${redisOf(p.redis.beats)} of beats, ${p.dispatchers} × ${p.types} × ${written(f.look('redis', true))} = ${redisOf(p.redis.looks)} of looks, over ${BUSY}: ${p.masters};`,
    `- connections: (${p.apis} + ${p.dispatchers}) × ${f.toOne} = ${written(p.atAMaster)} at each master, × ${p.masters} = ${written(p.connections)} in all;`,
    `- memory of Redis: ${written(p.agents)} × ${written(f.agentBytes)} + ${written(p.records)} × ${written(f.recordBytes)} + ${p.types} × ${written(EVENTS_OF_A_TYPE)} × ${written(f.eventBytes)} bytes = ${written(p.redisGiB, 1)} GiB, without replicas;`,
    `- should somebody in each API wait for a task of each type, beside all that: ${written(p.tasks)} × ${written(f.messages, 2)} × ${p.apis} = ${written(p.heard)} messages/s, which is the work of ${written(p.heardMasters, 1)} masters more.`,
  ].join('\n')
}

/** What bounds what, at 60 % of a core or of a master's thread, and at all of it; in the order in which it is met as tasks and agents grow together. */
const limitTable = (f: Figures): string => {
  const both = (most: number) => `${written(most * BUSY)} (${written(most)})`
  const one = f.task(1, 'redis')
  return table(['what gives out', 'at 60 % (at all of it)', 'what bounds it'], [
    ['1. one API', `${both(1e6 / f.task(10, 'api'))} tasks/s, or beats of ${both((1e6 / f.beat('api')) * BEAT_SECONDS)} agents`, `${written(f.task(10, 'api'))} µs a task, ${written(f.beat('api'))} µs a beat; and ${written(CONNECTIONS_OF_AN_API)} connections`],
    ['2. one Redis, with ten types', `${both(1e6 / f.task(10, 'redis'))} tasks/s, or beats of ${both((1e6 / f.beat('redis')) * BEAT_SECONDS)} agents`, `its one thread: ${written(f.task(10, 'redis'))} µs a task, ${written(f.beat('redis'))} µs a beat`],
    ['3. one agent type, on however many masters', `${both(1e6 / one)} tasks/s, or beats of ${both((1e6 / f.beat('redis')) * BEAT_SECONDS)} agents`, `a type is one slot, and a slot has one master: ${written(one)} µs a task`],
    ['4. one dispatcher', `${both(1e6 / f.task(10, 'worker'))} tasks/s`, `${written(f.task(10, 'worker'))} µs a task; and WORKER_CONCURRENCY over the seconds that an agent takes`],
    ['5. telling those who wait', f.message === 0 ? 'too few to see' : `${both(1e6 / f.message)} messages/s of a master`, `${written(f.message, 1)} µs each: tasks/s of a type × ${written(f.messages, 2)} or more × APIs in which somebody waits for one of them`],
    ['6. dispatchers × types', `${both(1e6 / f.look('redis', true))} looks/s of a master`, `${written(f.look('redis', true))} µs: each type, by each dispatcher, each second`],
    ['7. the master with the index of agents', `beats of ${both((1e6 / (f.lookups * f.lookup)) * BEAT_SECONDS)} agents`, `${written(f.lookups, 2)} looks a beat of ${written(f.lookup)} µs, for all of a namespace`],
    ['8. types of a namespace', written(MOST_TYPES), `a bound; so many are ${written((MOST_TYPES * f.look('worker', true)) / 1e4)} % of each dispatcher’s core`],
    ['9. connections at a master', `${written(10_000 / f.toOne)} processes`, `${f.toOne} each, of Redis’s \`maxclients\` 10,000`],
  ])
}

export const runModel = async (out: string): Promise<string> => {
  const curves: Partial<Record<Name, Measured>> = {}
  for (const name of CURVES) {
    const measured = await load(out, { name })
    if (measured === null) throw new Error(`there is no ${join(out, 'growth', `${name}.json`)}: npm run bench -- --growth ${name}`)
    curves[name] = measured
  }
  const figures = figuresOf(curves as Curves)
  const plans = LOADS.map((load) => plan(figures, load))
  const parts: readonly (readonly [name: string, text: string])[] = [
    ['figures', figureTable(figures)],
    ['limits', limitTable(figures)],
    ['parts', partsTable(plans)],
    ['bounds', boundsTable(plans)],
    ['arithmetic', arithmetic(figures, plans.at(-1)!)],
    ['cells', cells(figures, LOADS.at(-1)!)],
  ]
  for (const [name, text] of parts) await intoPage(join(out, 'scale.md'), `model-${name}`, text)
  return parts.map(([name, text]) => `### ${name}\n\n${text}\n`).join('\n')
}
