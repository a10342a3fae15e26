/** Starting, timing and ending the processes of a run: each in a process group of its own, so that Ctrl-C reaches only bench/main.ts, which ends them in order. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export type Running = Readonly<{ name: string; child: ChildProcess; /** CPU seconds used so far by it and what it has started, all threads; null where there is no /proc. */ cpuSeconds: () => number | null; /** Resident memory; null where there is no /proc. */ residentMiB: () => number | null }>
export type Command = Readonly<{ name: string; file: string; args: readonly string[]; env?: Record<string, string>; /** Node processes of the bench's own: messages, and an end with ours. */ ipc?: boolean }>

const KEPT_OUTPUT = 4000
const STOP_MS = 5000

const ticksPerSecond = (): number | null => {
  try {
    readFileSync('/proc/self/stat')
    return Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
  } catch {
    return null
  }
}

/** Of /proc/<pid>/stat; the fields are counted behind the command's name, which may hold anything. */
const statOf = (pid: string): { group: number; ticks: number } => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return { group: Number(fields[2]), ticks: Number(fields[11]) + Number(fields[12]) }
}

/** utime + stime of all processes of a group: some systems are a process and its workers. */
const cpuTicks = (group: number): number => {
  let ticks = 0
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    try {
      const stat = statOf(pid)
      if (stat.group === group) ticks += stat.ticks
    } catch {
      // it ended just now
    }
  }
  return ticks
}

const residentMiB = (pid: number): number => Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024

export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })

/** Waits until `url` answers 200. */
export const answers = async (url: string, withinMs: number): Promise<void> => {
  const end = performance.now() + withinMs
  let last = ''
  while (performance.now() < end) {
    try {
      const res = await fetch(url, { signal: AbortSignal.timeout(1000) })
      const body = await res.text()
      if (res.ok) return
      last = `${res.status} ${body.slice(0, 200)}`
    } catch (error) {
      last = (error as Error).message
    }
    await sleep(20)
  }
  throw new Error(`${url} did not answer within ${withinMs / 1000} s (${last})`)
}

/** Owns the processes of a bench. `failed` rejects when one of them ends before it was told to, or `abort` is called. */
export const createProcesses = (baseEnv: Record<string, string>) => {
  const running = new Set<Running>()
  const dismissed = new Set<Running>()
  const { promise: failed, reject } = Promise.withResolvers<never>()
  failed.catch(() => {}) // it is raced against the work; nobody need be listening when it happens
  let aborted = false
  const abort = (error: Error): void => {
    aborted = true
    reject(error)
  }
  const ticks = ticksPerSecond()

  const start = ({ name, file, args, env = {}, ipc = false }: Command): Running => {
    if (aborted) throw new Error(`${name} is not started: the bench is ending`)
    const child = spawn(file, args, { detached: true, env: { ...baseEnv, ...env }, stdio: ['ignore', 'pipe', 'pipe', ...(ipc ? (['ipc'] as const) : [])] })
    const started: Running = { name, child, cpuSeconds: () => (ticks === null ? null : cpuTicks(child.pid!) / ticks), residentMiB: () => (ticks === null ? null : residentMiB(child.pid!)) }
    let output = ''
    const keep = (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-KEPT_OUTPUT)
    }
    child.stdout?.on('data', keep)
    child.stderr?.on('data', keep)
    child.once('error', abort)
    child.once('close', (code, signal) => {
      running.delete(started)
      if (!dismissed.delete(started)) abort(new Error(`${name} ended (${signal ?? `exit ${code}`}):\n${output}`))
    })
    running.add(started)
    return started
  }

  const signal = ({ child }: Running, name: NodeJS.Signals) => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, name)
    } catch {
      // it ended just now
    }
  }

  /** Ends them one after the other, the last started first: by SIGTERM, and by SIGKILL when that is not heeded. */
  const stop = async (): Promise<void> => {
    const all = [...running].reverse()
    for (const one of all) dismissed.add(one)
    for (const one of all) {
      if (!running.has(one)) continue
      const gone = new Promise((resolve) => one.child.once('close', resolve))
      signal(one, 'SIGTERM')
      const late = setTimeout(() => signal(one, 'SIGKILL'), STOP_MS)
      await gone
      clearTimeout(late)
    }
  }

  /** The net below `stop`, for process.on('exit'), where nothing can be awaited. */
  const kill = (): void => {
    for (const one of running) signal(one, 'SIGKILL')
  }

  return { start, stop, kill, abort, failed }
}
export type Processes = ReturnType<typeof createProcesses>
