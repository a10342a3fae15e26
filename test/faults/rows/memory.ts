/** What agents may send, at its worst, all at once: an API's memory must not follow. */
import { accepts, call, sleep, startAgent, startProcess, until } from '../../system.ts'
import type { FloodSettings, Seen } from '../flood.ts'
import { mono } from '../clock.ts'
import type { Row, Trial } from '../row.ts'

const FOR_MS = 20_000
/** What an API may take above its calm size. */
const MORE_MIB = 150
/** And what may be left of that a while later: V8 gives memory back when it likes to. */
const AFTER_MS = 8_000

const MIB = 1024 * 1024

const both = (trial: Trial): number[] => trial.fleet.apis.map((a) => a.residentMiB())

export const memoryRows: readonly Row[] = [
  {
    name: 'api-memory',
    fault: 'the largest, slowest and falsest bodies that agents can send, all kinds at once for 20 s, to both APIs',
    promises: 'P13, P14',
    load: { rate: 40 },
    fleet: { dispatchers: 2, hosts: 2, agentsPerHost: 3, ttlSeconds: 30 },
    run: async (trial) => {
      const { fleet, note, violate } = trial
      const agent = await startAgent(() => fleet.api(), { type: 'hostile', handle: accepts })
      const id = (await call('POST', `${fleet.api()}/tasks`, { agent_type: 'hostile', task_type: 'echo', timeout_seconds: 300 })).json.task_id as string
      const { attemptId } = await until(() => agent.runs[0], { what: 'a delivery' })
      // Calm is behind a first while of work, which no process is without.
      await sleep(12_000)
      const calm = both(trial)
      const peak = [...calm]
      await trial.broken(async () => {
        // In a process of their own: who floods has no time to measure.
        const settings: FloodSettings = { ports: fleet.apis.map((api) => Number(new URL(api.url).port)), agentId: agent.id, taskId: id, attemptId }
        const proc = await startProcess('test/faults/flood.ts', {}, { args: [JSON.stringify(settings)] })
        const since = mono()
        while (mono() - since < FOR_MS) {
          for (const [i, now] of both(trial).entries()) peak[i] = Math.max(peak[i]!, now)
          await sleep(50)
        }
        const all = await new Promise<Seen[]>((resolve) => {
          proc.child.on('message', (message: { seen?: Seen[] }) => message.seen && resolve(message.seen))
          proc.child.send('stop')
        })
        await proc.kill()
        for (const s of all) {
          const answers = Object.entries(s.answers).map(([status, times]) => `${times} × ${status}`).join(', ')
          note(`${s.name}: ${s.connections} connections, ${Math.round(s.bytes / MIB)} MiB, ${s.closed} closed on them${answers === '' ? '' : `, answered ${answers}`}`)
          trial.injected()
          if (s.connections > 0 && (answers !== '' || s.bytes > MIB || s.closed > 0 || s.connections >= 100)) trial.bit()
        }
      })
      await sleep(AFTER_MS)
      const after = both(trial)
      for (const [i, api] of fleet.apis.entries()) {
        note(`${api.name}: ${Math.round(calm[i]!)} MiB calm, ${Math.round(peak[i]!)} at most, ${Math.round(after[i]!)} ${AFTER_MS / 1000} s later`)
        if (peak[i]! - calm[i]! > MORE_MIB) violate(`${api.name} took ${Math.round(peak[i]! - calm[i]!)} MiB more than when calm (${Math.round(calm[i]!)})`)
      }
      await call('DELETE', `${fleet.api()}/tasks/${id}`)
      for (let i = 0; i < 2; i++) await agent.beat({ running: [] })
      await agent.close()
    },
  },
]
