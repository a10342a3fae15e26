/** Agents that do nothing but beat, every 20 s: on connections that are kept, as the SDKs do it, and on a new one for each beat; and as many requests that do nothing. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'undici'
import type { Curve } from './curve.ts'
import { CORE } from './measures.ts'
import { ofACore } from './system.ts'
import type { Values } from './values.ts'

const EVERY_MS = 20_000
const SECONDS = 10
/** A pool of this many agents each, at the most. */
const A_POOL = 1000
/** Kept connections. Node's cost of one that is idle is not the question here, and a process may open only so many. */
const CONNECTIONS = 200
/** At full speed, before anything is measured: a router with many agents has had so many within minutes, and its code is compiled. */
const WARM_UP_BEATS = 20_000
const BODY = '{"status":"healthy","running":[]}'

export const heartbeats: Curve = {
  name: 'heartbeats',
  x: { words: 'agents, each with a heartbeat every 20 s', unit: 'agents', log: true },
  sizes: { quick: [100, 400], usual: [100, 1000, 3000, 10_000] },
  rounds: 1,
  measures: [...CORE, { key: 'micros', words: 'CPU µs a heartbeat, all', digits: 0 }, { key: 'newApi', words: 'a new connection each: API, % of a core', digits: 1 }, { key: 'newTotal', words: 'a new connection each: all, % of a core', digits: 1 }, { key: 'bareApi', words: 'as many GET /health/live: API, % of a core', digits: 1 }],
  plots: [{ suffix: '', title: 'Heartbeats of so many agents, every 20 s', unit: '% of a core', measures: ['total', 'newTotal', 'api', 'redis', 'worker'] }],
  limits: [{ measure: 'total', kind: 'at most', at: 15, x: 10_000, words: 'heartbeats of 10,000 agents use < 15 % of a core in all' }],
  oneByOne: true,
  cold: true,
  at: async (size, { start, seconds, tasks }) => {
    const system = await start()
    const ids: string[] = []
    await system.each(Array.from({ length: size }, (_, n) => n), async (n) => {
      ids.push(await system.register({ name: `agent-${n}`, capabilities: ['echo', `pool-${n % Math.ceil(size / A_POOL)}`], max_concurrency: 10, ttl_seconds: 60 }))
    })
    let next = 0
    const poolOf = (kept: boolean) => new Pool(system.url, { connections: kept ? CONNECTIONS : null, pipelining: 1 })
    const send = async (pool: Pool, kept: boolean, bare: boolean) => {
      const id = ids[next++ % size]!
      const res = bare ? await pool.request({ method: 'GET', path: '/health/live' }) : await pool.request({ method: 'POST', path: `/agents/${id}/heartbeat`, headers: { 'content-type': 'application/json', ...(kept ? {} : { connection: 'close' }) }, body: BODY, reset: !kept })
      await res.body.dump()
      if (res.statusCode !== 200) throw new Error(`a heartbeat was answered ${res.statusCode}`)
    }
    /** An open loop: beats go out on time, whatever the answers do. */
    const beat = async (forMs: number, kept: boolean, bare = false): Promise<number> => {
      const pool = poolOf(kept)
      const began = performance.now()
      const [apart, all] = [EVERY_MS / size, [] as Promise<void>[]]
      for (let n = 0; n * apart < forMs; n++) {
        const wait = began + n * apart - performance.now()
        if (wait > 0) await sleep(wait)
        all.push(send(pool, kept, bare))
      }
      await Promise.all(all)
      await pool.destroy()
      return all.length
    }
    const warmUp = async (beats: number): Promise<void> => {
      const pool = poolOf(true)
      await system.each(Array.from({ length: beats }), () => send(pool, true, false), CONNECTIONS)
      await pool.destroy()
    }
    const measure = async (kept: boolean, bare = false): Promise<Values & { beats: number }> => {
      let beats = 0
      const { cpu, seconds: took } = await system.cpuOf(async () => { beats = await beat((seconds(SECONDS) * 1000) / (bare ? 2 : 1), kept, bare) })
      return { ...ofACore(cpu, took), beats: beats / took }
    }
    await warmUp(tasks(WARM_UP_BEATS))
    await beat(seconds(2) * 1000, true)
    return async () => {
      const [known, fresh, bare] = [await measure(true), await measure(false), await measure(true, true)]
      const { beats, ...core } = known
      return { ...core, micros: core['total'] == null ? null : (core['total'] * 1e4) / beats, newApi: fresh['api'] ?? null, newTotal: fresh['total'] ?? null, bareApi: bare['api'] ?? null }
    }
  },
}
