/** All curves, in the order in which they are measured. */
import { agents } from './agents.ts'
import type { Curve } from './curve.ts'
import { dispatchers } from './dispatchers.ts'
import { followers } from './followers.ts'
import { heartbeats } from './heartbeats.ts'
import { idleQueues, idleTypes } from './idle.ts'
import { looks } from './looks.ts'
import { masters, mastersAlone } from './masters.ts'
import { payload } from './payload.ts'
import { pool } from './pool.ts'
import { queued } from './queued.ts'
import { capabilities, queues } from './queues.ts'
import { records } from './records.ts'
import { types } from './types.ts'

export const CURVES: readonly Curve[] = [queued, queues, capabilities, idleQueues, idleTypes, pool, heartbeats, dispatchers, payload, records, types, agents, followers, looks, masters, mastersAlone]
