/** What an agent says of an attempt while it lasts. */
import type { Logger } from '../logger.ts'
import { NotFound, StaleAttempt } from '../errors.ts'
import { createBatch } from '../redis/batch.ts'
import type { Redis } from '../redis/client.ts'
import { typeOfTask, type Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'

/** A report: `data` is JSON text. What is left out is null. */
export type Report = { percent: number | null; message: string | null; data: string | null }
export type KeptReport = Report & { atMs: number }

/** In front of a message, so that an empty one is told from none. */
const MESSAGE_GIVEN = '='
/** Longer data is not told to watchers, who find it with the task: the log keeps some ten thousand events. */
const MAX_TOLD_DATA = 1_000

/** A report as watchers are told of it: one line, without tabs. In a JSON text these stand only between its tokens. */
const toldOf = ({ percent, message, data }: Report): string =>
  `{"percent":${percent},"message":${JSON.stringify(message)},"data":${data !== null && data.length <= MAX_TOLD_DATA ? data.replace(/[\t\n\r]/g, ' ') : null}}`

/** The fields of the record that hold it; undefined when there is none. */
export const readProgress = (progress: string | undefined, data: string | undefined): KeptReport | null => {
  if (progress === undefined) return null
  const [at, , percent, ...message] = progress.split('\t')
  const text = message.join('\t')
  return { atMs: Number(at), percent: percent === '' ? null : Number(percent), message: text === '' ? null : text.slice(MESSAGE_GIVEN.length), data: data ? data : null }
}

export const createProgress = ({ redis, keys, maxAttemptMs, log }: { redis: Redis; keys: Keys; maxAttemptMs: number; log: Logger }) => {
  const script = createBatch(loadScript(redis, new URL('./progress.lua', import.meta.url)))

  /**
   * Keeps the latest report on the current attempt of a task, and gives it more time when asked to.
   * @param report null: there is none, only more time is asked for, or a sign of life given
   * @param extendMs the attempt's deadline is to be no sooner than so long from now; null: it stays
   * @throws NotFound, StaleAttempt
   */
  return async (id: string, attemptId: string, report: Report | null, extendMs: number | null): Promise<{ deadlineMs: number; cancelRequested: boolean }> => {
    const type = typeOfTask(id)
    const [verdict, what, cancel, isNew] = (
      type === undefined
        ? ['unknown']
        : await script(keys.base(type), [id, attemptId, report?.percent ?? '', report?.message == null ? '' : MESSAGE_GIVEN + report.message, report?.data ?? '', report ? toldOf(report) : '', extendMs ?? '', maxAttemptMs])
    ) as ['ok' | 'stale' | 'unknown', string, number, number]
    if (verdict === 'unknown') throw new NotFound(`there is no task ${id}`)
    if (verdict === 'stale') throw new StaleAttempt(id, what)
    if (isNew === 1) log.info({ task: id, status: 'running' }, 'running')
    return { deadlineMs: Number(what), cancelRequested: cancel === 1 }
  }
}
