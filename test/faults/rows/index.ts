/** Every fault that is tried, in the order of the table. */
import type { Row } from '../row.ts'
import { agentRows } from './agents.ts'
import { apiRows } from './apis.ts'
import { backlogRows } from './backlog.ts'
import { callbackRows } from './callbacks.ts'
import { cancelRows } from './cancels.ts'
import { clockRows } from './clocks.ts'
import { descriptorRows } from './descriptors.ts'
import { dispatcherRows } from './dispatchers.ts'
import { failoverRows } from './failover.ts'
import { heartbeatRows } from './heartbeats.ts'
import { hostileRows } from './hostile.ts'
import { memoryRows } from './memory.ts'
import { networkRows } from './network.ts'
import { partitionRows } from './partitions.ts'
import { poisonRows } from './poison.ts'
import { powerRows } from './power.ts'
import { redisRows } from './redis.ts'
import { stoppingRows } from './stopping.ts'
import { storeRows } from './store.ts'
import { webhookRows } from './webhooks.ts'

export const ROWS: readonly Row[] = [
  ...dispatcherRows, ...poisonRows, ...apiRows, ...stoppingRows, ...agentRows, ...hostileRows, ...networkRows, ...partitionRows, ...heartbeatRows, ...redisRows, ...storeRows, ...powerRows,
  ...failoverRows, ...descriptorRows, ...clockRows, ...callbackRows, ...cancelRows, ...webhookRows, ...backlogRows, ...memoryRows,
]
