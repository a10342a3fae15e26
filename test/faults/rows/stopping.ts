/** Processes that are asked to stop while there is work, and replaced: a rolling restart. */
import { sleep, until } from '../../system.ts'
import { mono } from '../clock.ts'
import { says } from '../processes.ts'
import type { Row } from '../row.ts'

/** Nobody can keep a connection from being refused where nobody is; a client goes to the next then. What had begun is another matter. */
const NOBODY_THERE = ['ECONNREFUSED']

export const stoppingRows: readonly Row[] = [
  {
    name: 'rolling-restart',
    fault: 'every dispatcher and API stopped (SIGTERM) and replaced, one by one, under load',
    promises: 'P1, P3, P15',
    mixes: true,
    load: { rate: 60, slow: 0.1, slowMs: 3000 },
    run: async (trial) => {
      const { fleet, load, violate } = trial
      const since = mono()
      // Nothing is broken by this: no window, so that nothing may be sent twice.
      for (const m of [...fleet.dispatchers, ...fleet.apis]) {
        // It has something to do.
        if (m.role === 'dispatcher') await until(async () => (await fleet.inHand(m)) > 0, { timeoutMs: 20_000, what: `something in hand at ${m.name}` })
        trial.injected()
        const before = mono()
        await m.kill('SIGTERM')
        const code = m.proc.child.exitCode
        if (code !== 0) violate(`P15: ${m.name} ended with ${code ?? m.proc.child.signalCode}`)
        if (says(m, /^stopping/) > 0) trial.bit()
        trial.note(`${m.name} ended with ${code} after ${Math.round(mono() - before)} ms`)
        await m.restart()
        await sleep(500)
      }
      const calls = load.calls.filter((c) => c.at + c.ms > since)
      const failed = calls.filter((c) => c.status >= 500)
      if (failed.length > 0) violate(`P15: ${failed.length} calls were answered ${[...new Set(failed.map((c) => c.status))].join(', ')}: ${[...new Set(failed.map((c) => c.what))].join(', ')}`)
      const silent = calls.filter((c) => c.status === 0 && !NOBODY_THERE.includes(c.error ?? ''))
      trial.note(`${calls.length} calls: ${calls.filter((c) => NOBODY_THERE.includes(c.error ?? '')).length} found nobody there, ${silent.length} were broken off (${[...new Set(silent.map((c) => `${c.what} ${c.error}`))].join(', ')})`)
      // Between a process's last look at who has come and its end there is a moment that none can close.
      if (silent.length > calls.length / 500) violate(`P15: ${silent.length} of ${calls.length} calls were broken off: ${silent.slice(0, 5).map((c) => `${c.what} ${c.error} after ${Math.round(c.ms)} ms`).join(', ')}`)
    },
  },
]
