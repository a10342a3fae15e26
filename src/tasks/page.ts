/** Records read for a page, which is cut short where they are large: 200 of them may have hundreds of megabytes. */
import type { TaskView } from './record.ts'

/** Of payloads, in a page; the task that goes beyond it is its last. */
const MAX_PAGE_CHARS = 8 * 1024 * 1024
const READ_AT_ONCE = 20

const sizeOf = (t: TaskView): number => t.parameters.length + t.metadata.length + t.result.length

/** A page's measure: says when it is full. */
export const createMeasure = () => {
  let chars = 0
  return { isFull: (t: TaskView): boolean => (chars += sizeOf(t)) > MAX_PAGE_CHARS }
}

/** A few at a time, so that no more are read than the page has room for. */
export async function* readInTurn(ids: readonly string[], readOne: (id: string) => Promise<TaskView | null>): AsyncGenerator<[id: string, task: TaskView | null]> {
  for (let from = 0; from < ids.length; from += READ_AT_ONCE) {
    const some = ids.slice(from, from + READ_AT_ONCE)
    const rows = await Promise.all(some.map(readOne))
    for (const [i, id] of some.entries()) yield [id, rows[i]!]
  }
}
