/**
 * Bull Board: a look into every queue, at `/queues`. It may not change anything, as its writes would go round the record: its queues are
 * read-only, and whoever mounts it lets nothing but GET and HEAD through.
 */
import { createBullBoard } from '@bull-board/api'
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import { ExpressAdapter } from '@bull-board/express'
import type { Queue } from 'bullmq'
import type { RequestHandler } from 'express'
import type { Redis } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import type { Queues } from './queues.ts'
import { schedulesQueue } from './schedulers.ts'

/** The board asks some ten things of every queue at each look: beyond this many, those used last are shown. */
const MAX_SHOWN = 500
/** Between two looks of an open page. */
const LOOK_SECONDS = 5

// Nothing is loaded from elsewhere: it works where there is no internet, and nobody outside learns who looks.
const CONTENT_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"

export type BoardDeps = {
  redis: Redis
  keys: Keys
  types: { list: () => Promise<string[]> }
  queues: Queues
  /** What the Board shows as a job's data: its task's record, or null when that is gone. */
  describe: (taskId: string) => Promise<Record<string, unknown> | null>
  /** The same of a job scheduler's job: its schedule. */
  describeSchedule: (id: string) => Promise<Record<string, unknown> | null>
  path: string
}

/** The schedule of a job scheduler's job; undefined for a task's. */
const scheduleOf = (jobId: string): string | undefined => /^repeat:([^:]+):/.exec(jobId)?.[1]

/** Jobs carry nothing themselves: each is shown with what its record says. */
class RecordAdapter extends BullMQAdapter {
  readonly #describe: BoardDeps['describe']
  constructor(queue: Queue, options: ConstructorParameters<typeof BullMQAdapter>[1], describe: BoardDeps['describe']) {
    super(queue, options)
    this.#describe = describe
  }
  async #fill<J extends { id?: string | undefined; data: unknown }>(job: J): Promise<J> {
    job.data = (job.id === undefined ? null : await this.#describe(job.id)) ?? { record: 'forgotten' }
    return job
  }
  override async getJob(id: string) {
    const job = await super.getJob(id)
    return job && this.#fill(job)
  }
  override async getJobs(...args: Parameters<BullMQAdapter['getJobs']>) {
    return Promise.all((await super.getJobs(...args)).map((job) => this.#fill(job)))
  }
}

/** The page's template asks an outside host for its fonts; without, it takes the reader's own. */
const OUTSIDE = /<link [^>]*href="https?:[^>]*>/g

type Engine = (file: string, options: object, done: (error: unknown, html?: string) => void) => void
const loadsNothingOutside = (app: { engines: Record<string, Engine>; engine: (name: string, engine: Engine) => void }): void => {
  const render = app.engines['.ejs']!
  app.engine('ejs', (file, options, done) => render(file, options, (error, html) => done(error, html?.replace(OUTSIDE, ''))))
}

/**
 * @param deps.path where it is mounted, `/queues`
 * @returns a handler for everything below that path
 */
export const createBoard = ({ redis, keys, types, queues, describe, describeSchedule, path }: BoardDeps): RequestHandler => {
  const server = new ExpressAdapter()
  server.setBasePath(path)
  const board = createBullBoard({
    queues: [],
    serverAdapter: server,
    options: {
      uiConfig: {
        boardTitle: 'Switchyard',
        hideDocsLink: true,
        showWorkers: false, // each look would ask Redis for its whole list of clients, once per queue
        sortQueues: true,
        pollingInterval: { showSetting: true, forceInterval: LOOK_SECONDS },
        miscLinks: [
          { text: 'Start page', url: '/' },
          { text: 'API reference', url: '/docs' },
          { text: 'Metrics', url: '/metrics' },
        ],
      },
    },
  })
  const describeAny: BoardDeps['describe'] = (id) => (scheduleOf(id) === undefined ? describe(id) : describeSchedule(scheduleOf(id)!))
  const recordOf = (id: string): string => (scheduleOf(id) === undefined ? `/tasks/${id}` : `/schedules/${scheduleOf(id)}`)
  const shown = new Map<string, BullMQAdapter>()

  /** Shows the queues there are now: any process may have made them, and a dispatcher forgets those unused for an hour. */
  const refresh = async (): Promise<void> => {
    const used = await Promise.all(
      (await types.list()).map(async (type) => {
        const [cells, schedules] = await Promise.all([redis.zrevrange(keys.queues(type), 0, MAX_SHOWN - 1, 'WITHSCORES'), redis.exists(keys.schedules(type))])
        const shownFirst = schedules === 1 ? [{ type, name: schedulesQueue(type), at: Infinity }] : []
        return [...shownFirst, ...cells.flatMap((name, i) => (i % 2 === 0 ? [{ type, name, at: Number(cells[i + 1]) }] : []))]
      }),
    )
    const last = used.flat().sort((a, b) => b.at - a.at).slice(0, MAX_SHOWN)
    const names = new Set(last.map(({ name }) => name))
    for (const name of shown.keys()) if (!names.has(name)) shown.delete(name)
    for (const { type, name } of last) {
      if (shown.has(name)) continue
      shown.set(name, new RecordAdapter(queues.queue(type, name), { readOnlyMode: true, delimiter: '.', externalJobUrl: (job) => ({ displayText: 'Record', href: recordOf(String(job.id)) }) }, describeAny))
    }
    board.replaceQueues([...shown.values()])
  }

  loadsNothingOutside(server.getRouter())
  const look: RequestHandler = server.getRouter()
  return (req, res, next) => {
    res.setHeader('Content-Security-Policy', CONTENT_POLICY)
    if (!req.path.startsWith('/api/')) return look(req, res, next)
    refresh().then(() => look(req, res, next), next)
  }
}
