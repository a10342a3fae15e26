/** Ends a run with `N passed, N failed`. A file that does not load and an error that nobody handled count as failed. */
import { writeSync } from 'node:fs'
import type { Reporter, SerializedError, TestModule, TestRunEndReason } from 'vitest/node'

export default class CountsReporter implements Reporter {
  #line: string | undefined

  onInit(): void {
    // At exit, as the other reporters and the global teardown may still speak after the run has ended.
    process.on('exit', () => {
      writeSync(1, `${this.#line ?? '0 passed, 1 failed'}\n`)
    })
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[], reason: TestRunEndReason): void {
    const { passed, failed } = count(modules, unhandled)
    // What has gone wrong outside of any test, as a run without tests or an interrupted one has, is a failure too.
    const other = failed === 0 && (reason !== 'passed' || passed === 0) ? 1 : 0
    this.#line = `${passed} passed, ${failed + other} failed`
  }
}

/** Tests by how they ended. A module's own errors are those of its loading and of its hooks outside tests. */
export const count = (modules: readonly TestModule[], unhandled: readonly unknown[]): { passed: number; failed: number } => {
  let passed = 0
  let failed = unhandled.length
  for (const module of modules) {
    failed += module.errors().length
    for (const suite of module.children.allSuites()) failed += suite.errors().length
    for (const test of module.children.allTests()) {
      const { state } = test.result()
      if (state === 'passed') passed++
      // One that never ran to its end, because its file's process died, has not passed.
      if (state === 'failed' || state === 'pending') failed++
    }
  }
  return { passed, failed }
}
