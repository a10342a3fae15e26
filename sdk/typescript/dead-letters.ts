/** Dead letters: tasks that failed or timed out, until they are retried. */
import type { CallOptions, Http } from './http.ts'
import { createList, type List } from './list.ts'
import type { DeadLetterFilter, DeadLetterSummary, DeadLettersRetried, RetryDeadLetters, Task, TaskPage } from './wire.ts'

export type DeadLettersClient = {
  /** Newest first. */
  list(filter?: DeadLetterFilter & { limit?: number | undefined }, options?: CallOptions): List<Task, TaskPage>
  /** How many there are, by type and kind of error. */
  summary(filter?: DeadLetterFilter, options?: CallOptions): Promise<DeadLetterSummary>
  /**
   * Retries those that match, each as a new task, at most 1,000 a call: again with `cursor: next_cursor` while it says `more`. May be repeated
   * at will; it is sent again when the connection broke, and then does not tell of those that the lost answer told of.
   */
  retry(which?: RetryDeadLetters, options?: CallOptions): Promise<DeadLettersRetried>
}

export const createDeadLetters = (http: Http): DeadLettersClient => ({
  list: (filter = {}, options = {}) =>
    createList((cursor) => http.json<TaskPage>('GET', '/dead-letters', { ...options, query: { ...filter, cursor }, again: 'always', holds: 'tasks' }), (page) => page.tasks),
  summary: (filter = {}, options = {}) => http.json('GET', '/dead-letters/summary', { ...options, query: filter, again: 'always', holds: 'groups' }),
  retry: (which = {}, options = {}) => http.json('POST', '/dead-letters/retry', { ...options, body: which, again: 'always', holds: 'retried' }),
})
