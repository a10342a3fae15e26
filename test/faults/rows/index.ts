/** Every fault that is tried, in the order of the table. */
import type { Row } from '../row.ts'
import { agentRows } from './agents.ts'
import { apiRows } from './apis.ts'
import { cancelRows } from './cancels.ts'
import { descriptorRows } from './descriptors.ts'
import { dispatcherRows } from './dispatchers.ts'
import { failoverRows } from './failover.ts'
import { powerRows } from './power.ts'
import { heartbeatRows } from './heartbeats.ts'
import { hostileRows } from './hostile.ts'
import { networkRows } from './network.ts'
import { partitionRows } from './partitions.ts'
import { redisRows } from './redis.ts'
import { storeRows } from './store.ts'

export const ROWS: readonly Row[] = [...dispatcherRows, ...apiRows, ...agentRows, ...hostileRows, ...networkRows, ...partitionRows, ...heartbeatRows, ...redisRows, ...storeRows, ...powerRows, ...failoverRows, ...descriptorRows, ...cancelRows]
