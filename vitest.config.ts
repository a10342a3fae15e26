import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import LongestFirst from './test/sequence.ts'

export default defineConfig({
  test: {
    environment: 'node',
    include: ['test/**/*.test.ts', 'sdk/typescript/**/*.test.ts'],
    globalSetup: ['test/redis.ts'],
    // The last line of a run is `N passed, N failed`, for whoever reads only that.
    reporters: ['default', './test/reporter.ts'],
    // For what hangs. What must come in time says so in its test.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: 'forks',
    sequence: { sequencer: LongestFirst },
    // Tests wait for processes more than they compute.
    maxWorkers: 4,
    // They start some hundreds of them: what each would compile anew is kept.
    env: { NODE_COMPILE_CACHE: fileURLToPath(new URL('node_modules/.cache/node-compile', import.meta.url)) },
    // A test that passes at the second try has failed.
    retry: 0,
  },
})
