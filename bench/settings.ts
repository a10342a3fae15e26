/** What the load is made of, the same for all systems. */

/** Clients that submit in a closed loop, each on a connection of its own. */
export const CLIENTS = 64
/** Tasks submitted and not yet at the agent; above it the clients wait, so that a slow dispatcher is not measured with a long queue. */
export const MAX_OUTSTANDING = 2000
/** Of `--batches`: tasks in a request, and clients that send such. */
export const TASKS_A_BATCH = 1000
export const BATCH_CLIENTS = 4
/** The size of each task's `parameters` as JSON. */
export const PARAMETERS_BYTES = 200
/** What the dispatcher may have in flight, and what the agent says it takes. */
export const CONCURRENCY = 64
/** What the agent takes for a task of the waited phase, so that whoever waits for its end has asked before. */
export const SLOW_MS = 50
/** Tasks of each trial that are not counted: code gets compiled, connections get made. */
export const WARM_UP_TASKS = 4000
/** AOF as in production. Rewrites are off: one that falls into one system's run and not into the other's is noise. */
export const REDIS_SETTINGS = ['--appendonly', 'yes', '--appendfsync', 'everysec', '--save', '', '--auto-aof-rewrite-percentage', '0', '--maxmemory-policy', 'noeviction']
