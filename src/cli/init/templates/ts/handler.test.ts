import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NonRetryableError } from 'switchyard/agent'
import { handle } from './handler.ts'

test('numbers are described', () => {
  assert.deepEqual(handle({ numbers: [9, 2, 4, 4, 5, 7, 4, 5] }), { count: 8, sum: 40, mean: 5, median: 4.5, least: 2, most: 9, deviation: 2 })
  assert.equal(handle({ numbers: [10, 9, 100] }).median, 10)
})

test('what are no numbers fails for good', () => {
  for (const numbers of [undefined, [], 'many', [1, '2'], [NaN]]) assert.throws(() => handle({ numbers }), NonRetryableError)
})
