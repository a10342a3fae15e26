/**
 * How our processes end, in one place: by a signal, by a parent that is gone, and once only.
 * The api, the workers and `npm start` all use it; nothing else may call process.exit.
 */

/** One Ctrl-C comes several times: from the terminal to the whole group, again from npm, and from the supervisor as SIGTERM. */
const SAME_CTRL_C_MS = 1000
const PARENT_POLL_MS = 500
/** Longer than any drain that can be set: a handler that hangs must not keep the process for ever. */
const LONGEST_STOP_MS = 660_000

export type StopOptions = {
  /** How long the handler may take before the process ends with 1. */
  deadlineMs?: number
  /** A second Ctrl-C calls this, and a third ends the process; without it, the second does. */
  hasten?: () => void
}

/**
 * Runs `handler` once, when the process is to end: SIGINT, SIGTERM, SIGHUP, the supervisor gone (IPC), npm gone. Then exits:
 * 0 when the handler returned, 1 when it failed or took too long.
 * @returns the same end, for a cause of one's own; `code` is the exit code after a handler that returned, and `last` is called when all
 * else is said, just before the exit, so that what it says stands last
 */
export const onStop = (handler: (reason: string) => Promise<void>, { deadlineMs = LONGEST_STOP_MS, hasten }: StopOptions = {}): ((reason: string, code?: number, last?: () => void) => void) => {
  let stopping = false
  let again = hasten
  let lastInterrupt = -Infinity

  const stop = (reason: string, code = 0, last?: () => void): void => {
    if (stopping) return
    stopping = true
    lastInterrupt = performance.now()
    const exit = (as: number): never => {
      last?.()
      process.exit(as)
    }
    setTimeout(() => exit(1), deadlineMs).unref()
    handler(reason).then(
      () => exit(code),
      (error: unknown) => {
        process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
        exit(1)
      },
    )
  }

  process.on('SIGINT', () => {
    if (!stopping) return stop('SIGINT')
    if (performance.now() - lastInterrupt < SAME_CTRL_C_MS) return
    lastInterrupt = performance.now()
    if (!again) process.exit(1)
    again()
    again = undefined
  })
  process.on('SIGTERM', () => stop('SIGTERM'))
  process.on('SIGHUP', () => stop('SIGHUP')) // the terminal was closed
  watchParent(stop)
  return stop
}

/**
 * A process whose parent has died is of no use to anyone, and would hold its port. Only parents of whom that is true count:
 * the supervisor, which keeps an IPC channel open, and npm, which dies of a signal without a word to us.
 */
const watchParent = (stop: (reason: string) => void): void => {
  if (process.send) {
    process.once('disconnect', () => stop('the supervisor is gone'))
    // Gone before we began to listen.
    if (!process.connected) stop('the supervisor is gone')
  } else if (process.env['npm_lifecycle_event']) {
    const parent = process.ppid
    const poll = setInterval(() => {
      if (process.ppid === parent) return
      clearInterval(poll)
      stop('npm is gone')
    }, PARENT_POLL_MS)
    poll.unref()
  }
}
