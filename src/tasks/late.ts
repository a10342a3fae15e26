/** Results that came too late to count. They change nothing, and are kept beside the record for whoever wants to know. */
import type { Redis } from '../redis/client.ts'
import { typeOfTask, type Keys } from '../redis/keys.ts'
import { loadScript } from '../redis/scripts.ts'

/** In bytes of JSON; a longer result is not kept, only that it came. */
const MAX_RESULT_BYTES = 10_240
const MAX_LATE = 5

/** `result` is JSON text. */
export type LateResult = { attempt: number; agentId: string; atMs: number; status: 'completed' | 'failed'; result: string; error: string | null }

/** Those of a record's fields, oldest first. */
export const readLate = (f: Record<string, string>): LateResult[] => {
  const count = Number(f.late ?? 0)
  const found: LateResult[] = []
  for (let n = Math.max(0, count - MAX_LATE); n < count; n++) {
    const at = (n % MAX_LATE) + 1
    const [ms, attempt, agentId, status, ...error] = (f[`l${at}`] ?? '').split('\t')
    if (status === undefined) continue
    found.push({ attempt: Number(attempt), agentId: agentId!, atMs: Number(ms), status: status as LateResult['status'], result: f[`r${at}`] ?? 'null', error: error.join('\t') || null })
  }
  return found
}

export const createLate = ({ redis, keys }: { redis: Redis; keys: Keys }) => {
  const script = loadScript(redis, new URL('./late.lua', import.meta.url))
  /** Keeps what an attempt said that counts no more. Nothing is kept of one that never was an attempt of this task. */
  return async (id: string, attemptId: string, said: { completed: boolean; result: string; error: string }): Promise<void> => {
    const bytes = said.completed ? Buffer.byteLength(said.result) : 0
    const fits = bytes <= MAX_RESULT_BYTES
    await script(
      keys.base(typeOfTask(id)!), id, attemptId, said.completed ? 'completed' : 'failed',
      fits ? said.error : `its result of ${bytes} bytes is not kept: more than ${MAX_RESULT_BYTES}`, said.completed && fits ? said.result : 'null',
    )
  }
}
