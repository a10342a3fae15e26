import { defineConfig } from 'vitest/config'

/** `npm run test:browser`: the pages, in a Chromium. Apart from the others, as it needs one. */
export default defineConfig({
  test: {
    environment: 'node',
    include: ['test/browser/*.browser.ts'],
    globalSetup: ['test/redis.ts'],
    reporters: ['default', './test/reporter.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    retry: 0,
  },
})
