/** All curves, in the order in which they are measured. */
import type { Curve } from './curve.ts'
import { dispatchers } from './dispatchers.ts'
import { heartbeats } from './heartbeats.ts'
import { idleQueues, idleTypes } from './idle.ts'
import { payload } from './payload.ts'
import { pool } from './pool.ts'
import { queued } from './queued.ts'
import { capabilities, queues } from './queues.ts'
import { records } from './records.ts'

export const CURVES: readonly Curve[] = [queued, queues, capabilities, idleQueues, idleTypes, pool, heartbeats, dispatchers, payload, records]
