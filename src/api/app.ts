/** The API's Express app: every route, and what happens to everything else. */
import express, { type Express } from 'express'
import type { Config } from '../config.ts'
import type { HostPolicy } from '../contracts/host.ts'
import type { Core } from '../core.ts'
import type { Logger } from '../logger.ts'
import { agentRoutes } from './agents.ts'
import { healthRoutes } from './health.ts'
import { notFound, problemHandler } from './problem.ts'
import { taskRoutes } from './tasks.ts'

export const createApp = ({ core, config, policy, log }: { core: Core; config: Config; policy: HostPolicy; log: Logger }): Express => {
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('query parser', false) // input.ts reads queries
  app.use(taskRoutes({ tasks: core.tasks, registry: core.registry, maxTimeoutSeconds: config.maxTaskTimeoutSeconds, log }))
  app.use(agentRoutes({ registry: core.registry, policy, log }))
  app.use(healthRoutes({ redis: core.redis, presence: core.presence }))
  app.use(notFound)
  app.use(problemHandler(log))
  return app
}
