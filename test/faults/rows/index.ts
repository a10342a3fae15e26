/** Every fault that is tried, in the order of the table. */
import type { Row } from '../row.ts'
import { agentRows } from './agents.ts'
import { apiRows } from './apis.ts'
import { cancelRows } from './cancels.ts'
import { dispatcherRows } from './dispatchers.ts'
import { redisRows } from './redis.ts'

export const ROWS: readonly Row[] = [...dispatcherRows, ...apiRows, ...agentRows, ...redisRows, ...cancelRows]
