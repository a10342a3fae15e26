/** docs/security.md names a test for each thing that cannot be done: it is there, by that name. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ROOT } from './processes.ts'

const cells = (row: string): string[] => row.slice(1, row.lastIndexOf('|')).split('|').map((cell) => cell.trim())
const rows = readFileSync(join(ROOT, 'docs/security.md'), 'utf8').split('\n').filter((line) => line.startsWith('| ')).slice(1).map(cells)

test('each row that says what cannot be done names the tests that show it, and they are there', () => {
  let named = 0
  for (const [, , cannot = '', by = ''] of rows) {
    expect(by !== '', cannot).toBe(cannot !== '')
    if (by.includes('<!--')) continue // what it names is not there yet
    // `file: 'a name', 'another'; file`
    for (const [, file, names = ''] of by.matchAll(/(?:^|; )([\w/-]+)(?:: ((?:'[^']*'(?:, )?)+))?/g)) {
      const path = [`test/${file}.test.ts`, `test/${file}.browser.ts`].find((name) => existsSync(join(ROOT, name)))
      expect(path, file).toBeDefined()
      const text = readFileSync(join(ROOT, path!), 'utf8')
      for (const [quoted] of names.matchAll(/'[^']+'/g)) {
        expect(text.includes(quoted), `${file}: ${quoted}`).toBe(true)
        named++
      }
    }
  }
  expect(named).toBeGreaterThan(20)
})
