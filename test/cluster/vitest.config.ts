/** The whole suite on a cluster, and what there is of clusters alone: `npm run test:cluster`. */
import { fileURLToPath } from 'node:url'
import { mergeConfig } from 'vitest/config'
import config from '../../vitest.config.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
export default mergeConfig({ ...config, test: { ...config.test, globalSetup: [] } }, {
  root,
  test: {
    include: ['test/cluster/*.cluster.ts'],
    globalSetup: ['test/cluster/setup.ts'],
  },
})
