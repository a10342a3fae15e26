/** A task that takes its dispatcher down, each time. */
import { call, startAgent, until } from '../../system.ts'
import { mono } from '../clock.ts'
import { logged } from '../processes.ts'
import type { Member } from '../fleet.ts'
import type { Row, Trial } from '../row.ts'

/** Five redeliveries, and the first delivery. */
const DELIVERIES = 6

/** Which dispatcher has an attempt in hand: the record names it, and each says its name when it begins. */
const holderOf = async ({ fleet }: Trial, names: ReadonlyMap<string, Member>, id: string): Promise<Member> => {
  const sending = await fleet.redis.hget(fleet.keys.task(id.split('.')[0]!, id), 'sending')
  const holder = names.get(sending?.split('\t')[4] ?? '')
  if (!holder) throw new Error(`nobody knows who has ${id}: ${sending}`)
  return holder
}
const nameOf = (m: Member): Promise<string> => until(() => logged(m).find((l) => l.msg === 'dispatching')?.dispatcher as string | undefined, { what: `the name of ${m.name}` })

export const poisonRows: readonly Row[] = [
  {
    name: 'poison-task',
    fault: 'a task that kills (kill -9) each dispatcher that has it in hand',
    promises: 'P1, P4, P12',
    load: { rate: 30 },
    run: async (trial) => {
      const { fleet, violate } = trial
      const names = new Map<string, Member>()
      for (const d of fleet.dispatchers) names.set(await nameOf(d), d)
      // It holds its connection; what else it is given it does at once.
      const agent = await startAgent(() => fleet.api(), { type: 'poison', handle: (task) => (task.parameters.poison ? new Promise(() => {}) : 'done') })
      const submit = async (parameters: object) => (await call('POST', `${fleet.api()}/tasks`, { agent_type: 'poison', task_type: 'echo', parameters, timeout_seconds: 120, max_retries: 0 })).json.task_id as string
      const read = async (id: string) => (await call('GET', `${fleet.api()}/tasks/${id}`)).json
      const poison = await submit({ poison: true })
      let others = 0
      await trial.broken(async () => {
        for (let n = 1; n <= DELIVERIES; n++) {
          await until(() => agent.runs.filter((r) => r.taskId === poison).length >= n, { timeoutMs: 60_000, what: `delivery ${n}` })
          const holder = await holderOf(trial, names, poison)
          trial.injected()
          await holder.kill()
          const killedAt = mono()
          trial.bit()
          await holder.restart()
          names.set(await nameOf(holder), holder)
          // Locks run out in 10 s: the first time that is waited for, then it is made to have happened.
          const lock = `${fleet.keys.base('poison')}poison.echo:${poison}:lock`
          if (n > 1) await fleet.redis.del(lock)
          // Beside it the queue goes on.
          const other = await submit({})
          await until(async () => (await read(other)).status === 'completed', { timeoutMs: 20_000, what: 'another task of its queue' })
          others++
          if (n < DELIVERIES) {
            if (n > 1) {
              // Nor is what it waits for longer each time: its time has come as soon as it is known.
              const record = fleet.keys.task('poison', poison)
              await until(async () => Number(await fleet.redis.hget(record, 'redeliveries')) >= n, { timeoutMs: 30_000, what: `redelivery ${n}` })
              await fleet.redis.hset(record, 'not_before', 1)
              await fleet.redis.zadd(fleet.keys.timers('poison'), 1, poison)
            }
            await until(() => agent.runs.filter((r) => r.taskId === poison).length > n, { timeoutMs: 60_000, what: `delivery ${n + 1}` })
            if (n === 1) {
              trial.recovered(mono() - killedAt)
              if (mono() - killedAt > 20_000) violate(`P12: it was sent again ${Math.round(mono() - killedAt)} ms after its dispatcher was killed`)
            }
          }
        }
        const ended = await until(async () => { const t = await read(poison); return t.completed_at ? t : null }, { timeoutMs: 30_000, what: 'the end of it' })
        if (ended.status !== 'failed' || !/dispatchers in a row/.test(ended.error ?? '')) violate(`it is ${ended.status}: ${ended.error}`)
        if (ended.retry_count !== 0) violate(`P4: charged with ${ended.retry_count} failures of ours`)
        const came = agent.runs.filter((r) => r.taskId === poison).length
        if (came !== DELIVERIES) violate(`it was delivered ${came} times, not ${DELIVERIES}`)
        trial.note(`ended ${ended.status}: ${ended.error}; ${others} others of its queue completed meanwhile`)
      })
      // It knows nothing of them any more, so its slots come back.
      await agent.beat({ running: [] })
      await agent.beat({ running: [] })
      await agent.close()
    },
  },
]
